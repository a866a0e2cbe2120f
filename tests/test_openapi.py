"""OpenAPI: what the description says is what goes over the wire, in every tool that a host has for it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer
from hypothesis import settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import BaseModel
from schemathesis.checks import negative_data_rejection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.schemas import SchemaGenerator

from batchkit import Batch, BatchEndpoint, TooManyRequests, batchable, openapi
from batchkit._protocol.dialects import DIALECTS
from tests.asgi import lifespan, request
from tests.batches import JSON, action, batch, envelope, post
from tests.servers import serving

PUBLISHED = yaml.safe_load((Path(__file__).parent / "data" / "asana-batch-api-openapi.yml").read_text())
ACTION = DIALECTS["asana"].action_schema
INFO = {"openapi": "3.1.0", "info": {"title": "A host", "version": "1"}}


@batchable
async def task(request: Request) -> Response:
    content = (await request.body()).decode()
    return JSONResponse({"data": content}, 201 if content else 200, {"location": "/tasks/7"})


@batchable
async def file(request: Request) -> Response:
    return Response(b"\xff\x00", media_type="image/png")


ROUTES = [Route("/tasks/{gid}", task, methods=["GET", "POST"]), Route("/file", file)]


def hosting(**settings: Any) -> Starlette:
    return BatchEndpoint(**settings).mount_to(Starlette(routes=[*ROUTES]))


def validator(document: dict[str, Any], schema: str) -> Draft202012Validator:
    """The validator of one of the schemas of a description."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": document["components"]})


@pytest.mark.parametrize("dialect", ["asana", "plain"])
def test_the_description_is_valid(dialect: Any) -> None:
    document = openapi.document(BatchEndpoint(dialect=dialect, base_path="/api/1.0"), "/api/1.0/batch", title="T", version="7")
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "T", "version": "7"}
    [[method, operation]] = document["paths"]["/api/1.0/batch"].items()
    assert method == "post"
    assert "below /api/1.0." in operation["description"]
    assert ("opt_fields" in operation["description"]) == (dialect == "asana")
    json.dumps(document)


def test_the_published_description_is_the_floor() -> None:
    """“same schema names, 200/400/401/403/429/500, plus 413, 415, 503”."""
    document = openapi.document(BatchEndpoint())
    published, ours = (of["paths"]["/batch"]["post"] for of in (PUBLISHED, document))
    assert set(ours["responses"]) - set(published["responses"]) == {"413", "415", "503", "default"}
    assert set(published["responses"]) <= set(ours["responses"])
    for name in ("operationId", "tags"):
        assert ours[name] == published[name]
    for name, schema in PUBLISHED["components"]["schemas"].items():
        described = document["components"]["schemas"][name]
        assert set(schema["properties"]) <= set(described["properties"])
        for key, rules in schema["properties"].items():
            if "example" in rules:
                assert described["properties"][key]["examples"] == [rules["example"]]


def test_what_a_host_writes_into_its_description_changes_no_batch() -> None:
    """The schema that batches are judged by stays as it is."""
    shown = openapi.schemas(BatchEndpoint())["BatchRequestAction"]
    assert shown == ACTION
    shown["properties"]["relative_path"].clear()
    assert shown != ACTION


def test_no_security_of_its_own_hides_that_of_the_host() -> None:
    assert "security" not in openapi.operation(BatchEndpoint())


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [1, 3, 10])
async def test_minitems_and_maxitems_tell_clients_the_limit(limit: int) -> None:
    app, document = hosting(max_actions=limit), openapi.document(BatchEndpoint(max_actions=limit))
    for count in (0, 1, limit, limit + 1):
        sent = envelope(*[action("/tasks/1")] * count)
        answered = (await post(app, sent)).status == 200
        assert validator(document, "BatchRequest").is_valid(json.loads(sent)) == answered == (1 <= count <= limit)
    assert f"request is {limit}." in openapi.operation(BatchEndpoint(max_actions=limit))["description"]


@pytest.mark.anyio
async def test_answers_are_as_described_and_nothing_else_is() -> None:
    """“exactly these three keys (a fourth, "body_encoding":"base64", only where the body is binary)”."""
    document = openapi.document(BatchEndpoint())
    actions = [
        action("/tasks/1"),
        action("/tasks/1", "post", data={"a": 1}),
        action("/file"),
        action("/nowhere"),
        action("/tasks/1", "head"),
        action("no"),
        {},
    ]
    answer = await post(hosting(), envelope(*actions))
    validator(document, "BatchAnswer").validate(answer.json())
    results = answer.json()["data"]
    assert "body_encoding" in results[2]
    for changed in ({"more": 1}, {"body_encoding": "hex"}, {"status_code": "200"}, {"headers": {"a": 1}}):
        assert not validator(document, "BatchResponse").is_valid({**results[0], **changed})
    assert not validator(document, "BatchResponse").is_valid({"status_code": 200, "headers": {}})
    assert not validator(document, "BatchAnswer").is_valid({**answer.json(), "next_page": None})


async def refuse(batch: Batch) -> None:
    raise TooManyRequests("no", retry_after=0.2)


async def fail(batch: Batch) -> None:
    raise OSError


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "status", "body", "fields"),
    [
        ({}, 400, b"{", [JSON]),
        ({"help": "Ask ada@example.org"}, 400, b"{}", [JSON]),
        ({"max_body_size": 1}, 413, b"{}", [JSON]),
        ({}, 415, b"{}", []),
        ({"cost_hook": refuse}, 429, envelope(action("/tasks/1")), [JSON]),
        ({"cost_hook": fail}, 503, envelope(action("/tasks/1")), [JSON]),
    ],
)
async def test_refusals_are_as_described(
    settings: dict[str, Any], status: int, body: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    document = openapi.document(BatchEndpoint(**settings))
    answer = await request(hosting(**settings), "POST", "/batch", headers=fields, body=body)
    assert answer.status == status
    response = document["paths"]["/batch"]["post"]["responses"][str(status)]
    assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/BatchErrors"}
    validator(document, "BatchErrors").validate(answer.json())
    assert ("Retry-After" in response.get("headers", {})) == bool(answer.all(b"retry-after"))


# Starlette


@pytest.mark.parametrize("dialect", ["asana", "plain"])
def test_starlettes_schema_generator_shows_it_without_components(dialect: Any) -> None:
    """A host need not name our schemas in its own description for that to be valid."""
    sub = BatchEndpoint(dialect=dialect, host=Starlette()).mount_to(Starlette())
    by_hand = Route("/v2/batch", BatchEndpoint(max_actions=3))
    app = hosting()
    app.routes.extend([Mount("/sub", sub), by_hand])
    document = SchemaGenerator({**INFO}).get_schema(app.routes)
    operations = {path: item["post"] for path, item in document["paths"].items()}
    assert set(operations) == {"/batch", "/sub/batch", "/v2/batch"}
    for path, operation in operations.items():
        validate({**INFO, "paths": {path: {"post": operation}}})
        sent = operation["requestBody"]["content"]["application/json"]["schema"]
        actions = sent["properties"]["data"]["properties"]["actions"]
        assert actions["maxItems"] == (3 if path.startswith("/v2") else 10)
        assert actions["items"] == {"title": "BatchRequestAction", **ACTION}
        assert "$ref" not in json.dumps(operation)


# FastAPI


def fastapi_host(**settings: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/items/{item}")
    @batchable
    async def item(item: int) -> dict[str, int]:
        return {"item": item}

    @app.post("/items")
    @batchable
    async def add(item: dict[str, int]) -> dict[str, int]:
        return item

    return BatchEndpoint(dialect="plain", base_path="/", **settings).mount_to(app, "/api/batch")


async def described(app: FastAPI) -> dict[str, Any]:
    """The description as a client gets it, found valid."""
    answer = await request(app, "GET", "/openapi.json")
    document: dict[str, Any] = answer.json()
    validate(document)
    return document


@pytest.mark.anyio
async def test_fastapi_shows_the_same_description() -> None:
    app = fastapi_host(max_actions=7)
    document = await described(app)
    endpoint = BatchEndpoint(dialect="plain", base_path="/", max_actions=7)
    assert document["paths"]["/api/batch"] == {"post": openapi.operation(endpoint)}
    shown = document["components"]["schemas"]
    assert {name: shown[name] for name in openapi.schemas(endpoint)} == openapi.schemas(endpoint)
    assert (await request(app, "GET", "/docs")).status == 200


@pytest.mark.anyio
async def test_fastapis_route_for_the_description_is_never_entered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "batchkit")
    app = fastapi_host(policy="all")
    async with lifespan(app):
        assert "POST /items" in caplog.text
        assert "/batch" not in caplog.text
    results = await batch(app, action("/items/7"), action("/api/batch", "post"), path="/api/batch")
    assert [result["status_code"] for result in results] == [200, 400]
    assert (await request(app, "GET", "/api/batch")).status == 405
    assert (await post(app, b"{}", path="/api/batch")).status == 400


@pytest.mark.anyio
async def test_a_description_that_fastapi_has_cached_is_made_anew() -> None:
    app = FastAPI()
    assert (await described(app))["paths"] == {}
    BatchEndpoint().mount_to(app)
    assert set((await described(app))["paths"]) == {"/batch"}

    @app.get("/later")
    async def later() -> None: ...

    assert set((await described(app))["paths"]) == {"/batch", "/later"}


@pytest.mark.anyio
@pytest.mark.parametrize("before", [True, False])
async def test_a_host_that_makes_the_description_itself_has_it_too(before: bool) -> None:
    """FastAPI's guide tells hosts to replace ``app.openapi``."""
    app = FastAPI()

    def own() -> dict[str, Any]:
        app.openapi_schema = app.openapi_schema or get_openapi(title="Own", version="2", routes=app.routes)
        return app.openapi_schema

    if before:
        app.openapi = own  # type: ignore[method-assign]
    BatchEndpoint().mount_to(app)
    app.openapi = own  # type: ignore[method-assign]
    document = await described(app)
    assert document["info"]["title"] == "Own"
    assert set(document["paths"]) == {"/batch"}


class BatchResponse(BaseModel):
    """A model of the host's that happens to have this name."""

    own: int


@pytest.mark.anyio
async def test_schemas_of_the_same_name_are_told_apart() -> None:
    app = fastapi_host(max_actions=3)
    BatchEndpoint(max_actions=4).mount_to(app, "/v2/batch")

    @app.get("/own")
    async def own() -> BatchResponse: ...  # type: ignore[empty-body]

    document = await described(app)
    identifiers = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(identifiers)) == len(identifiers) == 5
    limits = []
    for path in ("/api/batch", "/v2/batch"):
        operation = document["paths"][path]["post"]
        [name] = [operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
        limits.append(document["components"]["schemas"][name]["properties"]["data"]["properties"]["actions"]["maxItems"])
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        validator(document, answer).validate({"data": [{"status_code": 200, "headers": {}, "body": None}]})
    assert limits == [3, 4]


@pytest.mark.anyio
async def test_what_the_app_asks_of_every_request_is_asked_of_the_batch() -> None:
    app = FastAPI(dependencies=[Depends(HTTPBearer())])
    BatchEndpoint().mount_to(app)
    assert (await described(app))["paths"]["/batch"]["post"]["security"] == [{"HTTPBearer": []}]


@pytest.mark.anyio
async def test_a_router_shows_it_where_it_serves_it() -> None:
    router, app = APIRouter(prefix="/router"), FastAPI()

    @router.get("/x")
    @batchable
    async def x() -> str:
        return "x"

    BatchEndpoint(host=app, dialect="plain").mount_to(router)
    app.include_router(router, prefix="/v1")
    assert set((await described(app))["paths"]) == {"/v1/router/batch", "/v1/router/x"}
    [result] = await batch(app, action("/x"), path="/v1/router/batch")
    assert (result["status_code"], result["body"]) == (200, "x")


@pytest.mark.anyio
async def test_routers_that_are_included_have_each_a_name_of_their_own() -> None:
    app = FastAPI()
    for prefix in ("/one", "/two"):
        router = APIRouter(prefix=prefix)
        BatchEndpoint(host=app, dialect="plain").mount_to(router)
        app.include_router(router, prefix="/v1")
        app.include_router(router, prefix="/v2")
    paths = (await described(app))["paths"]
    assert len({item["post"]["operationId"] for item in paths.values()}) == len(paths) == 4


made_up = schemathesis.openapi.from_asgi("/openapi.json", fastapi_host())


@made_up.include(path="/api/batch").parametrize()
@settings(max_examples=40)
def test_what_schemathesis_makes_up_from_it_is_answered_as_described(case: schemathesis.Case[Any]) -> None:
    # A bad action is refused in its own place, and not with the batch.
    case.call_and_validate(excluded_checks=[negative_data_rejection])


# A client


@pytest.mark.parametrize("kind", ["starlette", "fastapi"])
def test_a_generated_client_posts_a_batch(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, app = BatchEndpoint(), Starlette(routes=[Mount("/api", routes=[Route("/items/{item}", task)])])
    app = fastapi_host() if kind == "fastapi" else endpoint.mount_to(app, "/api/batch")
    document = app.openapi() if isinstance(app, FastAPI) else openapi.document(endpoint, "/api/batch")
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    # What it writes is formatted by a ruff on the PATH, where it is told nothing else.
    (tmp_path / "config.json").write_text('{"post_hooks": []}')
    files = ["--path", "openapi.json", "--config", "config.json", "--output-path", f"client_of_{kind}"]
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning", *files]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    monkeypatch.syspath_prepend(tmp_path)
    generated = importlib.import_module(f"client_of_{kind}")
    models = importlib.import_module(f"client_of_{kind}.models")
    create_batch_request = importlib.import_module(f"client_of_{kind}.api.batch_api.create_batch_request").sync

    with serving(app) as url, generated.Client(base_url=url, httpx_args={"trust_env": False}) as client:

        def run(*actions: Any) -> Any:
            return create_batch_request(client=client, body=models.BatchRequest(models.BatchRequestData(list(actions))))

        answer = run(models.BatchRequestAction("/items/1", "get"), models.BatchRequestAction("/items/2", "delete"))
        assert isinstance(answer, models.BatchAnswer)
        assert [result.status_code for result in answer.data] == [200, 405]
        assert "GET" in answer.data[1].headers["allow"]
        refused = run()
    assert isinstance(refused, models.BatchErrors)
    assert [error.message for error in refused.errors] == ["Batch requests must contain at least one action"]
