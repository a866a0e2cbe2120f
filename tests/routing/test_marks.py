"""What a mark is put on, and whom it is for."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, not_batchable
from tests.batches import action, batch


def endpoint(request: Request) -> Response:
    return Response()


class Called:
    @batchable
    async def __call__(self) -> dict[str, int]:
        return {"a": 1}


@pytest.mark.anyio
async def test_what_is_called_like_a_function_is_marked_like_one() -> None:
    """What ``functools.cache`` gives, and an object whose ``__call__`` is marked; it stays what it is alone, too."""

    @batchable
    @functools.cache
    def cached() -> dict[str, int]:
        return {"a": 1}

    @not_batchable
    @functools.cache
    def closed() -> dict[str, int]:
        return {"a": 1}

    class Closed:
        @not_batchable
        async def __call__(self) -> dict[str, int]:
            return {"a": 1}

    app = FastAPI()
    endpoints: list[Any] = [cached, Called(), functools.partial(Called()), closed, Closed()]
    for number, called in enumerate(endpoints):
        app.get(f"/{number}")(called)
    for policy in ("marked", "all"):
        BatchEndpoint(policy=policy, base_path="/").mount_to(app, f"/{policy}")
        results = await batch(app, *[action(f"/{number}") for number in range(5)], path=f"/{policy}")
        assert [result["status_code"] for result in results] == [200, 200, 200, 400, 400]


@pytest.mark.anyio
async def test_the_mark_of_an_app_that_wraps_a_function_is_for_one_place() -> None:
    """As of any app, which may stand in several places: the mark is for what came back."""

    class App:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await Response("ran")(scope, receive, send)

    app = functools.update_wrapper(App(), endpoint)
    host = Starlette(routes=[Mount("/open", batchable(app)), Mount("/closed", app)])
    results = await batch(BatchEndpoint().mount_to(host), action("/open/x"), action("/closed/x"))
    assert [result["status_code"] for result in results] == [200, 400]
