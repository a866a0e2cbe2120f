"""One in-process request: scope in, ``receive`` and ``send``, result out (contract sections 2, 4 and 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from time import perf_counter
from typing import Protocol

from anyio import TaskHandle
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp, Message

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
        except Exception as error:
            self._fail(error)
        finally:
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
        """ASGI ``send``: gathers the answer. Raises RuntimeError or TypeError for what a server would not take either."""
        if self.action.result is not None:
            # Whoever goes on sending must come by here to learn that its task was cancelled.
            await checkpoint()
        elif message["type"] == "http.response.start":
            if self._status is not None:
                raise RuntimeError("The application started its response twice")
            self._status, self._headers = _checked(message["status"], message.get("headers", ()))
            self._chunks: list[bytes] = []
            self._size = 0
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
                return
            self._chunks.append(chunk)
            if not message.get("more_body", False):
                self._complete(self._status)
            elif len(self._chunks) % CHUNKS_PER_CHECKPOINT == 0:
                # A stream that never waits would otherwise never meet its deadline.
                await checkpoint()

    def end(self, error: BatchError) -> None:
        """Answer the action with ``error`` and stop its work."""
        self._finish(Result.of_error(error, self.around.help, perf_counter() - self._started))
        self.task.cancel()

    def _fail(self, error: Exception) -> None:
        # The answer of the host, if it is complete, stands: Starlette raises again after its own 500.
        failed = ActionFailed.logged(self.action.index, error)
        if self.action.result is None:
            self._finish(Result.of_error(failed, self.around.help, perf_counter() - self._started))

    def _complete(self, status: int) -> None:
        headers = self._headers
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
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


def _checked(status: object, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, list[tuple[bytes, bytes]]]:
    """The start of an answer, names in lower case, where it can stand in one to HTTP: no informational status, and bytes."""
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise RuntimeError(f"The application answered with the status {status!r}")
    fields = list(headers)
    # Joining takes nothing but bytes. A line break in a cookie would break the header of the batch's own answer.
    if _CONTROL.search(b"".join([part for field in fields for part in field])):
        raise RuntimeError("The application sent a header field with a control character")
    return status, [(bytes(name).lower(), bytes(value)) for name, value in fields]
