"""Contract section 3: what a batch costs, held by the ready limiter in memory and in a real Redis alike."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchkit import Batch, BatchEndpoint, LimiterUnavailable, TooManyRequests, batchable
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, by_address
from batchkit.limiter.stores.memory import MemoryStore
from tests.asgi import Answer, NoAnswer, lifespan, request
from tests.batches import JSON, LINES, action, batch, envelope, messages, post
from tests.redises import RedisServer

pytestmark = pytest.mark.anyio

ANN = [(b"authorization", b"Bearer ann")]
BOB = [(b"authorization", b"Bearer bob")]


@dataclass
class Counting:
    """Where the limiter of a test counts, and how to look there."""

    store: Any
    taken: Callable[[], int]


@pytest.fixture(params=["memory", "redis"])
def counting(request: pytest.FixtureRequest) -> Counting:
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        return Counting(redis.url, redis.taken)
    memory = MemoryStore()
    return Counting(memory, lambda: sum(map(len, memory.taken.values())))


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


@batchable(limit="search", cost=3)
async def search(request: Request) -> Response:
    return PlainTextResponse("found")


ROUTES = [
    Route("/tasks", hello, methods=["GET", "POST"]),
    Route("/tasks/{gid}", hello),
    Mount("/in", routes=[Route("/search", search)]),
]


@contextlib.asynccontextmanager
async def limited(
    counting: Counting, *limits: Any, routes: list[BaseRoute] | None = None, middleware: Any = (), **settings: Any
) -> AsyncIterator[Starlette]:
    """A running app with these limits, for batches and direct requests."""
    limiter = Limiter(limits, counting.store)
    around = [*middleware, Middleware(LimitMiddleware, limiter=limiter, limiter_timeout=20)]
    app = Starlette(routes=routes or ROUTES, middleware=around)
    BatchEndpoint(**{"policy": "all", "cost_hook": limiter, "max_actions": 50, "limiter_timeout": 20, **settings}).mount_to(app)
    async with lifespan(app):
        yield app


async def tasks(app: ASGIApp, count: int, headers: Any = ANN) -> Answer:
    """A batch of so many harmless actions."""
    return await post(app, envelope(*[action("/tasks")] * count), headers=headers)


async def direct(app: ASGIApp, method: str = "GET", path: str = "/tasks", headers: Any = ANN) -> int:
    return (await request(app, method, path, headers=headers)).status


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells us of."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def left(app: ASGIApp, headers: Any = ANN) -> int:
    """How many requests of their own still pass. They are charged for it."""
    count = 0
    while await direct(app, headers=headers) == 200:
        count += 1
    return count


async def test_a_batch_costs_its_actions_and_itself_nothing(counting: Counting) -> None:
    """“A batch of N actions costs N … against every limiter, **before** any action runs; the batch request itself costs nothing”."""
    async with limited(counting, Rate(12, 3600, name="requests")) as app:
        assert (await tasks(app, 7)).status == 200
        assert await left(app) == 5
        assert await left(app, BOB) == 12
        assert (await tasks(app, 1)).status == 429


async def test_a_refused_batch_is_not_charged_by_any_limit(counting: Counting) -> None:
    """“All or nothing: if any action would exceed any enforced limit, the whole batch is 429, no action runs, and **no limiter is left charged**, whichever of several said no”.

    Security: “A batch is counted whole before anything runs”
    """
    ran = []

    async def task(request: Request) -> Response:
        ran.append(1)
        return Response()

    limits = [Rate(100, 3600, name="user"), Rate(30, 3600, name="team", key=by_address), Concurrency(50, name="slots")]
    async with limited(counting, *limits, routes=[Route("/tasks", task)]) as app:
        answers: list[int] = []

        async def client() -> None:
            for _ in range(5):
                answers.append((await tasks(app, 5)).status)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(client)
        assert (answers.count(200), answers.count(429)) == (6, 44)
        assert len(ran) == 30
        # Another address is another team, so this counts what is left of the user.
        passed = 0
        for index in range(72):
            scope_client = ("10.0.0.%d" % index, 1)
            passed += await from_address(app, scope_client) == 200
        assert passed == 70
    assert counting.taken() == 0


async def from_address(app: ASGIApp, client: tuple[str, int]) -> int:
    async def moved(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": client}, receive, send)

    return await direct(moved)


async def test_actions_count_against_the_limits_that_they_fall_under(counting: Counting) -> None:
    """“Reads and writes may have separate limits, and actions of one batch may fall under different ones (a search limit, say)”; “`cost` above 1 weighs on rates”."""
    limits = [
        Rate(100, 3600, name="all"),
        Rate(3, 3600, name="writes", methods=["POST"]),
        Rate(7, 3600, name="searches", limit="search"),
        Rate(2, 3600, name="single tasks", routes=["/tasks/{gid}"]),
    ]
    async with limited(counting, *limits) as app:
        mixed = [action("/tasks"), action("/tasks", "post"), action("/in/search"), action("/tasks/1"), action("/tasks/2", "head")]
        assert (await post(app, envelope(*mixed), headers=ANN)).status == 200
        for more, message in (
            ([action("/tasks", "post")] * 3, "writes: asked for 3, 2 left"),
            ([action("/in/search")] * 2, "searches: asked for 6, 4 left"),
            ([action("/tasks/1")], "single tasks: asked for 1, 0 left"),
        ):
            answer = await post(app, envelope(*more), headers=ANN)
            assert (answer.status, messages(answer.json())) == (429, [message])
        assert [await direct(app, "POST") for _ in range(3)] == [200, 200, 429]
        assert [await direct(app, path="/in/search") for _ in range(2)] == [200, 429]
        assert await direct(app, path="/tasks/9") == 429
        assert await left(app) == 100 - 7 - 2 - 3


async def test_what_is_malformed_or_refused_counts_as_well(counting: Counting) -> None:
    """“An action that is malformed or refused counts as well: … (one without a usable method counts against the limits that every request meets). Nothing is given back for an action that failed”."""
    limits = [Rate(10, 3600, name="all"), Rate(10, 3600, name="reads", methods=["GET"]), Concurrency(4, name="slots")]
    async with limited(counting, *limits) as app:
        results = await batch(app, 5, action("/tasks", "fetch"), action("//x"), action("/nowhere"), headers=ANN)
        assert [result["status_code"] for result in results] == [400, 400, 400, 404]
        assert counting.taken() == 0
        assert (await tasks(app, 5)).status == 429  # Slots.
        refused = await post(app, envelope(*[action("/nowhere")] * 4, 5), headers=ANN)
        assert messages(refused.json()) == ["slots: asked for 5, which can never pass: the limit is 4"]
        assert await left(app) == 6


async def test_429_says_which_limit_and_when(counting: Counting) -> None:
    """“429 carries `Retry-After` in whole seconds (≥ 1: the earliest moment at which the same batch could pass), left out where it never can …; its body says which limit, how much was asked and how much was left”."""
    async with limited(counting, Rate(6, 600, name="slow"), Rate(8, 80, name="fast"), help="See the docs.") as app:
        assert (await tasks(app, 4)).status == 200
        answer = await tasks(app, 6)
        [error] = answer.json()["errors"]
        assert error == {"message": "slow: asked for 6, 2 left", "code": "rate_limited", "help": "See the docs."}
        assert answer.all(b"retry-after") == [b"400"]
        answer = await tasks(app, 7)
        assert messages(answer.json()) == ["slow: asked for 7, which can never pass: the limit is 6"]
        assert (answer.status, answer.all(b"retry-after")) == (429, [])
        assert b"ann" not in answer.body
        assert await left(app) == 2
        refused = await request(app, "GET", "/tasks", headers=ANN)
        assert refused.all(b"retry-after") == [b"100"]
        assert messages(refused.json()) == ["slow: asked for 1, 0 left"]


async def test_a_retry_after_that_is_kept_is_true(counting: Counting) -> None:
    """“the earliest moment at which the same batch could pass”: here by the real clock of each store."""
    async with limited(counting, Rate(5, 1, name="requests")) as app:
        assert (await tasks(app, 5)).status == 200
        refused = await tasks(app, 5)
        if refused.status == 429:
            await anyio.sleep(int(refused.all(b"retry-after")[0]))
            assert (await tasks(app, 5)).status == 200


async def test_direct_requests_and_batches_share_the_counters(counting: Counting) -> None:
    """“Direct requests and batches share the same counters: the host's limiter and the batch charge the same keys, and no request is charged twice”."""
    async with limited(counting, Rate(10, 3600, name="requests")) as app:
        assert [await direct(app) for _ in range(4)] == [200] * 4
        assert (await tasks(app, 7)).status == 429
        assert (await tasks(app, 6)).status == 200
        assert (await tasks(app, 1)).status == 429
        assert await direct(app) == 429


@pytest.mark.parametrize(
    "mounted",
    [
        lambda endpoint, app: app.router.routes.append(Route("/batch", endpoint)),
        lambda endpoint, app: app.router.routes.append(Route("/batch", endpoint, methods=["POST"])),
        lambda endpoint, app: app.router.routes.append(Mount("/batch", endpoint)),
        lambda endpoint, app: app.router.routes.append(Mount("/batch", endpoint, middleware=[Middleware(Through)])),
    ],
)
async def test_only_the_post_of_the_endpoint_itself_is_free(counting: Counting, mounted: Any) -> None:
    """“the batch request itself costs nothing”: told by where the routes lead, not by a path."""
    limiter = Limiter([Rate(9, 3600, name="requests")], counting.store)
    app = Starlette(
        routes=[Route("/tasks", hello), Mount("/other", routes=[Route("/batch", hello, methods=["POST"])])],
        middleware=[Middleware(LimitMiddleware, limiter=limiter, limiter_timeout=20)],
    )
    mounted(BatchEndpoint(host=app, policy="all", base_path="/", cost_hook=limiter, limiter_timeout=20), app)
    async with lifespan(app):
        assert [(await tasks_at(app, path)).status for path in ("/batch", "/batch/")] in ([200, 307], [307, 200], [200, 200])
        before = await left_after(app, 0)
        assert before in (3, 4)
    assert await direct(app, "GET", "/batch") == 429


async def tasks_at(app: ASGIApp, path: str) -> Answer:
    return await post(app, envelope(*[action("/tasks")] * 2), path=path, headers=ANN)


async def left_after(app: ASGIApp, spent: int) -> int:
    assert [await direct(app, "POST", "/other/batch"), await direct(app, "DELETE", "/nowhere")] == [200, 404]
    return await left(app)


class Through:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def test_an_action_is_charged_by_a_limiter_that_its_batch_has_not_met(counting: Counting) -> None:
    """“no request is charged twice”, and none gets by: the middleware of another limiter than the hook's counts the actions."""
    limiter = Limiter([Rate(3, 3600, name="requests")], counting.store)
    app = Starlette(routes=ROUTES, middleware=[Middleware(LimitMiddleware, limiter=limiter, limiter_timeout=20)])
    BatchEndpoint(policy="all").mount_to(app)
    async with lifespan(app):
        results = await batch(app, *[action("/tasks")] * 5, headers=ANN)
    # The POST itself is one, as nothing tells that limiter that it is free.
    assert sorted(result["status_code"] for result in results) == [200, 200, 429, 429, 429]


async def test_a_key_function_sees_the_action_and_what_middleware_knows_of_the_batch(counting: Counting) -> None:
    class Signed:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope.setdefault("state", {})["tenant"] = "t"
                scope["user"] = "ann"
            await self.app(scope, receive, send)

    seen = set()

    def key(request: Request) -> str:
        seen.add((request.method, request.url.path, request.state.tenant, request.scope["user"]))
        return request.url.path

    async with limited(counting, Rate(2, 3600, name="each", key=key), middleware=[Middleware(Signed)]) as app:
        results = await batch(app, action("/tasks/1"), action("/tasks/1"), action("/tasks/2"), headers=ANN)
        assert [result["status_code"] for result in results] == [200] * 3
        assert [await direct(app, path="/tasks/1"), await direct(app, path="/tasks/2")] == [429, 200]
    assert seen == {("GET", "/tasks/1", "t", "ann"), ("GET", "/tasks/2", "t", "ann")}


# Slots


async def test_slots_are_taken_all_or_nothing_without_waiting(counting: Counting) -> None:
    """“a *concurrency* limit (N slots, taken all or nothing without waiting …)”: of two batches that each need more than half one runs, and neither waits."""
    started, go = anyio.Event(), anyio.Event()

    async def waits(request: Request) -> Response:
        started.set()
        await go.wait()
        return Response()

    async with limited(counting, Concurrency(10, name="slots"), routes=[Route("/tasks", waits)]) as app:
        async with anyio.create_task_group() as group:
            group.start_soon(tasks, app, 6)
            await started.wait()
            assert counting.taken() == 6
            refused = await tasks(app, 6)
            assert (refused.status, refused.all(b"retry-after")) == (429, [])
            assert messages(refused.json()) == ["slots: asked for 6 at once, 4 left"]
            assert counting.taken() == 6
            go.set()
        assert counting.taken() == 0
        assert (await tasks(app, 6)).status == 200


async def test_slots_are_given_back_one_by_one_as_work_really_ends(counting: Counting) -> None:
    """“each given back when its action's work has really ended”; “an action takes one slot”, whatever its cost."""
    started = {name: anyio.Event() for name in "ab"}
    go = {name: anyio.Event() for name in "ab"}

    @batchable(cost=5)
    async def waits(request: Request) -> Response:
        name = request.path_params["name"]
        started[name].set()
        return Response(background=BackgroundTask(go[name].wait))

    async with limited(counting, Concurrency(10, name="slots"), routes=[Route("/{name}", waits)]) as app:
        async with anyio.create_task_group() as group:
            group.start_soon(batch, app, action("/a"), 5, action("/b"))
            await started["a"].wait()
            await started["b"].wait()
            # The malformed one has given back its slot at once.
            assert counting.taken() == 2
            go["a"].set()
            await until(lambda: counting.taken() < 2)
            assert counting.taken() == 1
            go["b"].set()
        assert counting.taken() == 0


async def test_a_straggler_keeps_its_slot_after_its_504(counting: Counting) -> None:
    """“what is left is awaited after the answer, its slot stays taken until then” (section 4)."""
    go, answered = anyio.Event(), anyio.Event()

    async def stubborn(request: Request) -> Response:
        with anyio.CancelScope(shield=True):
            await go.wait()
        return Response()

    async with limited(counting, Concurrency(2, name="s"), routes=[Route("/tasks", stubborn)], action_timeout=0.25) as app:

        async def watch(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                await send(message)
                if message["type"] == "http.response.body":
                    answered.set()

            await app(scope, receive, sending)

        async with anyio.create_task_group() as group:
            group.start_soon(tasks, watch, 2)
            await answered.wait()
            assert counting.taken() == 2
            assert (await tasks(app, 1)).status == 429
            go.set()
        assert counting.taken() == 0


async def fails(request: Request) -> Response:
    raise ValueError("secret")


@batchable(timeout=0.05)
async def never(request: Request) -> Response:
    await anyio.sleep_forever()
    raise AssertionError


async def strays(request: Request) -> Response:
    raise asyncio.CancelledError


async def absent(request: Request) -> Response:
    raise HTTPException(404)


ENDINGS: list[BaseRoute] = [Route(f"/{function.__name__}", function) for function in (hello, fails, never, strays, absent)]


@pytest.mark.parametrize("rounds", [5, pytest.param(1000, marks=pytest.mark.soak)])
async def test_nothing_stays_taken_however_work_ends(counting: Counting, rounds: int, anyio_backend_name: str) -> None:
    """“given back …: after success, failure, timeout, cancellation; at once for an action that does not run”."""
    paths = ["/hello", "/fails", "/never", "/absent", "/nowhere"] + ["/strays"] * (anyio_backend_name == "asyncio")
    body = envelope(*map(action, paths), 5)
    scope = {"type": "http", "method": "POST", "path": "/batch", "root_path": "", "query_string": b"", "headers": [JSON]}

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def gone(message: Message) -> None:
        raise OSError("the client is gone")

    async with limited(counting, Concurrency(20, name="slots"), routes=ENDINGS) as app:
        for _ in range(rounds):
            results = await batch(app, *map(action, paths), 5)
            assert [result["status_code"] for result in results][:5] == [200, 500, 504, 404, 404]
            assert counting.taken() == 0
            with contextlib.suppress(OSError):
                await app({**scope}, receive, gone)
            assert counting.taken() == 0
            with anyio.move_on_after(0.005), contextlib.suppress(OSError):
                await app({**scope}, receive, gone)
            with contextlib.suppress(Exception):
                await request(app, "GET", "/fails")
            with anyio.move_on_after(0.005):
                await request(app, "GET", "/never")
        # What a cancelled call may have left to the store to give back.
        await until(lambda: counting.taken() == 0)


async def test_many_clients_never_have_more_slots_than_there_are(counting: Counting) -> None:
    at_work = most = 0

    async def task(request: Request) -> Response:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await anyio.sleep(0.001)
        at_work -= 1
        return Response()

    async with limited(counting, Concurrency(20, name="slots", key=by_address), routes=[Route("/tasks", task)]) as app:
        statuses: list[int] = []

        async def client() -> None:
            for _ in range(4):
                statuses.append((await tasks(app, 6)).status)

        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(client)
        assert 6 <= most <= 20
        assert set(statuses) <= {200, 429}
        assert counting.taken() == 0


# Any hook: out of reach, or slow


async def quick(batch: Batch) -> None:
    raise OSError("no route to the store")


async def hung(batch: Batch) -> None:
    await anyio.sleep_forever()


@contextlib.asynccontextmanager
async def hung_context(batch: Batch) -> AsyncIterator[None]:
    async with anyio.create_task_group():
        await anyio.sleep_forever()
        yield


async def late(batch: Batch) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.02)


@contextlib.asynccontextmanager
async def late_context(batch: Batch) -> AsyncIterator[None]:
    async with anyio.create_task_group():
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.02)
        yield


@pytest.mark.parametrize("hook", [quick, hung, hung_context, late, late_context])
@pytest.mark.parametrize("errors", ["refuse", "allow"])
async def test_a_limiter_that_cannot_be_reached_or_hangs(hook: Any, errors: Any, caplog: pytest.LogCaptureFixture) -> None:
    """“A limiter that cannot be reached or hangs: 503 by default (fail closed, within `limiter_timeout`), or let through and logged (`limiter_errors="allow"`)”."""
    ran = []

    async def task(request: Request) -> Response:
        ran.append(1)
        await anyio.sleep(0.02)
        return Response()

    app = Starlette(routes=[Route("/tasks", task)])
    BatchEndpoint(policy="all", cost_hook=hook, limiter_timeout=0.01, limiter_errors=errors).mount_to(app)
    answer = await tasks(app, 2)
    assert (answer.status, len(ran)) == ((503, 0) if errors == "refuse" else (200, 2))
    assert ("refused" if errors == "refuse" else "let through without a charge") in caplog.text


def raises(error: Exception) -> Any:
    async def hook(batch: Batch) -> None:
        raise error

    return hook


def raises_in_a_group(error: Exception) -> Any:
    @contextlib.asynccontextmanager
    async def hook(batch: Batch) -> AsyncIterator[None]:
        async with anyio.create_task_group():
            raise error
        yield

    return hook


@pytest.mark.parametrize("how", [raises, raises_in_a_group])
async def test_a_hook_says_itself_that_its_limiter_is_out_of_reach(how: Any, caplog: pytest.LogCaptureFixture) -> None:
    """“A limiter that cannot be reached or hangs: 503 by default …, or let through and logged (`limiter_errors="allow"`)”: a hook that raises LimiterUnavailable says so."""
    errors: Any
    for errors, status in (("refuse", 503), ("allow", 200)):
        caplog.clear()
        app = Starlette(routes=ROUTES)
        hook = how(LimiterUnavailable("The bank's limiter is on holiday"))
        BatchEndpoint(policy="all", cost_hook=hook, limiter_errors=errors).mount_to(app)
        answer = await tasks(app, 2)
        assert answer.status == status
        assert ("on holiday" in answer.body.decode()) == (status == 503)
        assert ("refused" if status == 503 else "let through without a charge") in caplog.text


@pytest.mark.parametrize("errors", ["refuse", "allow"])
async def test_a_refusal_in_a_task_group_is_a_refusal(errors: Any) -> None:
    """It would be let through with `limiter_errors="allow"`, as the group wraps what it raises."""
    app = Starlette(routes=ROUTES)
    hook = raises_in_a_group(TooManyRequests("no", retry_after=7))
    BatchEndpoint(policy="all", cost_hook=hook, limiter_errors=errors).mount_to(app)
    answer = await tasks(app, 2)
    assert (answer.status, answer.all(b"retry-after")) == (429, [b"7"])


@dataclass
class Stuck:
    """A hook that hangs where nothing reaches it, until it is let go, and what it then holds."""

    go: threading.Event
    held: list[str]

    def wait(self) -> None:
        assert self.go.wait(20)
        self.held.append("taken")

    async def function(self, batch: Batch) -> None:
        await anyio.to_thread.run_sync(self.wait)

    @contextlib.asynccontextmanager
    async def context(self, batch: Batch) -> AsyncIterator[None]:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.wait)
        try:
            yield
        finally:
            self.held.clear()

    @contextlib.asynccontextmanager
    async def with_scopes(self, batch: Batch) -> AsyncIterator[None]:
        with anyio.move_on_after(1000):
            async with anyio.create_task_group() as group:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self.wait)
                group.start_soon(anyio.sleep_forever)
                try:
                    yield
                finally:
                    self.held.clear()
                    group.cancel_scope.cancel()

    @contextlib.asynccontextmanager
    async def failing(self, batch: Batch) -> AsyncIterator[None]:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.wait)
        self.held.clear()
        raise TooManyRequests("too late")
        yield


@pytest.mark.parametrize("kind", ["function", "context", "with_scopes", "failing"])
@pytest.mark.parametrize("errors", ["refuse", "allow"])
@pytest.mark.parametrize("accept", [[], [LINES]])
async def test_a_hook_that_hangs_in_a_worker_thread_holds_no_answer(kind: str, errors: Any, accept: Any) -> None:
    """“…or hangs: 503 by default (fail closed, within `limiter_timeout`)”, in a thread as well, which nobody can stop: it is waited for after the answer, and what it takes then is given back."""
    stuck = Stuck(threading.Event(), [])
    told = []

    class Watching:
        def refused(self, batch: Batch, error: Exception) -> None:
            told.append((stuck.go.is_set(), error))

    app = Starlette(routes=ROUTES)
    hook = getattr(stuck, kind)
    settings: dict[str, Any] = {"limiter_timeout": 0.01, "limiter_errors": errors, "plugins": [Watching()]}
    BatchEndpoint(policy="all", cost_hook=hook, **settings).mount_to(app)
    statuses = []

    async def let_go_once_answered(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            elif not message.get("more_body", False):
                assert not stuck.go.is_set()
                assert stuck.held == []
                stuck.go.set()

        await app(scope, receive, sending)
        # Nothing of it is left behind.
        assert stuck.held == (["taken"] if kind == "function" else [])

    with anyio.fail_after(20):
        answer = await tasks(let_go_once_answered, 2, [*ANN, *accept])
    assert statuses == [answer.status] == [503 if errors == "refuse" else 200]
    assert [(early, type(error)) for early, error in told] == ([(False, LimiterUnavailable)] if errors == "refuse" else [])
    assert answer.all(b"content-type")[0].startswith(LINES[1] if accept and errors == "allow" else b"application/json")


@pytest.mark.parametrize("errors", ["refuse", "allow"])
async def test_a_cancelled_batch_waits_for_a_hook_that_cannot_be_stopped(errors: Any) -> None:
    """“a real cancellation from outside go[es] through, and give[s] back what was taken” (section 4)."""
    stuck = Stuck(threading.Event(), [])
    app = Starlette(routes=ROUTES)
    BatchEndpoint(policy="all", cost_hook=stuck.context, limiter_errors=errors, limiter_timeout=30).mount_to(app)
    async with anyio.create_task_group() as group:
        group.start_soon(tasks, app, 2)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        stuck.go.set()
    assert stuck.held == []


async def test_a_hook_that_cannot_send_its_refusal_leaves_nothing_behind() -> None:
    stuck = Stuck(threading.Event(), [])
    app = Starlette(routes=ROUTES)
    BatchEndpoint(policy="all", cost_hook=stuck.with_scopes, limiter_timeout=0.01).mount_to(app)

    async def gone(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            stuck.go.set()
            raise OSError("the client is gone")

        await app(scope, receive, sending)

    with anyio.fail_after(20), pytest.raises(NoAnswer):
        await tasks(gone, 2)
    assert stuck.held == []


@pytest.mark.parametrize("ends", ["hello", "fails", "never"])
async def test_what_a_hook_opens_it_keeps_until_all_work_has_ended(ends: str) -> None:
    """A task group and cancel scopes of its own, open from its start to its end: they are no affair of the actions."""
    log = []

    @contextlib.asynccontextmanager
    async def hook(batch: Batch) -> AsyncIterator[None]:
        scope = anyio.CancelScope()
        scope.__enter__()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield
            group.cancel_scope.cancel()
        scope.__exit__(None, None, None)
        log.append([action.result is not None for action in batch.actions])

    app = Starlette(routes=ENDINGS)
    BatchEndpoint(policy="all", cost_hook=hook, action_timeout=0.25).mount_to(app)
    for _ in range(2):
        results = await batch(app, action(f"/{ends}"), action("/hello"))
        assert [result["status_code"] for result in results] == [{"hello": 200, "fails": 500, "never": 504}[ends], 200]
    assert log == [[True, True]] * 2


async def test_a_hook_whose_own_work_fails_meanwhile_spoils_no_result(caplog: pytest.LogCaptureFixture) -> None:
    @contextlib.asynccontextmanager
    async def hook(batch: Batch) -> AsyncIterator[None]:
        async def renew() -> None:
            raise OSError("the store has gone")

        async with anyio.create_task_group() as group:
            group.start_soon(renew)
            yield

    async def task(request: Request) -> Response:
        await anyio.wait_all_tasks_blocked()
        return Response()

    app = Starlette(routes=[Route("/tasks", task)])
    BatchEndpoint(policy="all", cost_hook=hook).mount_to(app)
    [result] = await batch(app, action("/tasks"))
    assert result["status_code"] == 200
    assert "failed at the end of a batch" in caplog.text


async def test_a_hook_that_took_its_slots_in_time_is_not_bound_any_more() -> None:
    @contextlib.asynccontextmanager
    async def hook(batch: Batch) -> AsyncIterator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
            yield

    async def task(request: Request) -> Response:
        await anyio.sleep(0.3)
        return Response(status_code=200)

    app = Starlette(routes=[Route("/tasks", task)])
    BatchEndpoint(policy="all", cost_hook=hook, limiter_timeout=0.25).mount_to(app)
    [result] = await batch(app, action("/tasks"))
    assert result["status_code"] == 200


@pytest.mark.parametrize("errors", ["refuse", "allow"])
async def test_a_refusal_is_a_429_whatever_limiter_errors_says(errors: Any) -> None:
    async def hook(batch: Batch) -> None:
        raise TooManyRequests("no", retry_after=1)

    app = Starlette(routes=ROUTES)
    BatchEndpoint(policy="all", cost_hook=hook, limiter_errors=errors).mount_to(app)
    assert (await tasks(app, 2)).status == 429


@pytest.mark.parametrize("errors", ["refuse", "allow"])
async def test_a_key_function_that_fails_lets_nobody_through(errors: Any) -> None:
    """No limiter is out of reach then, and a client may well know what the function fails on."""

    def key(request: Request) -> Any:
        return 5

    limiter = Limiter([Rate(9, 9, name="x", key=key)])
    app = Starlette(
        routes=ROUTES, middleware=[Middleware(LimitMiddleware, limiter=limiter, limiter_errors=errors, help="See the docs.")]
    )
    BatchEndpoint(policy="all", cost_hook=limiter, limiter_errors=errors).mount_to(app)
    assert (await tasks(app, 2)).status == 503
    answer = await request(app, "GET", "/tasks")
    assert answer.status == 503
    assert answer.json()["errors"][0]["help"] == "See the docs."


async def test_what_a_hook_does_at_the_end_of_an_action_touches_no_result(caplog: pytest.LogCaptureFixture) -> None:
    async def hook(batch: Batch) -> None:
        def on_end(action: Any) -> None:
            raise OSError("no")

        for each in batch.actions:
            each.on_end = on_end

    app = Starlette(routes=ROUTES)
    BatchEndpoint(policy="all", cost_hook=hook).mount_to(app)
    results = await batch(app, action("/tasks"), 5, action("/tasks"))
    assert [result["status_code"] for result in results] == [200, 400, 200]
    assert caplog.text.count("at the end of data.actions") == 2
