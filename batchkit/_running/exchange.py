"""One in-process request: scope in, ``receive`` and ``send``, result out (protocol.md#an-action)."""

from __future__ import annotations

import logging
import math
import re
from asyncio import CancelledError, Task, current_task
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from anyio import CancelScope, create_task_group, current_effective_deadline, get_cancelled_exc_class
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchkit._protocol.answer import error_result
from batchkit._protocol.content import MOST_ESCAPED, check_size, undo_coding
from batchkit._record import RUNNING, Record
from batchkit.errors import ActionFailed, BatchError, ResultTooLarge
from batchkit.model import Result
from batchkit.settings import Settings

__all__ = ["Exchange"]

logger = logging.getLogger("batchkit")

MESSAGES_PER_CHECKPOINT = 16

# The statuses whose answers have no body, whatever is sent (RFC 9110).
WITHOUT_BODY = (204, 304)

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


# How an answer starts: with its status, header fields and Content-Encoding.
Start = tuple[int, list[tuple[bytes, bytes]], bytes]


class Conversation(Protocol):
    """What an exchange needs of the batch around it."""

    limit: int
    settings: Settings
    on_asyncio: bool

    def completed(self, action: Record) -> None:
        """``action`` has got its result."""

    def ended(self, exchange: Exchange) -> None:
        """The work of ``exchange`` has ended, that after its result included."""

    async def disconnected(self) -> None:
        """Wait until the client is gone or the batch is answered."""


@dataclass(eq=False, slots=True)
class Exchange:
    """The request that ``action`` is, from its scope to its result, in a conversation of several.

    ``work`` is the cancel scope around its work, ``task`` the asyncio task that does it; the rest is the answer so far.
    """

    action: Record
    app: ASGIApp
    around: Conversation
    work: CancelScope
    task: Task[None] | None = None
    started: float = 0.0
    received: bool = False
    start: Start | None = None
    chunks: list[bytes] | None = None
    size: int = 0
    messages: int = 0

    async def run(self) -> None:
        """Call the app that answers the action, in a task of its own. Whatever it does, the action gets a result."""
        action = self.action
        assert action.scope is not None
        RUNNING.set(self)
        try:
            # The batch may have been cancelled before this task's first step.
            if not self.work.cancel_called:
                self.started = perf_counter()
                with self.work:
                    await self.app(action.scope, self.receive, self.send)
                    if action.result is None:
                        raise RuntimeError("The application ended without completing its response")
        except BaseException as error:
            self._caught(error)
        finally:
            self.around.ended(self)

    async def run_in_group(self) -> None:
        """As ``run``, in a group of its own: on trio a nursery or scope that is left open ends the group around it."""
        try:
            async with create_task_group() as tasks:
                tasks.start_soon(self.run)
        except BaseException as error:
            self._caught(error)

    def carries(self, scope: Scope, receive: Receive | None = None, send: Send | None = None) -> bool:
        """Whether a request is this one still, though middleware has built its scope anew: it has something only this has."""
        own = self.action.scope
        return own is not None and (
            receive == self.receive
            or send == self.send
            or scope.get("headers") is own["headers"]
            or scope.get("state") is own["state"]
        )

    def lost(self) -> None:
        """End as what never began: the task was cancelled before its first step, so that ``run`` cannot say so."""
        if self.action.result is None and not self.work.cancel_called:
            self._fail(CancelledError())
        self.around.ended(self)

    async def receive(self) -> Message:
        """ASGI ``receive``: the whole body, then ``http.disconnect`` once there is nobody to answer."""
        if not self.received:
            self.received = True
            return {"type": "http.request", "body": self.action.body or b"", "more_body": False}
        await self.around.disconnected()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI ``send``: gathers the answer. Raises, as a server does, for what cannot be an answer to HTTP."""
        kind = message["type"]
        if self.action.result is not None:
            # Whoever goes on sending must come by here to learn that its task was cancelled.
            await checkpoint()
        elif kind == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
        elif kind == "http.response.body":
            if self.start is None:
                raise RuntimeError("The application sent a body before it started its response")
            chunk = message.get("body", b"")
            if type(chunk) is not bytes:
                chunk = bytes(memoryview(chunk))
            if (self.action.method == "HEAD" and not self.action.refused) or self.start[0] in WITHOUT_BODY:
                # As a server does: what is not kept is no part of the result. Only a refused HEAD has a body, its error.
                chunk = b""
            self.size += len(chunk)
            if not message.get("more_body", False):
                self._complete(self.start, chunk)
            elif self.size > self.around.limit:
                self.end(ResultTooLarge(self.around.limit))
                await checkpoint()
            else:
                if chunk:
                    self.chunks = self.chunks or []
                    self.chunks.append(chunk)
                self.messages += 1
                if self.messages % MESSAGES_PER_CHECKPOINT == 0:
                    # A stream that never waits would otherwise never meet its deadline.
                    await checkpoint()

    def end(self, error: BatchError) -> None:
        """Answer the action with ``error`` and stop its work."""
        duration = perf_counter() - self.started if self.started else 0.0
        self._finish(error_result(error, self.around.settings, duration))
        self.work.cancel()

    def _caught(self, error: BaseException) -> None:
        """Make ``error``, which the work ended with, the action's result, unless somebody asked for its end."""
        cancelled = isinstance(error, get_cancelled_exc_class())
        # A cancellation that no scope around it asked for is one that the handler met elsewhere, in a cancelled future say.
        if not (cancelled and (self.work.cancel_called or current_effective_deadline() == -math.inf)):
            self._fail(error)
        if _is_interrupt(error):
            if self.around.on_asyncio and (task := current_task()) is not None:
                # It ends the loop. Nobody asks this task for it again, and asyncio would log that.
                task.add_done_callback(Task.exception)
            raise error

    def _fail(self, error: BaseException) -> None:
        # The answer of the host, if it is complete, stands: Starlette raises again after its own 500.
        failed = ActionFailed.logged(self.action.index, error)
        if self.action.result is None:
            self._finish(error_result(failed, self.around.settings, perf_counter() - self.started))

    def _start(self, status: object, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self.start is not None:
            raise RuntimeError("The application started its response twice")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise RuntimeError(f"The application answered with the status {status!r}")
        fields = []
        coding = b""
        for name, value in headers:
            if type(name) is not bytes or type(value) is not bytes:
                name, value = bytes(memoryview(name)), bytes(memoryview(value))
            name = name.lower()
            if name == b"content-encoding":
                coding += b", " + value if coding else value
            elif name == b"set-cookie" and _CONTROL.search(value):
                # It goes into the header of the batch's own answer, which a line break would end.
                raise RuntimeError("The application sent a cookie with a control character")
            fields.append((name, value))
        self.start = status, fields, coding

    def _complete(self, start: Start, last: bytes) -> None:
        status, headers, coding = start
        limit = self.around.limit
        try:
            if self.size > limit:
                raise ResultTooLarge(limit)
            body = last if self.chunks is None else b"".join((*self.chunks, last))
            if coding and body:
                plain = undo_coding(coding, body, limit)
                if plain is not None:
                    body = plain
                    headers = [header for header in headers if header[0] != b"content-encoding"]
            # Small ones fit, whatever stands in them.
            if MOST_ESCAPED * len(body) > limit:
                self.action.is_json = check_size(headers, body, limit) == "json"
        except ResultTooLarge as error:
            # The action has answered, so what it does afterwards goes on, as alone.
            self._finish(error_result(error, self.around.settings, perf_counter() - self.started))
            return
        self._finish(Result(status, headers, body, perf_counter() - self.started))

    def _finish(self, result: Result) -> None:
        self.action.result = result
        self.chunks = None
        self.around.completed(self.action)


def _is_interrupt(error: BaseException) -> bool:
    """Whether ``error`` ends the process, or the coroutine; a handler's SystemExit does not."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_interrupt, error.exceptions))
    return isinstance(error, KeyboardInterrupt | GeneratorExit)
