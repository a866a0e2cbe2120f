"""Counting in a Redis or Valkey, for all processes and machines that share it (protocol.md#admission)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from anyio import CancelScope, Event, create_task_group, current_effective_deadline, current_time, move_on_after

from batchkit.errors import LimiterUnavailable
from batchkit.limiter.limits import SECOND, Limit
from batchkit.limiter.stores.connections import PATIENCE, Argument, Connections, Reply
from batchkit.limiter.stores.memory import monotonic
from batchkit.limiter.stores.scripts import ADMIT, ADMITTED, GIVE_BACK, LATE, RENEW, Script
from batchkit.limiter.stores.store import Charge, Claim, Refusal

__all__ = ["RedisStore"]

logger = logging.getLogger("batchkit")


class RedisStore:
    """One script charges all limits of a batch, in one round trip, by the server's clock; no worker's clock has a say.

    Its keys are ``{prefix}:rate:name:key`` and ``{prefix}:slots:name:key``, braces included: one hash tag, so that a cluster has
    them in one place. The name is percent-encoded, so that no two names and keys make the same. ``clock`` gives microseconds from
    anywhere, and is used for time-outs only.

    Raises ValueError for another kind of URL.
    """

    waits = True

    def __init__(self, url: str, *, prefix: str = "batchkit", clock: Callable[[], int] = monotonic) -> None:
        if not prefix or set(prefix) & set("{}"):
            raise ValueError(f"prefix={prefix!r}: give a text without braces")
        self.connections = Connections(url)
        self.prefix = f"{{{prefix}}}"
        self.clock = clock
        # What the server's clock is ahead of ours, learned from each of its answers.
        self._ahead: int | None = None

    def open(self) -> AbstractAsyncContextManager[None]:
        """See ``Store``."""
        return self.connections.open()

    async def admit(self, charges: Sequence[Charge], claims: Sequence[Claim]) -> Refusal | None:
        """See ``Store``. Raises what coredis raises, LimiterUnavailable where the server is too slow."""
        keys = [self._key("slots", claim.limit, claim.key) for claim in claims]
        keys += [self._key("rate", charge.limit, charge.key) for charge in charges]
        if not keys:
            return None
        arguments: list[Argument] = [len(claims)]
        for claim in claims:
            arguments += (claim.limit.amount + len(claim.held), claim.slots, _lease(claim), len(claim.members), *claim.members)
        for charge in charges:
            arguments += (charge.limit.interval, charge.limit.burst, charge.units)
        # Of one upload, and so the same in all.
        arguments += next((claim.held for claim in claims if claim.held), ())
        try:
            reply = await self._in_time(ADMIT, keys, arguments)
        except BaseException:
            # It may have come through, and only its answer have been lost.
            if self.connections.tasks and any(claim.members for claim in claims):
                members = [member for claim in claims for member in claim.members]
                self.connections.tasks[-1].start_soon(self.give_back, claims, members)
            raise
        if reply[1] == ADMITTED:
            return None
        index, left, wait = reply[2:]
        asked = claims[index] if index < len(claims) else charges[index - len(claims)]
        return Refusal(asked, left, wait if isinstance(asked, Charge) else None)

    def hold(self, claims: Sequence[Claim]) -> RedisHolding:
        """See ``Store``."""
        return RedisHolding(self, claims)

    async def renew(self, claims: Sequence[Claim], given_back: set[int]) -> None:
        """Begin the leases anew, but for the members that were given back. A failure is logged."""
        keys, arguments = [], list[Argument]()
        for claim in claims:
            members = [member for member in claim.members if member not in given_back]
            keys.append(self._key("slots", claim.limit, claim.key))
            arguments += (_lease(claim), len(members), *members)
        try:
            with move_on_after(PATIENCE):
                await self._in_time(RENEW, keys, arguments)
                return
        except Exception:
            logger.debug("Leases could not be renewed", exc_info=True)
        logger.warning("Leases of the limiter could not be renewed in time")

    async def give_back(self, claims: Sequence[Claim], members: Sequence[int]) -> None:
        """Give back the slots of ``members`` in all ``claims``, whatever happens around. A failure is logged: leases run out."""
        keys = [self._key("slots", claim.limit, claim.key) for claim in claims]
        try:
            with move_on_after(PATIENCE, shield=True):
                await self.connections.run(GIVE_BACK, keys, members)
                return
        except Exception:
            logger.debug("Slots could not be given back", exc_info=True)
        logger.warning("Slots of the limiter could not be given back: they are free when their lease runs out")

    async def _in_time(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """The reply of a script that does nothing once we have given up."""
        left = min(current_effective_deadline() - current_time(), PATIENCE * 60)
        deadline = self.clock() + math.floor(max(left, 0) * SECOND)
        # At first nothing is known of the server's clock, and it may be set while we run: then it says so, and we ask again.
        for _ in range(3):
            latest = 0 if self._ahead is None else deadline + self._ahead
            reply = await self.connections.run(script, keys, [latest, *arguments])
            self._ahead = reply[0] - self.clock()
            if reply[1] != LATE:
                return reply
        raise LimiterUnavailable

    def _key(self, kind: str, limit: Limit, key: str) -> str:
        return f"{self.prefix}:{kind}:{limit.encoded_name}:{key}"


class RedisHolding:
    """Leases on slots, renewed by a task of their own while the work runs, and given back as it ends, several at a time."""

    def __init__(self, store: RedisStore, claims: Sequence[Claim]) -> None:
        self.store = store
        self.claims = claims
        self.held = {member for claim in claims for member in claim.members}
        self.ended: set[int] = set()
        self.given_back: set[int] = set()
        self.pause = min(claim.limit.lease for claim in claims) / 3
        self._tasks = create_task_group()
        self._news = Event()

    def give_back(self, member: int) -> None:
        """See ``Holding``."""
        self.ended.add(member)
        self._news.set()

    async def __aenter__(self) -> None:
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._keep, name="batchkit leases")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None:
        self.ended |= self.held
        self._news.set()
        # Passed on to the task group, an exception of the work would come out as a group.
        if isinstance(error, Exception):
            await self._tasks.__aexit__(None, None, None)
            return None
        return await self._tasks.__aexit__(kind, error, traceback)

    async def _keep(self) -> None:
        # Whoever cancels the batch does not end work that is shielded itself, and its slots are taken until it has ended.
        with CancelScope(shield=True):
            while self.given_back != self.held:
                with move_on_after(self.pause):
                    await self._news.wait()
                self._news = Event()
                if ended := sorted(self.ended - self.given_back):
                    await self.store.give_back(self.claims, ended)
                    self.given_back |= set(ended)
                else:
                    await self.store.renew(self.claims, self.given_back)


def _lease(claim: Claim) -> int:
    return round(claim.limit.lease * SECOND)
