"""The answer in lines: each result goes out as its action has it (protocol.md#results-as-they-come)."""

from __future__ import annotations

import logging
from collections import deque
from operator import attrgetter
from types import TracebackType
from typing import Self

from anyio import Event, create_task_group
from anyio.lowlevel import cancel_shielded_checkpoint
from starlette.types import Send

from batchkit._protocol.answer import encode_line
from batchkit._protocol.cookies import cookies_of, sets_cookies
from batchkit._record import Record
from batchkit._running.reading import ClientGone
from batchkit.model import Batch
from batchkit.settings import Settings

__all__ = ["Lines"]

logger = logging.getLogger("batchkit")

# In bytes. Lines that are there at the same time go together up to here; beyond it, what waits for the client waits as it is.
ENOUGH = 2**16


class Lines:
    """The answer of ``batch`` in lines of ``media_type``, sent by a task of its own: a slow client keeps nobody else waiting.

    A context around the whole run of the batch, which is called with each action that has its result. To leave it waits until
    all of them are sent, and raises what ``send`` raised, or ClientGone where that was an OSError.
    """

    def __init__(self, batch: Batch, media_type: bytes, send: Send, settings: Settings) -> None:
        self.batch = batch
        self.media_type = media_type
        self.settings = settings
        self._send = send
        self._tasks = create_task_group()
        self._waiting: deque[Record] = deque()
        self._news = Event()
        self._begun = self._over = False
        self._failure: Exception | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run, name="batchkit lines")
        try:
            # Its task has its first step before any action has: cancelled before that, anyio would warn of it.
            await cancel_shielded_checkpoint()
        except BaseException as error:
            await self._tasks.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._over = True
        self._news.set()
        if error is not None and not isinstance(error, Exception):
            return await self._tasks.__aexit__(kind, error, traceback)
        await self._tasks.__aexit__(None, None, None)
        if error is None and self._failure is not None:
            raise self._failure
        return None

    def __call__(self, action: Record) -> None:
        """Take the result of ``action``, to be sent after those before it."""
        assert action.result is not None
        if self._begun and sets_cookies(action.result):
            logger.warning(
                "Batch %s: the cookies that data.actions[%d] (%s %s) set are dropped: the header of the stream had gone out",
                *(self.batch.id, action.index, action.method, action.route),
            )
        self._waiting.append(action)
        self._news.set()

    async def _run(self) -> None:
        try:
            await self._write()
        except OSError as error:
            self._failure = ClientGone()
            self._failure.__cause__ = error
        except Exception as error:
            self._failure = error

    async def _write(self) -> None:
        left = len(self.batch.actions)
        while left:
            while not self._waiting:
                if self._over:
                    # The batch has failed, before its first line or after some.
                    return
                self._news = Event()
                await self._news.wait()
            if not self._begun:
                await self._begin()
            while self._waiting:
                lines = b""
                while self._waiting and len(lines) < ENOUGH:
                    lines += encode_line(self._waiting.popleft(), self.settings)
                    left -= 1
                await self._send({"type": "http.response.body", "body": lines, "more_body": left > 0})

    async def _begin(self) -> None:
        self._begun = True
        headers = [
            (b"content-type", self.media_type),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            # nginx would gather the lines.
            (b"x-accel-buffering", b"no"),
            *cookies_of(sorted(self._waiting, key=attrgetter("index"))),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
