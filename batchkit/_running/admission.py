"""The cost hook and the plugins around a batch (protocol.md#admission)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from types import TracebackType

from batchkit._running.charging import Answer, Charged, leave
from batchkit.errors import BatchError
from batchkit.model import Batch
from batchkit.settings import Settings

__all__ = ["FREE", "admit"]

logger = logging.getLogger("batchkit")


def admit(batch: Batch, settings: Settings, answer: Answer) -> AbstractAsyncContextManager[object]:
    """A context around the run of ``batch``, charged as a whole to enter it; to leave it closes what hook and plugins opened.

    Entering raises TooManyRequests where the hook says so, LimiterUnavailable where it fails or does not answer in time; Answered
    where it then could not be stopped, and ``answer`` was called with that error.
    """
    if settings.cost_hook is None:
        return _watched(batch, settings) if settings.plugins else FREE
    return _charged_and_watched(batch, settings, answer) if settings.plugins else _charged(batch, settings, answer)


def _charged(batch: Batch, settings: Settings, answer: Answer) -> Charged:
    hook = settings.cost_hook
    assert hook is not None
    return Charged(lambda: hook(batch), settings.limiter_timeout, settings.limiter_errors, lambda: f"batch {batch.id}", answer)


FREE = nullcontext()


@asynccontextmanager
async def _charged_and_watched(batch: Batch, settings: Settings, answer: Answer) -> AsyncIterator[None]:
    async def refuse(error: BatchError) -> None:
        _tell_refused(batch, error, settings)
        await answer(error)

    admitted = False
    try:
        async with _charged(batch, settings, refuse), _watched(batch, settings):
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
                plugin.refused(batch, error)
            except Exception:
                logger.exception("%r failed at the refusal of batch %s", plugin, batch.id)


async def _enter(context: AbstractAsyncContextManager[object], stack: AsyncExitStack) -> None:
    await context.__aenter__()

    async def at_end(kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await leave(context, kind, error, traceback)

    stack.push_async_exit(at_end)
