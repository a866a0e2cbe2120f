"""Where a direct request may end: at one route, or at several where that cannot be told (protocol.md#admission)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from msgspec import Struct
from starlette.routing import Router
from starlette.types import Scope

from batchkit._routing.marks import Mark
from batchkit._routing.matching import FULL, PARTIAL, route_path
from batchkit._routing.table import Entry, Table

__all__ = ["End", "ends"]

logger = logging.getLogger("batchkit")

UNMARKED = Mark()


class End(Struct, frozen=True, eq=False):
    """A place where a request may end: the template of its route, None where none takes it, and the route's mark.

    ``below``: all that is known is that it is there or below it; ``entry`` is the route, unless that takes other methods.
    """

    route: str | None
    below: bool = False
    mark: Mark = UNMARKED
    entry: Entry | None = None


def ends(table: Table, scope: Scope) -> Iterator[End]:
    """All places where the request of ``scope`` may end: one, unless a route or router has rules of its own.

    What such a route would say is not asked: what it looks at may be put into the scope only later.
    """
    if not table.refresh():
        yield End(table.template, below=True)
        return
    partial = None
    path = route_path(scope)
    for entry in table.candidates(path):
        if entry.own is not None:
            yield _taken(entry, scope)
            continue
        try:
            match, child_scope = entry.match(scope, path)
            has_more = match is FULL and entry.below is not None and entry.below.refresh()
        except Exception:
            # A convertor of the host may fail on what a client sends, or an app below have routes of another kind.
            logger.debug("The route of a request cannot be told", exc_info=True)
            yield End(entry.template, below=True)
            continue
        if has_more:
            assert entry.below is not None
            yield from ends(entry.below, {**scope, **child_scope})
            return
        if match is FULL:
            yield _taken(entry, scope)
            return
        if match is PARTIAL and partial is None:
            partial = entry
    if partial is not None:
        yield End(partial.template)
    elif table.router is not None and getattr(table.router.default, "__func__", None) is not Router.not_found:
        # Whatever it is, it answers what no route takes.
        yield End(table.template, below=True)
    else:
        yield End(None)


def _taken(entry: Entry, scope: Scope) -> End:
    method = scope["method"].upper()
    mark = entry.verdict(method).mark
    if entry.own is not None:
        # No batch may have it, and what it costs alone is said by its mark all the same.
        mark = next((each for each in entry.marks(method) if isinstance(each, Mark)), None)
    return End(entry.template, entry.is_opaque, mark or UNMARKED, entry)
