"""Admission: what a batch or a request asks of all limits together, taken in one step or not at all (contract section 3)."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from batchkit.admission import HOW_TO_ENTER, WrongHook
from batchkit.errors import TooManyRequests
from batchkit.limiter.limits import SECOND, Concurrency, Limit, Rate
from batchkit.limiter.store import Charge, Claim, Holding, Refusal, Store
from batchkit.model import Action

__all__ = ["Admission"]

logger = logging.getLogger("batchkit")


class Admission:
    """What a batch or a request asks; as a context, around its work, it is taken.

    ``promised`` are the actions of a batch: as it is entered they are marked as charged by ``limiter``. ``told`` is what that has
    said already.
    """

    def __init__(self, store: Store, limiter: object, told: set[str]) -> None:
        self.store = store
        self.limiter = limiter
        self.told = told
        self.waits = store.waits
        self.promised: Sequence[Action] = ()
        self.entered = False
        self._first = 0
        self._units: dict[tuple[Rate, str], int] = {}
        self._slots: dict[tuple[Concurrency, str], list[Action]] = {}
        self._holding: Holding | None = None

    def ask(self, limit: Limit, key: str, actions: Sequence[Action]) -> None:
        """Add what ``actions`` ask of one limit."""
        if isinstance(limit, Rate):
            self._units[limit, key] = self._units.get((limit, key), 0) + sum([action.cost for action in actions])
        elif isinstance(limit, Concurrency):
            # Unlike the secrets of the system this costs no call of it; random is seeded anew in each process that is forked.
            self._first = self._first or random.getrandbits(63)
            self._slots.setdefault((limit, key), []).extend(actions)

    async def __aenter__(self) -> None:
        self.entered = True
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
        claims = [
            Claim(limit, key, len(actions), [first + action.index for action in actions if action.runs])
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
        held = [claim for claim in claims if claim.members]
        if held:
            self._holding = self.store.hold(held)
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
        if kind is None and any(action.runs and action.result is None for action in self.promised):
            self._warn("limiter(batch) is a context around the run of a batch, and was left before: its slots are free again")
        return await self._holding.__aexit__(kind, error, traceback)

    if not TYPE_CHECKING:  # A type checker says so before it runs.

        def __await__(self) -> NoReturn:
            self.entered = True
            raise WrongHook(f"limiter(batch) is a context, and was awaited: {HOW_TO_ENTER}")

    def __del__(self) -> None:
        if self.promised and not self.entered:
            self._warn("limiter(batch) is a context, and was never entered, so it has charged nothing")

    def _warn(self, sentence: str) -> None:
        if sentence not in self.told:
            self.told.add(sentence)
            logger.warning("%s: %s", sentence, HOW_TO_ENTER)

    def _ended(self, action: Action) -> None:
        if self._holding is not None:
            self._holding.give_back(self._first + action.index)


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
