"""The host's routing table as batchkit sees it: full templates, verdicts, and where a request would end.

See protocol.md#an-action.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Iterator
from types import FunctionType, MethodType
from typing import Any, Protocol

from msgspec import Struct
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Mount, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from batchkit._routing.fastapi import every_route, included_departure, unfolded
from batchkit._routing.marks import Mark, MarkedApp, lacks, layers, read_mark
from batchkit._routing.matching import first_segment, matcher, matches_by_path
from batchkit._routing.standard import departure, is_plain_endpoint, router_of
from batchkit.model import METHODS
from batchkit.settings import Settings, settings_of

__all__ = ["Entry", "Table", "routed"]

DEFAULT_MARK = Mark()

# Anything else that a route may lead to is an app, and may have routes of its own.
ENDPOINTS = (FunctionType, MethodType, type, functools.partial)
# But not these, nor a batch endpoint.
ROUTELESS = (StaticFiles, Response)


class Verdict(Struct, frozen=True):
    """What one route says of one method: its mark, or the reason why it may not run in a batch; ``final`` is whether that holds
    for a method too that the route does not have.
    """

    mark: Mark | None
    reason: str = ""
    final: bool = False


class Entry:
    """One route of the host in its place, with its full template; its verdicts are worked out once.

    ``own`` names the code by which it routes in a way of its own, so that it can only be asked, and not be told what it runs.
    ``direct`` is whether the router has it among its routes, and so can be handed to it.
    """

    def __init__(self, route: Any, table: Table) -> None:
        original = getattr(route, "original_route", route)
        self.route = route
        self.direct = original is route
        self.own = included_departure(route) if hasattr(route, "original_router") else departure(original)
        self.template: str = table.template + (getattr(route, "path", None) or "")
        # None where it takes any.
        self.methods: Collection[str] | None = getattr(route, "methods", None) or None
        self.settings = table.settings
        self.around = table.around
        self.endpoint = getattr(route, "endpoint", None)
        self.app = getattr(route, "app", None)
        self.below: Table | None = None
        if isinstance(original, Mount | Host):
            self.endpoint = route.app
            self.below = Table(route, table.settings, self.template, table.around, table.guards, table.routers)
        self.is_websocket = isinstance(original, WebSocketRoute)
        self.match = matcher(route) if self.own is None else lambda scope, path: route.matches(dict(scope))
        segment = first_segment(getattr(route, "path", None) or "") if matches_by_path(route) else None
        self.segment = segment if segment is not None and "{" not in segment else None
        self.verdicts: dict[str, Verdict] = {}

    @functools.cached_property
    def is_bare(self) -> bool:
        """Whether nothing of the route's own, that might ask who the client is, stands in front of its endpoint."""
        asks = getattr(getattr(self.route, "dependant", None), "dependencies", ())
        return not asks and is_plain_endpoint(self.route, self.app) and len(list(layers(self.endpoint))) == 1

    def is_as_read(self) -> bool:
        """Whether the route still leads to the app that the verdict is for."""
        return getattr(self.route, "app", None) is self.app and (self.below is None or self.below.is_there())

    @functools.cached_property
    def is_opaque(self) -> bool:
        """Whether what ends here may go on to routes that cannot be read."""
        app = self.endpoint.app if isinstance(self.endpoint, MarkedApp) else self.endpoint
        if hasattr(self.route, "original_router"):
            return True
        if app is None or isinstance(app, ROUTELESS) or settings_of(app) is not None:
            return False
        return self.below is not None or (self.template.endswith(":path}") and not isinstance(app, ENDPOINTS))

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

    def marks(self, method: str) -> list[Mark | bool | None]:
        """The marks around it, from the inside out: its own speaks before that of a mount, a refusal anywhere before all."""
        inside = self.below.around if self.below is not None else (self.endpoint, *self.around)
        return [read_mark(layer, method) for layer in inside]

    def _judge(self, method: str) -> Verdict:
        if self.own is not None:
            return Verdict(None, f"{self.own} routes in a way of its own", final=True)
        marks = self.marks(method)
        if lacks(self.endpoint, method):
            return Verdict(next((mark for mark in marks if isinstance(mark, Mark)), DEFAULT_MARK))
        if False in marks:
            nested = any(settings_of(layer) is not None for layer in layers(self.endpoint))
            return Verdict(None, "it is itself a batch endpoint" if nested else "it is marked @not_batchable", final=nested)
        if any(rule.matches(method, self.template) for rule in self.settings.rules):
            return Verdict(None, "it is excluded", final=True)
        for mark in marks:
            if isinstance(mark, Mark):
                return Verdict(mark)
        if self.below is not None or not isinstance(self.endpoint, ENDPOINTS):
            why = f" ({self.below.unreadable})" if self.below is not None and self.below.unreadable else ""
            return Verdict(None, f"its routes cannot be read{why}; mark the mounted app: batchable(app)")
        if self.settings.policy == "all":
            return Verdict(DEFAULT_MARK)
        return Verdict(None, "it is not marked @batchable")


class PostsGuards(Protocol):
    """Puts guards at routers."""

    def post(self, router: Router) -> object | None:
        """The guard at ``router``, None where it cannot stand innermost there."""


class Table:
    """The routes of one router, mount or host route, in their order; it follows routes that are added later.

    ``around``: the mounted apps from the inside out, with their middleware. ``guards`` puts a guard at each router; ``guard`` is
    the one that stands at this. ``unreadable`` says why the routes cannot be read.
    """

    def __init__(
        self,
        source: Router | Mount | Host,
        settings: Settings,
        template: str = "",
        around: tuple[ASGIApp, ...] = (),
        guards: PostsGuards | None = None,
        above: tuple[Router, ...] = (),
    ) -> None:
        layers = [source] if isinstance(source, Router) else _layers(source)
        inner = layers[-1] if layers else None
        self.source = source
        self.settings = settings
        self.template = template
        self.around = around if isinstance(source, Router) else (*reversed(layers), *around)
        self.guards = guards
        while isinstance(inner, MarkedApp):
            inner = inner.app
        self.router = router_of(inner) if inner is not None else None
        self.unreadable: str | None = None
        self.version = 0
        self.app = inner
        self.routers = above if self.router is None else (*above, self.router)
        if any(each is self.router for each in above):
            self.unreadable = "it is mounted in itself"
        elif inner is None or self.router is None or self.router.routes is not source.routes:
            self.unreadable = "it is no Starlette app, or behind middleware that does not show it as its app"
        elif own := departure(inner):
            self.unreadable = f"{own} routes in a way of its own"
        elif inner is not source and getattr(inner, "root_path", None):
            self.unreadable = "it sets a root_path of its own"
        self.guard: object | None = None
        # At the host's own router a guard speaks the verdict even where nothing can be read.
        if guards is not None and self.router is not None and (self.unreadable is None or inner is source):
            self.guard = guards.post(self.router)
            if self.guard is None:
                self.unreadable = "its router is behind middleware that does not show it as its app"
        self._watched: list[BaseRoute] = []
        self._plain = True
        self._entries: list[Entry] = []
        self._by_segment: dict[str, list[Entry]] = {}
        self._open: list[Entry] = []

    def is_there(self) -> bool:
        """Whether the router is still the one that a mount or host route leads to."""
        if self.app is None or self.router is None or router_of(self.app) is not self.router:
            return self.router is None
        return self.unreadable is not None or self.source.routes is self.router.routes

    def is_current(self) -> bool:
        """Whether the routes are still those that were last read."""
        routes = self.source.routes
        watched = routes if self._plain else list(every_route(routes))
        # By identity: routes are equal by path, endpoint and methods, whatever middleware they have.
        return len(self._watched) == len(watched) and all(map(operator.is_, self._watched, watched))

    def refresh(self) -> bool:
        """Follow the routes as they are now; False where they cannot be read."""
        if self.unreadable is not None or not self.is_there():
            return False
        if not self.is_current():
            self.version += 1
            routes = self.source.routes
            self._watched = list(every_route(routes))
            self._plain = not any(hasattr(route, "original_router") for route in routes)
            self._index([Entry(route, self) for route in (routes if self._plain else unfolded(routes))])
        return True

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
