"""What settings and marks mean, and what the start says of them. Wrong ones: see test_wrong_use."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, not_batchable
from batchkit._routing.marks import Mark, read_mark
from batchkit._routing.templates import Rule
from tests.asgi import lifespan
from tests.batches import action, batch, envelope, post


@pytest.mark.anyio
async def test_a_host_that_nobody_named_is_a_configuration_error_not_a_silent_skip(caplog: pytest.LogCaptureFixture) -> None:
    inner = Starlette(routes=[Route("/batch", BatchEndpoint())])
    outer = Starlette(routes=[Mount("/in", inner)])
    caplog.set_level("INFO")
    assert (await post(outer, envelope(action("/x")), path="/in/batch")).status == 500
    assert "batchkit cannot tell which app" in caplog.text
    assert "BatchEndpoint(host=app" in caplog.text


@pytest.mark.anyio
async def test_the_outermost_app_is_the_host_where_it_routes_the_batch_itself() -> None:
    app = Starlette(routes=[Route("/hello", hello), Mount("/api", routes=[Route("/batch", BatchEndpoint(base_path="/"))])])
    assert [result["status_code"] for result in await batch(app, action("/hello"), path="/api/batch")] == [200]


@batchable
async def hello(request: Request) -> Response:
    return Response()


def test_rules_of_exclude() -> None:
    def matches(method: str | None, template: str, below: bool, *request: str) -> bool:
        return Rule("", method, template, below).matches(*request)

    assert matches(None, "/a", False, "GET", "/a")
    assert matches("POST", "/a", False, "POST", "/a")
    assert matches("GET", "/a", False, "HEAD", "/a")
    assert not matches("HEAD", "/a", False, "GET", "/a")
    assert not matches("POST", "/a", False, "GET", "/a")
    assert not matches(None, "/a", False, "GET", "/a/b")
    assert matches(None, "/a", True, "GET", "/a/{b}/c")
    assert matches(None, "/a", True, "GET", "/a")
    assert not matches(None, "/a", True, "GET", "/ab")
    assert matches(None, "/a/{x}", False, "GET", "/a/{x:int}/")


# Marks


def wraps(endpoint: Any) -> Any:
    @functools.wraps(endpoint)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return endpoint(*args, **kwargs)

    return wrapper


def plain(request: Request) -> Response:
    return Response()


def fresh() -> Any:
    """A function of its own to mark."""
    return lambda request: Response()


class Methods:
    def endpoint(self, request: Request) -> Response:
        return Response()


def test_a_mark_is_read_through_decorators_partials_and_methods() -> None:
    three = batchable(cost=3)
    assert read_mark(three(fresh()), "GET") == Mark(cost=3)
    assert read_mark(wraps(three(fresh())), "GET") == Mark(cost=3)
    assert read_mark(three(wraps(fresh())), "GET") == Mark(cost=3)
    assert read_mark(functools.partial(three(fresh()), 1), "GET") == Mark(cost=3)
    assert read_mark(three(functools.partial(fresh(), 1)), "GET") == Mark(cost=3)
    assert read_mark(three(Methods().endpoint), "GET") == Mark(cost=3)
    assert read_mark(three(three(fresh())), "GET") == Mark(cost=3)
    assert read_mark(batchable(wraps(three(fresh()))), "GET") == Mark()
    assert read_mark(plain, "GET") is None
    assert read_mark(None, "GET") is None


def test_not_batchable_wins_above_or_below() -> None:
    assert read_mark(not_batchable(batchable(fresh())), "GET") is False
    assert read_mark(batchable(not_batchable(fresh())), "GET") is False
    assert read_mark(batchable(wraps(not_batchable(fresh()))), "GET") is False
    assert read_mark(batchable(functools.partial(not_batchable(fresh()))), "GET") is False


def test_a_mark_does_not_change_what_is_marked() -> None:
    assert batchable(plain) is plain
    assert batchable(cost=2)(HTTPEndpoint) is HTTPEndpoint
    del plain.__batchable__  # type: ignore[attr-defined]
    del HTTPEndpoint.__batchable__  # type: ignore[attr-defined]


def test_a_class_gives_its_permission_to_itself_alone_and_its_refusal_to_its_heirs() -> None:
    @batchable(cost=2)
    class Base(HTTPEndpoint):
        def get(self, request: Request) -> Response:
            return Response()

        @batchable(cost=5)
        def post(self, request: Request) -> Response:
            return Response()

    @not_batchable
    class Closed(Base): ...

    class Heir(Base): ...

    class ClosedHeir(Closed): ...

    assert read_mark(Base, "GET") == Mark(cost=2)
    assert read_mark(Base, "HEAD") == Mark(cost=2)
    assert read_mark(Base, "POST") == Mark(cost=5)
    assert read_mark(Heir, "GET") is None
    assert read_mark(Heir, "POST") == Mark(cost=5)
    assert read_mark(Closed, "GET") is False
    assert read_mark(batchable(ClosedHeir), "GET") is False


def test_an_object_that_cannot_carry_a_mark_comes_back_wrapped() -> None:
    class Slotted:
        __slots__ = ()

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    assert read_mark(batchable(Slotted()), "GET") == Mark()
    assert read_mark(not_batchable(Slotted()), "GET") is False


@pytest.mark.parametrize("mark", [batchable, not_batchable])
def test_the_mark_of_a_mounted_app_is_for_one_place(mark: Any) -> None:
    app = Starlette(routes=[Route("/x", fresh())])
    assert read_mark(mark(app), "GET") == (Mark() if mark is batchable else False)
    assert read_mark(app, "GET") is None


@pytest.mark.anyio
async def test_no_websocket_is_said_to_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "batchkit")
    app = Starlette(routes=[WebSocketRoute("/ws", fresh()), Route("/tasks", fresh(), methods=["POST"])])
    async with lifespan(BatchEndpoint(policy="all").mount_to(app)):
        pass
    assert caplog.messages == ["Batches go to Starlette, below /, through no middleware; 1 routes may run: POST /tasks"]


@pytest.mark.anyio
async def test_the_start_says_what_may_run_and_what_excludes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "batchkit")
    exclude = ("POST /tasks", "/scim/*", "/misspelled", "/scmi/*", "POST /closed", "/ws")
    routes = [
        Route("/tasks", fresh(), methods=["GET", "POST"]),
        Mount("/scim", routes=[Route("/Users", fresh())]),
        Mount("/opaque", fresh()),
        Route("/closed", not_batchable(fresh()), methods=["GET"]),
        WebSocketRoute("/ws", fresh()),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Through)])
    BatchEndpoint(policy="all", exclude=exclude, base_path="/").mount_to(app, "/api/1.0/batch")
    async with lifespan(app):
        pass
    assert [record.getMessage() for record in caplog.records] == [
        "exclude: '/misspelled': the app has no such route",
        "exclude: '/scmi/*': the app has no such route: did you mean '/scim/*'?",
        "exclude: 'POST /closed': the app has no such route: did you mean 'GET /closed'?",
        "Batches go to Starlette, below /, through Through; 2 routes may run: GET /tasks, HEAD /tasks",
    ]


@pytest.mark.anyio
async def test_an_endpoint_mounted_by_hand_says_at_its_first_batch_what_may_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "batchkit")
    app = Starlette(routes=[Route("/api/tasks", fresh())])
    app.router.routes.append(Route("/api/batch", BatchEndpoint(host=app, policy="all")))
    for _ in range(2):
        await batch(app, action("/tasks"), path="/api/batch")
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Batches")]
    assert said == [
        "Batches go to Starlette, below /api, through no middleware; 2 routes may run: GET /api/tasks, HEAD /api/tasks"
    ]


class Through:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)
