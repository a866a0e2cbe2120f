"""The README's hooks for limiters that a host already has, held to the protocol with the real libraries."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from slowapi.util import get_remote_address
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from throttled.asyncio import MemoryStore, Throttled, per_day, per_sec

from batchkit import Batch, BatchEndpoint, TooManyRequests
from batchkit.settings import CostHook
from batchkit.testing import CostHookError, check_cost_hook
from tests.asgi import Answer
from tests.batches import action, envelope, post
from tests.redises import RedisServer

pytestmark = pytest.mark.anyio

README = (Path(__file__).parents[2] / "README.md").read_text()
LIMIT = 12
A_DAY = parse(f"{LIMIT}/day")
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def recipe(name: str) -> SimpleNamespace:
    """What the README's block that defines ``name`` defines, run by itself."""
    [block] = [code for code in re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE) if f"def {name}(" in code]
    namespace: dict[str, Any] = {}
    exec(compile(block, name, "exec"), namespace)
    return SimpleNamespace(**namespace)


of_limits, of_slowapi, of_throttled = recipe("limits_hook"), recipe("slowapi_hook"), recipe("throttled_hook")


def client(request: Any) -> str:
    return "me"


# limits


class ByLimits:
    """Makes a hook and a host of the recipe that share a fresh limiter, under a key of its own each time."""

    def __init__(self, strategy: Callable[[Any], RateLimiter], storage: Callable[[], Any] = MemoryStorage) -> None:
        self.strategy, self.storage, self.keys = strategy, storage, count()

    def hook(self) -> CostHook:
        key = f"client {next(self.keys)}"
        self.mine: tuple[Any, ...] = (self.strategy(self.storage()), A_DAY, lambda request: key)
        hook: CostHook = of_limits.limits_hook(*self.mine)
        return hook

    def host(self) -> Starlette:
        return Starlette(middleware=[Middleware(of_limits.LimitDirectRequests, *self.mine)])


@asyncio_only
@pytest.mark.parametrize("strategy", [MovingWindowRateLimiter, SlidingWindowCounterRateLimiter])
async def test_limits(strategy: type[RateLimiter]) -> None:
    by = ByLimits(strategy)
    await check_cost_hook(by.hook, limit=LIMIT, host=by.host)


@asyncio_only
async def test_a_fixed_window_of_limits_is_refused() -> None:
    with pytest.raises(ValueError, match="a fixed window counts what it refuses: use MovingWindow"):
        of_limits.limits_hook(FixedWindowRateLimiter(MemoryStorage()), A_DAY, client)


def of_fixed_window() -> CostHook:
    """What the recipe refuses to make."""
    limiter = FixedWindowRateLimiter(MemoryStorage())

    async def charge(batch: Batch) -> None:
        if not await limiter.hit(A_DAY, "me", cost=batch.cost):
            raise TooManyRequests

    return charge


def of_two_limits() -> CostHook:
    limiter = MovingWindowRateLimiter(MemoryStorage())

    async def charge(batch: Batch) -> None:
        for limit, key in ((parse("100/day"), "user"), (A_DAY, "team")):
            if not await limiter.hit(limit, key, cost=batch.cost):
                raise TooManyRequests

    return charge


@asyncio_only
@pytest.mark.parametrize("make", [of_fixed_window, of_two_limits])
async def test_the_check_sees_what_limits_burns(make: Callable[[], CostHook]) -> None:
    with pytest.raises(CostHookError, match="refused batches consumed units"):
        await check_cost_hook(make, limit=LIMIT)


# limits on Redis


@pytest.fixture
def redis_url(redis: RedisServer) -> str:
    return f"async+{redis.url}"


@asyncio_only
async def test_limits_on_redis(redis_url: str) -> None:
    storage: Any = RedisStorage(redis_url, implementation="redispy")
    by = ByLimits(MovingWindowRateLimiter, lambda: storage)
    try:
        await check_cost_hook(by.hook, limit=LIMIT, host=by.host)
    finally:
        await storage.bridge.get_connection().aclose()


@asyncio_only
async def test_the_check_sees_a_race_over_redis(redis_url: str) -> None:
    """In one process, in memory, this hook looks right; over Redis the test and the hit are two round trips."""
    storage: Any = RedisStorage(redis_url, implementation="redispy")
    limiter, keys = MovingWindowRateLimiter(storage), count()

    def make() -> CostHook:
        key = f"race {next(keys)}"

        async def charge(batch: Batch) -> None:
            if not await limiter.test(A_DAY, key, cost=batch.cost):
                raise TooManyRequests
            # Two more round trips, so that on a busy machine, too, others have asked by now.
            for _ in range(2):
                await limiter.get_window_stats(A_DAY, key)
            await limiter.hit(A_DAY, key, cost=batch.cost)

        return charge

    try:
        with pytest.raises(CostHookError, match="test and charge in one atomic step"):
            await check_cost_hook(make, limit=LIMIT)
    finally:
        await storage.bridge.get_connection().aclose()


# slowapi


class BySlowapi:
    def hook(self) -> CostHook:
        limits = [f"{LIMIT}/day"]
        self.limiter = Limiter(get_remote_address, application_limits=limits, strategy="moving-window")  # type: ignore[arg-type]
        hook: CostHook = of_slowapi.slowapi_hook(self.limiter, A_DAY, get_remote_address)
        return hook

    def host(self) -> Starlette:
        app = Starlette(middleware=[Middleware(of_slowapi.LimitDirectRequests)])
        app.state.limiter = self.limiter
        return app


async def test_slowapi() -> None:
    by = BySlowapi()
    await check_cost_hook(by.hook, limit=LIMIT, host=by.host)


@pytest.mark.parametrize("middleware", [SlowAPIMiddleware, SlowAPIASGIMiddleware])
async def test_slowapis_middleware_finds_a_name_at_the_batch_endpoint(middleware: Any) -> None:
    app = Starlette(middleware=[Middleware(middleware)])
    app.state.limiter = Limiter(get_remote_address, application_limits=["3/minute"], strategy="moving-window")
    BatchEndpoint().mount_to(app, "/batch")
    assert (await post(app, envelope(action("/nowhere")))).status == 200


async def test_slowapis_default_is_refused() -> None:
    with pytest.raises(ValueError, match="a fixed window, slowapi's default, counts what it refuses: use Limiter"):
        of_slowapi.slowapi_hook(Limiter(get_remote_address), A_DAY, get_remote_address)


# throttled-py


def by_throttled(using: str) -> CostHook:
    hook: CostHook = of_throttled.throttled_hook(Throttled(using=using, quota=per_day(LIMIT), store=MemoryStore()), client)
    return hook


@asyncio_only
@pytest.mark.parametrize("using", ["gcra", "token_bucket", "leaking_bucket"])
async def test_throttled_py(using: str) -> None:
    await check_cost_hook(partial(by_throttled, using), limit=LIMIT)


@asyncio_only
@pytest.mark.parametrize("using", ["fixed_window", "sliding_window"])
async def test_the_windows_of_throttled_py_are_refused(using: str) -> None:
    with pytest.raises(ValueError, match="its windows count what they refuse"):
        by_throttled(using)


@asyncio_only
@pytest.mark.parametrize("using", ["fixed_window", "sliding_window"])
async def test_the_check_sees_what_the_windows_of_throttled_py_burn(using: str) -> None:
    def make() -> CostHook:
        throttled = Throttled(using=using, quota=per_day(LIMIT), store=MemoryStore())

        async def charge(batch: Batch) -> None:
            if (await throttled.limit("me", cost=batch.cost)).limited:
                raise TooManyRequests

        return charge

    with pytest.raises(CostHookError, match="refused batches consumed units"):
        await check_cost_hook(make, limit=LIMIT)


# All of them


async def test_the_check_of_the_readme_runs() -> None:
    await recipe("fresh_hook").test_the_cost_hook_keeps_its_promises()


@asyncio_only
async def test_the_wait_that_is_told_is_long_enough() -> None:
    """Contract section 3: “`Retry-After` in whole seconds (≥ 1: the earliest moment at which the same batch could pass)”."""
    a_second = parse(f"{LIMIT}/second")
    slow = Limiter(get_remote_address, strategy="moving-window")
    hooks = [
        of_limits.limits_hook(MovingWindowRateLimiter(MemoryStorage()), a_second, client),
        of_limits.limits_hook(SlidingWindowCounterRateLimiter(MemoryStorage()), a_second, client),
        of_slowapi.slowapi_hook(slow, a_second, get_remote_address),
        of_throttled.throttled_hook(Throttled(using="gcra", quota=per_sec(LIMIT), store=MemoryStore()), client),
        of_throttled.throttled_hook(Throttled(using="token_bucket", quota=per_sec(LIMIT), store=MemoryStore()), client),
    ]

    async def come_back(hook: CostHook) -> None:
        async def hello(request: Any) -> PlainTextResponse:
            return PlainTextResponse("hello")

        app = Starlette(routes=[Route("/hello", hello)])
        BatchEndpoint(policy="all", cost_hook=hook, max_actions=2 * LIMIT).mount_to(app)

        async def ask(count: int) -> Answer:
            return await post(app, envelope(*[action("/hello")] * count))

        # Twice, or more often where the machine is so slow that all units have come back.
        while (refused := await ask(LIMIT)).status == 200:
            pass
        assert refused.status == 429
        assert "asked for 12, " in refused.json()["errors"][0]["message"]
        [wait] = refused.all(b"retry-after")
        await anyio.sleep(float(wait))
        assert (await ask(LIMIT)).status == 200
        never = await ask(LIMIT + 1)
        assert (never.status, never.all(b"retry-after")) == (429, [])

    async with anyio.create_task_group() as tasks:
        for hook in hooks:
            tasks.start_soon(come_back, hook)
