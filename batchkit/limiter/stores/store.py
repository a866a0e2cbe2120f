"""What a limiter asks of the place where it counts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol

from msgspec import Struct

from batchkit.limiter.limits import Concurrency, Rate

__all__ = ["Charge", "Claim", "Holding", "Refusal", "Store"]


class Charge(Struct, frozen=True, eq=False):
    """``units`` asked of a rate for one key."""

    limit: Rate
    key: str
    units: int


class Claim(Struct, frozen=True, eq=False):
    """Slots asked of a concurrency limit for one key: ``slots`` must be free, and ``members`` are taken.

    They are fewer where some actions do not run: those give theirs back at once. ``held`` are taken already, and given up for
    these in the same step.
    """

    limit: Concurrency
    key: str
    slots: int
    members: Sequence[int]
    held: Sequence[int] = ()


class Refusal(Struct, frozen=True, eq=False):
    """The charge or claim that was more than is ``left``; ``wait`` in microseconds until it could pass, None where unknown."""

    asked: Charge | Claim
    left: int
    wait: int | None = None


class Holding(Protocol):
    """Slots while they are taken: as a context around the work, at whose end all are given back."""

    def give_back(self, member: int) -> None:
        """Give back the slots of one action, in all claims. It does not wait, and does nothing the second time."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class Store(Protocol):
    """Counts, for all who share it, by one clock. ``waits`` is False where ``admit`` answers at once. One that waits must end as
    it is cancelled.
    """

    waits: bool

    def open(self) -> AbstractAsyncContextManager[object]:
        """A context for the life of an app, in which the store works best."""
        ...

    async def admit(self, charges: Sequence[Charge], claims: Sequence[Claim]) -> Refusal | None:
        """Take all that is asked, or nothing at all: one atomic step. Slots are looked at first.

        Of several rates that refuse, that with the longest wait is told, so that its wait holds for all.
        """
        ...

    def hold(self, claims: Sequence[Claim]) -> Holding:
        """The slots of these claims, which were just admitted."""
        ...
