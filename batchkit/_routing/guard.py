"""The guards at the host's routers: what runs is what was resolved, and the verdict falls here (protocol.md#an-action)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import Context, copy_context
from typing import Any

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit._protocol.answer import encode_error
from batchkit._protocol.dialects import DIALECTS
from batchkit._protocol.headers import host_header
from batchkit._protocol.schema import judge
from batchkit._record import RUNNING, Record, record_of
from batchkit._routing.find import Found
from batchkit._routing.lifespan import telling
from batchkit._routing.matching import FULL, NONE, route_path
from batchkit.errors import MAY_NOT_RUN, InvalidAction, NotBatchable, SchemaViolation
from batchkit.model import ACTION_KEY
from batchkit.settings import Settings

__all__ = ["Guard", "Guards"]


class Guard:
    """Stands innermost of all the middleware at ``router`` and hands each action to the route that it was resolved to there, or
    answers it with the verdict where the resolution ended.

    An action that middleware has changed, or led here by another way, is answered 400. What is no action of the endpoint goes on.
    """

    def __init__(self, router: Router, app: ASGIApp, endpoint: Guards) -> None:
        self.router = router
        self.app = app
        self.endpoint = endpoint
        # FastAPI's router leaves that to its routes.
        self.names_route = not hasattr(router, "add_api_route")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.endpoint.live(self, scope, receive, send)
            return
        action = scope.get(ACTION_KEY) or record_of(scope, receive, send)
        # An app in the host may have a batch endpoint, and guards, of its own.
        if action is None or (action.found is not None and action.found.table.guards is not self.endpoint):
            await self.app(scope, receive, send)
            return
        found = self._found(action, scope)
        if found is None:
            await self._answer(action, _CHANGED, send)
        elif (error := self._judge(action, found, scope)) is not None:
            await self._answer(action, error, send)
        elif found is not action.found:
            await self._hand_over(found, scope, receive, send)
        else:
            # What a handler makes of its own request is its affair; what a middleware beside or around it does, is not.
            running = RUNNING.get()
            RUNNING.set(None)
            try:
                await self._hand_over(found, scope, receive, send)
            finally:
                RUNNING.set(running)

    def _hand_over(self, found: Found, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if found.entry is not None and found.entry.direct and scope.get("fastapi.telemetry") is None:
            scope.setdefault("router", self.router)
            if self.names_route:
                scope["route"] = found.entry.route
            child_scope = found.child_scope
            if "path_params" in scope:
                # Those of middleware, or of the mount above.
                child_scope = {**child_scope, "path_params": {**scope["path_params"], **child_scope["path_params"]}}
            scope.update(child_scope)
            handled: Awaitable[None] = found.entry.route.handle(scope, receive, send)
            return handled
        if found.entry is None and not found.redirects:
            scope.setdefault("router", self.router)
            return self.router.default(scope, receive, send)
        # FastAPI alone finds its way into a router that it includes, and Starlette's redirects are its own.
        return self.app(scope, receive, send)

    def _found(self, action: Record, scope: Scope) -> Found | None:
        """Where an action that is still what it was goes from here, None if it is another now."""
        if (
            scope.get(ACTION_KEY) is not action
            or action.scope is None
            or scope["path"] != action.path
            or scope["method"] != action.method
            or host_header(scope) != action.host
        ):
            return None
        found: Found | None = action.found
        root_path = scope.get("root_path", "")
        while found is not None and (found.table.guard is not self or found.root_path != root_path):
            found = found.above
        return found

    def _judge(self, action: Record, found: Found, scope: Scope) -> str | InvalidAction | None:
        """The verdict where the resolution ended; why an action can go no further, elsewhere; None where it can."""
        if found.asked and any(entry.match(scope, route_path(scope))[0] is not NONE for entry in found.asked):
            return _CHANGED
        entry = found.entry
        if found is action.found:
            if action.refusal is not None:
                return action.refusal
            if found.error is not None:
                raise found.error
            if action.schema is not None:
                dialect = self.endpoint.dialect
                place = f"{dialect.place(action.index)}.{dialect.data_key}"
                if faults := judge(action.schema, action.data, place):
                    bare = entry is not None and entry.is_bare
                    return SchemaViolation(*(faults if bare else [f"{place}: Does not meet the schema of this route"]))
        if entry is not None and not entry.is_as_read():
            return _OTHER_ROUTES
        if entry is not None and entry.direct and scope.get("fastapi.telemetry") is None:
            # Of one that has the method by now, ``handle`` would run it.
            has = found.match is not FULL and action.method in (getattr(entry.route, "methods", None) or (action.method,))
            return _OTHER_ROUTES if has else None
        if entry is None and not found.redirects:
            return None
        # The router routes it again, by the same routes.
        return None if found.version == found.table.version and found.table.is_current() else _OTHER_ROUTES

    async def _answer(self, action: Record, error: str | InvalidAction, send: Send) -> None:
        if not isinstance(error, InvalidAction):
            place = self.endpoint.dialect.place(action.index)
            error = NotBatchable(f"{place}: {MAY_NOT_RUN}: {error}")
        action.refused = True
        await send(
            {"type": "http.response.start", "status": error.status_code, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": encode_error(error, self.endpoint.settings)})


_CHANGED = "a middleware of the server changed its path, method or host"
_OTHER_ROUTES = "the routes of the server have changed"


class Guards:
    """Those of one endpoint at one host, a guard for each router that actions are resolved by.

    ``state`` is the host's lifespan state, ``context`` the one that its lifespan runs in, empty where there is none; ``started``
    is called as it has started. A ``cost_hook`` that is a context itself, besides giving one for each batch, is entered for the
    life of the app.
    """

    def __init__(self, settings: Settings, started: Callable[[], None]) -> None:
        self.settings = settings
        self.dialect = DIALECTS[settings.dialect]
        self.started = started
        self.state: Mapping[str, Any] = {}
        self.context = Context()
        hook = settings.cost_hook
        self._life = hook if isinstance(hook, AbstractAsyncContextManager) else nullcontext()
        self._first: Guard | None = None
        self._posted: dict[int, Guard] = {}

    def post(self, router: Router) -> Guard | None:
        """The guard of ``router``, which is put between it and its innermost middleware; None where that cannot be told."""
        guard = self._posted.get(id(router))
        if guard is None:
            guard = _post(router, self)
            if guard is not None:
                self._posted[id(router)] = guard
                self._first = self._first or guard
        return guard

    async def live(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        """The lifespan of an app, as it passes one of the guards; it is the host's at the first of them."""
        if guard is not self._first:
            await guard.app(scope, receive, send)
            return
        self.state = scope.get("state", {})
        self.context = copy_context()
        async with self._life:
            await guard.app(scope, receive, telling(send, self.started))


def _post(router: Router, endpoint: Guards) -> Guard | None:
    holder, name = router, "middleware_stack"
    seen: set[int] = set()
    while (app := getattr(holder, name, None)) is not None and id(app) not in seen:
        if app == router.app or isinstance(app, Guard):
            guard = Guard(router, app, endpoint)
            setattr(holder, name, guard)
            return guard
        seen.add(id(app))
        holder, name = app, "app"
    return None
