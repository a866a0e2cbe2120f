"""One in-process request: scope in, ``receive`` and ``send``, result out (contract sections 2, 4 and 5)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from anyio import TaskHandle, create_task_group
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp, Message

from batchkit.cancellation import is_asked, is_real, take_back
from batchkit.content import undo_coding
from batchkit.errors import ActionFailed, BatchError, ResultTooLarge
from batchkit.hooks import check_not_awaited
from batchkit.model import RUNNING, Action, Result

__all__ = ["Exchange"]

logger = logging.getLogger("batchkit")

CHUNKS_PER_CHECKPOINT = 16

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


# How an answer starts: with its status, header fields and Content-Encoding.
Start = tuple[int, list[tuple[bytes, bytes]], bytes]


class Conversation(Protocol):
    """What an exchange needs of the batch around it."""

    limit: int
    help: str | None

    def completed(self, action: Action) -> None:
        """``action`` has got its result."""

    def ended(self) -> None:
        """The work of an action has ended, that after its result included."""

    async def disconnected(self) -> None:
        """Wait until the client is gone or the batch is answered."""


@dataclass(eq=False, slots=True)
class Exchange:
    """The request that ``action`` is, from its scope to its result, in a conversation of several.

    ``task`` is what runs it; the rest is the answer so far.
    """

    action: Action
    app: ASGIApp
    around: Conversation
    task: TaskHandle[None] | None = None
    started: float = 0.0
    received: bool = False
    start: Start | None = None
    chunks: list[bytes] | None = None
    size: int = 0

    async def run(self) -> None:
        """Call the app that answers the action, in a task of its own. Whatever it does, the action gets a result."""
        action = self.action
        assert action.scope is not None
        RUNNING.set(action)
        self.started = perf_counter()
        try:
            await self.app(action.scope, self.receive, self.send)
            if action.result is None:
                raise RuntimeError("The application ended without completing its response")
        except BaseException as error:
            if is_real(error):
                raise
            self._fail(error)
        finally:
            if is_asked():
                await take_back()
            # A scope and its action refer to each other: let go here, not by the garbage collector.
            action.scope = None
            self.around.ended()
            if action.on_end is not None:
                self._tell_end(action.on_end)

    async def run_apart(self) -> None:
        """As ``run``, in a task and a group of its own below this one, whose end says whether a cancel scope was left open."""
        conduct = self.action.conduct
        assert conduct is not None
        try:
            async with create_task_group() as tasks:
                tasks.start_soon(self.run)
            conduct.clean += 1
        except BaseException as error:
            if is_real(error):
                raise
            conduct.clean = 0
            self._fail(error)

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
            self.size += len(chunk)
            if self.size > self.around.limit:
                self.end(ResultTooLarge(f"The result is larger than {self.around.limit:,} bytes"))
                await checkpoint()
            elif not message.get("more_body", False):
                self._complete(self.start, chunk if self.chunks is None else b"".join((*self.chunks, chunk)))
            else:
                self.chunks = self.chunks or []
                self.chunks.append(chunk)
                if len(self.chunks) % CHUNKS_PER_CHECKPOINT == 0:
                    # A stream that never waits would otherwise never meet its deadline.
                    await checkpoint()

    def end(self, error: BatchError) -> None:
        """Answer the action with ``error`` and stop its work."""
        self._finish(Result.of_error(error, self.around.help, perf_counter() - self.started))
        assert self.task is not None
        self.task.cancel()

    def _tell_end(self, on_end: Callable[[Action], object]) -> None:
        try:
            if (answer := on_end(self.action)) is not None:
                check_not_awaited("on_end", answer)
        except Exception:
            logger.exception("What the cost hook does at the end of data.actions[%d] failed", self.action.index)

    def _fail(self, error: BaseException) -> None:
        # The answer of the host, if it is complete, stands: Starlette raises again after its own 500.
        failed = ActionFailed.logged(self.action.index, error)
        if self.action.result is None:
            self._finish(Result.of_error(failed, self.around.help, perf_counter() - self.started))

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

    def _complete(self, start: Start, body: bytes) -> None:
        status, headers, coding = start
        if self.action.method == "HEAD" or status == 204 or status == 304:
            body = b""
        if coding and body:
            try:
                plain = undo_coding(coding, body, self.around.limit)
            except ResultTooLarge as error:
                self.end(error)
                return
            if plain is not None:
                body = plain
                headers = [header for header in headers if header[0] != b"content-encoding"]
        self._finish(Result(status, headers, body, perf_counter() - self.started))

    def _finish(self, result: Result) -> None:
        self.action.result = result
        self.chunks = None
        self.around.completed(self.action)
