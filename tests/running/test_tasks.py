"""Each action has a task and a context of its own: what it leaves behind there touches nobody (protocol.md#running)."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from itertools import chain, repeat
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchkit import Action, Batch, BatchEndpoint, batchable, current_action
from tests.asgi import lifespan, request
from tests.batches import JSON, LINES, action, batch, envelope, lines, messages, post

pytestmark = pytest.mark.anyio

ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])
POST = {"type": "http", "method": "POST", "path": "/batch", "root_path": "", "query_string": b"", "headers": [JSON]}


def hosting(*routes: Route, middleware: Any = (), lifespan: Any = None, **settings: Any) -> Starlette:
    app = Starlette(routes=list(routes), middleware=list(middleware), lifespan=lifespan)
    return BatchEndpoint(policy="all", **settings).mount_to(app)


class Client:
    """One ``POST /batch`` as a server hands it over; ``gone`` says that its client is."""

    def __init__(self, *actions: Any) -> None:
        self.body = envelope(*actions)
        self.gone, self.answered = anyio.Event(), anyio.Event()
        self.sent: list[Message] = []
        self._received = False

    async def receive(self) -> Message:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self.body}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.answered.set()

    async def call(self, app: ASGIApp) -> None:
        await app(dict(POST), self.receive, self.send)

    @property
    def results(self) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = json.loads(self.sent[1]["body"])["data"]
        return results


# What a handler leaves behind

abandoned: list[AsyncIterator[int]] = []


async def numbers() -> AsyncIterator[int]:
    with anyio.move_on_after(60):
        yield 1
        yield 2


async def leaves(request: Request) -> Response:
    """Leaves something open, unless ``?how=nothing``."""
    match request.query_params["how"]:
        case "scope":
            anyio.CancelScope().__enter__()
        case "shielded":
            anyio.CancelScope(shield=True).__enter__()
        case "cancelled":
            anyio.CancelScope().__enter__().cancel()
        case "group":
            await anyio.create_task_group().__aenter__()
        case "generator":
            abandoned.append(generator := numbers())
            async for _ in generator:
                break
    return PlainTextResponse("done")


async def waits(request: Request) -> Response:
    """Comes back only after several turns of the loop, long after its neighbour has left."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    return PlainTextResponse("waited")


@pytest.mark.parametrize("how", ["scope", "shielded", "cancelled", "group", "generator"])
async def test_what_an_action_leaves_open_is_its_affair_alone(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """“a cancel scope, a cancellation or a nursery that a handler leaves behind is that action's affair alone, from its first
    run on”, and on its thousandth.
    """
    app = hosting(Route("/leaves", leaves), Route("/waits", waits), max_actions=1000)
    leak = action("/leaves", data={"how": how})
    alone = await request(app, "GET", "/waits")
    for _ in range(2):
        results = await batch(app, action("/waits"), leak, action("/waits"))
        # On trio a scope that was cancelled ends its own answer before it is sent, as alone.
        own = results[1]["body"] == "done" or (how == "cancelled" and results[1]["status_code"] == 500)
        assert own, results[1]
        assert [results[0]["body"], results[2]["body"]] == [alone.body.decode()] * 2
        assert "data.actions[1]" in caplog.text
        assert "data.actions[0]" not in caplog.text
        caplog.clear()
        assert len(await batch(app, *[action("/leaves", data={"how": "nothing"})] * 1000)) == 1000
        assert not caplog.text


@ASYNCIO
async def test_a_task_that_cancels_itself_cancels_nobody_else() -> None:
    """“a cancellation … that a handler leaves behind is that action's affair alone”. trio has none but its scopes'."""

    async def cancels(request: Request) -> Response:
        for _ in range(2):
            asyncio.current_task().cancel()  # type: ignore[union-attr]
        await anyio.lowlevel.checkpoint()
        raise AssertionError

    app = hosting(Route("/cancels", cancels), Route("/waits", waits))
    results = await batch(app, action("/waits"), action("/cancels"), action("/waits"))
    assert [result["status_code"] for result in results] == [200, 500, 200]


@ASYNCIO
async def test_every_action_has_a_task_of_asyncio_itself() -> None:
    """“On asyncio each action has a plain task of its own, as a server gives one to each request”."""
    seen: list[tuple[object, int]] = []

    async def sees(request: Request) -> Response:
        seen.append((asyncio.current_task(), len(asyncio.all_tasks())))
        await anyio.lowlevel.checkpoint()
        return Response()

    before = len(asyncio.all_tasks())
    await batch(hosting(Route("/sees", sees)), *[action("/sees")] * 3)
    assert len({task for task, _ in seen}) == 3
    # That of the POST, and theirs: where Python has eager tasks, those that have begun.
    assert [count - before for _, count in seen] == ([4, 4, 4] if sys.version_info < (3, 12) else [2, 3, 4])


@ASYNCIO
@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no eager tasks before 3.12")
@pytest.mark.parametrize("most", [None, 1])
async def test_a_loop_with_eager_tasks_runs_a_batch_as_any_other(most: int | None) -> None:
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  mypy knows the oldest Python
    slots = Slots()
    try:
        app = hosting(Route("/waits", waits), Route("/says", says), cost_hook=slots, max_concurrency=most)
        results = await batch(app, *[action("/says"), action("/waits")] * 5)
    finally:
        loop.set_task_factory(factory)
    assert {result["status_code"] for result in results} == {200}
    assert not slots.taken


@pytest.mark.parametrize("most", [None, 1])
async def test_a_thousand_actions_that_wait_for_nothing_begin_one_after_another(most: int | None) -> None:
    """“they begin in order, the next when one's work has ended”: not one within another."""
    app = hosting(Route("/says", says), max_actions=1000, max_concurrency=most)
    assert {result["status_code"] for result in await batch(app, *[action("/says")] * 1000)} == {200}


# Cancelled from outside


class Slots:
    """A cost hook of contexts, that gives back each slot as its action's work has ended."""

    def __init__(self) -> None:
        self.taken: set[int] = set()

    @asynccontextmanager
    async def __call__(self, batch: Batch) -> AsyncIterator[None]:
        for each in batch.actions:
            self.taken.add(each.index)
            each.on_end = self.end
        yield
        # “an action that does not run never ends”, all others have.
        assert not self.taken

    def end(self, action: Action) -> None:
        self.taken.remove(action.index)


class Cancels:
    """A plugin that cancels the batch as soon as its actions are there, before the first step of any."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self.cancel = cancel

    def batch(self, batch: Batch) -> Cancels:
        return self

    async def __aenter__(self) -> None:
        if (loop := asyncio_loop()) is not None:
            loop.call_soon(self.cancel)
        else:
            self.cancel()

    async def __aexit__(self, *_: object) -> None:
        pass


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@pytest.mark.parametrize("most", [None, 1])
async def test_a_batch_cancelled_before_the_first_step_of_its_actions_leaves_nothing(
    most: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """“a real cancellation from outside go[es] through, and give[s] back what was taken”; nothing is warned of."""
    ran: list[bool] = []

    async def runs(request: Request) -> Response:
        await anyio.sleep_forever()
        ran.append(True)
        return Response()

    slots, client = Slots(), Client(*[action("/runs")] * 3)
    async with anyio.create_task_group() as tasks:
        app = hosting(Route("/runs", runs), cost_hook=slots, plugins=[Cancels(tasks.cancel_scope.cancel)], max_concurrency=most)
        tasks.start_soon(client.call, app)
    assert (slots.taken, ran, client.sent) == (set(), [], [])
    gc.collect()
    assert not caplog.text


@ASYNCIO
async def test_a_handler_that_cancels_all_tasks_of_its_batch_in_its_first_step_leaves_nothing() -> None:
    """“Nothing of one action is visible to another”, nor warned of: what the batch has begun besides has had its first step."""

    async def cancels(request: Request) -> Response:
        for task in asyncio.all_tasks():
            if task.get_name().startswith("batchkit") and task is not asyncio.current_task():
                task.cancel()
        return Response()

    client = Client(action("/cancels"))
    app = hosting(Route("/cancels", cancels))
    with anyio.fail_after(20):
        await app({**POST, "headers": [JSON, (b"accept", b"application/x-ndjson")]}, client.receive, client.send)
    gc.collect()


@ASYNCIO
async def test_two_native_cancellations_in_a_row_wait_for_the_work_all_the_same() -> None:
    """“a real cancellation from outside go[es] through”, however often: what is shielded is waited for."""
    started, let_go, ended = anyio.Event(), anyio.Event(), []

    async def shielded(request: Request) -> Response:
        started.set()
        with anyio.CancelScope(shield=True):
            await let_go.wait()
            ended.append("action")
        raise AssertionError

    client = Client(action("/shielded"))
    task = asyncio.ensure_future(client.call(hosting(Route("/shielded", shielded))))
    await started.wait()
    for _ in range(3):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not task.done()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (ended, client.sent) == (["action"], [])


@ASYNCIO
@pytest.mark.parametrize("most", [None, 1])
async def test_tasks_cancelled_before_their_first_step_have_a_result_and_end(most: int | None) -> None:
    """“exactly one result per action”, and slots are given back, also where somebody cancels all tasks that are new."""

    async def cancels(request: Request) -> Response:
        for task in asyncio.all_tasks():
            if task.get_name() == "batchkit action" and task is not asyncio.current_task():
                task.cancel()
        return PlainTextResponse("cancelled")

    slots = Slots()
    app = hosting(Route("/cancels", cancels), Route("/waits", waits), cost_hook=slots, max_concurrency=most)
    results = await batch(app, action("/cancels"), action("/waits"), action("/waits"))
    # An eager task has begun as it is there: none is new.
    expected = [200, 500, 500] if most is None and sys.version_info < (3, 12) else [200, 200, 200]
    assert [result["status_code"] for result in results] == expected
    assert not slots.taken


def test_keyboard_interrupt_ends_the_loop_and_gives_back_what_was_taken(caplog: pytest.LogCaptureFixture) -> None:
    """“`KeyboardInterrupt` … go[es] through, and give[s] back what was taken”."""

    async def interrupts(request: Request) -> Response:
        raise KeyboardInterrupt

    slots = Slots()
    app = hosting(Route("/interrupts", interrupts), Route("/waits", waits), cost_hook=slots)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(Client(action("/waits"), action("/interrupts"), action("/waits")).call(app))
    gc.collect()
    assert not slots.taken
    assert "never retrieved" not in caplog.text


# The context

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
server: ContextVar[str] = ContextVar("server", default="none")


class Once:
    """Middleware that marks its context, and fails where it is marked already, as pyinstrument's does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            assert tenant.get() == "nobody"
            tenant.set(scope["path"])
        await self.app(scope, receive, send)


async def says(request: Request) -> Response:
    return JSONResponse([tenant.get(), server.get()])


async def test_an_action_starts_without_what_the_posts_middleware_set_in_context_variables() -> None:
    """“it starts in the context that a request of its own would start in, without what the POST's middleware set”."""
    app = hosting(Route("/{n}", says), middleware=[Middleware(Once)])
    alone = await request(app, "GET", "/1")
    results = await batch(app, action("/1"), action("/2"))
    assert [result["body"] for result in results] == [["/1", "none"], ["/2", "none"]]
    assert json.loads(alone.body) == results[0]["body"]


async def test_an_action_starts_in_the_context_that_the_lifespan_ran_in() -> None:
    """“An action starts in the context that the app's lifespan ran in, so that the server's own variables are there”."""

    @asynccontextmanager
    async def of_app(app: Starlette) -> AsyncIterator[None]:
        tenant.set("the lifespan's own")
        yield

    app = hosting(Route("/x", says), lifespan=of_app)
    token = server.set("uvicorn")
    async with lifespan(app):
        server.reset(token)
        [result] = await batch(app, action("/x"))
    assert result["body"] == ["nobody", "uvicorn"]


async def test_a_plugin_carries_over_what_actions_should_have() -> None:
    """“a plugin can pass on what it wants”: the context variables of the POST are at hand."""

    class CarryTenant:
        def action(self, app: ASGIApp) -> ASGIApp:
            async def carried(scope: Scope, receive: Receive, send: Send) -> None:
                running = current_action(scope)
                assert running is not None
                assert running.batch_context is not None
                tenant.set(running.batch_context[tenant])
                await app(scope, receive, send)

            return carried

    class SetTenant:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("path") == "/batch":
                tenant.set("ann")
            await self.app(scope, receive, send)

    app = hosting(Route("/x", says), middleware=[Middleware(SetTenant)], plugins=[CarryTenant()])
    results = await batch(app, action("/x"), action("/x"))
    assert [result["body"] for result in results] == [["ann", "none"]] * 2


# The client's leaving


class Replays:
    """Middleware that reads the body, and gives it to the app each time that it is asked, without waiting."""

    def __init__(self, app: ASGIApp, then: Message | None = None) -> None:
        self.app = app
        self.then = then

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/batch":
            await self.app(scope, receive, send)
            return
        whole = await receive()
        messages: Iterator[Message] = chain([whole], repeat(self.then or whole))

        async def again() -> Message:
            return next(messages)

        await self.app(scope, again, send)


@pytest.mark.parametrize("then", [None, {"type": "http.request"}, {"type": "batchkit.unknown"}])
@pytest.mark.parametrize("most", [None, 1])
async def test_a_receive_that_never_waits_does_not_stop_the_server(then: Message | None, most: int | None) -> None:
    """“A message that cannot come there ends the reading”: nobody can tell whether the client is gone, and all else goes on."""

    async def rows(request: Request) -> Response:
        async def generate() -> AsyncIterator[str]:
            for row in range(3):
                if await request.is_disconnected():
                    return
                yield f"{row}\n"

        return StreamingResponse(generate(), media_type="text/plain")

    app = hosting(Route("/rows", rows), middleware=[Middleware(Replays, then=then)], max_concurrency=most)
    results = await batch(app, *[action("/rows")] * 3)
    assert [result["body"] for result in results] == ["0\n1\n2\n"] * 3


# max_concurrency


class Gauge:
    """Handlers that say how many of them are at work, and wait for ``gate``."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.began: list[str] = []
        self.working = self.most = 0

    async def __call__(self, request: Request) -> Response:
        self.began.append(request.path_params["n"])
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            await (anyio.lowlevel.checkpoint() if request.query_params else self.gate.wait())
        finally:
            self.working -= 1
        return PlainTextResponse(request.path_params["n"])


QUICK = {"quick": "yes"}


@pytest.mark.parametrize("most", [1, 3, 10, 50])
async def test_so_many_actions_work_at_a_time_and_begin_in_order(most: int) -> None:
    """“`max_concurrency=` bounds how many actions of one batch work at a time (None: all): they begin in order”."""
    gauge = Gauge()

    async def task(request: Request) -> Response:
        return await gauge(request)

    app = hosting(Route("/{n}", task), max_concurrency=most)
    results = await batch(app, *[action(f"/{n}", data=QUICK) for n in range(10)])
    assert [result["body"] for result in results] == [str(n) for n in range(10)]
    # Within those that work at the same time, trio takes them in an order of its own.
    assert all(int(n) < place + most for place, n in enumerate(gauge.began))
    assert gauge.most == min(most, 10)


async def test_the_next_begins_when_the_work_of_one_has_ended_not_when_it_is_answered() -> None:
    """“the next when one's work has ended”: that of a background task included."""
    events: list[str] = []

    async def answers(scope: Scope, receive: Receive, send: Send) -> None:
        events.append(f"{scope['path']} begins")
        await PlainTextResponse("x")(scope, receive, send)
        await anyio.lowlevel.checkpoint()
        events.append(f"{scope['path']} ends")

    class Answers:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await answers(scope, receive, send)

    app = hosting(Route("/{n}", batchable(Answers())), max_concurrency=1)
    await batch(app, action("/1"), action("/2"))
    assert events == ["/1 begins", "/1 ends", "/2 begins", "/2 ends"]


async def test_all_are_charged_before_the_first_begins() -> None:
    """“all are charged first”."""
    gauge = Gauge()

    async def task(request: Request) -> Response:
        return await gauge(request)

    async def hook(batch: Batch) -> None:
        assert (batch.cost, gauge.began) == (5, [])

    app = hosting(Route("/{n}", task), max_concurrency=2, cost_hook=hook)
    assert len(await batch(app, *[action(f"/{n}", data=QUICK) for n in range(5)])) == 5


@pytest.mark.parametrize("in_lines", [False, True])
async def test_what_has_not_begun_at_its_deadline_is_a_503(in_lines: bool) -> None:
    """“What has not begun at its deadline (which runs from the start of the batch) is a 503 `Not started within 30 seconds;
    nothing of it ran`, and its slot is given back.”
    """
    gauge, slots = Gauge(), Slots()

    async def task(request: Request) -> Response:
        return await gauge(request)

    app = hosting(Route("/{n}", task), max_concurrency=1, action_timeout=0.25, cost_hook=slots)
    answer = await post(app, envelope(*[action(f"/{n}") for n in range(3)]), headers=[LINES] if in_lines else [])
    results = sorted(lines(answer.body), key=lambda line: line["index"]) if in_lines else json.loads(answer.body)["data"]
    assert [result["status_code"] for result in results] == [504, 503, 503]
    assert messages(results[2]) == ["Not started within 0.25 seconds; nothing of it ran"]
    assert gauge.began == ["0"]
    assert not slots.taken


async def test_what_has_not_begun_when_the_client_goes_away_does_not_begin() -> None:
    """“What has not begun when the client goes away does not begin.”"""
    gauge, slots, client = Gauge(), Slots(), Client(*[action(f"/{n}") for n in range(3)])

    async def task(request: Request) -> Response:
        client.gone.set()
        return await gauge(request)

    app = hosting(Route("/{n}", task), max_concurrency=1, cost_hook=slots)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.call, app)
        await client.gone.wait()
        await anyio.wait_all_tasks_blocked()
        gauge.gate.set()
    assert gauge.began == ["0"]
    assert [result["status_code"] for result in client.results] == [200, 503, 503]
    assert not slots.taken


async def test_server_timing_shows_what_began() -> None:
    gauge = Gauge()

    async def task(request: Request) -> Response:
        return await gauge(request)

    app = hosting(Route("/{n}", task), max_concurrency=1, action_timeout=0.25, server_timing=True)
    answer = await post(app, envelope(action("/0"), action("/1")))
    [timing] = [value.decode() for name, value in answer.headers if name == b"server-timing"]
    first, second = timing.split(", ")
    assert first.startswith("a0;start=")
    assert second == "a1"


# Clean-up at a deadline


@pytest.mark.parametrize(("guarded", "expected"), [(False, ["locked"]), (True, ["locked", "unlocked"])])
async def test_what_a_handler_gives_back_with_an_await_needs_a_shield(guarded: bool, expected: list[str]) -> None:
    """“Awaits in a handler's `finally` after its deadline are cancelled again and again on asyncio too (anyio's rule), unless
    shielded: the documentation says how to write clean-up”, as here.
    """
    log: list[str] = []

    async def unlock() -> None:
        await anyio.sleep(0.005)  # One round trip.
        log.append("unlocked")

    async def slow(request: Request) -> Response:
        log.append("locked")
        try:
            await anyio.sleep_forever()
        finally:
            if guarded:
                with anyio.move_on_after(5, shield=True):
                    await unlock()
            else:
                await unlock()
        raise AssertionError

    app = hosting(Route("/slow", slow), action_timeout=0.25)
    [result] = await batch(app, action("/slow"))
    assert result["status_code"] == 504
    assert log == expected
