"""Which app the actions of a batch go to: never past the middleware that stands around it."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable
from tests.asgi import lifespan, request
from tests.batches import JSON, action, batch, envelope, post


@batchable
def endpoint(request: Request) -> Response:
    return Response()


def closed(request: Request) -> Response:
    return Response()


class Through:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.mark.anyio
@pytest.mark.parametrize("root_path", ["", "/v1"])
async def test_an_endpoint_in_a_mounted_app_is_right(root_path: str, caplog: pytest.LogCaptureFixture) -> None:
    sub = Starlette(routes=[Route("/x", batchable(endpoint))])
    app = Starlette(routes=[Mount("/api", sub)])
    for host, path in ((sub, "/1"), (app, "/2")):
        BatchEndpoint(host=host).mount_to(sub, path)
        sub.router.routes.append(Route(path + "/by-hand", BatchEndpoint(host=host, base_path="/" if host is sub else "/api")))
    async with lifespan(app):
        for path in ("/api/1", "/api/1/by-hand", "/api/2", "/api/2/by-hand"):
            answer = await request(app, "POST", path, headers=[JSON], body=envelope(action("/x")), root_path=root_path)
            assert b'"status_code":200' in answer.body
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


class Login:
    """Middleware around an app that is complete, which lets nobody in."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].endswith("/batch"):
            await Response(status_code=401)(scope, receive, send)
            return
        await self.app(scope, receive, send)


@pytest.mark.anyio
async def test_a_router_of_an_app_does_not_let_actions_past_its_middleware(caplog: pytest.LogCaptureFixture) -> None:
    app = Starlette(routes=[Route("/x", batchable(endpoint))], middleware=[Middleware(Login)])
    BatchEndpoint().mount_to(app.router)
    caplog.set_level("INFO")
    assert (await post(app, envelope(action("/x")))).status == 500
    assert "mount_to the outermost app, or name it, with all its middleware" in caplog.text
    for mounted in ("app", "router"):
        app = Starlette(routes=[Route("/x", batchable(endpoint))], middleware=[Middleware(Login)])
        BatchEndpoint(host=Through(app.router)).mount_to(app.router if mounted == "router" else app, "/1/batch")
        BatchEndpoint(host=app.router).mount_to(app.router if mounted == "router" else app, "/2/batch")
        caplog.clear()
        for path in ("/1/batch", "/2/batch"):
            assert (await post(app, envelope(action("/x")), path=path)).status == 500
        assert (
            caplog.text.count("RuntimeError: host= is the router of an app, whose middleware actions would pass by: give the app")
            == 2
        )
    router = Router([Route("/x", batchable(endpoint))])
    assert [result["status_code"] for result in await batch(BatchEndpoint().mount_to(router), action("/x"))] == [200]


@pytest.mark.anyio
async def test_an_endpoint_by_hand_whose_host_has_middleware_around_it() -> None:
    app = Starlette(routes=[Route("/x", batchable(endpoint)), Route("/y", closed)])
    outer = Login(app)
    app.router.routes.append(Route("/batch", BatchEndpoint(host=outer)))
    results = await batch(outer, action("/x"), action("/y"))
    assert [result["status_code"] for result in results] == [401, 401]


class Opaque:
    """Middleware that does not show what it leads to; where it leads to may depend on the path."""

    def __init__(self, app: ASGIApp, other: ASGIApp | None = None) -> None:
        self._app, self._other = app, other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._other if self._other and scope["path"].startswith("/v2") else self._app)(scope, receive, send)


class Switch(Opaque):
    """The same, but for what it shows."""

    def __init__(self, app: ASGIApp, other: ASGIApp) -> None:
        super().__init__(app, other)
        self.app = app


@pytest.mark.anyio
async def test_actions_are_judged_by_the_app_that_they_go_to(caplog: pytest.LogCaptureFixture) -> None:
    """``host`` may be middleware around another app than the one that has the endpoint: that is an error, and nothing runs."""
    marked = [Route("/x", batchable(endpoint)), Route("/v2/x", batchable(endpoint))]
    unmarked = [Route("/x", closed), Route("/v2/x", closed)]
    caplog.set_level("INFO")
    # Middleware around the app that has the endpoint, and around one that this is mounted in.
    app = Starlette(routes=marked)
    BatchEndpoint(host=Through(Opaque(app))).mount_to(app)
    assert [result["status_code"] for result in await batch(app, action("/x"))] == [200]
    sub = Starlette(routes=marked)
    app = Starlette(routes=[Mount("/api", sub), *unmarked])
    BatchEndpoint(host=Through(app), base_path="/").mount_to(sub)
    results = await batch(app, action("/x"), action("/api/x"), path="/api/batch")
    assert [result["status_code"] for result in results] == [400, 200]
    # Around another one; one that leads to several; one that does not show that there is another one around.
    here, there = Starlette(routes=marked), Starlette(routes=unmarked)
    BatchEndpoint(host=Through(there)).mount_to(here)
    assert (await post(here, envelope(action("/x")))).status == 500
    here, there = Starlette(routes=marked), Starlette(routes=unmarked)
    switch = Switch(here, there)
    BatchEndpoint(host=switch).mount_to(there, "/v2/batch")
    assert (await post(switch, envelope(action("/x")), path="/v2/batch")).status == 500
    sub = Starlette(routes=marked)
    app = Starlette(routes=[Mount("/api", sub), *unmarked])
    BatchEndpoint(host=Opaque(app), base_path="/").mount_to(sub)
    assert (await post(app, envelope(action("/x")), path="/api/batch")).status == 500
    assert caplog.text.count("mount_to the outermost app, or name it, with all its middleware") == 3
