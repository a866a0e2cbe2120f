"""What an endpoint is mounted to, and which app the actions of a batch go to (protocol.md#an-action)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Scope

from batchkit._protocol.paths import parent
from batchkit._protocol.scope import Frame, frame
from batchkit._routing.allow_list import allow_list
from batchkit._routing.fastapi_description import show_in_fastapi
from batchkit._routing.guard import Guards
from batchkit._routing.resolve import Resolver
from batchkit._routing.table import routed
from batchkit.settings import Settings

__all__ = ["Host", "Hosts"]

logger = logging.getLogger("batchkit")

# Says in the log what may run at a host, and what seems to be wrong; the base path is None where only a batch will tell.
Announce = Callable[[Resolver, str | None], None]


class Host(NamedTuple):
    """An app that actions are sent to: ``resolver`` finds their ways in it, ``guards`` stand there, None where they cannot."""

    resolver: Resolver
    guards: Guards | None


class Hosts:
    """The apps of one endpoint: the one that it is mounted to, or each that a batch of it has come through."""

    def __init__(self, settings: Settings, announce: Announce) -> None:
        self._settings = settings
        self._announce = announce
        self._mounted_to: Starlette | Router | None = None
        self._known: dict[int, Host] = {}
        self._listed: Host | None = None
        if settings.allowed:
            assert settings.host is not None
            resolver = Resolver(settings.host, settings, announce, routes=allow_list(settings.allowed), guards=None)
            self._listed = Host(resolver, None)

    def mount(self, endpoint: ASGIApp, app: Starlette | Router, path: str) -> None:
        """Serve ``endpoint`` at ``path`` of ``app``: see ``BatchEndpoint.mount_to``."""
        settings = self._settings
        if self._mounted_to is not None:
            raise RuntimeError("mount_to: this BatchEndpoint is already mounted; make a second one")
        if settings.allowed:
            raise ValueError(f"mount_to: allow={settings.allow!r} is for other hosts: mark the routes of this one @batchable")
        router = _router(app)
        if isinstance(app, Starlette) and app.middleware_stack is not None:
            logger.warning(
                "mount_to: the app has started, so actions will not have its lifespan state, nor a Limiter its connections: "
                "call mount_to where the app is made"
            )
        # A router of FastAPI's has its path operations below that.
        prefix: str = getattr(router, "prefix", "")
        if any(isinstance(route, Route) and route.path == prefix + path for route in router.routes):
            raise ValueError(f"mount_to: {path!r} is a route already: give another path")
        # Around the app there may be middleware of its own, which does not say what it leads to.
        host = app if settings.host is None else routed(settings.host) or app
        base_path = parent(prefix + path) if settings.base_path is None else settings.base_path
        # Below a mount, its prefix is known only by each request.
        named = app if settings.host is None else settings.host
        self._known[id(named)] = self._guarded(host, base_path if host is app else None)
        # First, so that no catch-all of the host can take its path.
        router.routes.insert(0, Route(prefix + path, endpoint))
        if hasattr(router, "add_api_route"):
            show_in_fastapi(router, path, settings, whole=router is not app)
        self._mounted_to = app

    def of(self, scope: Scope) -> Host:
        """Where the actions of the batch with this scope go. Raises RuntimeError where that cannot be told."""
        if self._listed is not None:
            return self._listed
        app = self._app(scope)
        host = self._known.get(id(app))
        # Middleware that is named as host may lead to another app than the one that the batch came through.
        if host is not None and (isinstance(app, Starlette | Router) or not _came_past(host.resolver, scope)):
            return host
        inner = routed(app)
        if inner is None or not (inner is app or scope.get("router") is _router(inner)):
            raise RuntimeError(
                "batchkit cannot tell which app its actions should go to: mount_to the outermost app, or name it, with all its "
                "middleware, each of which shows what it leads to as its app: BatchEndpoint(host=app, …); for a host that is "
                "neither Starlette nor FastAPI add base_path= and allow=, the templates of what may run"
            )
        # Mounted by hand: the host is known from its first batch on.
        host = self._known[id(app)] = self._guarded(inner)
        return host

    def frame(self, host: Host, scope: Scope, *, in_lines: bool = False) -> Frame:
        """What the actions of the batch with this scope, at this host, have in common."""
        settings, mounted_to = self._settings, self._mounted_to
        return frame(
            scope,
            host.guards.state if host.guards is not None and mounted_to is not None else None,
            settings.base_path,
            nested=mounted_to is None or settings.host not in (None, mounted_to),
            in_lines=in_lines,
            withheld=settings.withheld,
            scope_keys=settings.inherited,
        )

    def _app(self, scope: Scope) -> Any:
        """The app that is named, or that this batch came through; None where another app's middleware would be passed by."""
        app: Any = self._settings.host
        if app is None:
            app = self._mounted_to or scope.get("app")
            whole = scope.get("router") is _router(app) and scope.get("app", app) is app
            return app if whole or not isinstance(app, Starlette | Router) else None
        if isinstance(inner := routed(app), Router) and getattr(scope.get("app"), "router", None) is inner:
            raise RuntimeError("host= is the router of an app, whose middleware actions would pass by: give the app itself")
        return app

    def _guarded(self, routes: Starlette | Router, base_path: str | None = None) -> Host:
        settings = self._settings
        guards = Guards(settings, lambda: self._announce(resolver, base_path))
        app = routes if settings.host is None else settings.host
        resolver = Resolver(app, settings, self._announce, routes=routes, guards=guards)
        return Host(resolver, guards)


def _came_past(resolver: Resolver, scope: Scope) -> bool:
    """Whether a batch came through another app than the guarded one."""
    router = scope.get("router")
    return isinstance(router, Router) and router is not resolver.table.router


def _router(app: Any) -> Any:
    return app.router if isinstance(app, Starlette) else app
