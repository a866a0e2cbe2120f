"""Hosts whose routes cannot be read: Litestar and Quart, by three explicit settings."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import Litestar, asgi, get, post
from litestar.params import FromPath, JSONBody
from litestar.types import Receive as LitestarReceive
from litestar.types import Scope as LitestarScope
from litestar.types import Send as LitestarSend
from quart import Quart
from quart import request as quart_request
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint
from tests.asgi import request
from tests.batches import action, batch

ALLOW = ("GET /tasks/{gid:int}", "POST /tasks")


def litestar_host() -> ASGIApp:
    @get("/tasks/{gid:int}")
    async def read(gid: FromPath[int]) -> dict[str, int]:
        return {"gid": gid}

    @post("/tasks")
    async def create(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        return data

    @get("/secret")
    async def secret() -> None:
        raise AssertionError("reached")

    @asgi("/batch", copy_scope=True)
    async def batches(scope: LitestarScope, receive: LitestarReceive, send: LitestarSend) -> None:
        await endpoint(scope, receive, send)  # type: ignore[arg-type]

    app: Any = Litestar([read, create, secret, batches], logging_config=None)
    endpoint = BatchEndpoint(host=app, base_path="/", allow=ALLOW, dialect="plain")
    return app  # type: ignore[no-any-return]


def quart_host() -> ASGIApp:
    app = Quart(__name__)

    @app.get("/tasks/<int:gid>")
    async def read(gid: int) -> dict[str, int]:
        return {"gid": gid}

    @app.post("/tasks")
    async def create() -> Any:
        return await quart_request.get_json(), 201

    @app.get("/secret")
    async def secret() -> str:
        raise AssertionError("reached")

    inner: Any = app.asgi_app

    async def with_batches(scope: Scope, receive: Receive, send: Send) -> None:
        await (endpoint if scope["path"] == "/batch" else inner)(scope, receive, send)

    app.asgi_app = with_batches  # type: ignore[method-assign, assignment]
    host: Any = app
    endpoint = BatchEndpoint(host=host, base_path="/", allow=ALLOW, dialect="plain")
    return host  # type: ignore[no-any-return]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("make", "anyio_backend"),
    [(litestar_host, "asyncio"), (litestar_host, "trio"), (quart_host, "asyncio")],
    indirect=["anyio_backend"],
)
async def test_what_is_allowed_runs_and_all_else_is_refused(make: Any) -> None:
    """“Hosts without routes that can be read (other frameworks) are batchable only by an allow-list of path templates”"""
    app = make()
    headers = [(b"host", b"localhost")]
    results = await batch(app, action("/tasks/7"), action("/tasks", "post", data={"name": "x"}), action("/tasks/8"))
    assert [result["status_code"] for result in results] == [200, 201, 200]
    assert [result["body"] for result in results] == [{"gid": 7}, {"name": "x"}, {"gid": 8}]
    refused = [
        action("/secret"),
        action("/tasks/7", "delete"),
        action("/tasks"),
        action("/tasks/x"),
        action("/tasks/7/"),
        action("/batch", "post"),
        action("/nowhere"),
    ]
    assert [result["status_code"] for result in await batch(app, *refused)] == [400] * 7
    alone = await request(app, "GET", "/tasks/7", headers=headers)
    assert alone.json() == results[0]["body"]
