"""Charging: a cost hook or limiter is asked, has its time for that, and holds what it takes (protocol.md#admission)."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from inspect import isawaitable
from types import TracebackType
from typing import Any

from anyio import (
    CancelScope,
    Event,
    create_task_group,
    current_effective_deadline,
    current_time,
    get_cancelled_exc_class,
    move_on_after,
)
from anyio.lowlevel import checkpoint_if_cancelled
from starlette.exceptions import HTTPException

from batchkit.errors import BatchError, LimiterUnavailable

__all__ = ["Answer", "Answered", "Charged", "WrongHook", "leave"]

logger = logging.getLogger("batchkit")

Charge = Callable[[], Awaitable[object] | AbstractAsyncContextManager[object]]
Answer = Callable[[BatchError], Awaitable[None]]

# What to do with a context that charges.
HOW_TO_ENTER = "give cost_hook=limiter, or write @asynccontextmanager with `async with limiter(batch): yield`"


class WrongHook(TypeError):
    """A cost hook is not written as one: no limiter is out of reach, and nothing is let through for it."""


class Answered(Exception):
    """A batch was answered before its admission has come to an end: nothing more is sent."""


class Charged:
    """A context around what ``charge`` charges: it has ``timeout`` seconds for its answer.

    Where it fails or is late, entering raises LimiterUnavailable, or with ``errors="allow"`` lets it through and logs that. Other
    kinds of BatchError that it raises go through in any case. ``what`` names what is charged, for logs.

    What cannot be stopped at its time is waited for where nobody else does: for what was let through as this is left; what is
    refused is first answered by ``answer``, and then entering raises Answered. A context that says by ``waits`` whether it waits
    for anything is known to stop.
    """

    def __init__(
        self, charge: Charge, timeout: float, errors: str, what: Callable[[], str], answer: Answer | None = None
    ) -> None:
        self.charge = charge
        self.timeout = timeout
        self.errors = errors
        self.what = what
        self.answer = answer
        self._context: AbstractAsyncContextManager[object] | None = None
        self._scope: CancelScope | None = None

    async def __aenter__(self) -> None:
        try:
            charging: Any = self.charge()
            waits = getattr(charging, "waits", None)
            if waits is None:
                charging = Apart(charging, self.timeout)
            elif waits:
                # Open until this is left, and not just while it is entered: the context may hold scopes of its own inside.
                self._scope = CancelScope(deadline=current_time() + self.timeout)
                self._scope.__enter__()
            await charging.__aenter__()
        except BaseException as error:
            late = self._close(type(error), error, error.__traceback__)
            if not (late or isinstance(error, Exception)):
                raise
            self._failed(None if late else error)
            return
        self._context = charging
        if isinstance(charging, Apart) and charging.is_late:
            await self._leave_behind()
        elif self._scope is not None:
            if not self._scope.cancel_called:
                self._scope.deadline = math.inf
                return
            await self._leave(None, None, None)
            self._close(None, None, None)
            self._failed(None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._leave(kind, error, traceback)
        finally:
            self._close(kind, error, traceback)

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        context, self._context = self._context, None
        if context is not None:
            await leave(context, kind, error, traceback)

    async def _leave_behind(self) -> None:
        try:
            self._failed(None)
        except LimiterUnavailable as error:
            try:
                if self.answer is not None:
                    await self.answer(error)
            finally:
                await self._leave(None, None, None)
            raise Answered from None

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        scope, self._scope = self._scope, None
        return scope.__exit__(kind, error, traceback) if scope is not None else None

    def _failed(self, error: BaseException | None) -> None:
        # A task group of a hook wraps what it raises.
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, HTTPException) or type(error) is BatchError:
            # Who answers like a handler, or with what all answers derive from, means to refuse.
            error = WrongHook(f"cost_hook raised {error!r}: raise TooManyRequests to refuse")
        if isinstance(error, BatchError) and not isinstance(error, LimiterUnavailable):
            raise error
        refuse = self.errors == "refuse" or isinstance(error, WrongHook)
        fate = "refused" if refuse else "let through without a charge"
        reason = (
            f"failed ({type(error).__name__}: {error})"
            if error is not None
            else f"did not answer within {self.timeout:g} seconds"
        )
        logger.error("The limiter %s, so %s was %s", reason, self.what(), fate, exc_info=error)
        if refuse:
            raise error if isinstance(error, LimiterUnavailable) else LimiterUnavailable from None


class Apart:
    """A hook in a task of its own, from its start to its end, so that nobody has to wait for what it shields.

    Entered, it has charged, or ``is_late``: not done within ``timeout`` seconds, and cancelled. What it charges after that it
    gives back at once, as far as it is a context. It has ended when this is left.
    """

    def __init__(self, charging: object, timeout: float) -> None:
        self.charging = charging
        self.timeout = timeout
        self.is_late = False
        self._tasks = create_task_group()
        self._settled = Event()
        self._over = Event()
        self._error: Exception | None = None

    async def __aenter__(self) -> None:
        await self._tasks.__aenter__()
        try:
            task = self._tasks.create_task(self._run(), name="batchkit cost hook")
            with move_on_after(self.timeout) as time:
                await self._settled.wait()
        except BaseException as error:
            self._over.set()
            await self._tasks.__aexit__(type(error), error, error.__traceback__)
            raise
        if self._error is not None:
            await self._tasks.__aexit__(None, None, None)
            raise self._error
        if time.cancel_called:
            self.is_late = True
            task.cancel()
            self._over.set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._error = error if isinstance(error, Exception) else None
        self._over.set()
        # Passed on to the task group, an exception of the work would come out as a group.
        if self._error is not None:
            await self._tasks.__aexit__(None, None, None)
            return None
        return await self._tasks.__aexit__(kind, error, traceback)

    async def _run(self) -> None:
        try:
            if isinstance(self.charging, AbstractAsyncContextManager):
                async with self.charging:
                    await self._stay()
            else:
                await self._charge()
        except BaseException as error:
            if _is_real(error):
                raise
            if not self._settled.is_set():
                self._error = error if isinstance(error, Exception) else RuntimeError(f"cost_hook raised {error!r}")
            elif error is not self._error:
                log_at_end(self.charging, error)
        finally:
            self._settled.set()

    async def _charge(self) -> None:
        if not isawaitable(self.charging):
            raise WrongHook(
                f"cost_hook returned {type(self.charging).__name__}: write it with async def, and decorate one that yields with "
                "contextlib.asynccontextmanager"
            )
        if (value := await self.charging) is not None:
            # Who returns False means to refuse.
            nothing = "raise TooManyRequests to refuse, or return nothing"
            advice = HOW_TO_ENTER if isinstance(value, AbstractAsyncContextManager) else nothing
            raise WrongHook(f"cost_hook returned {type(value).__name__}: {advice}")

    async def _stay(self) -> None:
        if self.is_late:
            return
        self._settled.set()
        # Whoever cancels the batch does not end work that is shielded itself, and what was taken for it stays taken until then.
        with CancelScope(shield=True):
            await self._over.wait()
        await checkpoint_if_cancelled()
        if self._error is not None:
            raise self._error


def _is_real(error: BaseException) -> bool:
    """Whether ``error`` must go on upwards: somebody ends the process, or a cancel scope around this task has asked for it."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_real, error.exceptions))
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        return True
    return isinstance(error, get_cancelled_exc_class()) and current_effective_deadline() == -math.inf


async def leave(
    context: AbstractAsyncContextManager[object],
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """Leave ``context``, and log what it raises."""
    # The answer is out when a context is left: its failure is for the log, and must not swallow a cancellation either.
    try:
        await context.__aexit__(kind, error, traceback)
    except Exception as error:
        log_at_end(context, error)


def log_at_end(context: object, error: BaseException) -> None:
    """Log what a context raised as it was left."""
    logger.error("%r failed at the end of a batch", context, exc_info=error)
