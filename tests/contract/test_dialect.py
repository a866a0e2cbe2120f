"""A dialect is one class in one file: what it says there is what the endpoint, OpenAPI and the client make of it."""

from __future__ import annotations

import json
from typing import Any, ClassVar, get_args

import httpx2
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchkit import BatchEndpoint, BatchError, batchable, openapi
from batchkit._protocol.dialects import DIALECTS, DialectName
from batchkit._protocol.dialects.plain import Plain
from batchkit.client import AsyncBatchTransport, BatchClient, BatchTransport
from batchkit.testing import BatchRefused, assert_same_as_alone
from tests.asgi import request
from tests.batches import LINES, action, lines, post

pytestmark = pytest.mark.anyio


class Toy(Plain):
    """Calls and answers: other keys for all that has one, errors of another form, and bodies below ``payload``."""

    actions_at, results_at = "calls", "out.answers"
    path_key, data_key = "url", "with"
    status_key, body_key = "code", "content"
    guide = 'What stands in with is sent as {"payload": …}.'
    error_schema: ClassVar = {"type": "object", "required": ["wrong"], "properties": {"wrong": {"type": "string"}}}

    def body_of(self, data: bytes) -> bytes:
        return b'{"payload":' + data + b"}"

    def data_of(self, body: bytes) -> bytes:
        return body[len(b'{"payload":') : -1]

    def error(self, error: BatchError, help: str | None) -> bytes:
        return json.dumps({"wrong": "; ".join(error.messages)}).encode()

    def messages(self, content: bytes) -> list[str]:
        document = json.loads(content)
        return [document["wrong"]] if isinstance(document, dict) and "wrong" in document else []


# No type checker knows it.
TOY: Any = "toy"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIALECTS, TOY, Toy())


@batchable
async def echo(request: Request) -> Response:
    body = (await request.body()).decode()
    return JSONResponse({"at": f"{request.method} {request.url.path}?{request.url.query}", "body": body})


@batchable(schema={"properties": {"name": {"type": "string"}}})
async def add(request: Request) -> Response:
    return JSONResponse(await request.json(), 201, {"location": "/tasks/7"})


@batchable
async def binary(request: Request) -> Response:
    return Response(b"\xff\x00")


async def closed(request: Request) -> Response:
    return JSONResponse({"wrong": "closed"}, 403)


def host(**settings: Any) -> Starlette:
    routes = [Route("/tasks", add, methods=["POST"]), Route("/binary", binary), Route("/closed", closed)]
    app = Starlette(routes=[*routes, Route("/{path:path}", echo)])
    return BatchEndpoint(dialect=TOY, **settings).mount_to(app)


def calls(*entries: Any) -> bytes:
    return json.dumps({"calls": entries}).encode()


BATCH = calls(
    {"url": "/a?b=1", "method": "get", "with": {"c": [1.50, "x"]}, "options": {"limit": 3}},
    {"url": "tasks", "method": "POST", "with": {"name": "Water the beans"}},
    {"url": "/binary", "method": "get"},
    {"url": "/tasks", "method": "post", "with": {"name": 3}},
    {"url": "/../x", "method": "get"},
    {"url": "/a", "method": "get", "with": {"c": {}}},
    {"relative_path": "/a", "method": "get"},
    {"url": "/closed", "method": "get"},
)
ANSWERS = [
    {"code": 200, "headers": {}, "content": {"at": "GET /a?b=1&c=1.5&c=x&limit=3", "body": ""}},
    {"code": 201, "headers": {"location": "/tasks/7"}, "content": {"payload": {"name": "Water the beans"}}},
    {"code": 200, "headers": {}, "content": "/wA=", "content_encoding": "base64"},
    *(
        {"code": 400, "headers": {}, "content": {"wrong": wrong}}
        for wrong in (
            "calls[3].with.name: Expected string, got integer",
            "calls[4].url: The segments . and .. are not accepted",
            "calls[5].with.c: Expected a string, number, boolean or an array of those",
            "calls[6].url: Missing input; calls[6].relative_path: Unrecognized key; the allowed keys are: url, method, with, options",
            "calls[7]: This action cannot be used in a batch request",
        )
    ),
]


async def test_it_is_what_the_endpoint_reads_and_writes() -> None:
    answer = await post(host(), BATCH)
    assert (answer.status, answer.json()) == (200, {"out": {"answers": ANSWERS}})


async def test_it_is_what_stands_in_lines() -> None:
    answer = await post(host(), BATCH, headers=[LINES])
    told = sorted(lines(answer.body), key=lambda line: int(line["index"]))
    assert told == [{"index": index, **expected} for index, expected in enumerate(ANSWERS)]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b'{"data": {"actions": []}}', "calls: Missing input"),
        (b'{"calls": {}}', "calls: Expected array, got object"),
        (b'{"calls": []}', "Batch requests must contain at least one action"),
        (calls({}, {}, {}), "Batch requests must contain no more than 2 actions"),
    ],
)
async def test_it_is_what_a_refusal_says(body: bytes, wrong: str) -> None:
    answer = await post(host(max_actions=2), body)
    assert answer.status == 400
    assert answer.json()["wrong"].startswith(wrong)


async def test_it_is_what_openapi_describes() -> None:
    document = openapi.document(BatchEndpoint(dialect=TOY))
    validate(document)
    assert Toy.guide in document["paths"]["/batch"]["post"]["description"]

    def meets(name: str, content: bytes) -> bool:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        return Draft202012Validator(schema).is_valid(json.loads(content))

    assert meets("BatchRequest", calls({"url": "/a", "method": "get"}))
    assert not meets("BatchRequest", calls({"relative_path": "/a", "method": "get"}))
    assert meets("BatchRequest", json.dumps(document["components"]["schemas"]["BatchRequest"]["examples"][0]).encode())
    assert meets("BatchAnswer", (await post(host(), BATCH)).body)
    assert meets("BatchErrors", (await post(host(), b"{}")).body)


class Counting(httpx2.ASGITransport):
    """A transport that counts what it sends."""

    sent = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent += 1
        return await super().handle_async_request(request)


async def test_it_is_what_the_client_speaks() -> None:
    transport = Counting(host())
    async with httpx2.AsyncClient(transport=transport) as sender:
        batch = BatchClient("https://example.com", sender, dialect=TOY).batch()
        batch.get("/a", params={"b": "1"})
        batch.post("/tasks", json={"payload": {"name": "Water the beans"}})
        batch.get("/binary")
        batch.get("/nowhere")
        batch.post("/tasks", json={"name": "not in an envelope"})
        batch.get("/closed")
        responses = await batch.send()
    assert [response.status_code for response in responses] == [200, 201, 200, 200, 201, 403]
    assert responses[0].json() == {"at": "GET /a?b=1", "body": ""}
    assert (responses[1].json(), responses[1].headers["location"]) == ({"payload": {"name": "Water the beans"}}, "/tasks/7")
    assert responses[2].content == b"\xff\x00"
    # One batch, what no action can be, and what its refusal says can be sent alone.
    assert transport.sent == 3


async def test_it_is_what_a_host_compares_with_requests_alone() -> None:
    calls = {"url": "/a?b=1", "method": "get", "with": {"c": 1.50}}, {"url": "/binary", "method": "get"}
    await assert_same_as_alone(host(), *calls, dialect=TOY)
    with pytest.raises(BatchRefused, match="The dialect of this endpoint is 'toy': tell your client so"):
        await assert_same_as_alone(host(), action("/a"), dialect="plain")


async def test_another_dialect_than_the_endpoints_is_refused() -> None:
    fields = [(b"content-type", b"application/json; dialect=plain")]
    answer = await request(host(), "POST", "/batch", headers=fields, body=BATCH)
    assert (answer.status, answer.json()) == (415, {"wrong": "The dialect of this endpoint is 'toy': tell your client so"})


@pytest.mark.parametrize("transport", [AsyncBatchTransport, BatchTransport])
async def test_it_may_be_named_wherever_a_dialect_is(transport: Any) -> None:
    transport(url="https://example.com/batch", dialect=TOY)
    with pytest.raises(ValueError, match="dialect='no': give one of 'asana', 'plain', 'toy'"):
        transport(url="https://example.com/batch", dialect="no")


def test_the_names_for_type_checkers_are_those_of_the_table() -> None:
    assert [*get_args(DialectName), "toy"] == list(DIALECTS)
