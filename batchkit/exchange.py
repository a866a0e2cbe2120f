"""One in-process request: scope in, ``receive`` and ``send``, result out (contract sections 2, 4 and 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from time import perf_counter
from typing import Protocol

from anyio import TaskHandle
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp, Message

from batchkit.cancellation import is_asked, is_real, take_back
from batchkit.content import undo_coding
from batchkit.errors import ActionFailed, BatchError, ResultTooLarge
from batchkit.model import RUNNING, Action, Result

__all__ = ["Exchange"]

CHUNKS_PER_CHECKPOINT = 16

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Conversation(Protocol):
    """What an exchange needs of the batch around it."""

    limit: int
    help: str | None
    on_asyncio: bool

    def completed(self) -> None:
        """An action has got its result."""

    def ended(self) -> None:
        """The work of an action has ended, that after its result included."""

    async def disconnected(self) -> None:
        """Wait until the client is gone or the batch is answered."""


class Exchange:
    """The request that ``action`` is, from its scope to its result, in a conversation of several."""

    __slots__ = ("_chunks", "_headers", "_received", "_size", "_started", "_status", "action", "app", "around", "task")

    task: TaskHandle[None]

    def __init__(self, action: Action, app: ASGIApp, around: Conversation) -> None:
        self.action = action
        self.app = app
        self.around = around
        self._received = False
        self._status: int | None = None

    async def run(self) -> None:
        """Call the app that answers the action, in a task of its own. Whatever it does, the action gets a result."""
        action = self.action
        assert action.scope is not None
        RUNNING.set(action)
        self._started = perf_counter()
        try:
            await self.app(action.scope, self.receive, self.send)
            if action.result is None:
                raise RuntimeError("The application ended without completing its response")
        except BaseException as error:
            if is_real(error):
                raise
            self._fail(error)
        finally:
            if self.around.on_asyncio and is_asked():
                await take_back()
            # A scope and its action refer to each other: let go here, not by the garbage collector.
            action.scope = None
            self.around.ended()

    async def receive(self) -> Message:
        """ASGI ``receive``: the whole body, then ``http.disconnect`` once there is nobody to answer."""
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self.action.body or b"", "more_body": False}
        await self.around.disconnected()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI ``send``: gathers the answer. Raises, as a server does, for what cannot be an answer to HTTP."""
        if self.action.result is not None:
            # Whoever goes on sending must come by here to learn that its task was cancelled.
            await checkpoint()
        elif message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body":
            if self._status is None:
                raise RuntimeError("The application sent a body before it started its response")
            chunk = message.get("body", b"")
            if type(chunk) is not bytes:
                chunk = bytes(memoryview(chunk))
            self._size += len(chunk)
            if self._size > self.around.limit:
                self.end(ResultTooLarge(f"The result is larger than {self.around.limit:,} bytes"))
                await checkpoint()
            elif not message.get("more_body", False):
                self._complete(self._status, b"".join((*self._chunks, chunk)) if self._chunks else chunk)
            else:
                self._chunks.append(chunk)
                if len(self._chunks) % CHUNKS_PER_CHECKPOINT == 0:
                    # A stream that never waits would otherwise never meet its deadline.
                    await checkpoint()

    def end(self, error: BatchError) -> None:
        """Answer the action with ``error`` and stop its work."""
        self._finish(Result.of_error(error, self.around.help, perf_counter() - self._started))
        self.task.cancel()

    def _fail(self, error: BaseException) -> None:
        # The answer of the host, if it is complete, stands: Starlette raises again after its own 500.
        failed = ActionFailed.logged(self.action.index, error)
        if self.action.result is None:
            self._finish(Result.of_error(failed, self.around.help, perf_counter() - self._started))

    def _start(self, status: object, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self._status is not None:
            raise RuntimeError("The application started its response twice")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise RuntimeError(f"The application answered with the status {status!r}")
        self._headers = [(bytes(name.lower()), bytes(value)) for name, value in headers]
        for name, value in self._headers:
            # It goes into the header of the batch's own answer, which a line break would end.
            if name == b"set-cookie" and _CONTROL.search(value):
                raise RuntimeError("The application sent a cookie with a control character")
        self._status = status
        self._chunks: list[bytes] = []
        self._size = 0

    def _complete(self, status: int, body: bytes) -> None:
        headers = self._headers
        if self.action.method == "HEAD" or status in (204, 304):
            body = b""
        codings = [value for name, value in headers if name == b"content-encoding"]
        if codings and body:
            try:
                plain = undo_coding(b", ".join(codings), body, self.around.limit)
            except ResultTooLarge as error:
                self.end(error)
                return
            if plain is not None:
                body = plain
                headers = [header for header in headers if header[0] != b"content-encoding"]
        self._finish(Result(status, headers, body, perf_counter() - self._started))

    def _finish(self, result: Result) -> None:
        self.action.result = result
        self._chunks = []
        self.around.completed()
