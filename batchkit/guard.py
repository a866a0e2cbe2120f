"""The guard at the host's router: what runs is what was resolved (contract section 2, design decision 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import Context, copy_context
from typing import Any

from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from batchkit.errors import InvalidAction
from batchkit.frame import host_header
from batchkit.model import ACTION_KEY, RUNNING, Action, Origin

__all__ = ["Guard"]


class Guard:
    """Stands innermost of all the middleware of ``router``'s app: an action that one of them changed is answered 400 here.

    An unchanged one goes to the very route that it was resolved to, without a second look at the routing table.
    ``state`` is the app's lifespan state, which passes here too, ``context`` the one that the lifespan runs in, empty where there
    is none; ``started`` is called then. A ``cost_hook`` that is a context itself, besides giving one for each batch, is entered
    for the life of the app.
    """

    def __init__(self, router: Router, help: str | None, started: Callable[[], None], cost_hook: object) -> None:
        self.router = router
        self.app = router.middleware_stack
        # Middleware of the router itself, or another kind of router, has its own say in what happens next.
        self.hands_over = type(router) is Router and self.app == router.app
        self.help = help
        self.started = started
        self.life = cost_hook if isinstance(cost_hook, AbstractAsyncContextManager) else nullcontext()
        self.state: Mapping[str, Any] = {}
        self.context = Context()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.state = scope.get("state", {})
            self.context = copy_context()

            async def tell(message: Message) -> None:
                if message["type"] == "lifespan.startup.complete":
                    # The app may have added routes until now.
                    self.started()
                await send(message)

            async with self.life:
                await self.app(scope, receive, tell)
            return
        action: Action | None = scope.get(ACTION_KEY)
        hidden = False
        if action is None and (action := RUNNING.get()) is not None:
            # A middleware may have built the scope anew; what a handler itself sends to the app comes after its action passed.
            hidden = not action.passed
            action = action if hidden else None
        # An app in the host may have a batch endpoint, and a guard, of its own.
        if action is None or action.origin is None or action.origin.guard is not self:
            await self.app(scope, receive, send)
            return
        if hidden or not _unchanged(action, action.origin, scope):
            await self._refuse(action, send)
            return
        action.passed = True
        if action.taken is None or not self.hands_over:
            await self.app(scope, receive, send)
            return
        route, child_scope = action.taken
        scope.setdefault("router", self.router)
        scope["route"] = route
        scope.update(child_scope)
        await route.handle(scope, receive, send)

    async def _refuse(self, action: Action, send: Send) -> None:
        error = InvalidAction(
            f"data.actions[{action.index}]: This action cannot be used in a batch request: "
            "a middleware of the server changed its path, method or host"
        )
        await send(
            {"type": "http.response.start", "status": error.status_code, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": error.content(self.help)})


def _unchanged(action: Action, origin: Origin, scope: Scope) -> bool:
    return (
        scope["path"] == action.path
        and scope["method"] == action.method
        and scope.get("root_path", "") == origin.root_path
        and host_header(scope) == origin.host
    )
