"""Runs the exchanges of a batch together: one task each, deadlines, isolation (protocol.md#running)."""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio import Task
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from functools import cache, partial
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeGuard

from anyio import CancelScope, Event, TaskHandle, create_task_group, move_on_after
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit._record import Record
from batchkit._running.exchange import Exchange
from batchkit.errors import ActionNotStarted, ActionTimedOut
from batchkit.model import ACTION_KEY, Batch
from batchkit.settings import Settings

logger = logging.getLogger("batchkit")

__all__ = ["Dispatch", "collect", "enter"]


# A task takes its first step as it is made, where Python has that: what waits for nothing costs no turn of the loop.
_begun: Callable[..., Task[None]] = Task
if sys.version_info >= (3, 12):
    _begun = partial(Task, eager_start=True)


async def enter(scope: Scope, receive: Receive, send: Send) -> None:
    """The innermost app below the plugins' middleware, which is built once: goes to what answers this action."""
    app: ASGIApp = scope[ACTION_KEY].app
    await app(scope, receive, send)


class Dispatch:
    """The actions of one batch at work, each in a task of its own: the ``Conversation`` that their exchanges are part of.

    As a context it starts every action that has no result yet, through ``app`` if there is one and in a copy of ``context``, and
    is left when all their work has ended, background tasks included. ``tell`` is called with each action as it has its result,
    and must not wait.
    """

    def __init__(
        self,
        batch: Batch,
        actions: Sequence[Record],
        app: ASGIApp | None,
        receive: Receive,
        settings: Settings,
        context: Context,
        tell: Callable[[Record], None] | None = None,
    ) -> None:
        self.batch = batch
        self.actions = actions
        self.limit = settings.max_result_size
        self.settings = settings
        self.default_timeout = settings.action_timeout
        self.complete: Event | None = None
        self.over = False
        self._receive = receive
        self._tell = tell
        self._context = context
        self._tasks: TaskGroup | None = None
        self._reader: asyncio.Task[None] | TaskHandle[None] | None = None
        self._gone: Event | None = None
        self.on_asyncio = _on_asyncio()
        kind = _kind_of_scope(self.on_asyncio)
        self.exchanges = [Exchange(action, app or action.app, self, kind()) for action in actions if action.app is not None]
        self.pending = len(self.exchanges)
        self._most = settings.max_concurrency or self.pending
        self._waiting = deque(self.exchanges)
        self._working = 0
        self._beginning = False

    async def __aenter__(self) -> Self:
        self._started = perf_counter()
        # asyncio's own tasks, as a server has one for each request, cost a tenth of anyio's. trio has none outside of a group.
        if not self.on_asyncio:
            self._tasks = create_task_group()
            await self._tasks.__aenter__()
        else:
            self._loop = asyncio.get_running_loop()
        self._posted = copy_context()
        for exchange in self.exchanges:
            exchange.action.batch_context = self._posted
        if self._tell is not None:
            for action in self.actions:
                if action.app is None:
                    self._tell(action)
        self._begin()
        if self._waiting:
            self._watch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self.leave()
        if self._reader is not None:
            self._reader.cancel()
        # An answer that could not be sent is no affair of the actions, whose work goes on to its end.
        cancelled = None if isinstance(error, Exception) else error
        try:
            if self._tasks is None:
                await self._settle(cancelled)
                return None
            if cancelled is None:
                await self._tasks.__aexit__(None, None, None)
                return None
            return await self._tasks.__aexit__(kind, error, traceback)
        finally:
            # Exchanges and their batch refer to each other: freed here, not left to the garbage collector.
            self.exchanges.clear()

    def completed(self, action: Record) -> None:
        """``action`` has got its result."""
        if self._tell is not None:
            self._tell(action)
        self.pending -= 1
        if self.pending == 0 and self.complete is not None:
            self.complete.set()

    def ended(self, exchange: Exchange) -> None:
        """The work of ``exchange`` has ended, that after its result included."""
        self._working -= 1
        self._end(exchange)
        if self._waiting:
            self._begin()

    def _end(self, exchange: Exchange) -> None:
        action = exchange.action
        # A scope and its action refer to each other, and so do an exchange and its task. The garbage collector is dear.
        action.scope = action.found = exchange.task = None
        if action.on_end is not None:
            try:
                action.on_end(action)
            except Exception:
                logger.exception("What the cost hook does at the end of data.actions[%d] failed", action.index)

    async def disconnected(self) -> None:
        """Wait until the client is gone or the batch is answered."""
        if not self.over:
            await self._watch().wait()

    def leave(self) -> None:
        """The client is gone, or answered: there is nobody left to work for, and what has not begun does not begin."""
        self.over = True
        if self._gone is not None:
            self._gone.set()
        while self._waiting:
            self._drop(self._waiting[0], "Not started, as the client is gone; nothing of it ran")

    def log(self) -> None:
        """One line for the batch: what a handler does not show. No paths, no bodies: those are the access log's affair."""
        if logger.isEnabledFor(logging.INFO):
            statuses = [action.result.status_code for action in self.actions if action.result is not None]
            duration = perf_counter() - self._started
            logger.info(
                "Batch %s: %d actions, %s, %.3f s",
                self.batch.id,
                len(statuses),
                " ".join(map(str, statuses)),
                duration,
                extra={"batch_id": self.batch.id, "statuses": statuses, "duration": duration},
            )

    def timing(self) -> tuple[bytes, bytes]:
        """The ``Server-Timing`` field of the answer: a metric per action, in order, such as ``a0;start=0.4;dur=12.3``.

        In milliseconds, ``start`` from the start of the batch; of an action that did not run, its name alone. Nothing that a
        client or a handler wrote stands in it.
        """
        metrics = [f"a{action.index}" for action in self.actions]
        for exchange in self.exchanges:
            action = exchange.action
            if exchange.started and action.result is not None:
                start = (exchange.started - self._started) * 1000
                metrics[action.index] += f";start={start:.1f};dur={action.result.duration * 1000:.1f}"
        return b"server-timing", ", ".join(metrics).encode()

    def timeout(self, exchange: Exchange) -> float:
        """The seconds that the action of ``exchange`` has, from the start of the batch."""
        return exchange.action.timeout or self.default_timeout

    async def wait(self) -> None:
        """Wait until every action has a result, those included that get a 504, or have not begun, at their deadline."""
        self.complete = Event()
        self._find_lost()
        for timeout in sorted({self.timeout(exchange) for exchange in self.exchanges}):
            with move_on_after(self._started + timeout - perf_counter()):
                await self.complete.wait()
                break
            for exchange in self.exchanges:
                if exchange.action.result is None and self.timeout(exchange) <= timeout:
                    if exchange in self._waiting:
                        self._drop(exchange, f"Not started within {timeout:g} seconds; nothing of it ran")
                    else:
                        exchange.end(ActionTimedOut(f"No answer within {timeout:g} seconds; the outcome is unknown"))

    def _begin(self) -> None:
        """Start what has a place, in the order of the actions."""
        if self._beginning:
            # What has just begun has ended already.
            return
        self._beginning = True
        try:
            while self._waiting and self._working < self._most:
                exchange = self._waiting.popleft()
                self._working += 1
                if self._tasks is not None:
                    self._start(exchange.run_in_group(), self._context, "batchkit action")
                    continue
                try:
                    # Not by the loop's task factory, which is the host's affair.
                    task = _begun(exchange.run(), loop=self._loop, name="batchkit action", context=self._context.copy())
                except KeyboardInterrupt as interrupt:
                    # Out of a first step: it ends the loop, as out of any other.
                    self._loop.call_soon(_interrupt, interrupt)
                    continue
                if exchange.action.scope is not None:
                    exchange.task = task
                    if self._most < len(self.exchanges):
                        task.add_done_callback(self._find_lost)
        finally:
            self._beginning = False

    def _start(self, work: Coroutine[Any, Any, None], context: Context, name: str) -> asyncio.Task[None] | TaskHandle[None]:
        if self._tasks is not None:
            return self._tasks.create_task(work, context=context, name=name)
        return Task(work, loop=self._loop, name=name, context=context)

    def _drop(self, exchange: Exchange, reason: str) -> None:
        self._waiting.remove(exchange)
        exchange.end(ActionNotStarted(reason))
        self._end(exchange)

    async def _settle(self, cancelled: BaseException | None) -> None:
        """Wait for asyncio's tasks, whoever cancels this one meanwhile and however often: then raise the last such cancellation.

        ``cancelled`` is what has ended the batch already, None where it is answered.
        """
        again = None
        if self._working or self._reader is not None:
            with CancelScope(shield=cancelled is not None) as waiting:
                while left := [task for task in (self._reader, *[each.task for each in self.exchanges]) if _is_running(task)]:
                    if cancelled is not None:
                        for exchange in self.exchanges:
                            if exchange.task is not None:
                                exchange.work.cancel()
                    try:
                        await asyncio.wait(left)
                    except asyncio.CancelledError as error:
                        again = cancelled = error
                        waiting.shield = True
            self._find_lost()
        if again is not None:
            raise again

    def _find_lost(self, _: object = None) -> None:
        """End what was cancelled before its first step, and so cannot say that it has ended."""
        for exchange in self.exchanges:
            if exchange.task is not None and exchange.task.done():
                exchange.lost()

    def _watch(self) -> Event:
        """What is set when the client is gone; the batch's receive has one reader, and none where nobody asks, as mostly."""
        if self._gone is None:
            self._gone = Event()
            self._reader = self._start(self._read_disconnect(), self._posted, "batchkit disconnect")
        return self._gone

    async def _read_disconnect(self) -> None:
        try:
            message = await self._receive()
        except Exception:
            logger.warning("The server failed to tell whether the client is still there", exc_info=True)
        else:
            # A middleware may give the body again, and again, without ever waiting: it will not tell.
            if message["type"] != "http.disconnect":
                return
        self.leave()


def _on_asyncio() -> bool:
    try:
        # trio may run as a guest of asyncio's loop, but in no task of it.
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


@cache
def _kind_of_scope(on_asyncio: bool) -> type[CancelScope]:
    """The class of anyio's cancel scopes here, which takes longer to be asked for than they to be made."""
    return type(CancelScope())


def _interrupt(interrupt: KeyboardInterrupt) -> None:
    raise interrupt


def _is_running(task: object) -> TypeGuard[asyncio.Task[None]]:
    return isinstance(task, asyncio.Task) and not task.done()


async def collect(running: Dispatch) -> None:
    """Wait until each action has its result; at its deadline an action without one gets an error."""
    if running.pending:
        # Most are done after one turn of the loop, and then there is no deadline to keep.
        await (asyncio.sleep(0) if running.on_asyncio else checkpoint())
    if running.pending:
        await running.wait()
