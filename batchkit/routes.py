"""The host's routing table as batchkit sees it: full templates, verdicts, and where a request would end (contract section 2)."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Collection, Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any

from msgspec import Struct
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Host, Match, Mount, Router, WebSocketRoute
from starlette.types import ASGIApp, Scope

from batchkit.marks import Mark, MarkedApp, read_mark
from batchkit.matching import FULL, PARTIAL, first_segment, matcher, matches_by_path, route_path
from batchkit.model import METHODS
from batchkit.settings import Settings

__all__ = ["Entry", "Found", "Table", "find", "routed"]

DEFAULT_MARK = Mark()

# Anything else that a route may lead to is an app, and may have routes of its own.
ENDPOINTS = (FunctionType, MethodType, type, functools.partial)


class Verdict(Struct, frozen=True):
    """What one route says of one method: its mark, or the reason why it may not run in a batch."""

    mark: Mark | None
    reason: str = ""


class Entry:
    """One route of the host in its place, with its full template; its verdicts are worked out once."""

    def __init__(self, route: Any, table: Table) -> None:
        self.route = route
        self.template: str = table.template + getattr(route, "path", "")
        # None where it takes any.
        self.methods: Collection[str] | None = getattr(route, "methods", None) or None
        self.settings = table.settings
        self.around = table.around
        self.endpoint = getattr(route, "endpoint", None)
        self.below: Table | None = None
        if isinstance(getattr(route, "original_route", route), Mount | Host):
            self.endpoint = route.app
            self.below = Table(route, table.settings, self.template, table.around, table.responder)
        self.is_websocket = isinstance(getattr(route, "original_route", route), WebSocketRoute)
        self.match = matcher(route)
        segment = first_segment(getattr(route, "path", "")) if matches_by_path(route) else None
        self.segment = segment if segment is not None and "{" not in segment else None
        self.verdicts: dict[str, Verdict] = {}

    def of_actions(self) -> list[str]:
        """Those of its methods that an action can have."""
        return [] if self.is_websocket else [method for method in METHODS if method in (self.methods or METHODS)]

    def verdict(self, method: str) -> Verdict:
        """Whether the route may run in a batch for ``method``."""
        verdict = self.verdicts.get(method)
        if verdict is None:
            verdict = self._judge(method)
            # A direct request may have any method, and a client could make up new ones for ever.
            if method in METHODS:
                self.verdicts[method] = verdict
        return verdict

    def _judge(self, method: str) -> Verdict:
        # From the inside out: the route's own mark speaks before that of a mount around it, a refusal anywhere before all.
        inside = self.below.around if self.below is not None else (self.endpoint, *self.around)
        marks = [read_mark(layer, method) for layer in inside]
        if False in marks:
            return Verdict(None, "it is marked @not_batchable, or is itself a batch endpoint")
        if any(rule.matches(method, self.template) for rule in self.settings.rules):
            return Verdict(None, "it is excluded")
        for mark in marks:
            if isinstance(mark, Mark):
                return Verdict(mark)
        if self.below is not None or not isinstance(self.endpoint, ENDPOINTS):
            return Verdict(None, "its routes cannot be read; mark the mounted app: batchable(app)")
        if self.settings.policy == "all":
            return Verdict(DEFAULT_MARK)
        return Verdict(None, "it is not marked @batchable")


class Table:
    """The routes of one router, mount or host route, in their order; it follows routes that are added later.

    ``around``: the mounted apps from the inside out, with their middleware; ``responder``: the app whose exception handlers
    answer 404 and 405.
    """

    def __init__(
        self,
        source: Router | Mount | Host,
        settings: Settings,
        template: str = "",
        around: tuple[ASGIApp, ...] = (),
        responder: Starlette | None = None,
    ) -> None:
        layers = [source] if isinstance(source, Router) else _layers(source)
        inner = layers[-1] if layers else None
        self.source = source
        self.settings = settings
        self.template = template
        self.around = around if isinstance(source, Router) else (*reversed(layers), *around)
        self.readable = inner is not None and getattr(inner, "routes", None) is source.routes
        while isinstance(inner, MarkedApp):
            inner = inner.app
        self.responder = inner if isinstance(inner, Starlette) else responder
        self.router: Router | None = (
            inner.router if isinstance(inner, Starlette) else inner if isinstance(inner, Router) else None
        )
        self._watched: list[BaseRoute] = []
        self._plain = True
        self._entries: list[Entry] = []
        self._by_segment: dict[str, list[Entry]] = {}
        self._open: list[Entry] = []

    def refresh(self) -> bool:
        """Follow the routes as they are now; False where there are none, or none that can be read."""
        if not self.readable:
            return False
        routes = self.source.routes
        watched = routes if self._plain else list(_watched(routes))
        # By identity: routes are equal by path, endpoint and methods, whatever middleware they have.
        if len(self._watched) != len(watched) or not all(map(operator.is_, self._watched, watched)):
            self._watched = list(_watched(routes))
            self._plain = not any(hasattr(route, "original_router") for route in routes)
            self._index([Entry(route, self) for route in (routes if self._plain else _leaves(routes))])
        return bool(routes)

    def _index(self, entries: list[Entry]) -> None:
        self._entries = entries
        place = {id(entry): index for index, entry in enumerate(entries)}
        by_segment: dict[str | None, list[Entry]] = {None: []}
        for entry in entries:
            by_segment.setdefault(entry.segment, []).append(entry)
        self._open = by_segment.pop(None)
        self._by_segment = {
            segment: sorted(literal + self._open, key=lambda entry: place[id(entry)])
            for segment, literal in by_segment.items()
            if segment is not None
        }

    def ends(self) -> Iterator[Entry]:
        """The entries that a request or a websocket can end at, those below mounts in their places."""
        self.refresh()
        for entry in self._entries:
            if entry.below is not None and entry.below.refresh():
                yield from entry.below.ends()
            else:
                yield entry

    def leaves(self) -> Iterator[Entry]:
        """Those that an HTTP request can end at."""
        return (entry for entry in self.ends() if not entry.is_websocket)

    def may_run(self) -> Iterator[tuple[str, Entry]]:
        """The methods and entries of all that may run in a batch."""
        for entry in self.ends():
            yield from ((method, entry) for method in entry.of_actions() if entry.verdict(method).mark is not None)

    def candidates(self, path: str) -> list[Entry]:
        """The entries, in order, that can match ``path``: all but those with another literal first segment."""
        # A pattern's $ lets one line feed pass at the end of a path.
        return self._by_segment.get(path[1:].partition("/")[0].removesuffix("\n"), self._open)


class Found(Struct):
    """Where a request ends: ``entry`` in ``table``, None where no route takes it; ``redirects`` where one would with a slash more
    or less. ``scope`` is what a handler of 404 or 405 is shown there, ``taken`` the route that the router itself hands it to,
    and what that adds to the scope.
    """

    match: Match
    entry: Entry | None
    table: Table
    taken: tuple[BaseRoute, Scope] | None = None
    redirects: bool = False
    scope: Scope | None = None


def find(table: Table, scope: Scope) -> Found:
    """What Starlette's router would do with ``scope``, worked out without running anything of the host."""
    partial = None
    path: str = route_path(scope) if scope["root_path"] else scope["path"]
    for entry in table.candidates(path):
        match, child_scope = entry.match(scope, path)
        if match is FULL:
            taken = (entry.route, child_scope)
            if entry.below is None or not entry.below.refresh():
                return Found(match, entry, table, taken)
            found = find(entry.below, {**scope, **child_scope})
            found.taken = taken
            return found
        if match is PARTIAL and partial is None:
            partial, partial_scope = entry, child_scope
    if partial is not None:
        return Found(Match.PARTIAL, partial, table, scope={**scope, **partial_scope})
    if table.router is not None and table.router.redirect_slashes and path != "/":
        whole: str = scope["path"]
        other = {**scope, "path": whole.rstrip("/") if whole.endswith("/") else whole + "/"}
        path = route_path(other)
        if any(entry.match(other, path)[0] is not Match.NONE for entry in table.candidates(path)):
            return Found(Match.NONE, None, table, redirects=True)
    return Found(Match.NONE, None, table, scope=scope)


def routed(app: Any) -> Starlette | Router | None:
    """The Starlette or Router that a chain of middleware leads to, as far as each names its app; None where one does not."""
    seen: set[int] = set()
    while app is not None and id(app) not in seen:
        if isinstance(app, Starlette | Router):
            return app
        seen.add(id(app))
        if isinstance(router := getattr(app, "router", None), Router):
            return router
        app = getattr(app, "app", None)
    return None


def _layers(route: Mount | Host) -> list[ASGIApp]:
    """The app of a mount from its outermost middleware to the one whose routes the mount shows."""
    layers: list[ASGIApp] = []
    app: Any = route.app
    while app is not None and app not in layers:
        layers.append(app)
        if getattr(app, "routes", None) is route.routes:
            break
        app = getattr(app, "app", None)
    return layers


def _watched(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """All routes that a table depends on. FastAPI keeps an included router as one route, which follows that router."""
    for route in routes:
        yield route
        if (router := getattr(route, "original_router", None)) is not None:
            yield from _watched(router.routes)


def _leaves(routes: Iterable[BaseRoute]) -> Iterator[Any]:
    """The routes with those of included routers in their places, as FastAPI's public function shows them."""
    iter_route_contexts = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    for route in routes:
        if hasattr(route, "original_router"):
            if iter_route_contexts is None:
                raise RuntimeError("This FastAPI does not show the routes of included routers: pip install -U fastapi")
            yield from iter_route_contexts([route])
        else:
            yield route
