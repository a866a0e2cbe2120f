"""Uploading: what limiters hold of a batch while its body is read (protocol.md#an-action, protocol.md#admission)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Protocol, Self

from anyio import move_on_after
from starlette.types import Message, Receive, Scope

from batchkit._running.charging import Charged
from batchkit.errors import TooManyRequests
from batchkit.settings import Settings

__all__ = ["Upload", "Uploading"]


class Upload(Protocol):
    """What a limiter holds of a batch while its body is read; ``waits`` where the rest of that is worth asking for only then."""

    waits: bool

    def share(self) -> AbstractAsyncContextManager[object]:
        """What to enter where the body takes its time."""
        ...

    def end(self) -> None:
        """Give it back, unless it has become the batch's."""


class Uploading:
    """A context around a batch and the reading of its body: ``uploads`` is what limiters hold meanwhile."""

    def __init__(self, scope: Scope, holds: Iterable[Callable[[Scope], Upload]], settings: Settings) -> None:
        self.scope = scope
        self.holds = holds
        self.settings = settings
        self.uploads: list[Upload] = []
        self._stack: AsyncExitStack | None = None

    async def first(self, receive: Receive) -> Message:
        """The first message of the body. Raises TooManyRequests where a limiter has no room, and not all of the body is there."""
        try:
            for hold in self.holds:
                self.uploads.append(hold(self.scope))
        except TooManyRequests as error:
            refusal = error
        else:
            message = await receive()
            if message.get("more_body", False) and not self._is_all(message):
                await self._share()
            return message
        # What is there already is judged as a batch.
        with move_on_after(0):
            message = await receive()
            if not message.get("more_body", False) or self._is_all(message):
                return message
        raise refusal

    def _is_all(self, message: Message) -> bool:
        """Whether only the end is missing, which some servers send in a message of its own: until HTTP/2 it follows at once."""
        length = b"%d" % len(message.get("body", b""))
        return self.scope.get("http_version", "1.1") < "2" and (b"content-length", length) in self.scope["headers"]

    async def _share(self) -> None:
        self._stack = AsyncExitStack()
        for upload in self.uploads:
            if upload.waits:
                charged = Charged(
                    upload.share, self.settings.limiter_timeout, self.settings.limiter_errors, lambda: "the upload of a batch"
                )
                await self._stack.enter_async_context(charged)

    def end(self) -> None:
        """Give back what is no part of the batch's own by now: its body is read, and it is admitted."""
        for upload in self.uploads:
            upload.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self.end()
        return await self._stack.__aexit__(kind, error, traceback) if self._stack is not None else None
