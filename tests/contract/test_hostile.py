"""What hostile clients and careless hosts have tried: none of it reaches what it must not, or spoils what it does not own."""

from __future__ import annotations

import base64
import functools
import json
import math
import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import Batch, BatchEndpoint, TooManyRequests, batchable, not_batchable
from tests.asgi import request
from tests.batches import action, batch, envelope, messages, post

pytestmark = pytest.mark.anyio


@batchable
async def public(request: Request) -> Response:
    return JSONResponse({"ran": request.url.path})


async def secret(request: Request) -> Response:
    raise AssertionError("a route that is not batchable was reached")


class Through:
    """A middleware that does nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Lower(Through):
    """A middleware that folds the case of paths."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "path": scope["path"].lower()}, receive, send)


class Rebuild(Through):
    """A middleware that builds the scope anew, of what it knows, and folds the case of paths."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = {key: value for key, value in scope.items() if "." not in key}
        await self.app({**known, "path": scope["path"].lower()}, receive, send)


def hosting(*routes: BaseRoute, middleware: Any = (), **settings: Any) -> Starlette:
    return BatchEndpoint(**settings).mount_to(Starlette(routes=list(routes), middleware=list(middleware)))


async def statuses(app: Starlette, *entries: Any) -> list[int]:
    return [result["status_code"] for result in await batch(app, *entries)]


# Reaching what must not be reached


@pytest.mark.parametrize("more", [{}, {"middleware": [Middleware(Through)]}, {"max_body_size": 10}])
async def test_marks_on_a_mounted_app_are_seen_through_the_middleware_of_its_mount(more: dict[str, Any]) -> None:
    def inner(endpoint: Any) -> Starlette:
        return Starlette(routes=[Route("/x", endpoint)], exception_handlers={404: not_found})

    async def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse("inner 404", 404)

    app = hosting(
        Mount("/closed", not_batchable(inner(secret)), **more),
        Mount("/open", batchable(inner(lambda request: Response())), **more),
        Mount("/plain", inner(public), **more),
        policy="all",
    )
    assert await statuses(app, action("/closed/x"), action("/open/x"), action("/plain/x")) == [400, 200, 200]
    results = await batch(app, action("/plain/nowhere"), action("/plain/x/"))
    assert [(result["status_code"], result["body"]) for result in results] == [(404, "inner 404"), (307, {})]


@pytest.mark.parametrize("policy", ["marked", "all"])
async def test_an_app_as_the_endpoint_of_a_route_needs_a_mark(policy: str) -> None:
    inner = Starlette(routes=[Route("/sub/x", not_batchable(secret))])
    app = hosting(Route("/sub/{p:path}", inner), policy=policy)
    assert await statuses(app, action("/sub/x")) == [400]


async def test_a_class_with_a_dispatch_of_its_own_answers_no_method_unasked() -> None:
    class Endpoint(HTTPEndpoint):
        @batchable
        async def get(self, request: Request) -> Response:
            return Response()

        async def dispatch(self) -> None:
            raise AssertionError("dispatched")

    assert await statuses(hosting(Route("/x", Endpoint)), action("/x", "delete")) == [400]


async def test_a_route_that_was_replaced_is_not_remembered() -> None:
    class Refuse(Through):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await Response(status_code=401)(scope, receive, send)

    app = hosting(Route("/x", public))
    assert await statuses(app, action("/x")) == [200]
    app.router.routes[1] = Route("/x", public, middleware=[Middleware(Refuse)])
    assert await statuses(app, action("/x")) == [401]


async def test_the_middleware_of_a_router_itself_is_run_for_each_action() -> None:
    seen = []

    class Watch(Through):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    router = BatchEndpoint().mount_to(Router([Route("/x", public)], middleware=[Middleware(Watch)]))
    answer = await post(router, envelope(action("/x"), action("/x")))
    assert [result["status_code"] for result in answer.json()["data"]] == [200, 200]
    assert seen == ["/batch", "/x", "/x"]


async def test_a_route_whose_pattern_was_changed_is_asked_itself() -> None:
    admin = Route("/admin", secret)
    admin.path_regex = re.compile(admin.path_regex.pattern, re.IGNORECASE)
    app = hosting(admin, Route("/{page}", public))
    assert await statuses(app, action("/ADMIN"), action("/other")) == [400, 200]
    unguarded = Starlette(routes=[admin, Route("/{page}", public)])
    unguarded.router.routes.append(Route("/in/batch", BatchEndpoint(host=unguarded, base_path="/")))
    answer = await post(unguarded, envelope(action("/ADMIN")), path="/in/batch")
    assert answer.json()["data"][0]["status_code"] == 400


@pytest.mark.parametrize("middleware", [Lower, Rebuild])
async def test_a_middleware_that_rewrites_paths_reaches_nothing_else(middleware: Any) -> None:
    app = hosting(Route("/admin", secret), Route("/{page}", public), middleware=[Middleware(middleware)])
    assert await statuses(app, action("/ADMIN")) == [400]
    expected = 200 if middleware is Lower else 400  # Who cannot be recognised at the router is not let through.
    assert await statuses(app, action("/page")) == [expected]


async def test_a_middleware_that_tries_again_with_another_path_is_watched_again() -> None:
    class Again(Through):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def nowhere(message: Any) -> None: ...

            if scope["path"].isupper():
                await self.app(dict(scope), receive, nowhere)
                scope = {**scope, "path": "/admin"}
            await self.app(scope, receive, send)

    app = hosting(Route("/admin", secret), Route("/{page}", public), middleware=[Middleware(Again)])
    assert await statuses(app, action("/ADMIN")) == [400]


async def test_a_batch_in_a_batch_is_recognised_without_the_key_in_the_scope() -> None:
    app = Starlette(middleware=[Middleware(Rebuild)])
    app.mount("/by", batchable(BatchEndpoint(host=app)))
    app.router.routes.append(Route("/batch", BatchEndpoint(host=app, policy="all")))
    [result] = await batch(app, action("/BY/", "post", data={"actions": []}))
    assert result["status_code"] in (400, 404)


async def test_what_a_handler_asks_of_its_own_app_is_no_action() -> None:
    """As alone: a handler may call the app it lives in, any route of it, and the batch endpoint too."""

    async def asks(request_: Request) -> Response:
        alone = await request(app, "GET", "/unmarked", headers=[(b"host", b"h")])
        more = await post(app, envelope(action("/public")))
        return JSONResponse([alone.status, more.status])

    async def unmarked(request: Request) -> Response:
        return Response()

    app = hosting(Route("/asks", batchable(asks)), Route("/unmarked", unmarked), Route("/public", public))
    [result] = await batch(app, action("/asks"))
    assert result["body"] == [200, 200]


async def test_an_app_mounted_in_another_is_no_host_unless_it_is_named(caplog: pytest.LogCaptureFixture) -> None:
    inner = Starlette(routes=[Route("/x", public)])
    BatchEndpoint().mount_to(inner)
    outer = Starlette(routes=[Mount("/v1", inner)])
    assert (await post(outer, envelope(action("/x")), path="/v1/batch")).status == 500

    named = Starlette(routes=[Route("/x", public)])
    whole = Starlette(routes=[Mount("/v1", named)])
    BatchEndpoint(host=whole).mount_to(named)
    assert [result["body"] for result in await batch(whole, action("/x"), path="/v1/batch")] == [{"ran": "/v1/x"}]


async def test_an_app_in_the_host_may_have_a_batch_endpoint_of_its_own() -> None:
    inner = Starlette(routes=[Route("/x", public)])
    app = hosting(Mount("/v2", inner))
    BatchEndpoint(host=app).mount_to(inner)
    assert await statuses(app, action("/v2/x")) == [200]
    assert [result["status_code"] for result in await batch(app, action("/x"), path="/v2/batch")] == [200]


@pytest.mark.parametrize(
    "content_types",
    [
        [b"application/x-www-form-urlencoded", b"application/x+json"],
        [b"application/x-www-form-urlencoded, x+json"],
        [b"application/ +json"],
        [b"application/+json"],
        [b"application/json, text/plain"],
        [b"application/a/b+json"],
    ],
)
async def test_what_only_looks_like_json_is_415(content_types: list[bytes]) -> None:
    headers = [(b"content-type", value) for value in content_types]
    answer = await request(hosting(Route("/x", public)), "POST", "/batch", headers=headers, body=envelope(action("/x")))
    assert answer.status == 415


async def test_base_path_stands_below_root_path() -> None:
    app = hosting(Route("/1.0/x", public), base_path="/1.0")
    answer = await request(
        app, "POST", "/batch", headers=[(b"content-type", b"application/json")], body=envelope(action("/x")), root_path="/api"
    )
    assert answer.json()["data"][0]["body"] == {"ran": "/api/1.0/x"}


# Spoiling what one does not own


async def raw(scope: Scope, receive: Receive, send: Send, *messages: dict[str, Any]) -> None:
    for message in messages:
        await send(message)


def start(status: Any = 200, *headers: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(content: Any = b"x", **more: Any) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, **more}


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (start(),),
        (start(), body(more_body=True)),
        (body(),),
        (start(), start(), body()),
        (start("200"), body()),
        (start(None), body()),
        (start(100), body()),
        (start(99), body()),
        (start(1000), body()),
        (start(200, (b"set-cookie", b"a=1\r\nX-Evil: 1")), body()),
        (start(200, (b"set-cookie", b"a=1\0")), body()),
        (start(200, (b"location", "str")), body()),
        (start(200, ("location", b"str")), body()),
        (start(200, (b"location", None)), body()),
        (start(200, (b"set-cookie", 5)), body()),
        (start(200, b"ab"), body()),
        (start(), body("str")),
        (start(), body(5)),
        (start(), body(None)),
        ({"status": 200},),
        ([],),
    ],
    ids=repr,
)
async def test_a_handler_that_breaks_the_protocol_is_its_own_500(messages: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = hosting(Mount("/breaks", batchable(_app(*messages))), Route("/x", public))
    results = await batch(app, action("/x"), action("/breaks/"), action("/x"))
    assert [result["status_code"] for result in results] == [200, 500, 200]
    assert "Traceback" in caplog.text


def _app(*messages: Any) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await raw(scope, receive, send, *messages)

    return app


async def test_a_second_answer_changes_nothing() -> None:
    app = hosting(Mount("/twice", batchable(_app(start(), body(b"one"), start(500), body(b"two")))))
    [result] = await batch(app, action("/twice/"))
    assert (result["status_code"], result["body"]) == (200, "one")


@pytest.mark.parametrize("content", [bytearray(b"x"), memoryview(b"x")])
async def test_bytes_like_answers_are_as_good_as_bytes(content: Any) -> None:
    messages = (start(200, (bytearray(b"Content-Type"), memoryview(b"text/plain"))), body(content))
    [result] = await batch(hosting(Mount("/x", batchable(_app(*messages)))), action("/x/"))
    assert result == {"status_code": 200, "headers": {"content-type": "text/plain"}, "body": "x"}


async def test_unknown_messages_are_passed_over() -> None:
    messages = ({"type": "http.response.debug"}, start(), {"type": "http.response.trailers"}, body())
    assert await statuses(hosting(Mount("/x", batchable(_app(*messages)))), action("/x/")) == [200]


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "utf-7", "unicode_escape", "zlib", "rot13", "mbcs", "undefined", "x" * 1000]
)
async def test_only_the_charsets_of_the_web_are_decoded(charset: str) -> None:
    messages = (start(200, (b"content-type", b"text/plain; charset=" + charset.encode())), body(b"text"))
    [result] = await batch(hosting(Mount("/x", batchable(_app(*messages)))), action("/x/"))
    assert (base64.b64decode(result["body"]), result["body_encoding"]) == (b"text", "base64")


async def test_an_answer_that_says_identity_is_not_coded() -> None:
    """Starlette's GZipMiddleware leaves an answer alone that says so."""
    fields = ((b"content-type", b"application/json"), (b"content-encoding", b"identity"))
    [result] = await batch(hosting(Mount("/x", batchable(_app(start(200, *fields), body(b"1"))))), action("/x/"))
    assert result == {"status_code": 200, "headers": {}, "body": 1}


async def test_several_content_encodings_are_left_alone() -> None:
    fields = ((b"content-encoding", b"gzip"), (b"content-encoding", b"br"))
    [result] = await batch(hosting(Mount("/x", batchable(_app(start(200, *fields), body(b"\x1f\x8b"))))), action("/x/"))
    assert result["headers"] == {"content-encoding": "gzip, br"}
    assert base64.b64decode(result["body"]) == b"\x1f\x8b"


async def test_a_404_handler_that_fails_is_the_hosts_own_500(caplog: pytest.LogCaptureFixture) -> None:
    """“no route of the host matches path and method: what the host's own 404 or 405 handler answers”, “An unhandled exception
    gives what the host answers alone (its own 500)”.
    """

    async def fails(request: Request, error: Exception) -> Response:
        raise LookupError("no template")

    async def own_500(request: Request, error: Exception) -> Response:
        return PlainTextResponse("we are sorry", 500)

    app = hosting(Route("/x", public))
    app.add_exception_handler(404, fails)
    app.add_exception_handler(Exception, own_500)
    alone = await request(app, "GET", "/nowhere")
    [result, other] = await batch(app, action("/nowhere"), action("/x"))
    assert (result["status_code"], result["body"]) == (alone.status, alone.body.decode()) == (500, "we are sorry")
    assert other["status_code"] == 200
    assert "no template" in caplog.text


@pytest.mark.parametrize("wait", [math.inf, math.nan, None])
async def test_a_batch_that_can_never_pass_has_no_retry_after(wait: float | None) -> None:
    """“`Retry-After` …, left out where it never can or the hook did not say”."""

    async def refuse(batch: Batch) -> None:
        raise TooManyRequests("never", retry_after=wait)

    answer = await post(hosting(Route("/x", public), cost_hook=refuse), envelope(action("/x")))
    assert (answer.status, answer.all(b"retry-after")) == (429, [])


async def test_a_hook_that_gives_no_number_to_wait_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(batch: Batch) -> None:
        raise TooManyRequests("later", retry_after="soon")  # type: ignore[arg-type]

    assert (await post(hosting(Route("/x", public), cost_hook=refuse), envelope(action("/x")))).status == 503
    assert "retry_after='soon': give a number of seconds" in caplog.text


async def test_a_server_that_fails_to_report_the_disconnect_loses_no_batch() -> None:
    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await Response()(scope, receive, send)

    app = hosting(Mount("/waits", batchable(waits)))
    sent: list[Any] = []
    received = iter([{"type": "http.request", "body": envelope(action("/waits/"))}])

    async def receive() -> Any:
        for message in received:
            return message
        raise OSError("broken")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    await app({"type": "http", "method": "POST", "path": "/batch", "query_string": b"", "headers": headers}, receive, send)
    assert json.loads(sent[1]["body"])["data"][0]["status_code"] == 200


# Costing more than it should: figures are the benchmark's, here the refusals


async def test_more_than_a_query_holds_is_400() -> None:
    plain = hosting(Route("/x", public), dialect="plain")
    for app in (plain, hosting(Route("/x", public))):
        assert await statuses(
            app,
            action("/x", options={"fields": ["x"] * 1001}),
            action("/x", options={"fields": "x" * 20_000}),
            action("/x", options={"expand": ["x" * 100] * 200}),
            action("/x", "post", options={"offset": "x" * 20_000}),
            action("/x", data={"a": ["x"] * 9000}),
            action("/x", options={"fields": ["x"] * 1000}),
        ) == [400, 400, 400, 400, 400, 200]
    assert await statuses(plain, action("/x?a=" + "x" * 2000)) == [400]


async def test_what_is_too_complex_for_a_schema_is_400() -> None:
    """“a schema that spends it is a 400 for that action, `data: Too complex to be checked`”; it “carries its place”."""

    @batchable(schema={"properties": {"tags": {"items": {"type": "string"}}}, "additionalProperties": {"$ref": "#"}})
    async def create(request: Request) -> Response:
        return Response()

    app = hosting(Route("/x", create, methods=["POST"]))
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    entries = [{"tags": ["x,y"] * 1100}, {"tags": ["x"] * 20_000}, {"text": "," * 20_000}, deep]
    results = await batch(app, *[action("/x", "post", data=data) for data in entries])
    assert [result["status_code"] for result in results] == [200, 400, 200, 400]
    for index in (1, 3):
        assert messages(results[index]) == [f"data.actions[{index}].data: Too complex to be checked"]


class Negation(BaseModel):
    op: Literal["not"]
    arg: Expression


class Negative(BaseModel):
    op: Literal["neg"]
    arg: Expression


class Variable(BaseModel):
    op: Literal["var"]


Expression = Annotated[Negation | Negative | Variable, Field(discriminator="op")]


class Search(BaseModel):
    where: Expression
    slug: str = Field("", pattern=r"^([a-z0-9]+-?)*$")


async def test_a_recursive_union_and_a_pattern_take_no_longer_than_their_steps() -> None:
    """“whatever the schema: recursive unions, patterns and `uniqueItems` included”."""

    @batchable(schema=Search.model_json_schema())
    async def search(request: Request) -> Response:
        return Response()

    def where(depth: int) -> Any:
        value: Any = {"op": "var"}
        for _ in range(depth):
            value = {"op": "neg", "arg": value}
        return value

    app = hosting(Route("/x", search, methods=["POST"]))
    entries = [
        {"where": where(14)},
        {"where": where(40), "slug": "a-slug-that-is-no-longer-than-others"},
        {"where": where(0), "slug": "a" * 40 + "!"},
        {"where": where(0), "slug": "a" * 40_000 + "!"},
    ]
    results = await batch(app, *[action("/x", "post", data=data) for data in entries])
    assert [result["status_code"] for result in results] == [200, 200, 400, 400]
    assert messages(results[2]) == ["data.actions[2].data.slug: Does not meet the rule 'pattern' of its schema"]
    assert messages(results[3]) == ["data.actions[3].data: Too complex to be checked"]


async def test_a_partial_of_a_partial_is_still_a_function() -> None:
    app = hosting(Route("/x", functools.partial(functools.partial(public))))
    assert await statuses(app, action("/x")) == [200]
