"""Admission: what a batch or a request asks of all limits together, taken in one step or not at all (protocol.md#admission)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import TracebackType

from batchkit.errors import TooManyRequests
from batchkit.limiter.keys import Keys
from batchkit.limiter.limits import SECOND, Concurrency, Limit, Rate
from batchkit.limiter.stores.memory import MemoryStore
from batchkit.limiter.stores.store import Charge, Claim, Holding, Refusal, Store
from batchkit.model import Action

__all__ = ["Admission", "LimiterUpload"]


class Admission:
    """What a batch or a request asks; as a context, around its work, it is taken.

    ``promised`` are the actions of a batch: as it is entered they are marked as charged by ``limiter``. What its ``upload`` holds
    is of its slots.
    """

    def __init__(self, store: Store, limiter: object) -> None:
        self.store = store
        self.limiter = limiter
        self.waits = store.waits
        self.promised: Sequence[Action] = ()
        self.upload: LimiterUpload | None = None
        self._first = 0
        self._units: dict[tuple[Rate, str], int] = {}
        self._slots: dict[tuple[Concurrency, str], list[Action]] = {}
        self._holding: Holding | None = None

    def ask(self, limit: Limit, key: str | None, actions: Sequence[Action]) -> None:
        """Add what ``actions`` ask of one limit; of one whose key is None nothing."""
        if key is None:
            return
        if isinstance(limit, Rate):
            self._units[limit, key] = self._units.get((limit, key), 0) + sum([action.cost for action in actions])
        elif isinstance(limit, Concurrency):
            # Unlike the secrets of the system this costs no call of it; random is seeded anew in each process that is forked.
            self._first = self._first or random.getrandbits(63)
            self._slots.setdefault((limit, key), []).extend(actions)

    async def __aenter__(self) -> None:
        # Before the store is asked: what limiter_errors="allow" then lets through is not asked for again, one by one.
        for action in self.promised:
            action.charged_by = (*action.charged_by, self.limiter)
        try:
            await self._take()
        except TooManyRequests:
            # Whoever passes over a refusal has not paid.
            for action in self.promised:
                action.charged_by = action.charged_by[:-1]
            raise

    async def _take(self) -> None:
        first = self._first
        charges = [Charge(limit, key, units) for (limit, key), units in self._units.items()]
        upload = self.upload
        claims = [
            Claim(
                limit,
                key,
                len(actions),
                [first + action.index for action in actions if action.runs],
                upload.of(limit, key) if upload is not None else (),
            )
            for (limit, key), actions in self._slots.items()
        ]
        for charge in charges:
            if charge.units > charge.limit.amount:
                raise _never(charge.limit, charge.units)
        for claim in claims:
            if claim.slots > claim.limit.amount:
                raise _never(claim.limit, claim.slots)
        refusal = await self.store.admit(charges, claims)
        if refusal is not None:
            raise _too_many(refusal)
        if upload is not None:
            upload.end()
        taken = [claim for claim in claims if claim.members]
        if taken:
            self._holding = self.store.hold(taken)
            await self._holding.__aenter__()
            ended = self._ended
            for actions in self._slots.values():
                for action in actions:
                    action.on_end = ended

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._holding is None:
            return None
        return await self._holding.__aexit__(kind, error, traceback)

    @property
    def members(self) -> Sequence[int]:
        """The slot of its first action, if it has taken one."""
        return () if self._holding is None else (self._first,)

    def let_go(self) -> None:
        """Give back the slots of its first action, whose work this has been."""
        if self._holding is not None:
            self._holding.give_back(self._first)

    def _ended(self, action: Action) -> None:
        if self._holding is not None:
            self._holding.give_back(self._first + action.index)


class LimiterUpload:
    """One slot of each limit and key of ``slots``, which could cover an action of this batch; it then is one of the batch's own.

    It is held in ``gate`` from the start: the store itself, or the memory of this process, as a store that ``waits`` is not asked
    for a body which is there at once; ``shared`` then holds it in the store too. Raises TooManyRequests where there is none.
    """

    def __init__(
        self, limiter: object, keys: Keys, slots: Sequence[tuple[Concurrency, str]], gate: MemoryStore, shared: Admission | None
    ) -> None:
        self.limiter = limiter
        self.keys = keys
        self.gate = gate
        self.shared = shared
        self.waits = shared is not None
        self.slots = slots
        self.member = random.getrandbits(63)
        self._is_over = False
        refusal = gate.take(slots, self.member)
        if refusal is not None:
            raise _too_many(refusal)

    def share(self) -> Admission:
        """A context that holds the slot in the store too."""
        assert self.shared is not None
        return self.shared

    def of(self, limit: Concurrency, key: str) -> Sequence[int]:
        """The members that it holds of this limit and key in the store."""
        if self._is_over or (limit, key) not in self.slots:
            return ()
        return (self.member,) if self.shared is None else self.shared.members

    def end(self) -> None:
        """Give the slot back; it does nothing the second time."""
        if not self._is_over:
            self._is_over = True
            for limit, key in self.slots:
                self.gate.release(limit, key, (self.member,))
            if self.shared is not None:
                self.shared.let_go()


def _never(limit: Limit, asked: int) -> TooManyRequests:
    return TooManyRequests(
        f"{limit.name}: asked for {asked}, which can never pass: the limit is {limit.amount}", limit=limit.name
    )


def _too_many(refusal: Refusal) -> TooManyRequests:
    asked, left = refusal.asked, refusal.left
    name = asked.limit.name
    if isinstance(asked, Charge) and refusal.wait is not None:
        # Rounded up here, in whole numbers: after that wait the same batch does pass.
        wait = -(-refusal.wait // SECOND)
        return TooManyRequests(f"{name}: asked for {asked.units}, {left} left", retry_after=wait, limit=name)
    count = asked.units if isinstance(asked, Charge) else asked.slots
    return TooManyRequests(f"{name}: asked for {count} at once, {left} left", limit=name)
