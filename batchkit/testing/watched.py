"""A cost hook under watch: how often it was called, how it refused, and what it should not have done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from inspect import isawaitable
from types import TracebackType
from typing import Any

from batchkit.errors import TooManyRequests
from batchkit.model import Batch
from batchkit.settings import CostHook

__all__ = ["WatchedHook"]

Fail = Callable[[str, BaseException | None], None]


class WatchedHook:
    """A hook that does what ``hook`` does, and tells ``fail`` what breaks the protocol of hooks.

    ``calls``: how often it was called. ``waits``: the ``retry_after`` of each of its refusals.
    """

    def __init__(self, hook: CostHook, fail: Fail) -> None:
        self.calls = 0
        self.waits: list[float | None] = []
        self._hook, self._fail = hook, fail

    def __getattr__(self, name: str) -> Any:
        # Whatever else a hook tells the endpoint, or is told by it.
        return getattr(self._hook, name)

    async def __aenter__(self) -> None:
        # A hook that is a context itself is entered for the life of the app.
        if isinstance(self._hook, AbstractAsyncContextManager):
            await self._hook.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(self._hook, AbstractAsyncContextManager):
            await self._hook.__aexit__(kind, error, traceback)

    def __call__(self, batch: Batch) -> AbstractAsyncContextManager[object] | Awaitable[None]:
        self.calls += 1
        with self._watched("was called"):
            charge: object = self._hook(batch)
            if isinstance(charge, AbstractAsyncContextManager):
                return _Context(charge, self._watched)
            if isawaitable(charge):
                return self._awaited(charge)
            raise TypeError(f"no async function and no async context manager: it returned {charge!r}")

    async def _awaited(self, charge: Awaitable[object]) -> None:
        with self._watched("was awaited"):
            value = await charge
        if value is not None:
            self._fail(
                f"The hook returned {value!r}, at which nobody looks: raise TooManyRequests to refuse, or return None", None
            )

    @contextmanager
    def _watched(self, when: str) -> Iterator[None]:
        try:
            yield
        except TooManyRequests as error:
            wait = error.retry_after
            self.waits.append(wait)
            if wait is not None and (isinstance(wait, bool) or not wait >= 0):
                self._fail(f"TooManyRequests(retry_after={wait!r}): give seconds, 0 or more, or None", error)
            raise
        except Exception as error:
            advice = "to refuse, raise TooManyRequests; anything else is a 503"
            self._fail(f"The hook raised {error!r} when it {when}: {advice}", error)
            raise


class _Context:
    def __init__(
        self, charge: AbstractAsyncContextManager[object], watched: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        self.charge, self.watched = charge, watched

    def __getattr__(self, name: str) -> Any:
        return getattr(self.charge, name)

    async def __aenter__(self) -> None:
        with self.watched("was entered"):
            await self.charge.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self.watched("was left"):
            await self.charge.__aexit__(kind, error, traceback)
