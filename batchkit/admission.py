"""The cost hook and the plugins around a batch (contract section 3)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from types import TracebackType

from batchkit.errors import BatchError, LimiterUnavailable
from batchkit.model import Batch
from batchkit.settings import CostHook, Settings

__all__ = ["admit"]

logger = logging.getLogger("batchkit")


def admit(batch: Batch, settings: Settings) -> AbstractAsyncContextManager[None]:
    """A context around the run of ``batch``, charged as a whole to enter it; to leave it closes what hook and plugins opened.

    Entering raises TooManyRequests where the hook says so, LimiterUnavailable where it fails.
    """
    if settings.cost_hook is None and not settings.plugins:
        return FREE
    return _admission(batch, settings)


FREE = nullcontext()


@asynccontextmanager
async def _admission(batch: Batch, settings: Settings) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if settings.cost_hook is not None:
            await _charge(settings.cost_hook, batch, stack)
        for plugin in settings.plugins:
            if hasattr(plugin, "batch"):
                try:
                    await _enter(plugin.batch(batch), stack)
                except Exception:
                    logger.exception("%r failed at the start of batch %s, which runs without it", plugin, batch.id)
        yield


async def _charge(cost_hook: CostHook, batch: Batch, stack: AsyncExitStack) -> None:
    try:
        charge = cost_hook(batch)
        if isinstance(charge, AbstractAsyncContextManager):
            await _enter(charge, stack)
        else:
            await charge
    except BatchError:
        raise
    except Exception:
        logger.exception("The cost hook failed, so batch %s was refused", batch.id)
        raise LimiterUnavailable from None


async def _enter(context: AbstractAsyncContextManager[object], stack: AsyncExitStack) -> None:
    await context.__aenter__()

    # The answer is out when a context is left: its failure is for the log, and must not swallow a cancellation either.
    async def leave(kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            await context.__aexit__(kind, error, traceback)
        except Exception:
            logger.exception("%r failed at the end of a batch", context)

    stack.push_async_exit(leave)
