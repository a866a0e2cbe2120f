"""Deadlines that hold and cancellations that are told apart (protocol.md#running)."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message

from batchkit import BatchEndpoint, batchable
from tests.batches import JSON, action, batch, envelope

pytestmark = pytest.mark.anyio


class Pass(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def hosting(*routes: BaseRoute, middleware: Any = (), **settings: Any) -> Starlette:
    return BatchEndpoint(policy="all", **settings).mount_to(Starlette(routes=list(routes), middleware=list(middleware)))


async def waits(request: Request) -> Response:
    """Comes back only after several turns of the loop, long after its neighbour has failed."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    return PlainTextResponse("waited")


def leave() -> None:
    raise SystemExit(3)


def group() -> None:
    raise BaseExceptionGroup("several", [SystemExit(3), ValueError("secret")])


def exceptions() -> None:
    raise ExceptionGroup("several", [ValueError("secret"), ExceptionGroup("more", [OSError()])])


@pytest.mark.parametrize("failure", [leave, group, exceptions])
@pytest.mark.parametrize("wait", [False, True])
async def test_no_exception_of_an_action_touches_another(failure: Any, wait: bool, caplog: pytest.LogCaptureFixture) -> None:
    """“not by an exception or exception group, `SystemExit`, …”"""

    async def fails(request: Request) -> Response:
        if wait:
            await anyio.lowlevel.checkpoint()
        failure()
        raise AssertionError

    app = hosting(Route("/fails", fails), Route("/waits", waits))
    results = await batch(app, action("/waits"), action("/fails"), action("/waits"))
    assert [result["status_code"] for result in results] == [200, 500, 200]
    assert "secret" not in json.dumps(results)
    assert "Traceback" in caplog.text


async def cancelled_future() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def cancels_itself_and_waits() -> None:
    await cancels_itself()
    await asyncio.sleep(0)


async def raises_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("middleware", [[], [Middleware(Pass)]])
@pytest.mark.parametrize("behave", [cancelled_future, cancels_itself, cancels_itself_and_waits, raises_cancelled])
async def test_a_stray_cancellation_is_that_actions_500(behave: Any, middleware: Any) -> None:
    """“… a stray `CancelledError` …”: one that no scope around it asked for. trio knows only its own."""

    async def strays(request: Request) -> Response:
        await behave()
        return PlainTextResponse("not noticed")

    app = hosting(Route("/strays", strays), Route("/waits", waits), middleware=middleware)
    results = await batch(app, action("/waits"), action("/strays"), action("/waits"))
    assert [results[0]["body"], results[2]["body"]] == ["waited", "waited"]
    # Who cancels himself and then never waits has not noticed it, and has answered.
    assert results[1]["status_code"] in ((200, 500) if behave is cancels_itself else (500,))


class Server:
    """One ``POST /batch`` as a server hands it over, with events at its edges."""

    def __init__(self, *actions: Any) -> None:
        self.body = envelope(*actions)
        self.answered = anyio.Event()
        self.sent: list[Message] = []
        self.fails: Exception | None = None
        self.scope = {"type": "http", "method": "POST", "path": "/batch", "query_string": b"", "headers": [JSON]}

    async def receive(self) -> Message:
        if self.body:
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if self.fails is not None:
            self.answered.set()
            raise self.fails
        if message["type"] == "http.response.body":
            self.answered.set()

    @property
    def statuses(self) -> list[int]:
        return [result["status_code"] for result in json.loads(self.sent[1]["body"])["data"]]


async def test_a_real_cancellation_goes_through_and_reaches_the_actions() -> None:
    """“`KeyboardInterrupt` and a real cancellation from outside go through, and give back what was taken”"""
    started, events = anyio.Event(), []

    async def never(request: Request) -> Response:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            events.append("cancelled")
        raise AssertionError

    class Slots:
        async def __aenter__(self) -> None:
            events.append("taken")

        async def __aexit__(self, *_: object) -> None:
            events.append("given back")

    app = hosting(Route("/never", never), cost_hook=lambda batch: Slots())
    server = Server(action("/never"), action("/never"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, server.scope, server.receive, server.send)
        await started.wait()
        tasks.cancel_scope.cancel()
    assert events == ["taken", "cancelled", "cancelled", "given back"]
    assert not server.sent


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancellation_from_outside_goes_through_too() -> None:
    started = anyio.Event()

    async def never(request: Request) -> Response:
        started.set()
        await anyio.sleep_forever()
        raise AssertionError

    app, server = hosting(Route("/never", never)), Server(action("/never"))
    task = asyncio.ensure_future(app(server.scope, server.receive, server.send))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.sent


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_keyboard_interrupt_goes_through() -> None:
    """On asyncio it ends the loop itself, from whatever task it comes."""

    async def interrupted(request: Request) -> Response:
        raise KeyboardInterrupt

    app, server = hosting(Route("/x", interrupted)), Server(action("/x"))
    with pytest.raises(BaseException) as raised:  # noqa: PT011
        await app(server.scope, server.receive, server.send)
    found = raised.value
    while isinstance(found, BaseExceptionGroup):
        [found] = found.exceptions
    assert isinstance(found, KeyboardInterrupt)


async def test_the_answer_goes_out_at_the_deadline_although_a_thread_runs_on() -> None:
    """“The batch's answer goes out at the deadline even where a thread … cannot be stopped; what is left is awaited after …”"""
    let_go, ended = threading.Event(), []

    def blocks(request: Request) -> Response:
        let_go.wait()
        ended.append("thread")
        return Response()

    async def shielded(request: Request) -> Response:
        with anyio.CancelScope(shield=True):
            await server.answered.wait()
            ended.append("shielded")
        return Response()

    soon = batchable(timeout=0.25)
    app = hosting(Route("/blocks", soon(blocks)), Route("/shielded", soon(shielded)), Route("/waits", waits))
    server = Server(action("/blocks"), action("/shielded"), action("/waits"))
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await app(server.scope, server.receive, server.send)
            ended.append("call")

        tasks.start_soon(run)
        await server.answered.wait()
        assert "call" not in ended
        let_go.set()
    assert server.statuses == [504, 504, 200]
    assert sorted(ended[:2]) == ["shielded", "thread"]
    assert ended[2] == "call"


async def test_an_overdue_handler_that_swallows_its_cancellation_changes_nothing() -> None:
    async def stubborn(request: Request) -> Response:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return PlainTextResponse("too late")
        raise AssertionError

    app = hosting(Route("/stubborn", batchable(timeout=0.01)(stubborn)), Route("/waits", waits))
    results = await batch(app, action("/stubborn"), action("/waits"))
    assert [result["status_code"] for result in results] == [504, 200]


async def test_an_answer_that_cannot_be_sent_does_not_stop_the_work_that_goes_on() -> None:
    finished: list[bool] = []

    async def later() -> None:
        await server.answered.wait()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        finished.append(True)

    async def task(request: Request) -> Response:
        return Response(background=BackgroundTask(later))

    app, server = hosting(Route("/x", task)), Server(action("/x"))
    server.fails = OSError("client gone")
    with pytest.raises(OSError, match="client gone"):
        await app(server.scope, server.receive, server.send)
    assert finished == [True]


async def test_one_line_per_batch_is_logged_without_anything_of_the_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "batchkit")
    await batch(hosting(Route("/waits", waits)), action("/waits"), action("/s3cret", data={"s3cret": 1}), 5)
    [record] = [record for record in caplog.records if record.name == "batchkit" and record.module == "dispatch"]
    assert record.statuses == [200, 404, 400]  # type: ignore[attr-defined]
    assert record.batch_id in record.getMessage()  # type: ignore[attr-defined]
    assert "3 actions, 200 404 400" in record.getMessage()
    assert "s3cret" not in caplog.text
