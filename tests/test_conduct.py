"""Cancel scopes that a handler leaves open: anyio ends the task group around it, with everything in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from batchkit import BatchEndpoint
from tests.asgi import request
from tests.batches import action, batch, envelope, post

pytestmark = pytest.mark.anyio

abandoned: list[AsyncIterator[int]] = []


async def numbers() -> AsyncIterator[int]:
    with anyio.move_on_after(60):
        yield 1
        yield 2


async def leaves(request: Request) -> Response:
    """Leaves a scope open, unless ``?how=not``."""
    match request.query_params.get("how"):
        case "scope":
            anyio.CancelScope().__enter__()
        case "shielded":
            anyio.CancelScope(shield=True).__enter__()
        case "group":
            await anyio.create_task_group().__aenter__()
        case "generator":
            abandoned.append(generator := numbers())
            async for _ in generator:
                break
    return PlainTextResponse("done")


async def waits(request: Request) -> Response:
    """Comes back only after several turns of the loop, long after its neighbour has left."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    return PlainTextResponse("waited")


def host() -> Starlette:
    return BatchEndpoint(policy="all").mount_to(Starlette(routes=[Route("/leaves", leaves), Route("/waits", waits)]))


@pytest.mark.parametrize("how", ["scope", "shielded", "group", "generator"])
async def test_a_cancel_scope_left_open_touches_no_other_action(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """“One action never touches another's result”; its own answer was complete, and stands as it does alone."""
    app = host()
    alone = await request(app, "GET", "/waits")
    for _ in range(3):
        results = await batch(app, action("/waits"), action("/leaves", data={"how": how}), action("/waits"))
        assert [result["body"] for result in results] == [alone.body.decode(), "done", "waited"]
    assert "data.actions[1]" in caplog.text
    assert "data.actions[0]" not in caplog.text


async def test_a_route_that_was_trusted_is_watched_again_after_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchkit.dispatch.TRUSTED_AFTER", 2)
    app = host()
    for _ in range(2):
        await batch(app, action("/leaves"))
    leak = action("/leaves", data={"how": "scope"})
    spoiled = await post(app, envelope(action("/waits"), leak))
    assert spoiled.status == 500
    results = await batch(app, action("/waits"), leak, action("/waits"))
    assert [result["body"] for result in results] == ["waited", "done", "waited"]
