"""The transport for ``httpx2.AsyncClient``: requests of all tasks of an event loop share batches, on asyncio and on trio."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Task
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Any, Unpack

import httpx2
from anyio import CancelScope, Event, move_on_after, sleep
from anyio.lowlevel import current_token

from batchkit.client.conversation import Alone, Call, Conversation, Send, Wait, conversation, fail
from batchkit.client.drafts import Draft, draft_of
from batchkit.client.server import Options, Server, check_request
from batchkit.client.window import Gathering, Windows

__all__ = ["AsyncBatchTransport", "talk"]


async def talk(conversation: Conversation, send: Callable[[httpx2.Request], Awaitable[httpx2.Response]]) -> None:
    """Go through a conversation; ``send`` sends its requests. Raises what its steps raise, or the conversation."""
    response: httpx2.Response | None = None
    chunks: AsyncIterator[bytes] | None = None
    reply: Any = None
    try:
        while True:
            try:
                step = conversation.send(reply)
            except StopIteration:
                return
            reply = None
            if isinstance(step, Send):
                reply = response = await send(step.request)
                chunks = response.aiter_bytes()
            elif isinstance(step, Wait):
                await sleep(step.seconds)
            elif chunks is not None:
                reply = await anext(chunks, None)
    finally:
        conversation.close()
        if response is not None:
            with CancelScope(shield=True):
                await response.aclose()


class _Call(Call):
    def __init__(self, draft: Draft) -> None:
        super().__init__(draft)
        self.settled = Event()

    def settle(self, outcome: httpx2.Response | Exception | Alone) -> None:
        super().settle(outcome)
        self.settled.set()


class _Batch(Gathering):
    def __init__(self, key: Hashable) -> None:
        super().__init__(key)
        self.full = Event()
        self.ended = Event()
        self.scope = CancelScope()

    def close(self) -> None:
        super().close()
        self.full.set()


class AsyncBatchTransport(httpx2.AsyncBaseTransport):
    """Requests that tasks make at the same moment travel as one batch:
    ``httpx2.AsyncClient(transport=AsyncBatchTransport(url=…))``.

    Everything that ``BatchTransport`` says holds here. A batch has a task of its own, so that a caller who is cancelled keeps
    nobody from an answer; where all its callers are, it is cancelled too.
    """

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport | None = None,
        *,
        url: httpx2.URL | str,
        window: float = 0.002,
        **options: Unpack[Options],
    ) -> None:
        self._server = Server(url, window=window, **options)
        self._transport = httpx2.AsyncHTTPTransport() if transport is None else transport
        self._windows = Windows(self._server, _Batch)
        self._running: set[_Batch] = set()
        self._tasks: set[Task[None]] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The response to ``request``. Raises what the inner transport raises, and httpx2.RemoteProtocolError."""
        check_request(self, request)
        draft = draft_of(request, self._server)
        outcome = None if draft is None else await self._outcome(draft)
        if isinstance(outcome, httpx2.Response):
            return outcome
        if isinstance(outcome, Exception):
            raise outcome
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Cancel what is under way, and close the inner transport."""
        for batch in [*self._running]:
            if any(call.outcome is None for call in batch.calls):
                batch.scope.cancel()
            await batch.ended.wait()
        await self._transport.aclose()

    async def _outcome(self, draft: Draft) -> httpx2.Response | Exception | Alone | None:
        call, token = _Call(draft), current_token()
        batch, opened = self._windows.join((token, draft.key), call)
        if opened:
            self._running.add(batch)
            self._start(token.native_token, batch)
        try:
            await call.settled.wait()
        finally:
            if call.outcome is None:
                self._leave(batch, call)
        return call.outcome

    def _leave(self, batch: _Batch, call: Call) -> None:
        call.left = True
        if batch.gathered and all(call.left or call.outcome is not None for call in batch.calls):
            batch.scope.cancel()

    def _start(self, loop: object, batch: _Batch) -> None:
        """Run the batch in a task that belongs to none of its callers."""
        if isinstance(loop, AbstractEventLoop):
            task = loop.create_task(self._run(batch))
            # The loop itself keeps no hold of it.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            from trio.lowlevel import spawn_system_task

            spawn_system_task(self._run, batch)

    async def _run(self, batch: _Batch) -> None:
        try:
            with batch.scope:
                with move_on_after(self._server.window):
                    await batch.full.wait()
                self._windows.close(batch)
                await talk(conversation(batch.calls, self._server), self._transport.handle_async_request)
        except Exception as error:
            fail(batch.calls, error)
        finally:
            self._windows.close(batch)
            # Only where it was cancelled somebody is left: the loop ends, or the client was closed.
            fail(batch.calls, httpx2.ReadError("The client was closed before this request had its answer"))
            self._running.discard(batch)
            batch.ended.set()
