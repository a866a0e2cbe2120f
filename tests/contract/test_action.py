"""Contract section 2, an action: its shape, its request, and which action may run."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import Batch, BatchEndpoint, batchable, current_action, not_batchable
from tests.asgi import request
from tests.batches import action, batch, envelope, messages, post

pytestmark = pytest.mark.anyio

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


async def echo(request: Request) -> Response:
    """What the handler saw."""
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["path"],
            "raw_path": request.scope["raw_path"].decode(),
            "query": request.scope["query_string"].decode(),
            "headers": [[name.decode(), value.decode()] for name, value in request.headers.raw],
            "body": (await request.body()).decode(),
            "state": dict(request.state._state),
        }
    )


def hosting(*routes: BaseRoute, path: str = "/batch", middleware: Any = (), **settings: Any) -> Starlette:
    app = Starlette(routes=list(routes), middleware=list(middleware))
    return BatchEndpoint(**settings).mount_to(app, path)


ECHO = hosting(Route("/{path:path}", echo, methods=METHODS), policy="all")
PLAIN = hosting(Route("/{path:path}", echo, methods=METHODS), policy="all", dialect="plain")


async def seen(entry: dict[str, Any], app: Starlette = ECHO, **more: Any) -> dict[str, Any]:
    """What the handler saw of one action."""
    [result] = await batch(app, entry, **more)
    assert result["status_code"] == 200, result
    body: dict[str, Any] = result["body"]
    return body


async def refusal(entry: Any, app: Starlette = ECHO) -> list[str]:
    """The messages of one action's 400."""
    [result] = await batch(app, entry)
    assert result["status_code"] == 400, result
    return messages(result)


# The shape


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (5, ["data.actions[0]: Expected object, got integer"]),
        (None, ["data.actions[0]: Expected object, got null"]),
        ([], ["data.actions[0]: Expected object, got array"]),
        ({}, ["data.actions[0].relative_path: Missing input", "data.actions[0].method: Missing input"]),
        ({"method": "get"}, ["data.actions[0].relative_path: Missing input"]),
        (action(5, "get"), ["data.actions[0].relative_path: Expected string, got integer"]),  # type: ignore[arg-type]
        (action(None, "get"), ["data.actions[0].relative_path: Expected string, got null"]),  # type: ignore[arg-type]
        (action("/x", "trace"), ["data.actions[0].method: Must be one of get, post, put, patch, delete, head"]),
        (action("/x", True), ["data.actions[0].method: Expected string, got boolean"]),  # type: ignore[arg-type]
        (action("/x", data=[]), ["data.actions[0].data: Expected object, got array"]),
        (action("/x", data=""), ["data.actions[0].data: Expected object, got string"]),
        (action("/x", options=1.5), ["data.actions[0].options: Expected object, got number"]),
        (action("/x", options={"limit": "3"}), ["data.actions[0].options.limit: Expected integer, got string"]),
        (action("/x", options={"limit": 3.0}), ["data.actions[0].options.limit: Expected integer, got number"]),
        (action("/x", options={"limit": True}), ["data.actions[0].options.limit: Expected integer, got boolean"]),
        (action("/x", options={"offset": []}), ["data.actions[0].options.offset: Expected string or integer, got array"]),
        (action("/x", options={"fields": ["a", 1]}), ["data.actions[0].options.fields[1]: Expected string, got integer"]),
        (action("/x", options={"expand": {}}), ["data.actions[0].options.expand: Expected array or string, got object"]),
        (
            action("/x", headers={"x": "y"}),
            ["data.actions[0].headers: Unrecognized key; the allowed keys are: relative_path, method, data, options"],
        ),
        (
            action("/x", "nope", **{"k" * 100: 1}),
            [
                "data.actions[0].method: Must be one of get, post, put, patch, delete, head",
                f"data.actions[0].{'k' * 64}: Unrecognized key; the allowed keys are: relative_path, method, data, options",
            ],
        ),
    ],
)
async def test_a_malformed_action_is_400_in_its_own_place_with_its_violations(entry: Any, expected: list[str]) -> None:
    """“A malformed action … gets a **400 result in its own place**…, each with its JSON path …, names cut to 64 characters”."""
    assert await refusal(entry) == expected


async def test_the_others_run() -> None:
    """“… the others run”."""
    entries = [action(f"/{name}", "post", data={"name": name}) for name in "abd"]
    results = await batch(ECHO, entries[0], 5, entries[1], action("/c", "x"), entries[2])
    assert [result["status_code"] for result in results] == [200, 400, 200, 400, 200]
    assert [result["body"]["path"] for result in results[::2]] == ["/a", "/b", "/d"]
    assert [json.loads(result["body"]["body"])["data"]["name"] for result in results[::2]] == ["a", "b", "d"]
    assert messages(results[3])[0].startswith("data.actions[3].method: ")


async def test_at_most_ten_violations_are_listed() -> None:
    """“It lists at most ten violations”."""
    assert len(await refusal(action("/x", options={"fields": [0] * 500}))) == 10
    assert len(await refusal({f"key{index}": 1 for index in range(100)})) == 10
    assert await refusal(action("/x", options={"fields": [0] * 1000})) == [
        "data.actions[0]: Not a valid action, and too long to say more"
    ]


async def test_null_is_absent() -> None:
    """“`null` = absent”."""
    options = {"limit": None, "offset": None, "fields": None, "expand": None}
    for entry in (action("/x", data=None, options=None), action("/x", options=options)):
        assert (await seen(entry))["query"] == ""
    assert (await seen(action("/x", "post", data=None)))["body"] == '{"data":{}}'


@pytest.mark.parametrize("method", ["get", "GET", "Get", "gEt", "post", "put", "patch", "delete", "DELETE"])
async def test_the_method_is_ascii_case_insensitive(method: str) -> None:
    """“`method`: get, post, put, patch, delete, head; ASCII case-insensitive”."""
    assert (await seen(action("/x", method)))["method"] == method.upper()


async def test_head_is_a_method() -> None:
    [result] = await batch(ECHO, action("/x", "head"))
    assert (result["status_code"], result["body"]) == (200, {})


@pytest.mark.parametrize(
    "method", [" get", "get ", "get\n", "", "options", "trace", "connect", "po\u017ft", "opt\u0131ons", "query"]
)
async def test_no_other_method_and_no_surrounding_space(method: str) -> None:
    """“…, no surrounding space”; `“po\u017ft”.upper()` is `POST`."""
    assert await refusal(action("/x", method)) == ["data.actions[0].method: Must be one of get, post, put, patch, delete, head"]


# The path


@pytest.mark.parametrize(
    ("batch_path", "base_path", "expected"),
    [
        ("/batch", None, "/x"),
        ("/api/1.0/batch", None, "/api/1.0/x"),
        ("/batch", "/api/1.0", "/api/1.0/x"),
        ("/batch", "/api/1.0/", "/api/1.0/x"),
        ("/api/1.0/batch", "", "/x"),
        ("/api/1.0/batch", "/", "/x"),
    ],
)
async def test_the_path_is_relative_to_the_parent_of_the_batch_url(batch_path: str, base_path: str | None, expected: str) -> None:
    """“a URL path relative to the API's base URL, which is the parent of the batch endpoint's own URL …, or `base_path`”."""
    app = hosting(Route("/{path:path}", echo), path=batch_path, base_path=base_path, policy="all")
    for relative_path in ("/x", "x"):  # "A missing leading slash is added"
        assert (await seen(action(relative_path), app, path=batch_path))["path"] == expected


async def test_the_parent_is_that_of_the_url_called_trailing_slash_stripped() -> None:
    """“(trailing slash stripped; …)”, and through a mount with parameters, encoded as it came."""
    app = Starlette(routes=[Route("/t/{tenant}/x", echo)])
    app.mount("/t/{tenant}/batch", BatchEndpoint(host=app, policy="all"))
    body = await seen(action("/x"), app, path="/t/a%20b/batch/")
    assert (body["path"], body["raw_path"]) == ("/t/a b/x", "/t/a%20b/x")


@pytest.mark.parametrize(
    ("relative_path", "path", "raw_path"),
    [
        ("/a%20b", "/a b", "/a%20b"),
        ("/a;b=c", "/a;b=c", "/a;b=c"),
        ("/a:b", "/a:b", "/a:b"),
        ("/@a", "/@a", "/@a"),
        ("@a", "/@a", "/@a"),
        ("/a%2Fb", "/a/b", "/a%2Fb"),
        ("/a%2fb", "/a/b", "/a%2fb"),
        ("/CaSe", "/CaSe", "/CaSe"),
        ("/a//b", "/a//b", "/a//b"),
        ("/a/", "/a/", "/a/"),
        ("/ü", "/ü", "/%C3%BC"),
        ("/%C3%BC", "/ü", "/%C3%BC"),
        ("/u\u0308", "/u\u0308", "/u%CC%88"),
        ("/ａ", "/ａ", "/%EF%BD%81"),
        ("/%252e%252e/a", "/%2e%2e/a", "/%252e%252e/a"),
        ("/a%3Fb", "/a?b", "/a%3Fb"),
        ("/a%23b", "/a#b", "/a%23b"),
        ("/...", "/...", "/..."),
        ("/a.b/.c", "/a.b/.c", "/a.b/.c"),
        ("/" + "x" * 1999, "/" + "x" * 1999, "/" + "x" * 1999),
        ("/\u00a0", "/\u00a0", "/%C2%A0"),
    ],
)
async def test_a_path_is_decoded_once_and_otherwise_as_alone(relative_path: str, path: str, raw_path: str) -> None:
    """“percent-decoded once, exactly as an HTTP server decodes a request target; … nothing is normalised or folded”."""
    body = await seen(action(relative_path))
    assert (body["path"], body["raw_path"]) == (path, raw_path)
    alone = await request(ECHO, "GET", raw_path, headers=[(b"host", b"testserver")])
    assert json.loads(alone.body)["path"] == path


@pytest.mark.parametrize(
    "relative_path",
    [
        *["", "x" * 2001, "/" + "ü" * 2000],
        *["http://evil.example/x", "https:/x", "javascript:x", "x:y", "a+b.c-d:x", "HTTP:x"],
        *["//evil.example/x", "//", "///x"],
        *["/x?a=b", "/x?", "?", "/x#a", "#"],
        *["/x\n", "/x\r\ny", "/\tx", "/x\x00", "/x\x7f", "/x\x85y", "/x%0a", "/x%0A", "/%00", "/x%7f", "/x%C2%85", "\x1fx"],
        *["/x y", " /x", "/x ", "/x\ty"],
        *["/a\\b", "/a%5cb", "/a%5Cb", "\\x"],
        *["/.", "/..", "/./x", "/../x", "/x/..", "/x/.", "..", ".", "x/..", "/a/../b", "/a/./b"],
        *["/%2e%2e/x", "/%2E/x", "/.%2e/x", "/a%2f..%2fb", "/..;a=b/x", "/.;/x", "/%2e%2e;a/x", "/..%3Ba/x"],
        *["/%", "/%4", "/%zz", "/x%", "/%u0041", "/%%20"],
        *["/%ff", "/%c0%af", "/%ed%a0%80", "/%C3"],
    ],
)
async def test_a_path_that_could_be_read_as_another_is_400(relative_path: str) -> None:
    """“400 for: empty, over 2,000 characters, a scheme … or authority …, a query or fragment …, a control character …”."""
    [message] = await refusal(action(relative_path))
    assert message.startswith("data.actions[0].relative_path: ")


# The data and options


@pytest.mark.parametrize(
    ("data", "query"),
    [
        ({"assignee": "me", "workspace": "1337"}, "assignee=me&workspace=1337"),
        ({"a": "ü &=+%/", "b b": "x"}, "a=%C3%BC+%26%3D%2B%25%2F&b+b=x"),
        ({"a": True, "b": False}, "a=true&b=false"),
        ({"a": None, "b": [], "c": "d"}, "c=d"),
        ({"a": [1, "b", True, False]}, "a=1%2Cb%2Ctrue%2Cfalse"),
        ({"a": ""}, "a="),
        ({}, ""),
    ],
)
@pytest.mark.parametrize("method", ["get", "delete"])
async def test_data_of_a_get_is_its_query(data: dict[str, Any], query: str, method: str) -> None:
    """“for get/head/delete the query parameters: strings as they are, …, arrays of those joined with commas, `null` and empty …”."""
    body = await seen(action("/x", method, data=data))
    assert (body["query"], body["body"]) == (query, "")


@pytest.mark.parametrize("number", ["1", "-0", "1.10", "1E400", "1e+2", "12345678901234567890123", "0.1", "9" * 5000])
async def test_numbers_in_a_query_are_spelled_as_the_json_wrote_them(number: str) -> None:
    """“numbers exactly as the JSON wrote them”."""
    content = '{"data":{"actions":[{"relative_path":"/x","method":"get","data":{"a":%s,"b":[%s]}}]}}' % (number, number)
    answer = await post(ECHO, content.encode())
    spelled = number.replace("+", "%2B")
    assert json.loads(answer.body)["data"][0]["body"]["query"] == f"a={spelled}&b={spelled}"


@pytest.mark.parametrize("value", [{}, {"a": 1}, [[]], [{}], [["a"]], [None]])
@pytest.mark.parametrize("app", [ECHO, PLAIN])
async def test_an_object_or_a_nested_array_in_a_query_is_400(value: Any, app: Starlette) -> None:
    """“an object or a nested array is a 400”."""
    [message] = await refusal(action("/x", data={"a": value}), app)
    assert message == "data.actions[0].data.a: Expected a string, number, boolean or an array of those"


async def test_a_query_longer_than_servers_take_is_400() -> None:
    [message] = await refusal(action("/x", data={"a": "x" * 20_000}))
    assert message.startswith("data.actions[0].data: ")


@pytest.mark.parametrize("method", ["post", "put", "patch"])
@pytest.mark.parametrize(
    "raw", ['{ "a" : 1.10, "b":"\\u00fc", "a":2 }', "{}", '{"big":123456789012345678901234567890,"e":1E400}']
)
async def test_data_of_a_post_is_its_body_byte_for_byte(method: str, raw: str) -> None:
    """“the handler receives the body `{”data“: <data>}`, `<data>` byte for byte as it came, with `Content-Type: application/json`”."""
    content = '{"data":{"actions":[{"relative_path":"/x","method":"%s","data":%s}]}}' % (method, raw)
    for app, expected in ((ECHO, '{"data":%s}' % raw), (PLAIN, raw)):
        body = json.loads((await post(app, content.encode())).body)["data"][0]["body"]
        assert body["body"] == expected
        assert body["query"] == ""
        fields = [tuple(field) for field in body["headers"]]
        assert [field for field in fields if field[0].startswith("content-")] == [
            ("content-type", "application/json"),
            ("content-length", str(len(expected.encode()))),
        ]


async def test_absent_data_of_a_post_is_an_empty_object() -> None:
    """“(`{”data“:{}}` where absent)”, “(`{}` where absent)”."""
    assert (await seen(action("/x", "post")))["body"] == '{"data":{}}'
    assert (await seen(action("/x", "post"), PLAIN))["body"] == "{}"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
async def test_options_go_into_the_query_for_every_method(method: str) -> None:
    """“`options`: `limit`, `offset` → query `limit`, `offset`; `fields` → `opt_fields`, `expand` → `opt_expand` …”."""
    options = {"limit": 3, "offset": "ab=", "fields": ["name", "due_on"], "expand": "a,b", "pretty": True, "unknown": {}}
    body = await seen(action("/x", method, options=options))
    assert body["query"] == "limit=3&offset=ab%3D&opt_fields=name%2Cdue_on&opt_expand=a%2Cb"
    assert (await seen(action("/x", method, options={"offset": 7, "fields": []})))["query"] == "offset=7"


async def test_options_come_after_the_data_of_a_get() -> None:
    assert (await seen(action("/x", data={"a": 1}, options={"limit": 2})))["query"] == "a=1&limit=2"


@pytest.mark.parametrize("key", ["limit", "offset", "opt_fields", "opt_pretty", "opt_"])
@pytest.mark.parametrize("method", ["get", "head", "delete"])
async def test_options_inside_the_data_of_a_get_are_400(key: str, method: str) -> None:
    """“`limit`, `offset` or a key that begins with `opt_` inside the `data` of a get, head or delete is a 400”."""
    [message] = await refusal(action("/x", method, data={key: 1}))
    assert message.startswith(f"data.actions[0].data.{key}: ")


async def test_the_plain_dialect_has_repeated_keys_own_names_and_queries_in_paths() -> None:
    """“`dialect=”plain“` …: arrays in a query become repeated keys, options go into the query under their own names …”."""
    options = {"limit": 3, "fields": ["a", "b"], "expand": "c,d"}
    entry = action("/x?q=%20ü&r", data={"limit": 1, "a": [1, "b"], "c": []}, options=options)
    assert (await seen(entry, PLAIN))["query"] == "q=%20%C3%BC&r&limit=1&a=1&a=b&limit=3&fields=a&fields=b&expand=c%2Cd"
    body = await seen(action("/x?", "post", data={"a": 1}, options={"limit": 1}), PLAIN)
    assert (body["path"], body["query"], body["body"]) == ("/x", "limit=1", '{"a": 1}')


@pytest.mark.parametrize("relative_path", ["/x?a b", "/x?a\n", "/x?a#b", "/x#a?b", "?a=b", "/../x?a", "//x?a", "/x?\\"])
async def test_a_query_in_a_plain_path_is_held_to_the_same(relative_path: str) -> None:
    [message] = await refusal(action(relative_path), PLAIN)
    assert message.startswith("data.actions[0].relative_path: ")


# The header fields

FORWARDED = [
    (b"host", b"api.example"),
    (b"authorization", b"Bearer x"),
    (b"cookie", b"a=b"),
    (b"cookie", b"c=d"),
    (b"origin", b"https://a.example"),
    (b"user-agent", b"tests"),
    (b"accept", b"application/json"),
    (b"accept-language", b"de"),
    (b"x-forwarded-for", b"1.2.3.4"),
    (b"traceparent", b"00-1-2-00"),
    (b"x-request-id", b"7"),
    (b"asana-enable", b"new_thing"),
]
WITHHELD = [
    "content-encoding: identity",
    "content-language: de",
    "content-md5: x",
    "content-security-policy: x",
    "transfer-encoding: chunked",
    "accept-encoding: gzip",
    "connection: x-forwarded-for",
    "keep-alive: 5",
    "te: trailers",
    "trailer: x",
    "upgrade: h2c",
    "expect: 100-continue",
    "proxy-authorization: x",
    "proxy-connection: x",
    "range: bytes=0-1",
    "if-match: x",
    "if-none-match: x",
    "if-modified-since: x",
    "if-range: x",
    "access-control-request-method: PUT",
    "access-control-request-headers: x",
    "idempotency-key: x",
    "x-idempotency-key: x",
    "x-http-method: DELETE",
    "x-http-method-override: DELETE",
    "x-method-override: DELETE",
    "x-original-url: /admin",
    "x-rewrite-url: /admin",
]


async def test_the_request_headers_are_the_batchs_own_less_what_the_contract_names() -> None:
    """“The request headers of an action are the batch's own, less …. Authorization, cookies, host, … go along unchanged”.

    Security: “An action cannot set or change a header.”
    """
    withheld = [tuple(field.encode().split(b": ")) for field in WITHHELD]
    content = envelope(action("/x"), action("/x", "delete"))
    length = (b"content-length", b"%d" % len(content))
    headers = [*FORWARDED, (b"content-type", b"application/json"), length, *withheld]
    answer = await request(ECHO, "POST", "/batch", headers=headers, body=content)  # type: ignore[arg-type]
    for result in json.loads(answer.body)["data"]:
        assert [(name.encode(), value.encode()) for name, value in result["body"]["headers"]] == FORWARDED


async def names_seen(*fields: str, **settings: Any) -> list[str]:
    """The names of the header fields, of these of a batch, that its actions got; ``host`` goes without saying."""
    app = hosting(Route("/x", echo, methods=METHODS), policy="all", **settings)
    headers = [(name.encode(), b"1") for name in fields]
    bodies = []
    for method in ("get", "post"):
        body = await seen(action("/x", method), app, headers=headers)
        bodies.append([name for name, _ in body["headers"] if name not in ("host", "content-type", "content-length")])
    assert bodies[0] == bodies[1]
    return bodies[0]


async def test_names_are_compared_with_an_underscore_read_as_a_hyphen() -> None:
    """“Names are compared with `_` read as `-` (WSGI folds them)”."""
    withheld = [field.partition(":")[0] for field in WITHHELD]
    spelled = [name.replace("-", "_") for name in withheld if "-" in name]
    mixed = [name.replace("-", "_", 1) for name in withheld if name.count("-") > 1]
    forwarded = ["x_forwarded_for", "x_custom", "_", "x_if_match", "contents_of", "authorization_", "ranges"]
    assert await names_seen(*spelled, *mixed, *forwarded) == forwarded


async def test_withhold_adds_names_of_the_hosts_own() -> None:
    """“`withhold=` adds names of the host's own”: for an idempotency key of another name, or a cookie, say."""
    fields = ["x-payment-key", "x_payment_key", "x-payment_key", "cookie", "authorization", "x-payment-keys", "x-payment"]
    kept = ["authorization", "x-payment-keys", "x-payment"]
    assert await names_seen(*fields) == fields
    for spelling in ("X-Payment-Key", "x_payment_key"):
        assert await names_seen(*fields, withhold=(spelling, "Cookie")) == kept
    # It adds: what is withheld anyway still is.
    assert await names_seen("idempotency-key", "x-a", withhold=["x-b"]) == ["x-a"]


async def test_an_app_that_reads_its_request_as_wsgi_does_sees_no_withheld_field() -> None:
    """Two payments under one key of another name: the second was never made; and `X_HTTP_Method_Override` made another request."""
    seen = []

    async def old(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append({"HTTP_" + name.decode().upper().replace("-", "_") for name, _ in scope["headers"]})
        await Response()(scope, receive, send)

    app = hosting(Mount("/old", batchable(old)))
    names = [b"x_http_method_override", b"idempotency_key", b"x-idempotency_key", b"x_rewrite_url", b"if_match", b"range"]
    assert await statuses(app, action("/old/x"), headers=[(name, b"DELETE") for name in names]) == [200]
    assert seen == [{"HTTP_HOST"}]


async def test_nothing_in_an_action_is_interpreted() -> None:
    """“Nothing in an action is interpreted: no references to other actions' output, no templates”."""
    body = await seen(action("/{{0.gid}}/$0/$.data[0]", "post", data={"a": "{{0.body.data.gid}}"}))
    assert body["path"] == "/{{0.gid}}/$0/$.data[0]"
    assert json.loads(body["body"]) == {"data": {"a": "{{0.body.data.gid}}"}}


# Which action may run


@batchable
async def marked(request: Request) -> Response:
    return JSONResponse({"ran": request.url.path})


async def unmarked(request: Request) -> Response:
    return JSONResponse({"ran": request.url.path})


@not_batchable
@batchable
async def forbidden(request: Request) -> Response:
    return JSONResponse({"ran": request.url.path})


CANNOT = "This action cannot be used in a batch request"


async def statuses(app: Starlette, *entries: Any, **more: Any) -> list[int]:
    return [result["status_code"] for result in await batch(app, *entries, **more)]


async def test_what_no_route_matches_goes_through_the_host_to_its_own_handlers() -> None:
    """“no route for the path; a route, but not for the method | what that router and its app answer alone: their own 404 or 405
    handler, in their own scope”, and “every well-formed action goes the whole way through the host”.
    """
    entered = []

    class Watch:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            entered.append(scope["path"])
            await self.app(scope, receive, send)

    def not_found(request: Request, error: Exception) -> Response:
        return JSONResponse({"not": "found", "path": request.url.path}, 404)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(f"custom {error.status_code}", error.status_code, error.headers)

    app = hosting(Route("/tasks", marked, methods=["PUT"]), middleware=[Middleware(Watch)])
    app.add_exception_handler(404, not_found)
    app.add_exception_handler(HTTPException, http_error)
    results = await batch(app, action("/nowhere"), action("/tasks"), action("/tasks", "put"))
    assert [result["status_code"] for result in results] == [404, 405, 200]
    assert results[0]["body"] == {"not": "found", "path": "/nowhere"}
    assert (results[1]["body"], results[1]["headers"]["allow"]) == ("custom 405", "PUT")
    assert entered[0] == "/batch"
    assert sorted(entered[1:]) == ["/nowhere", "/tasks", "/tasks"]


async def test_a_class_without_that_method_answers_its_own_405() -> None:
    """“a route matches, its endpoint is a class without that method | the endpoint's own 405”."""

    @batchable
    class Whole(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            return Response("x")

    class Parts(HTTPEndpoint):
        @batchable
        async def get(self, request: Request) -> Response:
            return Response("x")

        async def post(self, request: Request) -> Response:
            return Response("x")

        @not_batchable
        async def put(self, request: Request) -> Response:
            return Response("x")

    class Heir(Whole):
        async def post(self, request: Request) -> Response:
            return Response("x")

    app = hosting(Route("/whole", Whole), Route("/parts", Parts), Route("/heir", Heir))
    results = await batch(app, action("/whole", "delete"), action("/parts", "delete"))
    assert [result["status_code"] for result in results] == [405, 405]
    alone = await request(app, "DELETE", "/whole")
    assert results[0]["headers"]["allow"].encode() == alone.all(b"allow")[0]
    assert await statuses(app, action("/whole"), action("/whole", "head")) == [200, 200]
    assert await statuses(app, action("/parts"), action("/parts", "head"), action("/parts", "post"), action("/parts", "put")) == [
        200,
        200,
        400,
        400,
    ]
    assert await statuses(app, action("/heir"), action("/heir", "post")) == [400, 400]


async def test_a_route_that_is_not_batchable_is_400_and_the_log_says_which_mark_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """“not marked (`policy=”marked“`, the default), or marked `@not_batchable` (which wins) | 400 …; the server's log (DEBUG) …”."""
    caplog.set_level(logging.DEBUG, "batchkit")
    app = hosting(Route("/marked", marked), Route("/unmarked", unmarked), Route("/forbidden", forbidden))
    results = await batch(app, action("/marked"), action("/unmarked"), action("/forbidden"))
    assert [result["status_code"] for result in results] == [200, 400, 400]
    assert messages(results[1]) == [f"data.actions[1]: {CANNOT}"]
    assert "not marked @batchable" in caplog.text
    assert "marked @not_batchable" in caplog.text


async def test_policy_all_runs_what_is_not_refused() -> None:
    app = hosting(Route("/marked", marked), Route("/unmarked", unmarked), Route("/forbidden", forbidden), policy="all")
    assert await statuses(app, action("/marked"), action("/unmarked"), action("/forbidden")) == [200, 200, 400]


async def test_exclude_goes_by_method_and_full_template() -> None:
    """“excluded (…: `[METHOD ]template`, the full template as the host routes it, mounts included; a trailing `/*` …)”."""
    app = hosting(
        Route("/attachments", unmarked, methods=["GET", "POST"]),
        Route("/attachments/{gid}", unmarked, methods=["GET", "DELETE"]),
        Route("/exports/{gid}", unmarked),
        Mount("/scim", routes=[Route("/Users", unmarked), Mount("/v2", routes=[Route("/Groups/{id}", unmarked)])]),
        Route("/scimitar", unmarked),
        Route("/reports", unmarked),
        policy="all",
        exclude=("POST /attachments", "DELETE /exports/{gid}", "/scim/*", "GET /reports"),
    )
    assert await statuses(app, action("/attachments"), action("/attachments", "post"), action("/attachments/1", "delete")) == [
        200,
        400,
        200,
    ]
    assert await statuses(app, action("/scim/Users"), action("/scim/v2/Groups/7"), action("/scimitar")) == [400, 400, 200]
    # A rule holds where the path has no such method, and a rule for GET holds for its HEAD.
    assert await statuses(app, action("/exports/1"), action("/exports/1", "delete"), action("/exports/1", "put")) == [
        200,
        400,
        405,
    ]
    assert await statuses(app, action("/reports"), action("/reports", "head")) == [400, 400]


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head"])
@pytest.mark.parametrize("path", ["/batch", "batch", "/%62atch", "/bat%63h", "/other", "/v2/batch", "/v2/%62atch", "/by-hand"])
async def test_a_batch_endpoint_is_400_however_it_is_reached(path: str, method: str) -> None:
    """“a batch endpoint, however it is reached (encoded, through a mount, by another method, another batch endpoint) | 400”."""
    app = Starlette(routes=[Mount("/v2", routes=[Route("/batch", BatchEndpoint())]), Route("/by-hand", BatchEndpoint())])
    BatchEndpoint(policy="all").mount_to(app)
    BatchEndpoint(policy="all").mount_to(app, "/other")
    assert await statuses(app, action(path, method), path="/other") == [400]
    assert await statuses(app, action(path, method)) == [400]


async def test_there_are_no_substring_false_positives() -> None:
    """“no substring false positives (`/projects/batch-7` is fine)”."""
    app = hosting(Route("/projects/{gid}", marked), Route("/batches", marked))
    assert await statuses(app, action("/projects/batch-7"), action("/projects/batch"), action("/batches")) == [200, 200, 200]


def opaque() -> ASGIApp:
    """An app whose routes, if it has any, cannot be read."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("opaque")(scope, receive, send)

    return app


@pytest.mark.parametrize("policy", ["marked", "all"])
async def test_a_route_that_cannot_be_determined_is_refused(policy: str) -> None:
    """“the route cannot be determined (an opaque mounted app that is not marked, a router default …) | 400: refuse, never …”."""

    class Odd(BaseRoute):
        def matches(self, scope: Scope) -> Any:
            return Mount("/odd", opaque()).matches(scope)

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            await opaque()(scope, receive, send)

    app = hosting(
        Mount("/opaque", opaque()),
        Mount("/marked", batchable(opaque())),
        Mount("/refused", not_batchable(opaque())),
        Odd(),
        policy=policy,
    )
    assert await statuses(app, action("/opaque/x"), action("/marked/x"), action("/refused/x"), action("/odd/x")) == [
        400,
        200,
        400,
        400,
    ]
    app.router.default = opaque()
    assert await statuses(app, action("/nowhere"), action("/nowhere/")) == [400, 400]


class Rewrite:
    """A middleware that changes an action on its way to the router."""

    def __init__(self, app: ASGIApp, changes: dict[str, Any]) -> None:
        self.app = app
        self.changes = changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if current_action(scope) is not None:
            scope = {**scope, **self.changes}
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/secret"},
        {"method": "DELETE"},
        {"headers": [(b"host", b"admin.example")]},
        {"headers": []},
        {"root_path": "/tasks"},
    ],
)
async def test_an_action_that_a_middleware_changed_is_400(changes: dict[str, Any]) -> None:
    """“a middleware of the host changed path, method or host on the way to the router | 400 (the guard at the router sees it)”."""
    ran = []

    async def secret(request: Request) -> Response:
        ran.append(request.method)
        return Response()

    app = hosting(
        Route("/tasks", marked),
        Route("/tasks", secret, methods=["DELETE"]),
        Route("/secret", secret),
        Host("admin.example", Router([Route("/tasks", secret)])),
        middleware=[Middleware(Rewrite, changes)],
    )
    [result] = await batch(app, action("/tasks"))
    assert result["status_code"] == 400
    assert CANNOT in messages(result)[0]
    assert not ran


async def test_a_path_that_only_has_or_misses_its_trailing_slash_is_the_hosts_307() -> None:
    """“a path that only has or misses its trailing slash | sent through the host: its 307 with `location` is the result”."""
    app = hosting(Route("/a", marked), Route("/b/", marked), Mount("/c", routes=[Route("/d", marked)]))
    results = await batch(app, action("/a/"), action("/b"), action("/c/d/"), action("/c"))
    assert [result["status_code"] for result in results] == [307, 307, 307, 307]
    expected = ["http://testserver/a", "http://testserver/b/", "http://testserver/c/d", "http://testserver/c/"]
    assert [result["headers"]["location"] for result in results] == expected


async def test_a_middleware_that_drops_the_slash_reaches_nothing_that_a_redirect_only_points_to() -> None:
    """“a middleware of the host changed path … | 400 (the guard at the router sees it)”, mounted by hand as well."""

    class DropSlash:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app({**scope, "path": scope["path"].rstrip("/")}, receive, send)

    for by_hand in (True, False):
        app = Starlette(routes=[Route("/a", marked), Route("/secret", unmarked)], middleware=[Middleware(DropSlash)])
        if by_hand:
            app.router.routes.append(Route("/batch", BatchEndpoint(host=app)))
        else:
            BatchEndpoint().mount_to(app)
        assert await statuses(app, action("/a/"), action("/secret/"), action("/a")) == [400, 400, 200]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_of_the_host_is_never_followed(status: int) -> None:
    """“any redirect of the host | its 3xx with its `location`; never followed”."""
    ran = []

    async def target(request: Request) -> Response:
        ran.append(1)
        return Response()

    async def redirect(request: Request) -> Response:
        return Response(status_code=status, headers={"location": "/target"})

    app = hosting(Route("/from", redirect), Route("/target", target), policy="all")
    [result] = await batch(app, action("/from"))
    assert (result["status_code"], result["headers"]) == (status, {"location": "/target"})
    assert not ran


async def test_an_exception_while_matching_is_that_actions_own_error() -> None:
    """“An exception while matching (a 5,000-digit `{id:int}`) is that action's own error”."""
    app = hosting(Route("/n/{id:int}", marked), base_path="/")
    digits = "9" * 1990  # Python reads up to 4,300 digits; a relative_path has 2,000 characters at most.
    assert await statuses(app, action(f"/n/{digits}"), action("/n/7")) == [200, 200]

    class Fails(Route):
        def matches(self, scope: Scope) -> Any:
            raise ValueError("secret")

    app = hosting(Route("/a", marked), Fails("/{x}", marked))
    assert await statuses(app, action("/b"), action("/a")) == [500, 200]


# Marks


async def test_the_marks_figures_reach_the_cost_hook() -> None:
    """`@batchable` with `cost`, `limit`; unresolved and refused actions cost 1."""
    batches: list[Batch] = []

    async def hook(batch: Batch) -> None:
        batches.append(batch)

    @batchable(cost=3, limit="search")
    async def search(request: Request) -> Response:
        return Response()

    app = hosting(Route("/search", search), Route("/tasks/{gid}", marked), Route("/no", unmarked), cost_hook=hook)
    await batch(app, action("/search"), action("/tasks/7"), action("/no"), action("/nowhere"), 5)
    [seen] = batches
    assert seen.cost == 7
    assert seen.request.url.path == "/batch"
    assert [
        (entry.index, entry.method, entry.path, entry.route, entry.cost, entry.limit, entry.runs) for entry in seen.actions
    ] == [
        (0, "GET", "/search", "/search", 3, "search", True),
        (1, "GET", "/tasks/7", "/tasks/{gid}", 1, None, True),
        (2, "GET", "/no", "/no", 1, None, True),
        (3, "GET", "/nowhere", None, 1, None, True),
        (4, "", "", None, 1, None, False),
    ]
    assert [entry.result.status_code if entry.result else None for entry in seen.actions] == [200, 200, 400, 404, 400]


async def test_data_that_breaks_the_routes_own_schema_is_400() -> None:
    """“`data` (absent: `{}`) that breaks the route's own schema … | gets a 400 result in its own place”."""
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "minLength": 2}, "size": {"enum": ["s", "m"]}, "n": {"maximum": 9}},
        "additionalProperties": False,
    }

    @batchable(schema=schema)
    async def create(request: Request) -> Response:
        return Response()

    app = hosting(Route("/tasks", create, methods=["POST", "GET"]))
    results = await batch(
        app,
        action("/tasks", "post"),
        action("/tasks", "post", data={"name": "ab", "size": "m", "n": 9}),
        action("/tasks", "post", data={"name": "a", "size": "xl", "n": 10**40, "secret": 1}),
        action("/tasks", data={"name": 5}),
    )
    assert [result["status_code"] for result in results] == [400, 200, 400, 400]
    assert messages(results[0]) == ["data.actions[0].data.name: Missing input"]
    assert sorted(messages(results[2])) == [
        "data.actions[2].data.n: Does not meet the rule 'maximum' of its schema",
        "data.actions[2].data.name: Must not be shorter than 2",
        "data.actions[2].data.secret: Unrecognized key; the allowed keys are: name, size, n",
        'data.actions[2].data.size: Must be one of "s", "m"',
    ]
    assert messages(results[3]) == ["data.actions[3].data.name: Expected string, got integer"]
