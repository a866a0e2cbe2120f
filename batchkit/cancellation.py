"""Telling a real cancellation from a stray one (contract section 4, design decision 7)."""

from __future__ import annotations

import math
from asyncio import CancelledError, current_task
from contextlib import suppress

from anyio import current_effective_deadline, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

__all__ = ["is_asked", "is_real", "take_back"]


def is_real(error: BaseException) -> bool:
    """Whether ``error`` must go on upwards: somebody ends the process or the coroutine, or a cancel scope around it asked for it.

    Not so a SystemExit of a handler, or a CancelledError that nobody around it asked for, as by awaiting a cancelled future.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(is_real(inner) for inner in error.exceptions)
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        return True
    return isinstance(error, get_cancelled_exc_class()) and current_effective_deadline() == -math.inf


def is_asked() -> bool:
    """Whether somebody called ``cancel()`` on this very task, which only asyncio has."""
    try:
        task = current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


async def take_back() -> None:
    """Take back what a handler asked by ``asyncio.current_task().cancel()``, delivered or not.

    Only cancel scopes end the work of a batch; a task of theirs that ends as cancelled makes anyio cancel the whole group.
    """
    task = current_task()
    while task is not None and task.cancelling() and current_effective_deadline() != -math.inf:
        with suppress(CancelledError):
            await checkpoint()
        task.uncancel()
