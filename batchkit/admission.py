"""The cost hook and the plugins around a batch (contract section 3)."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from types import TracebackType

from anyio import CancelScope, current_time

from batchkit.errors import BatchError, LimiterUnavailable
from batchkit.model import Batch
from batchkit.settings import Settings

__all__ = ["admit", "charged"]

logger = logging.getLogger("batchkit")


def admit(batch: Batch, settings: Settings) -> AbstractAsyncContextManager[None]:
    """A context around the run of ``batch``, charged as a whole to enter it; to leave it closes what hook and plugins opened.

    Entering raises TooManyRequests where the hook says so, LimiterUnavailable where it fails or does not answer in time.
    """
    if settings.cost_hook is None and not settings.plugins:
        return FREE
    return _admission(batch, settings)


FREE = nullcontext()


@asynccontextmanager
async def _admission(batch: Batch, settings: Settings) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if (hook := settings.cost_hook) is not None:
            charge = charged(lambda: hook(batch), settings.limiter_timeout, settings.limiter_errors, f"batch {batch.id}")
            await stack.enter_async_context(charge)
        for plugin in settings.plugins:
            if hasattr(plugin, "batch"):
                try:
                    await _enter(plugin.batch(batch), stack)
                except Exception:
                    logger.exception("%r failed at the start of batch %s, which runs without it", plugin, batch.id)
        yield


@asynccontextmanager
async def charged(
    charge: Callable[[], Awaitable[None] | AbstractAsyncContextManager[object]], timeout: float, errors: str, what: str
) -> AsyncIterator[None]:
    """A context around ``what`` was charged by ``charge``, which has ``timeout`` seconds for its answer.

    Where it fails or is late, entering raises LimiterUnavailable, or with ``errors="allow"`` lets it through and logs that.
    A BatchError that it raises goes through in any case.
    """
    # Around the run and not just around the charge: the context may hold scopes of its own, which must end before this one.
    with CancelScope(deadline=current_time() + timeout) as scope:
        async with AsyncExitStack() as stack:
            try:
                charging = charge()
                if isinstance(charging, AbstractAsyncContextManager):
                    await _enter(charging, stack)
                else:
                    await charging
            except BatchError:
                raise
            except Exception:
                logger.exception("The limiter failed at %s", what)
            else:
                if not scope.cancel_called:
                    scope.deadline = math.inf
                    yield
                    return
    if scope.cancel_called:
        logger.error("The limiter did not answer within %g seconds at %s", timeout, what)
    if errors == "refuse":
        raise LimiterUnavailable
    logger.warning("Let through without a charge: %s", what)
    yield


async def _enter(context: AbstractAsyncContextManager[object], stack: AsyncExitStack) -> None:
    await context.__aenter__()

    # The answer is out when a context is left: its failure is for the log, and must not swallow a cancellation either.
    async def leave(kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            await context.__aexit__(kind, error, traceback)
        except Exception:
            logger.exception("%r failed at the end of a batch", context)

    stack.push_async_exit(leave)
