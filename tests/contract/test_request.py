"""Contract section 1, the batch request: each test quotes the sentence that it holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchkit import Batch, BatchEndpoint, LimiterUnavailable, TooManyRequests, batchable
from tests.asgi import Answer, request
from tests.batches import JSON, action, batch, envelope, messages, post

pytestmark = pytest.mark.anyio

INVALID_JSON = "Could not parse request data, invalid JSON"


class Counter:
    """A host that counts what ran and what was charged."""

    def __init__(self, **settings: Any) -> None:
        self.ran = 0
        self.charged = 0
        self.app = Starlette(routes=[Route("/tasks", self.task, methods=["GET", "POST"])])
        BatchEndpoint(policy="all", cost_hook=self.charge, **settings).mount_to(self.app, "/batch")

    async def task(self, request: Request) -> Response:
        self.ran += 1
        return JSONResponse({"data": {}})

    async def charge(self, batch: Batch) -> None:
        self.charged += 1

    def untouched(self) -> bool:
        return self.ran == 0 and self.charged == 0


@pytest.fixture
def host() -> Counter:
    return Counter()


async def test_a_whole_batch_runs(host: Counter) -> None:
    results = await batch(host.app, action("/tasks"), action("/tasks", "post"))
    assert [result["status_code"] for result in results] == [200, 200]
    assert (host.ran, host.charged) == (2, 1)


async def test_the_hosts_own_refusal_is_untouched() -> None:
    """“the host's own authentication or middleware refuses the batch | the host's answer (401, 403 …), untouched”."""

    class Refuse:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("no", 401, {"www-authenticate": "Bearer"})(scope, receive, send)

    app = Starlette(middleware=[Middleware(Refuse)])
    BatchEndpoint().mount_to(app)
    answer = await post(app, envelope(action("/tasks")))
    assert (answer.status, answer.body) == (401, b"no")
    assert (b"www-authenticate", b"Bearer") in answer.headers


async def test_a_batch_in_a_batch_is_400_in_its_place(host: Counter) -> None:
    """“the request is itself an action of a batch | 400 (it becomes that action's result)”."""
    results = await batch(host.app, action("/batch", "post", data={"actions": []}), action("/tasks"))
    assert [result["status_code"] for result in results] == [400, 200]


async def test_a_second_batch_endpoint_behind_an_app_that_is_not_read_knows_an_action() -> None:
    """The same, where only the scope can tell: the endpoint stands in an app that was marked as a whole."""
    inner = Starlette()
    BatchEndpoint(policy="all").mount_to(inner, "/more")

    async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "path": "/more", "root_path": ""}, receive, send)

    app = Starlette()
    app.mount("/opaque", batchable(opaque))
    BatchEndpoint().mount_to(app)
    [result] = await batch(app, action("/opaque/x", "post"))
    assert result["status_code"] == 400
    assert messages(result) == ["A batch request cannot be used in a batch request"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_not_post_is_405(host: Counter, method: str) -> None:
    """“not `POST` | 405, `Allow: POST`”."""
    answer = await request(host.app, method, "/batch", headers=[JSON], body=envelope(action("/tasks")))
    assert answer.status == 405
    assert (b"allow", b"POST") in answer.headers
    assert host.untouched()


async def test_a_websocket_is_closed() -> None:
    """“A websocket is closed”."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await BatchEndpoint()({"type": "websocket", "path": "/batch", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize(
    "content_type",
    [b"application/json", b"application/json; charset=utf-8", b'Application/JSON;charset="UTF-8"', b"application/vnd.api+json"],
)
async def test_json_is_taken(host: Counter, content_type: bytes) -> None:
    """“`application/json` or `application/*+json`, charset absent or utf-8”."""
    answer = await request(host.app, "POST", "/batch", headers=[(b"content-type", content_type)], body=envelope(action("/tasks")))
    assert answer.status == 200


NOT_JSON = [
    [],
    [b"text/plain"],
    [b"application/x-www-form-urlencoded"],
    [b"multipart/form-data; boundary=x"],
    [b"application/json; charset=latin-1"],
    [b"application/jsonp"],
    [b"text/json"],
    [b"text/plain; application/json"],
    [b"text/plain", b"application/json"],
]


@pytest.mark.parametrize("content_types", NOT_JSON)
async def test_another_media_type_is_415(host: Counter, content_types: list[bytes]) -> None:
    """“media type is not JSON …, or missing | 415, saying what to send”.

    Security: “A page of another origin cannot post a batch with a form.”
    """
    headers = [(b"content-type", content_type) for content_type in content_types]
    answer = await request(host.app, "POST", "/batch", headers=headers, body=envelope(action("/tasks")))
    assert answer.status == 415
    assert "application/json" in messages(json.loads(answer.body))[0]
    assert host.untouched()


@pytest.mark.parametrize("content_types", NOT_JSON)
async def test_require_json_turns_it_off(content_types: list[bytes]) -> None:
    """“`require_json=False` turns it off”."""
    host = Counter(require_json=False)
    headers = [(b"content-type", content_type) for content_type in content_types]
    answer = await request(host.app, "POST", "/batch", headers=headers, body=envelope(action("/tasks")))
    assert answer.status == 200


DIALECTS = [
    (b"application/json; dialect=asana", "asana"),
    (b'Application/JSON;charset=utf-8;Dialect="Asana"', "asana"),
    (b"application/json; dialect=plain", "plain"),
    (b'application/vnd.api+json;dialect="plain"', "plain"),
    (b"application/json; dialect=another", "another"),
]


@pytest.mark.parametrize("require_json", [True, False])
@pytest.mark.parametrize("dialect", ["asana", "plain"])
@pytest.mark.parametrize(("content_type", "spoken"), [*DIALECTS, (b"application/json", None)])
async def test_a_client_of_another_dialect_is_told_so(content_type: bytes, spoken: str, dialect: str, require_json: bool) -> None:
    """It would ask for other requests than its own: 415, and nothing runs. Who names no dialect means the endpoint's."""
    host = Counter(dialect=dialect, require_json=require_json)
    answer = await request(host.app, "POST", "/batch", headers=[(b"content-type", content_type)], body=envelope(action("/tasks")))
    if spoken in (None, dialect):
        assert answer.status == 200
    else:
        told = [f"The dialect of this endpoint is '{dialect}': tell your client so"]
        assert (answer.status, messages(answer.json())) == (415, told)
        assert host.untouched()


@pytest.mark.parametrize(("coding", "status"), [(b"gzip", 415), (b"br", 415), (b"identity", 200), (b"Identity", 200)])
async def test_content_encoding_other_than_identity_is_415(host: Counter, coding: bytes, status: int) -> None:
    """“`Content-Encoding` other than identity | 415”."""
    answer = await post(host.app, envelope(action("/tasks")), headers=[(b"content-encoding", coding)])
    assert answer.status == status
    assert host.untouched() == (status == 415)


class Body:
    """A body that is sent in chunks, and knows how much of it was asked for."""

    def __init__(self, *chunks: bytes, complete: bool = True) -> None:
        self.chunks = list(chunks)
        self.complete = complete
        self.asked = 0

    async def post(self, app: ASGIApp, *headers: tuple[bytes, bytes]) -> Answer | None:
        sent: list[Message] = []

        async def receive() -> Message:
            self.asked += 1
            if self.chunks:
                chunk = self.chunks.pop(0)
                return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks) or not self.complete}
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/batch",
            "root_path": "",
            "query_string": b"",
            "headers": [JSON, *headers],
        }
        await app(scope, receive, send)
        return Answer(sent[0]["status"], list(sent[0]["headers"]), sent[1]["body"]) if sent else None


async def test_a_body_that_says_it_is_too_large_is_413_unread() -> None:
    """“body over `max_body_size` …, by Content-Length … | 413, without reading the rest”."""
    host, body = Counter(max_body_size=100), Body(b"x" * 101)
    answer = await body.post(host.app, (b"content-length", b"101"))
    assert answer is not None
    assert (answer.status, body.asked) == (413, 0)
    assert host.untouched()


async def test_a_body_that_is_too_large_is_413_without_reading_the_rest() -> None:
    """“… or while reading | 413, without reading the rest”."""
    host, body = Counter(max_body_size=100), Body(b"x" * 60, b"x" * 60, b"x" * 60)
    answer = await body.post(host.app)
    assert answer is not None
    assert (answer.status, body.asked) == (413, 2)
    assert host.untouched()


async def test_a_body_may_be_as_large_as_max_body_size_and_come_in_pieces() -> None:
    """“body over `max_body_size` (default 1 MiB)”: not one of just that size."""
    content = envelope(action("/tasks"))
    host = Counter(max_body_size=len(content))
    answer = await Body(content[:7], b"", content[7:]).post(host.app, (b"content-length", b"%d" % len(content)))
    assert answer is not None
    assert answer.status == 200
    assert Counter().app.routes[0].endpoint.settings.max_body_size == 2**20  # type: ignore[attr-defined]


async def test_a_client_that_goes_before_its_body_is_complete_is_sent_nothing(
    host: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    """“client gone before the body is complete | nothing is sent, nothing logged as an error”."""
    assert await Body(envelope(action("/tasks")), complete=False).post(host.app) is None
    assert host.untouched()
    assert not caplog.records


BAD_JSON = [
    b"",
    b" ",
    b"{",
    b"nul",
    b'{"data":{"actions":[NaN]}}',
    b'{"data":{"actions":[Infinity]}}',
    b'{"data":{"actions":[-Infinity]}}',
    b'{"data":{"actions":["\\ud800"]}}',
    b'{"data":{"actions":["\\udc00\\ud800"]}}',
    b'{"data":{"actions":["\\ud800\\u0041"]}}',
    b'{"data":{"actions":[1,]}}',
    b'{"data":{"actions":[1],}}',
    b'\xef\xbb\xbf{"data":{"actions":[1]}}',
    b'{"data":{"actions":[1]}} x',
    b'{"data":{"actions":[1]}}{}',
    b'{"data":{"actions":["\xff"]}}',
    b'{"data":{"actions":["\xed\xa0\x80"]}}',
    b'{"data":{"actions":["\xc0\xaf"]}}',
    '{"data":{"actions":[1]}}'.encode("utf-16"),
    b'{"data":{"actions":[01]}}',
    b'{"data":{"actions":[.5]}}',
    b'{"data":{"actions":["\t"]}}',
    b"{'data':{'actions':[1]}}",
    b'{"data":{"actions":[1/**/]}}',
    b'{"x":1,"data":{"actions":[1]},"y":NaN}',
    b'{"data":{"actions":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", BAD_JSON, ids=lambda body: repr(body[:40]))
async def test_what_is_no_strict_utf_8_json_is_400(host: Counter, body: bytes) -> None:
    """“not valid UTF-8 JSON (RFC 8259, strictly decoded: …; nesting the parser cannot take counts as invalid) | 400”."""
    answer = await post(host.app, body)
    assert answer.status == 400
    assert messages(json.loads(answer.body)) == [INVALID_JSON]
    assert host.untouched()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[]", ["request body: Expected object, got array"]),
        (b"7", ["request body: Expected object, got integer"]),
        (b"null", ["request body: Expected object, got null"]),
        (b"{}", ["data: Missing input"]),
        (b'{"data":[]}', ["data: Expected object, got array"]),
        (b'{"data":null}', ["data: Expected object, got null"]),
        (b'{"data":{}}', ["data.actions: Missing input"]),
        (b'{"data":{"actions":{}}}', ["data.actions: Expected array, got object"]),
        (b'{"data":{"actions":null}}', ["data.actions: Expected array, got null"]),
        (b'{"data":{"actions":"x"}}', ["data.actions: Expected array, got string"]),
        (
            b'{"data":{"actions":[1]},"actions":[]}',
            ["actions: Unrecognized key; the allowed keys are: data, options"],
        ),
        (
            b'{"data":{"actions":[1],"opt_pretty":1}}',
            ["data.opt_pretty: Unrecognized key; the allowed keys are: actions"],
        ),
        (
            b'{"actions":[]}',
            ["data: Missing input", "actions: Unrecognized key; the allowed keys are: data, options"],
        ),
    ],
)
async def test_a_wrong_envelope_is_400_naming_the_place(host: Counter, body: bytes, expected: list[str]) -> None:
    """“not an object; `data` missing …| 400, naming the place”, “a top-level key other than … | 400, naming the key and the allowed ones”."""
    answer = await post(host.app, body)
    assert answer.status == 400
    assert messages(json.loads(answer.body)) == expected
    assert host.untouched()


async def test_options_of_the_batch_are_taken(host: Counter) -> None:
    """“a top-level key other than `data` and `options`”: `options` is none of those."""
    body = b'{"options":{"pretty":true},"data":{"actions":[{"relative_path":"/tasks","method":"get"}]}}'
    assert (await post(host.app, body)).status == 200


async def test_no_action_is_400(host: Counter) -> None:
    """“`actions` empty | 400 `Batch requests must contain at least one action`”."""
    answer = await post(host.app, envelope())
    assert (answer.status, messages(json.loads(answer.body))) == (400, ["Batch requests must contain at least one action"])
    assert host.untouched()


@pytest.mark.parametrize("entry", [action("/tasks"), 5, None])
async def test_eleven_actions_are_400(host: Counter, entry: Any) -> None:
    """“more than `max_actions` (default 10) | 400 `Batch requests must contain no more than 10 actions`”."""
    answer = await post(host.app, envelope(*[entry] * 11))
    assert (answer.status, messages(json.loads(answer.body))) == (400, ["Batch requests must contain no more than 10 actions"])
    assert host.untouched()


async def test_max_actions_moves_the_limit() -> None:
    host = Counter(max_actions=2)
    assert (await post(host.app, envelope(*[action("/tasks")] * 2))).status == 200
    answer = await post(host.app, envelope(*[action("/tasks")] * 3))
    assert messages(json.loads(answer.body)) == ["Batch requests must contain no more than 2 actions"]


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (TooManyRequests(), 429, None),
        (TooManyRequests(retry_after=2.5), 429, b"3"),
        (TooManyRequests("standard: asked for 10, 3 left", retry_after=0), 429, b"1"),
        (LimiterUnavailable(), 503, None),
        (ConnectionError("redis://secret@host"), 503, None),
    ],
)
async def test_a_refusing_or_failing_limiter_answers_for_the_whole_batch(
    error: Exception, status: int, retry_after: bytes | None
) -> None:
    """“any action would exceed any limit | 429 (section 3); limiter out of reach: 503”."""
    ran = []

    async def task(request: Request) -> Response:
        ran.append(request)
        return Response()

    async def refuse(batch: Batch) -> None:
        raise error

    app = Starlette(routes=[Route("/tasks", task)])
    BatchEndpoint(policy="all", cost_hook=refuse).mount_to(app)
    answer = await post(app, envelope(action("/tasks")))
    assert answer.status == status
    assert dict(answer.headers).get(b"retry-after") == retry_after
    assert b"secret" not in answer.body
    assert not ran


async def test_the_answer_is_200_even_where_every_action_failed(host: Counter) -> None:
    """“From here on the answer is **always 200**, even where every action failed”."""
    results = await batch(host.app, 5, action("/nowhere"), action("/tasks", "brew"), action("/batch", "post"))
    assert [result["status_code"] for result in results] == [400, 404, 400, 400]


async def test_a_query_string_on_the_batch_url_is_ignored(host: Counter) -> None:
    """“A query string on the batch URL is ignored (the official clients send `?limit=100`)”."""
    answer = await request(host.app, "POST", "/batch", query=b"limit=100", headers=[JSON], body=envelope(action("/tasks")))
    assert answer.status == 200


async def test_error_bodies_have_the_configured_help() -> None:
    """“Error bodies, whole and per action: `{”errors“:[{”message“: ”…“}]}`, with `help` where the host configured a text”."""
    host = Counter(help="Read the docs")
    answer = await post(host.app, envelope())
    error = {"message": "Batch requests must contain at least one action", "code": "empty_batch", "help": "Read the docs"}
    assert json.loads(answer.body) == {"errors": [error]}
    [result] = await batch(host.app, 5)
    entry = {"message": "data.actions[0]: Expected object, got integer", "code": "invalid_action", "help": "Read the docs"}
    assert result["body"] == {"errors": [entry]}


async def test_a_500_has_a_phrase_that_stands_in_the_log_and_nothing_of_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    """“on a 500 with `phrase`, an opaque id that also stands in the server's log line. No traceback, file path, exception text …”.

    Security: “Errors show no traceback, path, exception text or value of a request.”
    """

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("secret")

    app = Starlette()
    BatchEndpoint(host=silent, policy="all").mount_to(app)
    app.add_route("/tasks", lambda request: Response())
    [result] = await batch(app, action("/tasks"))
    [error] = result["body"]["errors"]
    assert result["status_code"] == 500
    assert set(error) == {"message", "code", "phrase"}
    assert error["phrase"] in caplog.text
    assert "secret" not in json.dumps(result)


async def test_no_value_of_the_request_stands_in_an_error(host: Counter) -> None:
    """“No … value from the request (names of keys excepted) ever stands in an error”."""
    secret = "s3cret"
    entries = [
        secret,
        [secret],
        action(f"//{secret}"),
        action(secret + "?" + secret),
        action("/tasks", secret),
        action("/tasks", options={"limit": secret, "fields": [secret, 1], "expand": {"x": secret}}),
        action("/tasks", data=secret),
        action("/tasks", data={"a": {"b": secret}}),
    ]
    answer = await post(host.app, envelope(*entries))
    assert answer.status == 200
    assert secret.encode() not in answer.body


async def test_of_a_json_key_that_stands_twice_the_last_counts(host: Counter) -> None:
    """“Where a JSON key stands twice, the last one counts (one parser, used once)”."""
    body = (
        b'{"data":5,"data":{"actions":[],"actions":'
        b'[{"relative_path":5,"method":"delete","relative_path":"/tasks","method":"get","options":{"limit":"x","limit":1}}]}}'
    )
    answer = await post(host.app, body)
    assert json.loads(answer.body)["data"][0]["status_code"] == 200


async def test_options_belongs_to_the_hosts_cors_layer() -> None:
    """“OPTIONS belongs to the host's CORS layer”."""
    app = Starlette(middleware=[Middleware(CORSMiddleware, allow_origins=["https://a.example"], allow_methods=["POST"])])
    BatchEndpoint().mount_to(app)
    headers = [(b"origin", b"https://a.example"), (b"access-control-request-method", b"POST")]
    answer = await request(app, "OPTIONS", "/batch", headers=headers)
    assert answer.status == 200
    assert (b"access-control-allow-origin", b"https://a.example") in answer.headers
