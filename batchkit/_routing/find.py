"""Where a request ends: the way through the host's routers, worked out without running anything (protocol.md#an-action)."""

from __future__ import annotations

from msgspec import Struct
from starlette.routing import Match
from starlette.types import Scope

from batchkit._routing.matching import FULL, NONE, NOTHING, PARTIAL, route_path
from batchkit._routing.table import Entry, Table

__all__ = ["Found", "find"]


class Found(Struct, frozen=True, eq=False):
    """Where a request goes at one router: ``entry`` takes it, as ``match`` says, and adds ``child_scope``; None where none does.

    ``version`` is that of the table as it was read. ``above`` is where it came from: a router that the app of this one is mounted
    in. ``asked`` are the routes in front of the entry that can only be asked, and have said no. ``redirects`` where none takes
    it, and one would with a slash more or less; ``error`` where a route or convertor of the host failed on it.
    """

    table: Table
    version: int
    root_path: str
    match: Match
    entry: Entry | None
    child_scope: Scope
    asked: tuple[Entry, ...] = ()
    above: Found | None = None
    redirects: bool = False
    error: Exception | None = None


def find(table: Table, scope: Scope, above: Found | None = None) -> Found:
    """Where Starlette's router would let ``scope`` end, worked out without running anything of the host."""
    root_path: str = scope["root_path"]
    path: str = route_path(scope) if root_path else scope["path"]
    asked: tuple[Entry, ...] = ()
    partial: Found | None = None
    try:
        for entry in table.candidates(path):
            try:
                match, child_scope = entry.match(scope, path)
            except Exception:
                if entry.own is None:
                    raise
                # It may look for what middleware puts into the scope: it is asked again where it stands.
                match, child_scope = NOTHING
            if match is FULL:
                found = Found(table, table.version, root_path, match, entry, child_scope, asked, above)
                if entry.below is None or entry.own is not None or not entry.below.refresh():
                    return found
                return find(entry.below, {**scope, **child_scope}, found)
            if match is PARTIAL and partial is None:
                partial = Found(table, table.version, root_path, match, entry, child_scope, asked, above)
            elif match is NONE and entry.own is not None:
                asked += (entry,)
        return partial or Found(table, table.version, root_path, NONE, None, {}, asked, above, _redirects(table, scope, path))
    except Exception as error:
        # {id:int} fails on 5,000 digits, for one.
        return Found(table, table.version, root_path, NONE, None, {}, asked, above, error=error)


def _redirects(table: Table, scope: Scope, path: str) -> bool:
    if table.router is None or not table.router.redirect_slashes or path == "/":
        return False
    whole: str = scope["path"]
    other = {**scope, "path": whole.rstrip("/") if path.endswith("/") else whole + "/"}
    path = route_path(other)
    return any(entry.match(other, path)[0] is not NONE for entry in table.candidates(path))
