"""The ready limiter by itself: its arithmetic, and that memory and Redis count alike."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from anyio import Event, create_task_group
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from batchkit import Batch, BatchEndpoint, TooManyRequests, batchable
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, asana_limits, by_address, by_token
from batchkit.limiter.stores.connections import Connections
from batchkit.limiter.stores.memory import MemoryStore
from batchkit.limiter.stores.scripts import ADMIT, ADMITTED, Script
from batchkit.limiter.stores.store import Charge, Claim
from batchkit.model import Action
from batchkit.testing import check_cost_hook
from tests.asgi import request
from tests.batches import action, envelope, post
from tests.batches import batch as results_of
from tests.redises import RedisServer

pytestmark = pytest.mark.anyio

SECOND = 1_000_000


def scope(method: str = "GET", path: str = "/", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], "client": ("10.0.0.1", 1), **more}


def reads(count: int, cost: int = 1, **more: Any) -> Batch:
    return Batch(scope("POST"), [Action(index, "GET", "/x", "/x", cost, **more) for index in range(count)])


async def refused(limiter: Limiter, batch: Batch) -> TooManyRequests | None:
    try:
        async with limiter(batch):
            return None
    except TooManyRequests as error:
        return error


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://:p%40ss@h:1/2", "valkey://h:6380/1", "valkeys://h", "rediss://h?ssl_cert_reqs=none"]
)
def test_urls_of_a_store(url: str) -> None:
    assert Connections(url).url.startswith(("redis://", "rediss://"))


def test_keys() -> None:
    def of(value: bytes, **more: Any) -> str:
        return by_token(Request(scope(**{"headers": [(b"x", b"y"), (b"authorization", value)], **more})))

    assert of(b"Bearer secret") == of(b"bearer  secret") != of(b"Bearer other")
    assert "secret" not in of(b"Bearer secret")
    assert of(b"Basic x") == by_address(Request(scope())) == "address:10.0.0.1"
    assert by_address(Request(scope(client=None))) == "address:"


def test_a_limit_covers_what_meets_all_that_it_names() -> None:
    rate = Rate(5, 60, name="a", methods=["get"], routes=["/tasks/*", "GET /x"], limit="search")
    assert rate.covers("HEAD", "/tasks/{gid:int}", "search")
    others = [("POST", "/tasks", "search"), ("GET", None, "search"), ("POST", "/x", "search"), ("GET", "/tasks", None)]
    for other in others:
        assert not rate.covers(*other)
    assert Rate(5, 60, name="a").covers("", None, None)


async def test_the_wait_is_exact_by_the_clock_of_the_store() -> None:
    """“the earliest moment at which the same batch could pass”, rounded up to a whole second."""
    now = 0
    limiter = Limiter([Rate(10, 60, name="a"), Rate(100, 60, name="b")], MemoryStore(lambda: now))
    assert await refused(limiter, reads(8)) is None
    error = await refused(limiter, reads(5))
    assert error is not None
    assert (error.retry_after, error.messages) == (18, ("a: asked for 5, 2 left",))
    now = 18 * SECOND - 1
    assert await refused(limiter, reads(5)) is not None
    now = 18 * SECOND
    assert await refused(limiter, reads(5)) is None
    assert await refused(limiter, reads(1)) is not None
    now += 60 * SECOND
    assert await refused(limiter, reads(10)) is None


async def test_of_several_refusals_the_longest_wait_is_told() -> None:
    now = 0
    limiter = Limiter([Rate(2, 10, name="short"), Rate(3, 3000, name="long")], MemoryStore(lambda: now))
    assert await refused(limiter, reads(2)) is None
    error = await refused(limiter, reads(2))
    assert error is not None
    assert (error.retry_after, error.messages) == (1000, ("long: asked for 2, 1 left",))


async def test_a_clock_that_is_set_back_shuts_nobody_out_for_long() -> None:
    now = 10**9 * SECOND
    limiter = Limiter([Rate(10, 60, name="a")], MemoryStore(lambda: now))
    assert await refused(limiter, reads(10)) is None
    now -= 10**6 * SECOND
    error = await refused(limiter, reads(10))
    assert error is not None
    assert error.retry_after == 60


async def test_memory_forgets_what_is_whole_again() -> None:
    now = 0
    store = MemoryStore(lambda: now)
    limiter = Limiter([Rate(10, 1, name="a", key=lambda request: str(now))], store)
    for now in range(0, 5_000 * SECOND, SECOND):  # noqa: B007
        assert await refused(limiter, reads(1)) is None
    assert len(store.whole_at) <= 1025


async def test_a_store_never_holds_a_long_key_as_it_came() -> None:
    store = MemoryStore()
    limiter = Limiter([Rate(10, 60, name="a", key=lambda request: "x" * 10**6)], store)
    assert await refused(limiter, reads(1)) is None
    assert [len(key) for _, key in store.whole_at] == [32]


async def test_memory_and_redis_count_alike_to_the_microsecond(redis: RedisServer) -> None:
    """The script with a clock of ours, against its twin: the same verdict, figure for figure."""
    # What the server keeps must not run out by its real clock meanwhile.
    text = ADMIT.text.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}").replace("'PEXPIRE'", "'EXISTS'")
    text = text.replace("'PX', exact(math.ceil((whole[i] - now) / 1000))", "'KEEPTTL'")
    script = Script.of(text)
    now = 1_700_000_000 * SECOND
    memory = MemoryStore(lambda: now)
    random.seed(4)
    rates = [Rate(random.randint(1, 12), random.choice([0.37, 1, 7, 60]), name=f"r{index}") for index in range(4)]
    slots = [Concurrency(random.randint(2, 9), name=f"c{index}", lease=10**6) for index in range(2)]
    connections = Connections(redis.url)
    outcomes = set()
    async with connections.open():
        for turn in range(400):
            now += random.choice([0, 1, 999, random.randint(0, SECOND), random.randint(0, 30 * SECOND)])
            charges = [Charge(rate, "k", random.randint(1, rate.amount)) for rate in random.sample(rates, random.randint(0, 4))]
            claims = []
            for limit in random.sample(slots, random.randint(0, 2)):
                count = random.randint(1, 3)
                claims.append(Claim(limit, "k", count, [turn * 10 + index for index in range(random.randint(0, count))]))
            arguments: list[str | int] = [now, len(claims)]
            for claim in claims:
                arguments += [claim.limit.amount, claim.slots, 10**12, len(claim.members), *claim.members]
            for charge in charges:
                arguments += [charge.limit.interval, charge.limit.burst, charge.units]
            asked: list[Charge | Claim] = [*claims, *charges]
            keys = [f"{{t}}:{each.limit.name}" for each in asked]
            if not keys:
                continue
            reply = await connections.run(script, keys, [*arguments, now // SECOND, now % SECOND])
            refusal = await memory.admit(charges, claims)
            if refusal is None:
                assert reply == [now, ADMITTED]
            else:
                place = asked.index(refusal.asked)
                assert reply == [now, 2, place, refusal.left, refusal.wait or 0]
            outcomes.add((refusal is None, type(getattr(refusal, "asked", None))))
            if turn % 9 == 0:
                memory.taken.clear()
                for limit in slots:
                    redis.ask(f"DEL {{t}}:{limit.name}")
    assert len(outcomes) == 3


def test_asanas_limits() -> None:
    limits = {limit.name: limit for limit in asana_limits(per_minute=150, search_routes=["/workspaces/{gid}/tasks/search"])}
    assert {name: limit.amount for name, limit in limits.items()} == {"requests": 150, "searches": 60, "reads": 50, "writes": 15}
    assert limits["searches"].covers("GET", "/workspaces/{gid}/tasks/search", None)
    assert not limits["reads"].covers("PUT", None, None)
    assert asana_limits()[1].covers("GET", None, "search")


async def test_a_hook_of_the_hosts_may_ask_the_limiter() -> None:
    limiter = Limiter([Rate(4, 60, name="a")])

    async def hook(batch: Batch) -> None:
        async with limiter(batch):
            pass

    async def task(request: Request) -> Response:
        return Response()

    app = Starlette(routes=[Route("/tasks", task)], middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    endpoint = BatchEndpoint(policy="all", cost_hook=hook)
    limiter.free(endpoint)
    endpoint.mount_to(app)
    assert (await post(app, envelope(*[action("/tasks")] * 4))).status == 200
    assert (await request(app, "GET", "/tasks")).status == 429


async def foreign(scope: Any, receive: Any, send: Any) -> None:
    """No Starlette app: its routes cannot be read."""
    await Response("foreign")(scope, receive, send)


async def test_a_host_whose_routes_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """“A middleware that cannot tell a request's route charges every limit that could cover it, and says so once in the log”."""
    app = LimitMiddleware(foreign, limiter=Limiter([Rate(1, 60, name="a")]))
    assert [(await request(app, "POST", "/batch")).status for _ in range(2)] == [200, 429]
    limits = [Rate(1, 60, name="posts", routes=["POST /x"]), Rate(9, 60, name="search", limit="search"), Rate(9, 60, name="all")]
    app = LimitMiddleware(foreign, limiter=Limiter(limits))
    assert [(await request(app, method, "/y")).status for method in ("POST", "POST", "GET")] == [200, 429, 200]
    assert caplog.text.count("cannot be read, so it counts against all that could cover it: posts, search") == 1


async def test_wrapped_around_the_app_it_reads_the_routes_too() -> None:
    @batchable(cost=2)
    async def task(request: Request) -> Response:
        return Response()

    app = Starlette(routes=[Route("/tasks/{gid:int}", task)])
    limiter = Limiter([Rate(4, 60, name="a", routes=["/tasks/{gid}"])])
    BatchEndpoint(cost_hook=limiter).mount_to(app)
    outer = LimitMiddleware(app, limiter=limiter)
    assert [(await request(outer, "GET", "/tasks/1")).status for _ in range(3)] == [200, 200, 429]
    # Where a convertor of the host fails, so does its router: that counts as well.
    assert (await request(outer, "GET", f"/tasks/{'9' * 5000}")).status == 429


def test_websockets_pass() -> None:
    async def greet(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    limiter = Limiter([Rate(1, 60, name="a")])
    app = Starlette(routes=[WebSocketRoute("/ws", greet)], middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    with TestClient(app) as client:
        for _ in range(3):
            with client.websocket_connect("/ws"):
                pass


async def silent(*_: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize("over_redis", [False, True])
async def test_an_exception_of_the_app_goes_through_as_it_is(over_redis: bool, request: pytest.FixtureRequest) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise TooManyRequests("a handler's own")

    url = request.getfixturevalue("redis").url if over_redis else None
    limiter = Limiter([Rate(1, 60, name="a"), Concurrency(1, name="b")], url)
    app = LimitMiddleware(fails, limiter=limiter, limiter_timeout=20)
    with pytest.raises(TooManyRequests, match="own"):
        await app(scope(), silent, silent)


async def test_several_apps_may_share_a_limiter_and_end_in_any_order(redis: RedisServer) -> None:
    limiter = Limiter([Rate(100, 60, name="a"), Concurrency(9, name="b")], redis.url)
    ends = [Event(), Event()]
    ended = [Event(), Event()]

    async def life(index: int) -> None:
        async with limiter:
            assert await refused(limiter, reads(2)) is None
            await ends[index].wait()
        ended[index].set()

    async with create_task_group() as tasks:
        for index in range(2):
            tasks.start_soon(life, index)
        while len(limiter._opened) < 2:
            await checkpoint()
        ends[0].set()
        await ended[0].wait()
        assert await refused(limiter, reads(2)) is None
        ends[1].set()
    assert redis.taken() == 0


async def test_a_mark_that_names_no_limit_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([Rate(100, 60, name="a", limit="search")])
    for _ in range(3):
        assert await refused(limiter, reads(2, limit="serch")) is None
    assert caplog.text.count("@batchable(limit='serch') on /x") == 1


@pytest.mark.parametrize("over_redis", [False, True])
@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("slots", [False, True])
async def test_the_limiter_passes_the_check_for_hooks(
    over_redis: bool, middleware: bool, slots: bool, request: pytest.FixtureRequest
) -> None:
    """“if any action would exceed any enforced limit, the whole batch is 429 …, and **no limiter is left charged**”."""
    limits = [Concurrency(12, name="slots")] if slots else [Rate(12, 86400, name="user"), Rate(60, 86400, name="team")]
    url = request.getfixturevalue("redis").url if over_redis else None
    made: list[Limiter] = []

    def fresh() -> Limiter:
        made.append(Limiter(limits, url, prefix=f"check{len(made)}"))
        return made[-1]

    def host() -> Starlette:
        return Starlette(middleware=[Middleware(LimitMiddleware, limiter=made[-1])])

    await check_cost_hook(fresh, limit=12, gives_back=slots, host=host if middleware else None)


async def test_methods_that_clients_make_up_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """A server with h11 passes on any method, of up to 64 KiB: what is kept for each would be a leak at the client's will."""

    @batchable(limit="misspelled")
    class Tasks(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            return Response()

    limiter = Limiter([Rate(500, 60, name="all"), Rate(1, 60, name="purges", methods=["purge"])])
    app = Starlette(routes=[Route("/tasks", Tasks)], middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    kept = set()
    for number in range(100):
        assert (await request(app, f"MADE-UP-{number}", "/tasks")).status == 405
        kept.add(limiter.covering.cache_info().currsize)
    assert kept == {1}
    assert caplog.text.count("misspelled") == 1
    # One that a limit names still counts there.
    assert [(await request(app, "PURGE", "/tasks")).status for _ in range(2)] == [405, 429]


@asynccontextmanager
async def in_turn(one: Limiter, other: Limiter, batch: Batch) -> AsyncIterator[None]:
    async with one(batch), other(batch):
        yield


@asynccontextmanager
async def again(one: Limiter, other: Limiter, batch: Batch) -> AsyncIterator[None]:
    charging = one(batch)
    async with other(batch), one(batch):
        with pytest.raises(TooManyRequests):
            await charging.__aenter__()
    async with charging:
        yield


@pytest.mark.parametrize(("hook", "limits"), [(in_turn, [Rate(3, 60, name="a")]), (again, [Concurrency(2, name="a")])])
async def test_what_a_hook_has_asked_of_limiters_no_middleware_asks_again(hook: Any, limits: Any) -> None:
    """“no request is charged twice”: by no limiter of several, and where a refused context is entered once more."""
    limiters = Limiter(limits), Limiter([Rate(9, 60, name="b")])
    endpoint = BatchEndpoint(policy="all", cost_hook=partial(hook, *limiters))
    around = [Middleware(LimitMiddleware, limiter=limiter) for limiter in limiters]
    app = endpoint.mount_to(Starlette(routes=[Route("/x", lambda request: Response())], middleware=around))
    for limiter in limiters:
        limiter.free(endpoint)
    assert [result["status_code"] for result in await results_of(app, action("/x"), action("/x"))] == [200, 200]
