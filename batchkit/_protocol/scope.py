"""What every action of a batch takes over from its POST, worked out once per batch (protocol.md#an-action).

What crosses into an action is an allow-list of scope keys here, and the list of header fields that stay out in ``headers``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from copy import copy
from typing import Any
from urllib.parse import quote, unquote

from msgspec import Struct
from starlette.types import Scope

from batchkit._protocol.headers import WITHHELD_PREFIXES, less_lines
from batchkit._protocol.paths import parent
from batchkit._record import Record
from batchkit.model import ACTION_KEY

__all__ = ["OWN_KEYS", "SCOPE_KEYS", "Frame", "frame"]

SCOPE_KEYS = ("type", "http_version", "scheme", "server", "client")
# Of the extensions, those that describe the connection. The others offer ways to answer that a batch does not have.
EXTENSIONS = ("tls",)
# An action's own, filled in for each.
_OWN: dict[str, Any] = dict.fromkeys(("method", "path", "raw_path", "query_string", "headers", "state", ACTION_KEY))
# What an action has of its own, or gets on its way: from batchkit, the host, its middleware or its routes.
OWN_KEYS = frozenset(
    {*_OWN, "asgi", "root_path", "app_root_path", "extensions", "path_params", "app", "router", "route", "endpoint"}
    | {"user", "auth", "session"}
)


class Frame(Struct, frozen=True, eq=False):
    """The shared part of the scopes of a batch's actions; ``base_path`` is the API's, decoded and raw."""

    scope: dict[str, Any]
    headers: list[tuple[bytes, bytes]]
    base_path: str
    raw_base_path: bytes
    state: Mapping[str, Any]
    host: bytes | None
    extensions: dict[str, Any]

    def place(self, action: Record) -> Scope:
        """Put ``action`` below the base path, and give it the scope of its request. Only values of the server are shared."""
        action.path = path = self.base_path + action.path
        action.raw_path = raw_path = self.raw_base_path + action.raw_path
        action.host = self.host
        headers = [*self.headers]
        if action.body is not None:
            headers += ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(action.body)))
        # The shared scope has these keys already: to fill in a copy costs half of what it costs to add them.
        action.scope = scope = self.scope.copy()
        scope["method"] = action.method
        scope["path"] = path
        scope["raw_path"] = raw_path
        scope["query_string"] = action.query_string
        scope["headers"] = headers
        scope["state"] = {**self.state}
        if self.extensions:
            scope["extensions"] = {name: copy(value) for name, value in self.extensions.items()}
        scope[ACTION_KEY] = action
        return scope


def frame(
    scope: Scope,
    state: Mapping[str, Any] | None,
    base_path: str | None,
    *,
    nested: bool,
    in_lines: bool,
    withheld: Set[bytes],
    scope_keys: Iterable[str],
) -> Frame:
    """The frame of the batch with this scope.

    ``state`` is the lifespan state; None takes the batch's own, less keys that begin with ``_``. ``nested`` is False where
    the host's router itself routes the batch, so that the scope's ``root_path`` is the one that the host was called with.
    ``in_lines`` is True where the answer goes in lines: its actions do not see that lines were asked for. ``withheld`` are the
    names of header fields that stay behind, ``scope_keys`` the keys of the scope that go along, their values as they are.
    """
    shared = _OWN.copy()
    for key in scope_keys:
        if key in scope:
            shared[key] = scope[key]
    # 2.4: a streaming response need not listen for the disconnect beside its work, it runs to its end.
    shared["asgi"] = {"version": scope.get("asgi", {}).get("version", "3.0"), "spec_version": "2.4"}
    root_path = scope.get("root_path", "")
    if nested:
        root_path = scope.get("app_root_path", root_path)
    elif "app_root_path" in scope:
        shared["app_root_path"] = scope["app_root_path"]
    shared["root_path"] = root_path
    # As ``is_withheld`` says, which is dear to ask for each of the fields that a client makes up.
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if (plain := name.replace(b"_", b"-") if b"_" in name else name) not in withheld
        and not plain.startswith(WITHHELD_PREFIXES)
    ]
    host = None
    for place, (name, value) in enumerate(headers):
        if name == b"host":
            host = value
            # First, as clients should send it: it is looked for with every action, and there may be many fields before it.
            headers.insert(0, headers.pop(place))
            break
    if in_lines:
        headers = less_lines(headers)
    if state is None:
        state = {key: value for key, value in scope.get("state", {}).items() if not key.startswith("_")}
    if base_path is None:
        path, raw_path = _parents(scope["path"], scope.get("raw_path") or b"")
    else:
        path = root_path + base_path.rstrip("/")
        raw_path = quote(path).encode()
    offered = scope.get("extensions")
    extensions = {name: offered[name] for name in EXTENSIONS if name in offered} if offered else {}
    return Frame(shared, headers, path, raw_path, state, host, extensions)


def _parents(path: str, raw_path: bytes) -> tuple[str, bytes]:
    """The path, decoded and raw, of the API whose batch endpoint has been called at this path."""
    path, raw_path = parent(path), parent(raw_path.partition(b"?")[0])
    if (unquote(raw_path.decode("latin-1")) if b"%" in raw_path else raw_path.decode("latin-1")) != path:
        raw_path = quote(path).encode()
    return path, raw_path
