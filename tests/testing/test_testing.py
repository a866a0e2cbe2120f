"""check_cost_hook: good hooks pass, and each bad kind is caught with a message that says what to do."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import Batch, LimiterUnavailable, TooManyRequests, current_action
from batchkit.settings import CostHook
from batchkit.testing import CostHookError, check_cost_hook

pytestmark = pytest.mark.anyio

LIMIT = 12
Charge = Callable[[Batch], Awaitable[Any]]


class Units:
    """So many units, taken all or nothing."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = self.left = limit

    def take(self, cost: int) -> None:
        if cost > self.left:
            raise TooManyRequests(f"{self.left} left", retry_after=None if cost > self.limit else 3600)
        self.left -= cost


def rate() -> CostHook:
    units = Units()

    async def charge(batch: Batch) -> None:
        await checkpoint()
        units.take(batch.cost)

    return charge


def slots() -> CostHook:
    units = Units()

    @asynccontextmanager
    async def hold(batch: Batch) -> AsyncIterator[None]:
        await checkpoint()
        units.take(len(batch.actions))
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
                units.left += len(batch.actions)

    return hold


async def test_good_hooks_pass() -> None:
    await check_cost_hook(rate, limit=LIMIT)
    await check_cost_hook(slots, limit=LIMIT, gives_back=True)


async def test_a_hook_may_be_awaited_for() -> None:
    async def make() -> CostHook:
        await checkpoint()
        return rate()

    await check_cost_hook(make, limit=LIMIT)


@pytest.mark.parametrize("limit", [10, 11, 60])
async def test_any_limit_can_be_checked(limit: int) -> None:
    def make() -> CostHook:
        units = Units(limit)

        async def charge(batch: Batch) -> None:
            units.take(batch.cost)

        return charge

    await check_cost_hook(make, limit=limit)
    with pytest.raises(CostHookError, match=r"refused where as many units were left: give limit="):
        await check_cost_hook(make, limit=limit + 4)
    if limit > 10:
        with pytest.raises(CostHookError, match="admitted where"):
            await check_cost_hook(make, limit=limit - 1)


async def test_a_limit_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        await check_cost_hook(rate, limit=9)


# Bad hooks. Each function charges units, in its wrong way.


async def race(units: Units, batch: Batch) -> None:
    if batch.cost > units.left:
        raise TooManyRequests
    await checkpoint()
    units.left -= batch.cost


async def fixed_window(units: Units, batch: Batch) -> None:
    units.left -= batch.cost
    if units.left < 0:
        raise TooManyRequests


async def by_action(units: Units, batch: Batch) -> None:
    for action in batch.actions:
        units.take(action.cost)


async def by_batch(units: Units, batch: Batch) -> None:
    units.take(1)


async def without_weight(units: Units, batch: Batch) -> None:
    units.take(len(batch.actions))


async def only_what_runs(units: Units, batch: Batch) -> None:
    units.take(sum(action.cost for action in batch.actions if action.runs))


async def swallows(units: Units, batch: Batch) -> None:
    with suppress(TooManyRequests):
        units.take(batch.cost)


async def wrong_exception(units: Units, batch: Batch) -> None:
    if batch.cost > units.left:
        raise PermissionError("no")
    units.left -= batch.cost


async def unavailable(units: Units, batch: Batch) -> None:
    raise LimiterUnavailable


async def returns(units: Units, batch: Batch) -> bool:
    if batch.cost > units.left:
        return False
    units.left -= batch.cost
    return True


async def endless_wait(units: Units, batch: Batch) -> None:
    if batch.cost > units.left:
        await anyio.sleep_forever()
    units.left -= batch.cost


async def comes_back_in_vain(units: Units, batch: Batch) -> None:
    if batch.cost > units.left:
        raise TooManyRequests(retry_after=60)
    units.left -= batch.cost


def waits(retry_after: Any) -> Any:
    async def wrong_wait(units: Units, batch: Batch) -> None:
        if batch.cost > units.left:
            raise TooManyRequests(retry_after=retry_after)
        units.left -= batch.cost

    return wrong_wait


@pytest.mark.parametrize(
    ("charge", "message"),
    [
        (race, "Concurrent batches of cost 5 took 250 units of 12: test and charge in one atomic step"),
        (fixed_window, "cost 6 was refused where as many units were left: refused batches consumed units.*fixed window"),
        (by_action, "cost 6 was refused where as many units were left: refused batches consumed units"),
        (by_batch, "cost 7 was admitted where 6 of 12 units were left: charge batch.cost"),
        (without_weight, "cost 6 was admitted where 3 of 12 units were left: charge batch.cost"),
        (only_what_runs, "cost 4 was admitted where 3 of 12 units were left: charge batch.cost, whatever becomes of its actions"),
        (swallows, "cost 7 was admitted where 6 of 12 units were left: .* raise TooManyRequests"),
        (wrong_exception, r"raised PermissionError\('no'\) when it was awaited: to refuse, raise TooManyRequests"),
        (unavailable, "raised LimiterUnavailable"),
        (returns, "returned True, at which nobody looks: raise TooManyRequests"),
        (endless_wait, r"not admitted or refused, or not ended, within 0\.2 s: refuse at once, never wait"),
        (
            comes_back_in_vain,
            "A batch of cost 13 never passes a limit of 12, but was told to come back in 60 s: leave",
        ),
        (waits(-1), r"retry_after=-1\): give seconds"),
        (waits(True), r"retry_after=True\): give seconds"),
        (waits(math.nan), r"retry_after=nan\): give seconds"),
    ],
)
async def test_a_bad_hook_is_caught(charge: Callable[[Units, Batch], Awaitable[Any]], message: str) -> None:
    def make() -> CostHook:
        units = Units()
        return lambda batch: charge(units, batch)

    with pytest.raises(CostHookError, match=message):
        await check_cost_hook(make, limit=LIMIT, patience=0.2 if charge is endless_wait else 5)


@pytest.mark.parametrize("other", [12, 30, 31, 33, 36, 100, 300])
@pytest.mark.parametrize("other_first", [True, False])
async def test_two_limits_charged_in_turn_are_caught_whatever_the_other_has(other: int, other_first: bool) -> None:
    def make() -> CostHook:
        limits = [Units(other), Units()] if other_first else [Units(), Units(other)]

        async def charge(batch: Batch) -> None:
            for units in limits:
                units.take(batch.cost)

        return charge

    if other_first and other > LIMIT:
        with pytest.raises(CostHookError, match=r"cost 6 was refused .* of two limits charged one after the other"):
            await check_cost_hook(make, limit=LIMIT)
    else:
        await check_cost_hook(make, limit=LIMIT)  # The tight one refuses before the other is charged.


async def test_infinity_says_never() -> None:
    def make() -> CostHook:
        units = Units()
        return lambda batch: waits(math.inf if batch.cost > LIMIT else 0)(units, batch)

    await check_cost_hook(make, limit=LIMIT)


async def test_a_hook_must_be_asynchronous() -> None:
    def charge(batch: Batch) -> None: ...

    with pytest.raises(CostHookError, match="no async function and no async context manager: it returned None"):
        await check_cost_hook(lambda: charge, limit=LIMIT)  # type: ignore[arg-type, return-value]


# Slots


async def test_slots_that_are_checked_as_a_rate_say_so() -> None:
    with pytest.raises(CostHookError, match=r"cost 7 was admitted where 6 .*gives_back=True"):
        await check_cost_hook(slots, limit=LIMIT)


async def test_slots_that_never_come_back_are_caught() -> None:
    with pytest.raises(CostHookError, match=r"cost 12 was refused .*: slots have not come back after all work had ended"):
        await check_cost_hook(rate, limit=LIMIT, gives_back=True)


@pytest.mark.parametrize("has_finally", [True, False])
async def test_slots_that_a_cancellation_keeps_are_caught(has_finally: bool) -> None:
    def make() -> CostHook:
        units = Units()

        @asynccontextmanager
        async def hold(batch: Batch) -> AsyncIterator[None]:
            units.take(len(batch.actions))
            try:
                yield
            except BaseException:
                if not has_finally:
                    raise
            await checkpoint()
            units.left += len(batch.actions)

        return hold

    with pytest.raises(CostHookError, match=r"come back after a batch was cancelled at work: .* CancelScope"):
        await check_cost_hook(make, limit=LIMIT, gives_back=True)


async def test_a_failure_to_give_back_is_caught() -> None:
    @asynccontextmanager
    async def hold(batch: Batch) -> AsyncIterator[None]:
        yield
        raise OSError("limiter gone")

    with pytest.raises(CostHookError, match=r"OSError\('limiter gone'\) when it was left"):
        await check_cost_hook(lambda: hold, limit=LIMIT)


# A host whose middleware limits direct requests


class Limited:
    """Takes a unit for each request that ``passes`` does not let by."""

    def __init__(self, app: ASGIApp, units: Callable[[], Units], passes: Callable[[Scope], bool]) -> None:
        self.app, self.units, self.passes = app, units, passes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http" and not self.passes(scope):
                self.units().take(1)
        except TooManyRequests:
            await PlainTextResponse("slow down", 429)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def is_batch(scope: Scope) -> bool:
    return bool(scope["path"] == "/api/batch")


def is_action(scope: Scope) -> bool:
    return current_action(scope) is not None


@pytest.mark.parametrize(
    ("passes", "shared", "message"),
    [
        (lambda scope: is_batch(scope) or is_action(scope), True, None),
        (
            lambda scope: is_batch(scope),
            True,
            "An action of an admitted batch was answered 429|refused where as many",
        ),
        (
            lambda scope: is_action(scope),
            True,
            "The host itself answered the batch's POST with 429|refused where as many",
        ),
        (
            lambda scope: True,
            True,
            "cost 10 was admitted where 9 of 12 units were left: charge direct",
        ),
        (lambda scope: is_batch(scope) or is_action(scope), False, "cost 10 was admitted where 9 of 12 units were left"),
    ],
)
async def test_a_host_that_limits_direct_requests(passes: Callable[[Scope], bool], shared: bool, message: str | None) -> None:
    units = Units()

    def make() -> CostHook:
        nonlocal units
        units = Units()

        async def charge(batch: Batch) -> None:
            units.take(batch.cost)

        return charge

    other = Units()

    def host() -> Starlette:
        return Starlette(middleware=[Middleware(Limited, units=lambda: units if shared else other, passes=passes)])

    if message is None:
        await check_cost_hook(make, limit=LIMIT, host=host, batch_path="/api/batch")
        return
    with pytest.raises(CostHookError, match=message):
        await check_cost_hook(make, limit=LIMIT, host=host, batch_path="/api/batch")


async def test_direct_requests_that_hold_slots() -> None:
    units = Units()

    class Holding(Limited):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().__call__(scope, receive, send)
            if scope["type"] == "http" and not self.passes(scope):
                units.left = min(units.limit, units.left + 1)

    def make() -> CostHook:
        units.left = units.limit

        @asynccontextmanager
        async def hold(batch: Batch) -> AsyncIterator[None]:
            units.take(len(batch.actions))
            try:
                yield
            finally:
                units.left += len(batch.actions)

        return hold

    def host() -> Starlette:
        passes = lambda scope: is_action(scope) or scope["path"] == "/batch"  # noqa: E731
        return Starlette(middleware=[Middleware(Holding, units=lambda: units, passes=passes)])

    await check_cost_hook(make, limit=LIMIT, gives_back=True, host=host)


async def test_what_the_hook_looks_at_can_be_given() -> None:
    """A hook that charges searches of one client only."""

    def make() -> CostHook:
        clients: dict[str, Units] = {}

        async def charge(batch: Batch) -> None:
            searches = [action for action in batch.actions if action.limit == "search" and action.route == "/api/search"]
            assert batch.actions[0].method == "POST"
            units = clients.setdefault(batch.request.headers["authorization"], Units())
            units.take(sum(action.cost for action in searches))

        return charge

    given = {"method": "POST", "path": "/search", "limit_name": "search", "batch_path": "/api/batch"}
    await check_cost_hook(make, limit=LIMIT, headers={"Authorization": "Bearer me"}, **given)  # type: ignore[arg-type]
    with pytest.raises(CostHookError, match="KeyError"):
        await check_cost_hook(make, limit=LIMIT, **given)  # type: ignore[arg-type]


async def test_the_lifespan_of_the_host_is_around_its_check() -> None:
    events: list[str] = []
    pool = Units()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Units]]:
        events.append("up")
        pool.left = LIMIT
        yield {"pool": pool}
        events.append("down")

    class Pooled(Limited):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.units = lambda: scope["state"]["pool"]
            await super().__call__(scope, receive, send)

    async def charge(batch: Batch) -> None:
        batch.request.state.pool.take(batch.cost)

    def host() -> Starlette:
        passes = lambda scope: is_action(scope) or scope["path"] == "/batch"  # noqa: E731
        return Starlette(middleware=[Middleware(Pooled, units=lambda: pool, passes=passes)], lifespan=lifespan)

    await check_cost_hook(lambda: charge, limit=LIMIT, host=host)
    assert events == ["up", "down"] * (len(events) // 2)
    assert len(events) > 2


async def test_a_host_that_does_not_start_is_told() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise OSError("no pool")
        yield

    with pytest.raises(CostHookError, match=r"The host's lifespan raised OSError\('no pool'\)"):
        await check_cost_hook(rate, limit=LIMIT, host=lambda: Starlette(lifespan=lifespan))


class Odd:
    """A middleware that does to the batch what no middleware should."""

    def __init__(self, app: ASGIApp, what: str) -> None:
        self.app, self.what = app, what

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self.what == "raises":
            raise ValueError("odd")
        elif self.what == "is silent":
            return
        elif self.what == "refuses" or (self.what == "refuses actions" and is_action(scope)):
            await PlainTextResponse("who are you?", 401)(scope, receive, send)
        elif self.what == "posts twice" and scope["path"] == "/batch":
            body = await receive()

            async def again() -> Any:
                return body

            async def drop(message: Any) -> None: ...

            await self.app(scope, again, drop)
            await self.app(scope, again, send)
        else:
            await self.app(scope, receive, send)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raises", r"The host raised ValueError\('odd'\)"),
        ("is silent", "POST /batch was not answered"),
        ("refuses", "POST /batch was answered 401, neither admitted nor refused: who are you"),
        ("refuses actions", r"The actions were answered \[401\]: let the host answer"),
        ("posts twice", "The hook was called 2 times for 1 batches"),
    ],
)
async def test_a_host_that_is_in_the_way_is_told(what: str, message: str) -> None:
    with pytest.raises(CostHookError, match=message):
        await check_cost_hook(rate, limit=LIMIT, host=lambda: Starlette(middleware=[Middleware(Odd, what=what)]))
