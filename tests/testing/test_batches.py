"""post_batch and assert_same_as_alone: with every kind of client, on good hosts and on such as treat actions otherwise."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Query
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, current_action
from batchkit.limiter import Limiter, Rate
from batchkit.testing import ActionResult, BatchRefused, action, assert_same_as_alone, post_batch


async def echo(request: Request) -> Response:
    body = (await request.body()).decode()
    return JSONResponse({"method": request.method, "query": str(request.query_params), "body": body}, headers={"etag": '"v1"'})


async def text(request: Request) -> Response:
    return PlainTextResponse("é" * 600, headers={"content-language": "fr", "x-hidden": "1"})


async def binary(request: Request) -> Response:
    return Response(b"\x00\xff", media_type="application/octet-stream")


async def empty(request: Request) -> Response:
    return Response(status_code=204)


async def moved(request: Request) -> Response:
    return RedirectResponse("/elsewhere")


async def zipped(request: Request) -> Response:
    return Response(gzip.compress(b'{"a": 1}'), headers={"content-encoding": "gzip"}, media_type="application/json")


async def xzipped(request: Request) -> Response:
    return Response(gzip.compress(b'{"a": 1}'), headers={"content-encoding": "x-gzip"}, media_type="application/json")


async def fails(request: Request) -> Response:
    raise ValueError("secret")


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
PATHS = {"text": text, "binary": binary, "empty": empty, "moved": moved, "zipped": zipped, "xzipped": xzipped, "fails": fails}
ROUTES = [Route("/echo/{x}", echo, methods=METHODS), *[Route(f"/{path}", endpoint) for path, endpoint in PATHS.items()]]

ACTIONS = [
    *[
        action(method, "/echo/é~%20;a%25", {"b": True, "n": 1.10, "t": "ü&"}, {"limit": 5, "fields": ["a", "b"]})
        for method in METHODS
    ],
    action("GET", "echo/1"),
    *[action("get", f"/{path}") for path in PATHS],
    action("get", "/nowhere"),
    action("post", "/text", {}),
    action("get", "/text/"),
]


def hosting(dialect: Any = "asana", *middleware: Any, **settings: Any) -> Starlette:
    app = Starlette(routes=[Mount("/api/1.0", routes=ROUTES)], middleware=[Middleware(GZipMiddleware), *middleware])
    return BatchEndpoint(policy="all", dialect=dialect, max_actions=50, **settings).mount_to(app, "/api/1.0/batch")


def client_of(app: ASGIApp, **more: Any) -> TestClient:
    return TestClient(app, raise_server_exceptions=False, **more)


@pytest.mark.parametrize("dialect", ["asana", "plain"])
class TestSame:
    """A good host, in both dialects."""

    def test_with_a_test_client(self, dialect: Any) -> None:
        with client_of(hosting(dialect)) as client:
            assert_same_as_alone(client, *ACTIONS, path="/api/1.0/batch", dialect=dialect, headers={"authorization": "Bearer x"})

    def test_below_the_base_url_of_a_client(self, dialect: Any) -> None:
        client = client_of(hosting(dialect), base_url="http://testserver/api/1.0")
        assert_same_as_alone(client, *ACTIONS[:8], dialect=dialect)

    def test_with_a_base_path(self, dialect: Any) -> None:
        client = client_of(hosting(dialect, base_path="/"))
        assert_same_as_alone(client, action("get", "/api/1.0/text"), path="/api/1.0/batch", base_path="/", dialect=dialect)

    @pytest.mark.anyio
    async def test_with_the_app(self, dialect: Any) -> None:
        await assert_same_as_alone(hosting(dialect), *ACTIONS, path="/api/1.0/batch", dialect=dialect)

    @pytest.mark.anyio
    async def test_with_an_asynchronous_client(self, dialect: Any) -> None:
        transport = httpx2.ASGITransport(hosting(dialect), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            await assert_same_as_alone(client, *ACTIONS, path="/api/1.0/batch", dialect=dialect)


def test_results_are_read_as_the_client_reads_them() -> None:
    paths = ["/text", "/binary", "/empty", "/moved", "/echo/1"]
    results = post_batch(client_of(hosting()), *[action("get", path) for path in paths], path="/api/1.0/batch")
    assert results == [
        ActionResult(200, {"content-language": "fr", "content-type": "text/plain; charset=utf-8"}, "é" * 600),
        ActionResult(200, {"content-type": "application/octet-stream"}, b"\x00\xff"),
        ActionResult(204, {}, {}),
        ActionResult(307, {"location": "/elsewhere"}, {}),
        ActionResult(200, {"etag": '"v1"'}, {"method": "GET", "query": "", "body": ""}),
    ]


def test_an_action_is_what_is_sent() -> None:
    assert action("get", "/tasks") == {"method": "get", "relative_path": "/tasks"}
    assert action("post", "/tasks", {}, {"limit": 1}) == {
        "method": "post",
        "relative_path": "/tasks",
        "data": {},
        "options": {"limit": 1},
    }


def test_a_fastapi_host_with_its_own_client() -> None:
    app = FastAPI()

    @app.get("/items/{item}")
    def item(item: int, tag: list[str] = Query([])) -> dict[str, Any]:  # noqa: B008
        return {"item": item, "tag": tag}

    client = TestClient(BatchEndpoint(policy="all", dialect="plain").mount_to(app))
    assert post_batch(client, action("get", "/items/1", {"tag": ["a", "b"]}))[0].body == {"item": 1, "tag": ["a", "b"]}
    assert_same_as_alone(client, action("get", "/items/1?tag=a"), action("get", "/items/x"), dialect="plain")


class Otherwise:
    """A middleware that answers an action otherwise than a request of its own."""

    def __init__(self, app: ASGIApp, status: int = 200, headers: Mapping[str, str] = {}, content: Any = None) -> None:
        self.app, self.response = app, JSONResponse(content, status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.app if current_action(scope) is None else self.response)(scope, receive, send)


SEEN = {"method": "GET", "query": "", "body": ""}
ETAG = {"etag": '"v1"'}


@pytest.mark.parametrize(
    ("otherwise", "difference"),
    [
        ({"status": 201, "headers": ETAG, "content": SEEN}, "status_code\n  alone:      200\n  in a batch: 201"),
        ({"content": SEEN}, "headers.etag\n  alone:      '\"v1\"'\n  in a batch: '(nothing)'"),
        ({"headers": ETAG, "content": SEEN | {"query": "a"}}, "body.query\n  alone:      ''\n  in a batch: 'a'"),
        ({"headers": ETAG, "content": SEEN | {"more": None}}, "body.more\n  alone:      '(nothing)'\n  in a batch: None"),
        ({"headers": ETAG, "content": "GET"}, f"body\n  alone:      {SEEN!r}\n  in a batch: 'GET'"),
    ],
    ids=["status", "header", "value", "key", "body"],
)
def test_a_difference_is_told_with_its_place_and_both_values(otherwise: Any, difference: str) -> None:
    client = client_of(hosting("asana", Middleware(Otherwise, **otherwise)))
    with pytest.raises(AssertionError) as failure:
        assert_same_as_alone(client, action("get", "/echo/1"), path="/api/1.0/batch")
    assert str(failure.value) == f"In a batch it is not what it is alone:\ndata.actions[0], GET /echo/1: {difference}"


def counting() -> ASGIApp:
    numbers = itertools.count()

    async def made(request: Request) -> Response:
        number = next(numbers)
        body = {"data": [{"gid": number, "name": "a"}, {"gid": number, "name": number // 2, "size": 1.0 if number else 1}]}
        return JSONResponse(body, 201, {"location": f"/made/{number}"})

    return BatchEndpoint(policy="all").mount_to(Starlette(routes=[Route("/made", made, methods=["POST"])]))


def test_what_differs_each_time_is_ignored_by_name() -> None:
    with pytest.raises(AssertionError) as failure:
        assert_same_as_alone(client_of(counting()), action("post", "/made"), ignore=["GID", "location"])
    # 1 is not 1.0 on the wire.
    assert str(failure.value).splitlines()[1:] == [
        "data.actions[0], POST /made: body.data[1].size",
        "  alone:      1",
        "  in a batch: 1.0",
    ]
    assert_same_as_alone(client_of(counting()), action("post", "/made"), ignore=["gid", "location", "size"])


@pytest.mark.anyio
async def test_headers_are_those_of_the_post_whatever_their_case() -> None:
    async def seen(request: Request) -> Response:
        return JSONResponse([value for name, value in request.headers.items() if name in ("host", "x-a")])

    app = BatchEndpoint(policy="all").mount_to(Starlette(routes=[Route("/seen", seen)]))
    headers = {"Host": "tasks.example", "X-A": "é"}
    [result] = await post_batch(app, action("get", "/seen"), headers=headers)
    assert result.body == ["tasks.example", "é"]
    await assert_same_as_alone(app, action("get", "/seen"), headers=headers)


@pytest.mark.anyio
async def test_a_refused_batch_says_why() -> None:
    app = BatchEndpoint(cost_hook=Limiter([Rate(1, 60, name="reads")])).mount_to(Starlette())
    with pytest.raises(BatchRefused, match="POST /batch was answered 429: reads: asked for 2, which can never pass") as refused:
        await post_batch(app, action("get", "/a"), action("get", "/b"))
    assert refused.value.status_code == 429
    assert refused.value.headers["cache-control"] == "no-store"
    assert refused.value.messages == ["reads: asked for 2, which can never pass: the limit is 1"]


@pytest.mark.parametrize("content", [b"Not today", b'{"errors": 1}', b"[]"])
def test_a_batch_that_the_host_refuses_says_what_it_was_answered(content: bytes) -> None:
    app = Starlette(routes=[Route("/batch", lambda request: Response(content, 403), methods=["POST"])])
    with pytest.raises(BatchRefused) as refused:
        post_batch(client_of(app), action("get", "/a"))
    assert str(refused.value) == f"POST /batch was answered 403: {content.decode()}"


def test_an_endpoint_of_another_dialect_says_so() -> None:
    with (
        client_of(hosting("plain")) as client,
        pytest.raises(BatchRefused, match="The dialect of this endpoint is 'plain': tell your client so"),
    ):
        assert_same_as_alone(client, action("get", "/task/1"), path="/api/1.0/batch", headers={"Content-Type": "text/plain"})


def test_a_malformed_action_is_no_request() -> None:
    with pytest.raises(ValueError, match=r"no requests: .*data.actions\[1\].relative_path"):
        assert_same_as_alone(client_of(hosting()), action("get", "/text"), action("get", "http://x"), path="/api/1.0/batch")


def test_an_app_in_a_synchronous_test_is_met_with_advice() -> None:
    with pytest.raises(TypeError, match="in a synchronous test give a TestClient"):
        assert_same_as_alone(hosting(), action("get", "/text"))  # type: ignore[unused-coroutine]


def test_actions_are_sent_as_they_are_given() -> None:
    """Malformed ones too: ``post_batch`` is for tests of those as well."""
    [result] = post_batch(client_of(hosting()), {"method": 1}, path="/api/1.0/batch")
    assert result.status_code == 400
    assert json.dumps(result.body).count("data.actions[0]") == 2
