"""The host on which ``testing`` checks a cost hook: real batches over ASGI, and who was admitted, refused, and is at work."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

from anyio import CancelScope, Event, create_task_group, current_time, move_on_after
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from batchkit._protocol.paths import parent
from batchkit._routing.marks import batchable
from batchkit.endpoint import BatchEndpoint
from batchkit.model import Batch, current_action
from batchkit.settings import CostHook
from batchkit.testing.asgi import NoAnswer, request
from batchkit.testing.watched import WatchedHook

__all__ = ["CostHookError", "Testbed"]


class CostHookError(AssertionError):
    """A cost hook breaks a promise of protocol.md#admission: the message says which, and what to do about it."""


class Testbed:
    """A host with a batch endpoint, its cost hook in a fresh state, and one route, whose work lasts until ``finish`` if ``held``.

    ``route`` is its method, its path and that of the endpoint, ``mark`` what ``@batchable`` is given for it.
    ``waits`` holds the ``retry_after`` of every refusal.
    """

    def __init__(
        self,
        hook: CostHook,
        limit: int,
        host: Starlette,
        *,
        held: bool,
        route: tuple[str, str, str],
        mark: Mapping[str, Any],
        headers: Mapping[str, str],
        patience: float,
    ) -> None:
        self.limit, self.cost = limit, int(mark["cost"])
        self._hook = WatchedHook(hook, self._fail)
        self.waits = self._hook.waits
        self._host, self._held, self._patience = host, held, patience
        self._method, self._path, self._batch_path = route
        self._full_path = parent(self._batch_path) + self._path
        fields = {"host": "testserver", "content-type": "application/json"} | {name.lower(): headers[name] for name in headers}
        self._headers = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        self._sent = self._batches = self._refused = self._admitted = self._at_work = self._ended = 0
        self._failure: CostHookError | None = None
        self._changed, self._let_go, self._started, self._stopping = Event(), Event(), Event(), Event()
        self._state: dict[str, Any] = {}
        self._scopes: list[CancelScope] = []

        # A function, not the method: middleware of the host may ask for the name of its route's endpoint, as slowapi's does.
        @batchable(**mark)
        async def checked(request: Request) -> Response:
            return await self._answer(request)

        host.router.routes.insert(0, Route(self._full_path, checked, methods=[self._method]))
        size = (limit + 2) * (len(self._path) + 100)
        BatchEndpoint(
            cost_hook=self._hook, limiter_timeout=2 * patience, plugins=[self], max_actions=limit + 1, max_body_size=size
        ).mount_to(host, self._batch_path)

    async def run(self, check: Callable[[Testbed], Awaitable[None]]) -> None:
        """Start the host, run one check on it, and shut it down. Raises CostHookError."""
        async with create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._live)
            try:
                await self._settled(self._started.is_set)
                await check(self)
                await self.finish()
            except CostHookError as error:
                # Raised below: the task group would wrap it.
                self._failure = error
            for scope in self._scopes:
                scope.cancel()
            self._stopping.set()
            tasks.cancel_scope.deadline = current_time() + self._patience
        if self._failure is not None:
            raise self._failure

    async def _live(self) -> None:
        messages = iter(("lifespan.startup", "lifespan.shutdown"))

        async def receive() -> Message:
            message = next(messages)
            if message == "lifespan.shutdown":
                await self._stopping.wait()
            return {"type": message}

        async def send(message: Message) -> None:
            self._started.set()
            self._changed.set()

        try:
            await self._host({"type": "lifespan", "asgi": {"version": "3.0"}, "state": self._state}, receive, send)
        except Exception as error:
            self._fail(f"The host's lifespan raised {error!r}", error)

    async def passes(self, count: int, advice: str, *, malformed: bool = False) -> None:
        """A batch of ``count`` actions must be admitted."""
        if count and not await self.offer(count, malformed=malformed):
            raise CostHookError(f"A batch of cost {count * self.cost} was refused where as many units were left: {advice}")

    async def refuses(self, count: int, left: int, advice: str, *, malformed: bool = False) -> None:
        """A batch of ``count`` actions must be refused, as there are only ``left`` units."""
        if await self.offer(count, malformed=malformed):
            advice += "" if self._held else " (where units are slots that come back, check with gives_back=True)"
            raise CostHookError(
                f"A batch of cost {count * self.cost} was admitted where {left} of {self.limit} units were left: {advice}"
            )

    async def offer(self, count: int, *, times: int = 1, malformed: bool = False) -> int:
        """How many of ``times`` batches of ``count`` actions, posted at once, are admitted; 0 stands for a direct request."""
        before = self._admitted
        self._sent += times
        self._batches += times if count else 0
        action = {"method": self._method.lower(), "relative_path": self._path} | ({"options": {"limit": ""}} if malformed else {})
        body = json.dumps({"data": {"actions": [action] * count}}).encode() if count else b""
        for _ in range(times):
            self._tasks.start_soon(self._send, body)
        await self._settled(lambda: self._ended + (self._at_work if self._held else 0) == self._sent)
        return self._admitted - before

    async def finish(self, *, cancel: bool = False) -> None:
        """Let all work come to its end, or cancel it."""
        if cancel:
            for scope in self._scopes:
                scope.cancel()
        else:
            self._let_go.set()
        await self._settled(lambda: self._ended == self._sent)
        self._let_go = Event()

    @asynccontextmanager
    async def batch(self, batch: Batch) -> AsyncIterator[None]:
        """The testbed is a plugin of its own endpoint: an admitted batch is at work."""
        with self._working():
            yield

    @contextmanager
    def _working(self) -> Iterator[None]:
        self._admitted += 1
        self._at_work += 1
        self._changed.set()
        try:
            yield
        finally:
            self._at_work -= 1

    async def _answer(self, request: Request) -> Response:
        with self._working() if current_action(request) is None else nullcontext():
            if self._held:
                await self._let_go.wait()
        return Response()

    async def _settled(self, done: Callable[[], bool]) -> None:
        with move_on_after(self._patience) as scope:
            while self._failure is None and not done():
                self._changed = Event()
                await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        if scope.cancelled_caught:
            raise CostHookError(
                f"Batches were not admitted or refused, or not ended, within {self._patience:g} s: refuse at once, never wait"
            )
        if self._hook.calls != self._batches:
            raise CostHookError(
                f"The hook was called {self._hook.calls} times for {self._batches} batches: post each of them once"
            )

    def _fail(self, message: str, cause: BaseException | None = None) -> None:
        # The first one tells most: what follows may come of it.
        if self._failure is None:
            self._failure = CostHookError(message)
            self._failure.__cause__ = cause
        self._changed.set()

    async def _send(self, body: bytes) -> None:
        with CancelScope() as scope:
            self._scopes.append(scope)
            try:
                target = ("POST", self._batch_path) if body else (self._method, self._full_path)
                answer = await request(self._call_host, *target, headers=self._headers, body=body, state=self._state)
                self._judge(answer.status, answer.body, direct=not body)
            except NoAnswer as error:
                self._fail(f"{error} was not answered", error)
        self._ended += 1
        self._changed.set()

    async def _call_host(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._host(scope, receive, send)
        except Exception as error:
            # After its own 500 as well.
            self._fail(f"The host raised {error!r}", error)
            raise

    def _judge(self, status: int, content: bytes, *, direct: bool) -> None:
        if status == 429 and not direct:
            self._refused += 1
            if self._refused > len(self.waits):
                self._fail("The host itself answered the batch's POST with 429: its limiter must let the batch endpoint pass")
        elif status == 200 and not direct:
            statuses = {result["status_code"] for result in json.loads(content)["data"]}
            if 429 in statuses:
                self._fail(
                    "An action of an admitted batch was answered 429: the hook has charged for it, so the host's limiter must "
                    "let it pass (current_action(scope) tells it)"
                )
            elif not statuses <= {200, 400}:
                self._fail(
                    f"The actions were answered {sorted(statuses)}: let the host answer its checked route, by headers= if need be"
                )
        elif status not in (200, 429):
            request = f"{self._method} {self._full_path}" if direct else f"POST {self._batch_path}"
            self._fail(f"{request} was answered {status}, neither admitted nor refused: {content[:200].decode(errors='replace')}")
