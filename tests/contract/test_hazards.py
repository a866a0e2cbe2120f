"""What goes wrong in naive batch endpoints, and is held by no test elsewhere. Each docstring names the hazard."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from inspect import signature
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser, SimpleUser
from starlette.background import BackgroundTask
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, current_action
from tests.asgi import request
from tests.batches import JSON, action, batch, envelope, messages, post

pytestmark = pytest.mark.anyio

HOST = (b"host", b"testserver")


def hosting(*routes: BaseRoute, middleware: Any = (), **settings: Any) -> Starlette:
    return BatchEndpoint(policy="all", **settings).mount_to(Starlette(routes=list(routes), middleware=list(middleware)))


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def statuses(app: ASGIApp, *entries: Any, headers: Any = ()) -> list[int]:
    return [result["status_code"] for result in await batch(app, *entries, headers=headers)]


# Keys of the scope

SERVERS_OWN = {"type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers"}
SERVERS_OWN |= {"client", "server", "state"}
INHERITED = [
    *["extensions", "path_params", "app_root_path", "app", "router", "route", "endpoint", "user", "auth", "session"],
    *["starlette.exception_handlers", "starlette._body_limit_responder", "starlette.max_body_size", "starlette.opentelemetry"],
    *["fastapi.telemetry", "fastapi_middleware_astack", "fastapi_inner_astack", "fastapi", "slowapi", "x.unknown"],
]


@pytest.mark.parametrize("by_hand", [False, True])
async def test_no_key_of_the_batchs_scope_is_inherited_but_the_servers_own(by_hand: bool) -> None:
    """Inherited, `router`, `user`, `session`, `fastapi_inner_astack`, … of the batch make another request of an action.

    Security: “The scope of an action is built from an allow-list”
    """
    seen: list[Scope] = []

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        if current_action(scope) is None:
            scope.update((key, {"of": "the batch"}) for key in INHERITED if key not in ("app_root_path", "path_params"))
        else:
            seen.append(dict(scope))
        await app(scope, receive, send)

    app = Starlette(routes=[Route("/a", hello), Route("/b", hello)])
    endpoint = BatchEndpoint(policy="all", host=outermost, base_path="/", allow=["/a", "/b"])
    if by_hand:
        app.mount("/batch", endpoint)
    else:
        endpoint = BatchEndpoint(policy="all", host=outermost)
        endpoint.mount_to(app, "/batch")
    path = "/batch/" if by_hand else "/batch"
    results = await batch(outermost, action("/a"), action("/b"), path=path)
    assert [result["status_code"] for result in results] == [200, 200]
    assert [set(scope) - {"batchkit.action"} for scope in seen] == [SERVERS_OWN] * 2
    one, other = seen
    assert one["headers"] is not other["headers"]
    assert one["state"] is not other["state"]
    assert one["asgi"]["spec_version"] == "2.4"


EVERY_EXTENSION: dict[str, Any] = {
    f"http.response.{name}": {} for name in ("pathsend", "zerocopysend", "trailers", "debug", "push", "early_hint", "template")
}


class Offering:
    """A server that offers every extension, and takes none of its messages from a batch."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "extensions": EVERY_EXTENSION}, receive, send)


async def test_a_file_is_answered_in_bytes_whatever_the_server_offers(tmp_path: Path) -> None:
    """With `http.response.pathsend`, `FileResponse` sends a path: 200 with 0 of 300,000 bytes. So it does to one that is gone."""
    file = tmp_path / "file.txt"
    file.write_text("x" * 300_000)

    async def download(request: Request) -> Response:
        assert "extensions" not in request.scope
        return FileResponse(file)

    app = Offering(hosting(Route("/file", download)))
    [result, partial] = await batch(app, action("/file"), action("/file"), headers=[(b"range", b"bytes=0-1,5-6")])
    assert (result["status_code"], len(result["body"])) == (200, 300_000)
    assert partial == result


TLS: dict[str, Any] = {"server_cert": "PEM", "client_cert_chain": ["PEM"], "client_cert_name": "CN=a", "tls_version": 0x0304}


async def test_what_the_server_says_of_the_connection_goes_along_and_nothing_is_shared() -> None:
    """“`extensions` such as TLS … goes along into an action's scope”: without it, who comes with a certificate comes without."""
    seen: list[dict[str, Any]] = []

    async def look(request: Request) -> Response:
        extensions: dict[str, Any] = request.scope["extensions"]
        seen.append({**extensions, "tls": {**extensions["tls"]}})
        # A middleware offers one of its own, say, or says more of the client.
        extensions["http.response.pathsend"] = {}
        extensions["tls"]["client_cert_name"] = "changed"
        return PlainTextResponse("x")

    inner = hosting(Route("/x", look))
    offered = {**EVERY_EXTENSION, "tls": {**TLS}}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "extensions": offered}, receive, send)

    assert await statuses(app, action("/x"), action("/x")) == [200, 200]
    assert seen == [{"tls": TLS}] * 2
    assert offered == {**EVERY_EXTENSION, "tls": TLS}


@pytest.mark.parametrize("extensions", [None, {}, EVERY_EXTENSION])
async def test_where_the_server_says_nothing_of_it_there_are_no_extensions(extensions: Any) -> None:
    async def look(request: Request) -> Response:
        return JSONResponse("extensions" in request.scope)

    inner = hosting(Route("/x", look))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "extensions": extensions}, receive, send)

    assert [result["body"] for result in await batch(app, action("/x"))] == [False]


async def test_scope_keys_names_keys_of_the_servers_own_that_go_along() -> None:
    """“`scope_keys=` names keys of the server's own that do (Mangum's `aws.event`)”: as they are, and those that are there."""
    event, seen = {"requestContext": {"stage": "prod"}}, []

    async def look(request: Request) -> Response:
        seen.append({key: value for key, value in request.scope.items() if key.startswith(("aws.", "x."))})
        return PlainTextResponse("x")

    inner = hosting(Route("/x", look), scope_keys=["aws.event", "aws.context", "x.absent", "client"])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "aws.event": event, "aws.context": None, "x.other": 1}, receive, send)

    assert await statuses(app, action("/x"), action("/x")) == [200, 200]
    assert seen == [{"aws.event": event, "aws.context": None}] * 2
    assert all(each["aws.event"] is event for each in seen)


async def test_path_params_and_root_path_of_the_batchs_own_route_are_not_the_actions() -> None:
    """`/t/{tenant}/batch` hands `tenant=acme` to `/who`; with the mount's `root_path`, `/batch/admin` is routed as `/admin`."""

    async def tell(request: Request) -> Response:
        urls = [str(request.url_for("who")), str(request.base_url), str(request.url)]
        return JSONResponse([request.path_params, request.scope["root_path"], urls])

    async def admin(request: Request) -> Response:
        raise AssertionError("reached")

    for root_path in ("", "/proxy"):
        app = Starlette(routes=[Route("/who", tell, name="who"), Route("/admin", admin)])
        app.mount("/t/{tenant}", BatchEndpoint(policy="all", host=app, base_path="/"))
        app.mount("/batch", BatchEndpoint(policy="all", host=app))
        alone = await request(app, "GET", "/who", headers=[HOST], root_path=root_path)
        for path in ("/t/acme/batch", "/batch/"):
            body = envelope(action("/who"), action("/batch/admin"))
            answer = await request(app, "POST", path, headers=[HOST, JSON], body=body, root_path=root_path)
            results = answer.json()["data"]
            assert results[0]["body"] == alone.json()
            assert results[1]["status_code"] == 400


class Accounts(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        if "authorization" not in conn.headers:
            raise AuthenticationError("Who are you?")
        return AuthCredentials([conn.url.path]), SimpleUser(conn.headers["authorization"])


async def test_each_action_is_authenticated_again_with_a_user_of_its_own() -> None:
    """A user object that is shared can be changed by a neighbour. Starlette's own refusal of a batch, a 400, stands as it is."""
    users: list[Any] = []

    async def who(request: Request) -> Response:
        users.append(request.user)
        return JSONResponse([request.user.display_name, request.auth.scopes])

    app = hosting(Route("/{x}", who), middleware=[Middleware(AuthenticationMiddleware, backend=Accounts())])
    results = await batch(app, action("/a"), action("/b"), headers=[(b"authorization", b"Bearer ann")])
    assert [result["body"] for result in results] == [["Bearer ann", ["/a"]], ["Bearer ann", ["/b"]]]
    assert users[0] is not users[1]
    answer = await post(app, envelope(action("/a")))
    assert (answer.status, answer.body) == (400, b"Who are you?")


async def test_each_action_has_a_session_of_its_own_and_its_cookie_stays_out_of_the_json() -> None:
    """One session dict for all is changed at once by all; a session cookie in the JSON can be read by scripts."""
    everybody = anyio.Event()
    carts: list[Any] = []

    async def add(request: Request) -> Response:
        request.session.setdefault("cart", []).append(request.path_params["item"])
        carts.append(request.session["cart"])
        if len(carts) == 3:
            everybody.set()
        await everybody.wait()
        return JSONResponse(request.session["cart"])

    app = hosting(Route("/{item}", add), middleware=[Middleware(SessionMiddleware, secret_key="k")], result_headers="*")
    answer = await post(app, envelope(*map(action, "abc")))
    assert [result["body"] for result in answer.json()["data"]] == [["a"], ["b"], ["c"]]
    assert b"session=" not in answer.body
    [cookie] = answer.all(b"set-cookie")
    [alone] = (await request(app, "GET", "/c", headers=[HOST])).all(b"set-cookie")
    assert re.sub(rb"=[^;]+", b"=", cookie, count=1) == re.sub(rb"=[^;]+", b"=", alone, count=1)


@pytest.mark.skipif("max_body_size" not in signature(Route).parameters, reason="this Starlette has no limit of a route's body")
async def test_a_limit_of_a_routes_body_sees_the_actions_own_body() -> None:
    """An inherited body limit refuses five small bodies for their sum, or never counts the actions' own."""

    async def read(request: Request) -> Response:
        return JSONResponse(len(await request.body()))

    app = hosting(Route("/x", read, methods=["POST"], max_body_size=400))
    small = [action("/x", "post", data={"a": "x" * 48})] * 5
    results = await batch(app, *small, action("/x", "post", data={"a": "x" * 7209}))
    assert [result["status_code"] for result in results] == [200, 200, 200, 200, 200, 413]
    assert [result["body"] for result in results[:5]] == [len('{"data":{"a": ""}}') + 48] * 5


async def test_a_header_that_one_action_changes_is_its_own() -> None:
    """`MutableHeaders(scope=…)` changes the list in place."""

    async def change(request: Request) -> Response:
        seen = request.headers.get("x-mark")
        MutableHeaders(scope=request.scope)["x-mark"] = request.url.path
        return JSONResponse(seen)

    results = await batch(hosting(Route("/{x}", change)), *map(action, "abc"), headers=[(b"x-mark", b"batch")])
    assert [result["body"] for result in results] == ["batch"] * 3


# receive(), send() and the response


class Older:
    """A middleware for which every server is one of ASGI 2.0: then a stream listens for the disconnect beside its work."""

    def __init__(self, app: ASGIApp, version: str) -> None:
        self.app = app
        self.version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["asgi"] = {"version": "3.0", "spec_version": self.version}
        await self.app(scope, receive, send)


@pytest.mark.parametrize("version", ["2.0", "2.3", "2.4"])
async def test_streams_are_complete_in_either_style_and_the_client_is_still_there(version: str, tmp_path: Path) -> None:
    """A `receive()` that says `http.disconnect` after the body ends streams early; one that never waits stops the loop."""
    (tmp_path / "file.txt").write_text("x" * 200_000)

    async def chunks(request: Request) -> AsyncIterator[str]:
        for number in range(3):
            await anyio.lowlevel.checkpoint()
            yield f"{number} {await request.is_disconnected()} "

    async def stream(request: Request) -> Response:
        return StreamingResponse(chunks(request), media_type="text/plain")

    async def file(request: Request) -> Response:
        return FileResponse(tmp_path / "file.txt")

    app = hosting(Route("/stream", stream), Route("/file", file), middleware=[Middleware(Older, version)])
    with anyio.fail_after(20):
        [streamed, filed] = await batch(app, action("/stream"), action("/file"))
    assert streamed["body"] == "0 False 1 False 2 False "
    assert len(filed["body"]) == 200_000


class Pass(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def test_a_failure_after_the_answer_is_nobodys_through_a_middleware_too(caplog: pytest.LogCaptureFixture) -> None:
    """`BaseHTTPMiddleware` raises late: the whole batch was 500, without any neighbour's result."""

    async def later() -> None:
        raise ValueError("late")

    async def task(request: Request) -> Response:
        return PlainTextResponse("now", background=BackgroundTask(later))

    app = hosting(Route("/task", task), Route("/hello", hello), middleware=[Middleware(Pass)])
    results = await batch(app, action("/hello"), action("/task"), action("/hello"))
    assert [result["body"] for result in results] == ["hello", "now", "hello"]
    assert "ValueError: late" in caplog.text


@pytest.mark.parametrize("declared", ["0", "10", "-1", "x"])
async def test_a_content_length_that_is_wrong_changes_nothing(declared: str) -> None:
    """Declared 10, sent 5: the field is dropped, the body stands as it was sent."""

    async def lies(request: Request) -> Response:
        response = PlainTextResponse("12345")
        response.headers["content-length"] = declared
        return response

    [result] = await batch(hosting(Route("/x", lies), result_headers="*"), action("/x"))
    assert result == {"status_code": 200, "headers": {"content-type": "text/plain; charset=utf-8"}, "body": "12345"}


# Paths, methods, headers


async def test_a_batch_is_not_reached_by_a_redirect_either() -> None:
    """`/batch/` is redirected to `/batch`: who follows has a batch in a batch."""
    app = hosting(Route("/x", hello))
    for path in ("/batch/", "/batch//", "/x/"):
        [result] = await batch(app, action(path, "post", data={"actions": [action("/x")]}))
        assert result["status_code"] in (307, 400, 404)
        assert "data" not in result["body"]


async def test_no_cookie_jar_stands_between_two_clients_or_two_actions() -> None:
    """With one shared client inside, the second user was answered as the first."""

    async def login(request: Request) -> Response:
        response = JSONResponse(request.cookies)
        response.set_cookie("user", "alice")
        return response

    app = hosting(Route("/login", login))
    ben = (b"cookie", b"user=ben")
    assert [result["body"] for result in await batch(app, action("/login"), action("/login"))] == [{}, {}]
    assert [result["body"] for result in await batch(app, action("/login"), headers=[ben])] == [{"user": "ben"}]
    assert [result["body"] for result in await batch(app, action("/login"))] == [{}]


# Tasks, threads, cancellation


class Slot:
    """A middleware with one slot, held for the length of each request."""

    def __init__(self, app: ASGIApp, passes: bool) -> None:
        self.app = app
        self.passes = passes
        self.slots = anyio.CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (self.passes and scope["path"] == "/batch"):
            await self.app(scope, receive, send)
            return
        async with self.slots:
            await self.app(scope, receive, send)


@pytest.mark.parametrize("passes", [False, True])
async def test_middleware_that_holds_something_for_the_batch_and_for_its_actions_ends_at_the_deadline(passes: bool) -> None:
    """Batches and their actions waited for each other for ever. The README says what to do; what is not done ends in time."""
    timeout = 10 if passes else 0.05
    app = hosting(Route("/hello", hello), middleware=[Middleware(Slot, passes=passes)], action_timeout=timeout)
    with anyio.fail_after(20):
        assert await statuses(app, action("/hello"), action("/hello")) == [200 if passes else 504] * 2
        assert await statuses(app, action("/hello")) == [200 if passes else 504]


async def test_batches_need_no_thread_of_their_own() -> None:
    """A batch endpoint in a thread waits for its actions' threads, which wait for it. Here there is one thread for all."""

    def in_thread(request: Request) -> Response:
        return PlainTextResponse("thread")

    app = hosting(Route("/x", in_thread))
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    found: list[list[int]] = []

    async def one() -> None:
        found.append(await statuses(app, *[action("/x")] * 10))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(one)
    assert found == [[200] * 10] * 4


@pytest.mark.parametrize("nested", [False, True])
async def test_an_error_while_an_overdue_action_unwinds_is_its_own(nested: bool, caplog: pytest.LogCaptureFixture) -> None:
    """On trio, what comes out then is a group of `[Cancelled, ValueError]`."""

    async def unwinds() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("secret")

    async def overdue(request: Request) -> Response:
        if not nested:
            await unwinds()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(unwinds)
            tasks.start_soon(anyio.sleep_forever)
        raise AssertionError

    app = hosting(Route("/overdue", batchable(timeout=0.02)(overdue)), Route("/hello", hello))
    results = await batch(app, action("/hello"), action("/overdue"), action("/hello"))
    assert [result["status_code"] for result in results] == [200, 504, 200]
    assert "secret" not in json.dumps(results)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("middleware", [[], [Middleware(Pass)]])
async def test_a_deadline_holds_after_a_cancellation_that_was_swallowed(middleware: Any) -> None:
    """After a native `cancel()` that the handler swallowed, a cancel scope no longer swallows its own: neighbours were lost."""

    async def stubborn(request: Request) -> Response:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await anyio.sleep_forever()
        raise AssertionError

    soon = batchable(timeout=0.02)(stubborn)
    app = hosting(Route("/stubborn", soon), Route("/hello", hello), middleware=middleware)
    with anyio.fail_after(20):
        assert await statuses(app, action("/hello"), action("/stubborn"), action("/hello")) == [200, 504, 200]
        assert await statuses(app, action("/hello")) == [200]


# JSON in


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig"])
async def test_another_encoding_of_json_is_400(encoding: str) -> None:
    """`json.loads` takes UTF-16 and UTF-32 without being told."""
    body = envelope(action("/x")).decode().encode(encoding)
    answer = await post(hosting(Route("/x", hello)), body)
    assert (answer.status, messages(answer.json())) == (400, ["Could not parse request data, invalid JSON"])


async def test_numbers_that_python_does_not_read_are_no_error_of_the_server() -> None:
    """`int()` refuses more than 4,300 digits with a `ValueError` that is no `JSONDecodeError`; 1e400 is no finite float."""
    for number in ("9" * 5000, "-" + "9" * 5000, "1e400", "1E-400", "1" * 400 + ".5"):
        entry = '{"relative_path":"/x","method":"get","%s":%s}'
        bodies = [
            *['{"data":{"actions":[%s]}}' % (entry % (key, number)) for key in ("data", "options", "method", "x")],
            '{"data":{"actions":[%s]}}' % (entry % ("options", '{"limit":[%s]}' % number)),
            f'{{"data":{{"actions":[{number}]}}}}',
        ]
        for body in bodies:
            answer = await post(hosting(Route("/x", hello)), body.encode())
            assert [result["status_code"] for result in answer.json()["data"]] == [400], body[:60]
            assert b"999" not in answer.body
        for body in (
            number,
            f'{{"data":{number}}}',
            f'{{"data":{{"actions":{number}}}}}',
            f'{{"data":{{"actions":[]}},"x":{number}}}',
        ):
            assert (await post(hosting(Route("/x", hello)), body.encode())).status == 400


# Auth and CSRF


class SameOrigin:
    """A middleware against forged requests: what changes anything must come from this origin."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        forged = scope["type"] == "http" and scope["path"] != "/batch" and scope["method"] not in ("GET", "HEAD")
        if forged and Request(scope).headers.get("origin") != "https://a.example":
            await PlainTextResponse("forged", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


async def test_each_action_is_judged_by_its_own_method_and_the_batchs_origin() -> None:
    """A preflight for the batch lets a DELETE in: so each action keeps `Origin`, and a 403 is its own."""
    app = hosting(Route("/x", hello, methods=["GET", "DELETE"]), middleware=[Middleware(SameOrigin)])
    for origin, expected in ((b"https://a.example", 200), (b"https://evil.example", 403)):
        found = await statuses(app, action("/x"), action("/x", "delete"), headers=[(b"origin", origin)])
        assert found == [200, expected]


async def test_a_401_of_one_action_is_its_own() -> None:
    async def guarded(request: Request) -> Response:
        return Response(status_code=401, headers={"www-authenticate": "Bearer"})

    app = hosting(Route("/open", hello), Mount("/guarded", routes=[Route("/x", guarded)]))
    results = await batch(app, action("/open"), action("/guarded/x"))
    assert [result["status_code"] for result in results] == [200, 401]
    assert results[1]["headers"] == {"www-authenticate": "Bearer"}
