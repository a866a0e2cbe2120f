"""The cost hook and the plugins around a batch (contract section 3)."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from inspect import isawaitable
from types import TracebackType

from anyio import CancelScope, current_time
from starlette.exceptions import HTTPException

from batchkit.errors import BatchError, LimiterUnavailable
from batchkit.hooks import check_not_awaited
from batchkit.model import Batch
from batchkit.settings import Settings

__all__ = ["FREE", "HOW_TO_ENTER", "Charged", "WrongHook", "admit"]

logger = logging.getLogger("batchkit")

Charge = Callable[[], Awaitable[object] | AbstractAsyncContextManager[object]]


def admit(batch: Batch, settings: Settings) -> AbstractAsyncContextManager[object]:
    """A context around the run of ``batch``, charged as a whole to enter it; to leave it closes what hook and plugins opened.

    Entering raises TooManyRequests where the hook says so, LimiterUnavailable where it fails or does not answer in time.
    """
    hook = settings.cost_hook
    if hook is None:
        return _watched(batch, settings) if settings.plugins else FREE
    charge = Charged(lambda: hook(batch), settings.limiter_timeout, settings.limiter_errors, lambda: f"batch {batch.id}")
    return _charged_and_watched(charge, batch, settings) if settings.plugins else charge


FREE = nullcontext()

# What to do with a context that charges.
HOW_TO_ENTER = "give cost_hook=limiter, or write @asynccontextmanager with `async with limiter(batch): yield`"


class WrongHook(TypeError):
    """A cost hook is not written as one: no limiter is out of reach, and nothing is let through for it."""


class Charged:
    """A context around what ``charge`` charges: it has ``timeout`` seconds for its answer.

    Where it fails or is late, entering raises LimiterUnavailable, or with ``errors="allow"`` lets it through and logs that. A
    kind of BatchError that it raises goes through in any case. ``what`` names what is charged, for logs. A context that says
    ``waits = False`` is entered at once and needs no clock.
    """

    def __init__(self, charge: Charge, timeout: float, errors: str, what: Callable[[], str]) -> None:
        self.charge = charge
        self.timeout = timeout
        self.errors = errors
        self.what = what
        self._context: AbstractAsyncContextManager[object] | None = None
        self._scope: CancelScope | None = None

    async def __aenter__(self) -> None:
        try:
            charging = self.charge()
            if getattr(charging, "waits", True):
                # Open until this is left, and not just while it is entered: the context may hold scopes of its own inside.
                self._scope = CancelScope(deadline=current_time() + self.timeout)
                self._scope.__enter__()
            if isinstance(charging, AbstractAsyncContextManager):
                await charging.__aenter__()
                self._context = charging
            elif not isawaitable(charging):
                raise WrongHook(f"cost_hook returned {type(charging).__name__}: write it with async def")
            elif (value := await charging) is not None:
                # Who returns False means to refuse.
                nothing = "raise TooManyRequests to refuse, or return nothing"
                advice = HOW_TO_ENTER if isinstance(value, AbstractAsyncContextManager) else nothing
                raise WrongHook(f"cost_hook returned {type(value).__name__}: {advice}")
        except BaseException as error:
            late = self._close(type(error), error, error.__traceback__)
            if isinstance(error, HTTPException) or type(error) is BatchError:
                # Who answers like a handler, or with what all answers derive from, means to refuse.
                error = WrongHook(f"cost_hook raised {error!r}: raise TooManyRequests to refuse")
            if isinstance(error, BatchError) or not (late or isinstance(error, Exception)):
                raise
            self._failed(None if late else error)
            return
        if self._scope is not None:
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
            await _leave(context, kind, error, traceback)

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        scope, self._scope = self._scope, None
        return scope.__exit__(kind, error, traceback) if scope is not None else None

    def _failed(self, error: BaseException | None) -> None:
        refuse = self.errors == "refuse" or isinstance(error, WrongHook)
        fate = "refused" if refuse else "let through without a charge"
        reason = (
            f"failed ({type(error).__name__}: {error})"
            if error is not None
            else f"did not answer within {self.timeout:g} seconds"
        )
        logger.error("The limiter %s, so %s was %s", reason, self.what(), fate, exc_info=error)
        if refuse:
            raise LimiterUnavailable from None


@asynccontextmanager
async def _charged_and_watched(charge: Charged, batch: Batch, settings: Settings) -> AsyncIterator[None]:
    admitted = False
    try:
        async with charge, _watched(batch, settings):
            admitted = True
            yield
    except BatchError as error:
        if not admitted:
            _tell_refused(batch, error, settings)
        raise


@asynccontextmanager
async def _watched(batch: Batch, settings: Settings) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for plugin in settings.plugins:
            if hasattr(plugin, "batch"):
                try:
                    await _enter(plugin.batch(batch), stack)
                except Exception:
                    logger.exception("%r failed at the start of batch %s, which runs without it", plugin, batch.id)
        yield


def _tell_refused(batch: Batch, error: BatchError, settings: Settings) -> None:
    for plugin in settings.plugins:
        if hasattr(plugin, "refused"):
            try:
                told: Callable[[Batch, BatchError], object] = plugin.refused
                check_not_awaited("refused", told(batch, error))
            except Exception:
                logger.exception("%r failed at the refusal of batch %s", plugin, batch.id)


async def _enter(context: AbstractAsyncContextManager[object], stack: AsyncExitStack) -> None:
    await context.__aenter__()

    async def leave(kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await _leave(context, kind, error, traceback)

    stack.push_async_exit(leave)


async def _leave(
    context: AbstractAsyncContextManager[object],
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    # The answer is out when a context is left: its failure is for the log, and must not swallow a cancellation either.
    try:
        await context.__aexit__(kind, error, traceback)
    except Exception:
        logger.exception("%r failed at the end of a batch", context)
