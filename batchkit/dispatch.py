"""Runs the exchanges of a batch together: one task each, deadlines, isolation (contract section 4)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Self

from anyio import Event, TaskHandle, create_task_group, move_on_after
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit.errors import ActionTimedOut
from batchkit.exchange import Exchange
from batchkit.model import ACTION_KEY, Action, Batch, Result
from batchkit.settings import Settings

logger = logging.getLogger("batchkit")

__all__ = ["Dispatch", "collect", "enter"]

# A cancel scope left open ends the task group around its task, and all its tasks. A second group around each action would
# keep that from the others, for over half of what a trivial action costs: so a route has it for its first runs, and after a leak.
TRUSTED_AFTER = 100


async def enter(scope: Scope, receive: Receive, send: Send) -> None:
    """The innermost app below the plugins' middleware, which is built once: goes to what answers this action."""
    app: ASGIApp = scope[ACTION_KEY].app
    await app(scope, receive, send)


class Dispatch:
    """The actions of one batch at work, each in a task of its own: the ``Conversation`` that their exchanges are part of.

    As a context it starts every action that has no result yet, through ``app`` if there is one, and is left when all their
    work has ended, background tasks included. ``tell`` is called with each action as it has its result, and must not wait.
    """

    def __init__(
        self,
        batch: Batch,
        app: ASGIApp | None,
        receive: Receive,
        settings: Settings,
        tell: Callable[[Action], None] | None = None,
    ) -> None:
        self.batch = batch
        self.limit = settings.max_result_size
        self.help = settings.help
        self.default_timeout = settings.action_timeout
        self.complete: Event | None = None
        self.over = False
        self._receive = receive
        self._tell = tell
        self._tasks = create_task_group()
        self._reader: TaskHandle[None] | None = None
        self._gone: Event | None = None
        self.exchanges = [Exchange(action, app or action.app, self) for action in batch.actions if action.app is not None]
        self.pending = self.running = len(self.exchanges)

    async def __aenter__(self) -> Self:
        self._started = perf_counter()
        await self._tasks.__aenter__()
        for exchange in self.exchanges:
            conduct = exchange.action.conduct
            trusted = conduct is None or conduct.clean >= TRUSTED_AFTER
            exchange.task = self._tasks.create_task(exchange.run() if trusted else exchange.run_apart(), name="batchkit action")
        if self._tell is not None:
            for action in self.batch.actions:
                if action.app is None:
                    self._tell(action)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self.leave()
        try:
            # An answer that could not be sent is no affair of the actions, whose work goes on to its end.
            if isinstance(error, Exception):
                await self._tasks.__aexit__(None, None, None)
                return None
            return await self._tasks.__aexit__(kind, error, traceback)
        except BaseExceptionGroup:
            # A cancel scope left open, and no telling by whom.
            for exchange in self.exchanges:
                if exchange.action.conduct is not None:
                    exchange.action.conduct.clean = 0
            raise
        finally:
            # Exchanges and their batch refer to each other: freed here, not left to the garbage collector.
            self.exchanges.clear()

    def completed(self, action: Action) -> None:
        """``action`` has got its result."""
        if self._tell is not None:
            self._tell(action)
        self.pending -= 1
        if self.pending == 0 and self.complete is not None:
            self.complete.set()

    def ended(self) -> None:
        """The work of an action has ended: nobody is left to ask for the disconnect after the last."""
        self.running -= 1
        if self.running == 0 and self._reader is not None:
            self._reader.cancel()

    async def disconnected(self) -> None:
        """Wait until the client is gone or the batch is answered."""
        if self._gone is None:
            # One reader of the batch's receive, whoever asks; and none where nobody asks, as in most batches.
            self._gone = Event()
            if not self.over:
                self._reader = self._tasks.start_soon(self._read_disconnect, name="batchkit disconnect")
        if not self.over:
            await self._gone.wait()

    def leave(self) -> None:
        """The client is gone, or answered: there is nobody left to work for."""
        self.over = True
        if self._gone is not None:
            self._gone.set()

    def log(self) -> None:
        """One line for the batch: what a handler does not show. No paths, no bodies: those are the access log's affair."""
        if logger.isEnabledFor(logging.INFO):
            statuses = [action.result.status_code for action in self.batch.actions if action.result is not None]
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
        metrics = [f"a{action.index}" for action in self.batch.actions]
        for exchange in self.exchanges:
            action = exchange.action
            if exchange.started and action.result is not None:
                start = (exchange.started - self._started) * 1000
                metrics[action.index] += f";start={start:.1f};dur={action.result.duration * 1000:.1f}"
        return b"server-timing", ", ".join(metrics).encode()

    def timeout(self, exchange: Exchange) -> float:
        """The seconds that the action of ``exchange`` has."""
        return exchange.action.timeout or self.default_timeout

    async def wait(self) -> None:
        """Wait until every action has a result, those included that get a 504 at their deadline."""
        self.complete = Event()
        for timeout in sorted({self.timeout(exchange) for exchange in self.exchanges}):
            with move_on_after(self._started + timeout - perf_counter()):
                await self.complete.wait()
                break
            for exchange in self.exchanges:
                if exchange.action.result is None and self.timeout(exchange) <= timeout:
                    exchange.end(ActionTimedOut(f"No answer within {timeout:g} seconds; the outcome is unknown"))

    async def _read_disconnect(self) -> None:
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except Exception:
            logger.warning("The server failed to tell whether the client is still there", exc_info=True)
        self.leave()


async def collect(running: Dispatch) -> list[Result]:
    """One result per action, in order, as soon as each has one; at its deadline an action without one gets a 504."""
    # Actions that wait for nothing are done after their first turn, and then there is no deadline to keep.
    await checkpoint()
    if running.pending:
        await running.wait()
    return [result for action in running.batch.actions if (result := action.result) is not None]
