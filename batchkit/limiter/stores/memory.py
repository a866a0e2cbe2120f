"""Counting in the memory of one process: the exact twin of the Redis script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from time import monotonic_ns
from types import TracebackType

from batchkit.limiter.limits import Concurrency
from batchkit.limiter.stores.store import Charge, Claim, Refusal

__all__ = ["MemoryStore"]

Place = tuple[str, str]


def monotonic() -> int:
    """Microseconds of a clock that nobody sets."""
    return monotonic_ns() // 1000


class MemoryStore:
    """For one process and one event loop: a step without an ``await`` is atomic there.

    ``clock`` gives microseconds. Rates that are whole again are forgotten now and then, so what it keeps is what is in use.
    """

    waits = False

    def __init__(self, clock: Callable[[], int] = monotonic) -> None:
        self.clock = clock
        # When a rate will be whole again: what GCRA calls the theoretical arrival time.
        self.whole_at: dict[Place, int] = {}
        self.taken: dict[Place, set[int]] = {}
        self._crowded = 1024

    def open(self) -> AbstractAsyncContextManager[object]:
        """Nothing to open."""
        return nullcontext()

    async def admit(self, charges: Sequence[Charge], claims: Sequence[Claim]) -> Refusal | None:
        """See ``Store``."""
        for claim in claims:
            left = max(claim.limit.amount + len(claim.held) - len(self.taken.get((claim.limit.name, claim.key), ())), 0)
            if claim.slots > left:
                return Refusal(claim, left)
        now = self.clock()
        refusal, longest = None, 0
        whole_at = {}
        for charge in charges:
            rate = charge.limit
            place = (rate.name, charge.key)
            at = self.whole_at.get(place, now)
            # Never further ahead than a full burst: a clock that was set back, or a limit that was, must not shut anybody out.
            if at < now:
                at = now
            elif at > now + rate.burst:
                at = now + rate.burst
            whole_at[place] = then = at + charge.units * rate.interval
            wait = then - now - rate.burst
            if wait > longest:
                refusal, longest = Refusal(charge, (now + rate.burst - at) // rate.interval, wait), wait
        if refusal is not None:
            return refusal
        self.whole_at.update(whole_at)
        for claim in claims:
            place = (claim.limit.name, claim.key)
            if claim.held:
                self.release(claim.limit, claim.key, claim.held)
            if claim.members:
                if (taken := self.taken.get(place)) is None:
                    self.taken[place] = set(claim.members)
                else:
                    taken.update(claim.members)
        if len(self.whole_at) > self._crowded:
            self.whole_at = {place: at for place, at in self.whole_at.items() if at > now}
            self._crowded = max(1024, 2 * len(self.whole_at))
        return None

    def take(self, slots: Sequence[tuple[Concurrency, str]], member: int) -> Refusal | None:
        """Take a slot of each limit and key for ``member``, all or none."""
        for limit, key in slots:
            if len(self.taken.get((limit.name, key), ())) >= limit.amount:
                return Refusal(Claim(limit, key, 1, (member,)), 0)
        for limit, key in slots:
            self.taken.setdefault((limit.name, key), set()).add(member)
        return None

    def hold(self, claims: Sequence[Claim]) -> MemoryHolding:
        """See ``Store``."""
        return MemoryHolding(self, claims)

    def give_back(self, claims: Iterable[Claim], members: Iterable[int]) -> None:
        """Give back the slots of ``members`` in all ``claims``."""
        for claim in claims:
            self.release(claim.limit, claim.key, members)

    def release(self, limit: Concurrency, key: str, members: Iterable[int]) -> None:
        """Give back the slots of ``members`` in one limit and key."""
        place = (limit.name, key)
        if (taken := self.taken.get(place)) is not None:
            taken.difference_update(members)
            if not taken:
                del self.taken[place]


class MemoryHolding:
    """Slots in memory end with the process, so they need no lease."""

    def __init__(self, store: MemoryStore, claims: Sequence[Claim]) -> None:
        self.store = store
        self.claims = claims

    def give_back(self, member: int) -> None:
        """See ``Holding``."""
        self.store.give_back(self.claims, (member,))

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        for claim in self.claims:
            self.store.give_back((claim,), claim.members)
