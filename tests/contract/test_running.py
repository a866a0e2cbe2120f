"""Contract sections 3 (the cost hook) and 4 (running)."""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchkit import Batch, BatchEndpoint, BatchError, TooManyRequests, batchable, current_action
from tests.asgi import lifespan, request
from tests.batches import JSON, action, batch, envelope, post

pytestmark = pytest.mark.anyio


def hosting(*routes: BaseRoute, middleware: Any = (), lifespan: Any = None, **settings: Any) -> Starlette:
    app = Starlette(routes=list(routes), middleware=list(middleware), lifespan=lifespan)
    return BatchEndpoint(policy="all", **settings).mount_to(app)


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


# Section 3: the cost hook


async def test_the_hook_is_called_once_as_the_last_step_before_dispatch() -> None:
    """“Exactly one cost hook charges, as the last step before dispatch”; “**before** any action runs”."""
    events: list[str] = []

    async def task(request: Request) -> Response:
        events.append("ran")
        return Response()

    async def hook(batch: Batch) -> None:
        events.append(f"charged {batch.cost}")

    app = hosting(Route("/tasks", task), cost_hook=hook)
    await batch(app, action("/tasks"), action("/tasks"), 5)
    assert events == ["charged 3", "ran", "ran"]


async def test_a_hook_that_is_a_context_is_left_when_all_work_has_ended() -> None:
    """“each given back when its action's work has really ended”: the context outlives the background tasks."""
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def hook(batch: Batch) -> AsyncIterator[None]:
        events.append("taken")
        yield
        events.append("given back")

    async def after() -> None:
        events.append("background")

    async def task(request: Request) -> Response:
        return Response(background=BackgroundTask(after))

    app = hosting(Route("/tasks", task), cost_hook=hook)
    await batch(app, action("/tasks"))
    assert events == ["taken", "background", "given back"]


async def test_a_hook_that_fails_at_its_end_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @contextlib.asynccontextmanager
    async def hook(batch: Batch) -> AsyncIterator[None]:
        yield
        raise OSError("limiter gone")

    app = hosting(Route("/tasks", hello), cost_hook=hook)
    [result] = await batch(app, action("/tasks"))
    assert result["status_code"] == 200
    assert "limiter gone" in caplog.text


async def test_a_context_that_refuses_runs_nothing() -> None:
    @contextlib.asynccontextmanager
    async def hook(batch: Batch) -> AsyncIterator[None]:
        raise TooManyRequests("reads: asked for 2, 1 left", retry_after=7)
        yield

    app = hosting(Route("/tasks", hello), cost_hook=hook)
    answer = await post(app, envelope(action("/tasks"), action("/tasks")))
    assert answer.status == 429
    assert dict(answer.headers)[b"retry-after"] == b"7"
    assert json.loads(answer.body) == {"errors": [{"message": "reads: asked for 2, 1 left", "code": "rate_limited"}]}


async def test_a_429_of_a_handler_is_its_own_result() -> None:
    """“An action that meets a limit only while it runs (the handler's own 429) keeps that as its own result”."""

    async def limited(request: Request) -> Response:
        return Response(status_code=429, headers={"retry-after": "9"})

    results = await batch(hosting(Route("/a", hello), Route("/b", limited)), action("/a"), action("/b"))
    assert [result["status_code"] for result in results] == [200, 429]
    assert results[1]["headers"] == {"retry-after": "9"}


# Section 4: running


async def test_all_actions_run_concurrently() -> None:
    """“All actions run concurrently …, on asyncio and on trio”: ten that wait for each other all come back."""
    arrived = 0
    everybody = anyio.Event()

    async def barrier(request: Request) -> Response:
        nonlocal arrived
        arrived += 1
        if arrived == 10:
            everybody.set()
        await everybody.wait()
        return Response(status_code=200)

    results = await batch(hosting(Route("/{x}", barrier)), *[action(f"/{index}") for index in range(10)])
    assert [result["status_code"] for result in results] == [200] * 10


async def test_results_come_in_the_order_of_the_actions_whatever_ends_first() -> None:
    events = [anyio.Event() for _ in range(4)]
    events[3].set()

    async def chained(request: Request) -> Response:
        index = request.path_params["index"]
        await events[index].wait()
        events[index - 1].set()
        return JSONResponse(index)

    results = await batch(hosting(Route("/{index:int}", chained)), *[action(f"/{index}") for index in range(4)])
    assert [result["body"] for result in results] == [0, 1, 2, 3]


variable: contextvars.ContextVar[list[str]] = contextvars.ContextVar("variable")


class Stateful(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        assert not hasattr(request.state, "name")
        request.state.name = request.url.path
        variable.set([request.url.path])
        return await call_next(request)


async def test_each_action_is_a_request_of_its_own() -> None:
    """“its middleware, …, context variables, path parameters and `request.state` are its own …. Nothing of one action is visible …”."""
    met = anyio.Event()

    async def tell(request: Request) -> Response:
        if request.path_params["x"] == "b":
            met.set()
        await met.wait()
        return JSONResponse(
            {
                "params": request.path_params,
                "name": request.state.name,
                "variable": variable.get(),
                "root_path": request.scope["root_path"],
                "url": str(request.url_for("tell", tenant="t", x="y")),
            }
        )

    app = Starlette(
        routes=[Mount("/in/{tenant}", routes=[Route("/of/{x}", tell, name="tell")], name=None)], middleware=[Middleware(Stateful)]
    )
    BatchEndpoint(policy="all").mount_to(app)
    results = await batch(app, action("/in/t/of/a"), action("/in/u/of/b"))
    for result, tenant, x in zip(results, "tu", "ab", strict=True):
        assert result["body"] == {
            "params": {"tenant": tenant, "x": x},
            "name": f"/in/{tenant}/of/{x}",
            "variable": [f"/in/{tenant}/of/{x}"],
            "root_path": f"/in/{tenant}",
            "url": "http://testserver/in/t/of/y",
        }


async def state(request: Request) -> Response:
    seen = dict(request.state._state)
    request.state.mine = request.url.path
    return JSONResponse(seen)


class SetsState:
    """A middleware that leaves flags on every request, as rate limiters do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and current_action(scope) is None:
            scope.setdefault("state", {}).update(_checked=True, user="ann")
        await self.app(scope, receive, send)


async def test_state_starts_as_the_lifespan_state_and_nothing_else() -> None:
    """“`state` starts as the lifespan state, nothing else (with `mount_to` …)”."""

    @contextlib.asynccontextmanager
    async def pool(app: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"pool": "p"}

    app = hosting(Route("/{x}", state), middleware=[Middleware(SetsState)], lifespan=pool)
    async with lifespan(app) as shared:
        answer = await request(app, "POST", "/batch", headers=[JSON], body=envelope(action("/a"), action("/b")), state=shared)
    assert [result["body"] for result in answer.json()["data"]] == [{"pool": "p"}] * 2


async def test_without_mount_to_state_is_a_copy_of_the_batchs_less_private_keys() -> None:
    """“otherwise a copy of the batch's less keys that begin with `_`”."""
    app = Starlette(routes=[Route("/x/{y}", state)], middleware=[Middleware(SetsState)])
    app.router.routes.append(Route("/x", BatchEndpoint(host=app, policy="all", base_path="/x")))
    answer = await post(app, envelope(action("/a"), action("/b")), path="/x")
    assert [result["body"] for result in json.loads(answer.body)["data"]] == [{"user": "ann"}] * 2


async def test_current_action_is_the_action_and_none_for_a_request_of_its_own() -> None:
    async def which(request: Request) -> Response:
        found = current_action(request)
        assert found is current_action(request.scope)
        return JSONResponse(None if found is None else [found.index, found.method, found.path, found.route])

    app = hosting(Route("/which/{x}", which))
    results = await batch(app, action("/which/a"), action("/which/b", "get"))
    assert [result["body"] for result in results] == [[0, "GET", "/which/a", "/which/{x}"], [1, "GET", "/which/b", "/which/{x}"]]
    forged = [(b"batchkit.action", b"1"), (b"x-batchkit-action", b"1")]
    assert (await request(app, "GET", "/which/a", headers=forged)).body == b"null"


async def test_one_action_never_touches_anothers_result(caplog: pytest.LogCaptureFixture) -> None:
    """“One action never touches another's result: not by an exception …”; “An unhandled exception gives what the host answers …”."""

    async def fails(request: Request) -> Response:
        raise ValueError("secret")

    async def fails_late(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("done")(scope, receive, send)
        raise ValueError("late")

    async def slow(request: Request) -> Response:
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        return PlainTextResponse("slow")

    app = hosting(Route("/fails", fails), Mount("/late", batchable(fails_late)), Route("/slow", slow))
    results = await batch(app, action("/slow"), action("/fails"), action("/late/"), action("/slow"))
    assert [result["status_code"] for result in results] == [200, 500, 200, 200]
    assert [result["body"] for result in results] == ["slow", "Internal Server Error", "done", "slow"]
    assert caplog.text.count("ValueError: secret") == 1
    assert caplog.text.count("ValueError: late") == 1


async def test_an_exception_in_the_middle_of_a_body_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "half"
        raise ValueError("secret")

    async def breaks(request: Request) -> Response:
        return StreamingResponse(chunks())

    [result] = await batch(hosting(Route("/x", breaks)), action("/x"))
    assert result["status_code"] == 500
    assert result["body"]["errors"][0]["phrase"] in caplog.text


@pytest.mark.parametrize("from_mark", [True, False])
async def test_an_overdue_action_is_504_and_the_others_keep_their_results(from_mark: bool) -> None:
    """“`action_timeout` (default 30 s) → 504 for that action, ”outcome unknown“”; `@batchable(timeout=…)` instead."""
    cancelled = []

    async def never(request: Request) -> Response:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)
        raise AssertionError

    if from_mark:
        app = hosting(Route("/never", batchable(timeout=0.25)(never)), Route("/hello", hello))
    else:
        app = hosting(Route("/never", never), Route("/hello", hello), action_timeout=0.25)
    results = await batch(app, action("/hello"), action("/never"), action("/hello"))
    assert [result["status_code"] for result in results] == [200, 504, 200]
    assert "outcome is unknown" in results[1]["body"]["errors"][0]["message"]
    assert cancelled == [True]


async def test_a_result_over_the_cap_is_502_while_it_is_received() -> None:
    """“`max_result_size` (default 1 MiB per action) → 502 for that action, enforced while receiving”."""
    stopped = []

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        finally:
            stopped.append(True)

    async def exact(request: Request) -> Response:
        return PlainTextResponse("x" * 10_000)

    async def over(request: Request) -> Response:
        return PlainTextResponse("x" * 10_001)

    app = hosting(Mount("/endless", batchable(endless)), Route("/exact", exact), Route("/over", over), max_result_size=10_000)
    results = await batch(app, action("/endless/"), action("/exact"), action("/over"))
    assert [result["status_code"] for result in results] == [502, 200, 502]
    assert stopped == [True]


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # Starlette leaves it to the garbage collector.
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_not_kept_does_not_count(stream: bool) -> None:
    """Section 5: “an empty one (HEAD, 204, 304 …) is `{}`”, however large what the handler sends is."""

    async def large(request: Request) -> Response:
        status = int(request.query_params.get("status", 200))

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(50):
                yield b"x" * 1000

        headers = {"etag": "1", "content-encoding": request.query_params.get("coding", "identity")}
        if stream:
            return StreamingResponse(chunks(), status, headers)
        answer = Response(b"x" * 50_000, 200, headers)
        # That of Starlette leaves out the length for these two.
        answer.status_code = status
        return answer

    app = hosting(Route("/large", large), max_result_size=10_000)
    entries = [
        *(action("/large", "head", data=data) for data in ({}, {"status": 404}, {"coding": "gzip"})),
        *(action("/large", data={"status": status}) for status in (200, 204, 304)),
        action("/large", "head", data={"status": 304}),
    ]
    results = await batch(app, *entries)
    assert [result["status_code"] for result in results] == [200, 404, 200, 502, 204, 304, 304]
    assert [result for result in results if result["status_code"] != 502] == [
        {"status_code": status, "headers": {"etag": "1"}, "body": {}} for status in (200, 404, 200, 204, 304, 304)
    ]


async def test_a_head_whose_answer_does_not_end_meets_its_deadline() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})

    app = hosting(Mount("/endless", batchable(endless)), Route("/hello", hello), action_timeout=0.1, max_result_size=10_000)
    results = await batch(app, action("/endless/", "head"), action("/hello"))
    assert [result["status_code"] for result in results] == [504, 200]


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # Starlette leaves it to the garbage collector.
async def test_an_endless_stream_of_empty_chunks_meets_its_deadline() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b""

    async def stream(request: Request) -> Response:
        return StreamingResponse(endless())

    results = await batch(
        hosting(Route("/stream", stream), Route("/x", hello), action_timeout=0.25), action("/stream"), action("/x")
    )
    assert [result["status_code"] for result in results] == [504, 200]


async def test_a_background_task_neither_delays_the_answer_nor_is_cut_by_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """“A background task of an action neither delays the answer nor is cut by the action's deadline; its failure is logged”."""
    answered, finished = anyio.Event(), []

    async def later() -> None:
        await answered.wait()
        await anyio.sleep(0.3)  # Well past the deadline of the action.
        finished.append(True)
        raise ValueError("background failure")

    async def task(request: Request) -> Response:
        return PlainTextResponse("now", background=BackgroundTask(later))

    app = hosting(Route("/tasks", task), action_timeout=0.25)
    sent: list[Message] = []
    body = envelope(action("/tasks"))
    received = iter([{"type": "http.request", "body": body}])

    async def receive() -> Message:
        for message in received:
            return message
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            answered.set()

    scope = {"type": "http", "method": "POST", "path": "/batch", "root_path": "", "query_string": b"", "headers": [JSON]}
    await app(scope, receive, send)
    assert json.loads(sent[1]["body"])["data"][0]["body"] == "now"
    assert finished == [True]
    assert "background failure" in caplog.text


@pytest.mark.parametrize("asks", [1, 3])
async def test_actions_of_a_client_that_goes_away_run_to_their_end_and_see_the_disconnect(asks: int) -> None:
    """“A client that goes away: actions that began run to their end (as alone) and see `http.disconnect`”."""
    readers = 0
    ended = []

    async def waits(request: Request) -> Response:
        await request.body()
        message = await request.receive()
        ended.append(message["type"])
        return Response()

    app = hosting(Route("/{x}", waits))
    first = True

    async def receive() -> Message:
        nonlocal first, readers
        if first:
            first = False
            return {"type": "http.request", "body": envelope(*[action(f"/{index}") for index in range(asks)])}
        readers += 1
        await anyio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/batch", "root_path": "", "query_string": b"", "headers": [JSON]}
    await app(scope, receive, send)
    assert ended == ["http.disconnect"] * asks
    assert readers == 1


async def test_after_the_answer_receive_reports_the_disconnect() -> None:
    """A task that outlives its result and waits for the client's leaving is not left waiting for ever."""
    seen = []

    async def outlives(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await PlainTextResponse("x")(scope, receive, send)
        seen.append((await receive())["type"])

    app = hosting(Mount("/x", batchable(outlives)))
    await batch(app, action("/x/"))
    assert seen == ["http.disconnect"]


async def test_plugins_observe() -> None:
    """“plugins only observe”: a context around an admitted batch, plain ASGI middleware around each action that runs."""
    events: list[str] = []

    class Watch:
        @contextlib.asynccontextmanager
        async def batch(self, batch: Batch) -> AsyncIterator[None]:
            events.append(f"batch of {len(batch.actions)}")
            yield
            events.append("answered " + " ".join(str(entry.result.status_code) for entry in batch.actions if entry.result))

        def action(self, app: ASGIApp) -> ASGIApp:
            async def watched(scope: Scope, receive: Receive, send: Send) -> None:
                found = current_action(scope)
                assert found is not None
                events.append(f"action {found.index}")
                await app(scope, receive, send)

            return watched

    class Broken:
        def batch(self, batch: Batch) -> contextlib.AbstractAsyncContextManager[None]:
            raise ValueError("broken plugin")

    app = hosting(Route("/x", hello), plugins=[Broken(), Watch()])
    results = await batch(app, action("/x"), 5, action("/nowhere"))
    assert [result["status_code"] for result in results] == [200, 400, 404]
    assert (events[0], events[-1]) == ("batch of 3", "answered 200 400 404")
    assert sorted(events[1:-1]) == ["action 0", "action 2"]


async def test_plugins_see_who_is_refused_and_have_no_say(caplog: pytest.LogCaptureFixture) -> None:
    """“Exactly one cost hook charges …; plugins only observe”: one that fails at it does not change the answer."""
    events: list[object] = []

    class Watch:
        @contextlib.asynccontextmanager
        async def batch(self, batch: Batch) -> AsyncIterator[None]:
            yield
            raise TooManyRequests("too late to refuse")

        def refused(self, batch: Batch, error: BatchError) -> None:
            events.extend((len(batch.actions), error.status_code, getattr(error, "limit", None)))

    class Broken:
        def refused(self, batch: Batch, error: BatchError) -> None:
            raise ValueError("broken plugin")

    async def hook(batch: Batch) -> None:
        if batch.cost > 2:
            raise TooManyRequests("reads: asked for 3, 2 left", limit="reads")
        if batch.cost > 1:
            raise ConnectionError

    app = hosting(Route("/x", hello), cost_hook=hook, plugins=[Broken(), Watch()])
    assert [result["status_code"] for result in await batch(app, action("/x"))] == [200]
    assert not events
    assert (await post(app, envelope(action("/x"), 5))).status == 503
    refused = await post(app, envelope(*[action("/x")] * 3))
    # “its body says which limit” by its message; the name by itself is the server's.
    assert json.loads(refused.body) == {"errors": [{"message": "reads: asked for 3, 2 left", "code": "rate_limited"}]}
    assert events == [2, 503, None, 3, 429, "reads"]
    assert caplog.text.count("failed at the refusal") == 2


async def test_nothing_runs_twice_and_nothing_is_logged_of_a_good_batch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    ran: list[str] = []

    async def task(request: Request) -> Response:
        ran.append(request.url.path)
        return Response()

    await batch(hosting(Route("/{x}", task)), *[action(f"/{index}") for index in range(10)])
    assert sorted(ran) == [f"/{index}" for index in range(10)]
    assert not caplog.records
