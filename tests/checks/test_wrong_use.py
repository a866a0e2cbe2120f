"""What a person may write that is wrong, likely, and would else be silent or dangerous: an error says so, and what would do."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from inspect import signature
from types import MappingProxyType
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import anyio
import httpx
import litestar.handlers
import pytest
import quart
from fastapi import APIRouter, FastAPI
from opentelemetry.trace import NoOpTracer
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

import batchkit
import batchkit.testing
from batchkit import Batch, BatchEndpoint, BatchError, TooManyRequests, batchable, not_batchable, openapi
from batchkit._protocol.schema import explain
from batchkit._routing.marks import Mark, read_mark
from batchkit._routing.table import Table
from batchkit.client import AsyncBatchTransport, BatchClient, BatchTransport
from batchkit.contrib.opentelemetry import OpenTelemetry
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, asana_limits
from batchkit.testing import assert_same_as_alone, check_cost_hook, post_batch
from tests.asgi import lifespan, request
from tests.batches import action, batch, envelope, post

limiter = Limiter(asana_limits())


async def another_app(scope: Scope, receive: Receive, send: Send) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


def endpoint(request: Request) -> Response:
    return Response()


async def no_argument() -> None: ...


async def two_arguments(batch: Batch, units: int) -> None: ...


def not_async(batch: Batch) -> None: ...


async def async_generator(batch: Batch) -> AsyncIterator[None]:
    yield


def generator(batch: Batch) -> Iterator[None]:
    yield


class CallableHook:
    async def __call__(self, batch: Batch) -> None: ...


class Watches:
    @asynccontextmanager
    async def batch(self, batch: Batch) -> AsyncIterator[None]:
        yield


def plugin(**methods: Any) -> object:
    return type("Mine", (), methods)()


async def action_in_time(self: object, app: ASGIApp) -> None: ...


async def refused_in_time(self: object, batch: Batch, error: BatchError) -> None: ...


async def watches(self: object, batch: Batch) -> AsyncIterator[None]:
    yield


def mounted() -> Callable[..., Any]:
    it = BatchEndpoint()
    it.mount_to(Starlette())
    return it.mount_to


def awaited(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    async def run() -> Any:
        return await function(*args, **keywords)

    return anyio.run(run)


def untyped(transport: Any) -> Any:
    """What a type checker would refuse where it is given."""
    return transport(url="https://x/batch")


# What a person wrote, mistakes and all, to be run later.
wrong: Any = partial


def mounted_to(*arguments: Any) -> Any:
    return wrong(BatchEndpoint().mount_to, *arguments)


endpoint_of = partial(partial, BatchEndpoint)
endpoint_for = partial(partial, BatchEndpoint, host=another_app)
mount_to = partial(partial, BatchEndpoint().mount_to)
mark = partial(partial, batchable)
rate = partial(partial, Rate, 5, 60, name="a")
transport = partial(partial, BatchTransport, url="https://x/batch")
checked = partial(partial, awaited, check_cost_hook)
client = TestClient(Starlette())
get_x = batchkit.testing.action("get", "/x")

WRONG: list[tuple[Any, str]] = [
    # BatchEndpoint
    (endpoint_of(host="app:app"), "host='app:app': give a callable"),
    (endpoint_of(host=Starlette), "host=<class 'starlette.applications.Starlette'>: it is a class: give the app"),
    (endpoint_of(host=wsgi), "give an ASGI app; a WSGI app needs a2wsgi's WSGIMiddleware"),
    (endpoint_of(base_path="api"), "base_path='api': give a path like '/api/1.0'"),
    (endpoint_of(base_path="/api?x"), "base_path='/api?x': give a path"),
    (endpoint_of(dialect="jsonapi"), "dialect='jsonapi': give one of 'asana', 'plain'"),
    (endpoint_of(policy="none"), "policy='none': give one of 'marked', 'all'"),
    (endpoint_of(exclude="/scim/*"), "exclude='/scim/*': give a sequence of strings"),
    (endpoint_of(exclude={"/x": ["POST"]}), "exclude={'/x': ['POST']}: give a sequence of strings"),
    (endpoint_of(exclude=[7]), "exclude: 7 is not a string"),
    (endpoint_of(exclude=["post /x"]), "exclude: 'post /x': give a route template like 'POST /attach"),
    (endpoint_of(allow=["/x/*"]), "allow: '/x/*': spell out each path"),
    (endpoint_of(allow=["/x"]), "allow=['/x']: it is for a host= whose routes cannot be read; mark those of others"),
    (endpoint_of(allow=["/x"], host=FastAPI()), "allow=['/x']: it is for a host= whose routes"),
    (endpoint_for(allow=["/x/<gid>"]), "allow: '/x/<gid>': write parameters as in '/tasks/{gid"),
    (endpoint_for(allow=["/x/:gid"]), "allow: '/x/:gid': write parameters as"),
    (endpoint_for(allow=["/x/{a:decimal}"]), "Unknown path convertor 'decimal'"),
    (endpoint_for(base_path="/api", allow=["/x"]), "allow: '/x': it is not below base_path='/api': give whole paths"),
    (endpoint_of(max_actions=0), "max_actions=0: give a whole number, at least 1"),
    (endpoint_of(max_actions=True), "max_actions=True: give a whole number"),
    (endpoint_of(max_concurrency=2.5), "max_concurrency=2.5: give a whole number, at least 1"),
    (endpoint_of(max_body_size="1 MiB"), "max_body_size='1 MiB': give a whole number"),
    (endpoint_of(max_result_size=1.5), "max_result_size=1.5: give a whole number"),
    (endpoint_of(action_timeout=float("nan")), "action_timeout=nan: give a number of seconds"),
    (endpoint_of(action_timeout="30"), "action_timeout='30': give a number of seconds"),
    (endpoint_of(limiter_timeout=0), "limiter_timeout=0: give a number of seconds above 0"),
    (endpoint_of(limiter_errors="ignore"), "limiter_errors='ignore': give one of 'refuse', 'allow'"),
    (endpoint_of(require_json="no"), "require_json='no': give True or False"),
    (endpoint_of(result_headers="etag"), "result_headers='etag': give a sequence of strings"),
    (endpoint_of(result_headers=["Set-Cookie"]), "result_headers: 'Set-Cookie' is never shown"),
    (endpoint_of(result_headers=["*"]), "result_headers: '*': give names of header fields, or the string '*'"),
    (endpoint_of(withhold=["x-internal-*"]), "withhold: 'x-internal-*': give whole names of header fields"),
    (endpoint_of(withhold=["Host"]), "withhold: 'Host': apps route by it"),
    *(
        (endpoint_of(scope_keys=["aws.event", key]), f"scope_keys: {key!r}: each action has its own")
        for key in (
            *("method", "path", "raw_path", "query_string", "headers", "state", "root_path", "app_root_path", "asgi"),
            *("extensions", "path_params", "app", "router", "route", "endpoint", "user", "auth", "session", "batchkit.action"),
            *("starlette.exception_handlers", "starlette.max_body_size", "fastapi", "fastapi_inner_astack", "fastapi.telemetry"),
        )
    ),
    (endpoint_of(help=1), "help=1: give a text"),
    (endpoint_of(console="yes"), "console='yes': give True or False"),
    (endpoint_of(client_js="yes"), "client_js='yes': give True or False"),
    (endpoint_of(server_timing=1), "server_timing=1: give True or False, or None"),
    (wrong(BatchEndpoint.from_toml, None), "path=None: give the path of a TOML file"),
    # mount_to
    (mount_to(another_app), "is no Starlette app and no Router: put the endpoint into its routes by hand"),
    (mount_to(Starlette(), "batch"), "mount_to: 'batch': give a path like '/batch'"),
    (mount_to(Starlette(), "/batch/*"), "mount_to: '/batch/*': write parameters as"),
    (wrong(mounted(), Starlette()), "this BatchEndpoint is already mounted; make a second one"),
    (mount_to(Starlette(routes=[Route("/batch", endpoint)])), "mount_to: '/batch' is a route already: give another path"),
    (wrong(endpoint_for(allow=["/x"])().mount_to, Starlette()), "mount_to: allow=['/x'] is for other hosts: mark the routes"),
    (wrong(FastAPI().post("/batch"), BatchEndpoint()), "and no path operation: write endpoint.mount_to(app, '/batch')"),
    (wrong(TestClient(BatchEndpoint()).__enter__), "A BatchEndpoint has no lifespan: serve the app that it is mounted to"),
    # BatchEndpoint.mount_to(app, "/batch") gives the path in place of the app, as swapped arguments do.
    (
        wrong(BatchEndpoint.mount_to, Starlette(), "/batch"),
        "'/batch' stands where the app does: write BatchEndpoint(…).mount_to(app",
    ),
    (mounted_to("/batch", Starlette()), "'/batch' stands where the app does"),
    (mounted_to(FastAPI, "/batch"), "FastAPI'> is a class: give the app itself"),
    (
        mounted_to(batchable(FastAPI()), "/batch"),
        "what batchable(app) returns is for Mount(…): give the app",
    ),
    (mounted_to(Middleware, "/batch"), "is a class: give the app itself"),
    (
        mounted_to(LimitMiddleware(Starlette(), limiter=limiter), "/batch"),
        "LimitMiddleware object> is around your app: write BatchEndpoint(host=<this>).mount_to(<your app>)",
    ),
    (mounted_to(None, "/batch"), "mount_to: None is no app: give one of Starlette or FastAPI"),
    (
        mounted_to(wsgi, "/batch"),
        "takes (environ: 'Any', start_response: 'Any') -> 'list[bytes]': give an ASGI app",
    ),
    (
        mounted_to(another_app, "/batch"),
        "is no Starlette app and no Router: put the endpoint into its routes by hand",
    ),
    (
        mounted_to(APIRouter(prefix="/api"), "/batch"),
        "name the app that includes the router: BatchEndpoint(host=app)",
    ),
    (mounted_to(Starlette(), "batch"), "mount_to: 'batch': give a path like '/batch'"),
    (mounted_to(Starlette(), "/"), "mount_to: '/': give a path"),
    (mounted_to(Starlette(), None), "mount_to: None: give a path"),
    (mounted_to(Starlette(), "/{"), "mount_to: '/{': write parameters as"),
    # Hooks and plugins
    (endpoint_of(cost_hook=3), "cost_hook=3: give a callable"),
    (endpoint_of(cost_hook=no_argument), "no_argument>: it is called with the Batch, and takes ()"),
    (endpoint_of(cost_hook=two_arguments), "it is called with the Batch, and takes (batch:"),
    (endpoint_of(cost_hook=CallableHook), "CallableHook'>: it is called with the Batch, and takes ()"),
    (endpoint_of(plugins=Watches()), "Watches object>: give a list of plugins"),
    (endpoint_of(plugins=[object()]), "plugins: <object object> has none of the methods 'batch', 'action' and 'refused'"),
    (endpoint_of(plugins=[Watches]), "Watches'> is a class: give an instance of it"),
    (endpoint_of(plugins=[plugin(batch=watches)]), "Mine.batch: nobody awaits it: decorate it with contextlib.asynccontext"),
    (endpoint_of(plugins=[plugin(refused=refused_in_time)]), "plugins: Mine.refused: nobody awaits it: write def"),
    (endpoint_of(plugins=[plugin(action=action_in_time)]), "plugins: Mine.action: nobody awaits it: write def, and return an"),
    (
        endpoint_of(plugins=[plugin(refused=lambda self, batch: 0)]),
        "it is called with the Batch and the error, and takes (batch)",
    ),
    (endpoint_of(plugins=[plugin(action=lambda self, app: None)]), "its action(app) returned None: return an ASGI app"),
    (wrong(TooManyRequests, 30), "TooManyRequests(30): give a text; a time in seconds is retry_after="),
    (wrong(TooManyRequests, retry_after=1795390240.4), "give the seconds to wait, and not a point in time"),
    (wrong(TooManyRequests, retry_after="30"), "retry_after='30': give a number of seconds"),
    # Marks
    (mark(cost=0), "batchable(cost=0): give a whole number of requests, at least 1"),
    (mark(cost="3"), "batchable(cost='3'): give a whole number"),
    (mark(timeout=-1), "batchable(timeout=-1): give seconds above 0"),
    (mark(timeout="5"), "batchable(timeout='5'): give seconds"),
    (mark(limit=5), "batchable(limit=5): give the name of a limit"),
    (mark("search"), "'search' cannot be marked: give a function, an HTTPEndpoint class or an ASGI app"),
    (mark(Route("/x", endpoint)), "cannot be marked: mark the endpoint or the app that it leads to"),
    (wrong(not_batchable, Mount("/x", another_app)), "cannot be marked: mark the endpoint or the app"),
    (wrong(batchable(cost=3), batchable(limit="x")(lambda request: None)), "is marked already: give all keywords to one"),
    (mark(schema={"type": "objekt"}), "batchable(schema=…): not a JSON Schema: 'objekt'"),
    (mark(schema=CallableHook), "CallableHook'> is not of type 'object', 'boolean'"),
    (
        mark(schema={"properties": {"a": {"$ref": "#/$defs/lost"}}}),
        "batchable(schema=…): not a JSON Schema: $ref '#/$defs/lost' leads nowhere: put what it means below $defs",
    ),
    (mark(schema={"$ref": "https://example.com/task.json"}), "'https://example.com/task.json' leads nowh"),
    (mark(schema={"allOf": [{"$dynamicRef": "#lost"}]}), "$dynamicRef '#lost' leads nowhere"),
    (
        mark(schema={"$ref": "#/components/a", "components": {"a": {"items": {"$ref": "#/components/b"}}}}),
        "$ref '#/components/b' leads nowhere",
    ),
    (mark(schema={"$ref": "#/required", "required": ["a"]}), "['a'] is not of type 'object', 'boolean'"),
    (mark(schema={"$ref": "#"}), "not a JSON Schema: it refers to itself without end"),
    (
        mark(schema={"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}),
        "it refers to itself without end",
    ),
    (
        mark(schema={"$schema": "http://json-schema.org/draft-07/schema#"}),
        "$schema 'http://json-schema.org/draft-07/schema#': write it for https://json-schema.org/draft/2020-12/schema",
    ),
    (
        mark(schema={"items": {"$ref": "http://json-schema.org/draft-07/schema#"}}),
        "write it for https://json-schema.org/draft/20",
    ),
    (mark(schema={"pattern": "("}), "'(' is not a 'regex'"),
    # The limiter
    (wrong(Rate, 0, 60, name="a"), "Rate(0): give a whole number, at least 1"),
    (wrong(Rate, 5, "60", name="a"), "a: per='60': give a number of seconds"),
    (wrong(Rate, 5, 10**9, name="a"), "a: per=1000000000: give at most 31,622,400 seconds, a year"),
    (wrong(Rate, 5, 1e-6, name="a"), "give less than one per microsecond"),
    (wrong(Rate, 5, 60, name=""), "Rate(name=''): give a name"),
    (rate(limit=3), "Rate(limit=3): give a name"),
    (rate(methods="GET"), "a: methods='GET': give a sequence of strings"),
    (rate(methods=[]), "a: methods is empty, and counts nothing: give None for all"),
    *(
        (rate(methods=[each]), f"methods: {each!r}: give each, like 'GET', or None")
        for each in ("*", "ALL", "GET POST", "GET,PUT")
    ),
    (rate(routes=[]), "a: routes is empty, and counts nothing: give None for all"),
    (rate(routes=["tasks"]), "a: routes: 'tasks': give a route template"),
    (wrong(Concurrency, "5", name="a"), "Concurrency('5'): give a whole number"),
    (wrong(Concurrency, 5, name="a", lease=10**9), "a: lease=1000000000: give at most 31,622,400 seconds, a year"),
    (wrong(Limiter, []), "Limiter: no limits: give limits, each with a name of its own"),
    (wrong(Limiter, [rate()(), Concurrency(5, name="a")]), "a, a: give limits, each with a name of its own"),
    (wrong(Limiter, asana_limits(), "http://h"), "store: give None for memory, or a URL that begins with redis://"),
    (wrong(Limiter, asana_limits(), "redis://h/db"), "with numbers for port and database"),
    (wrong(Limiter, asana_limits(), "redis://h", prefix="{x}"), "prefix='{x}': give a text without braces"),
    (wrong(LimitMiddleware, Starlette(), limiter=limiter, limiter_timeout=0), "limiter_timeout=0: give a number of"),
    (wrong(LimitMiddleware, Starlette(), limiter=limiter, limiter_errors="x"), "limiter_errors='x': give one of 'refuse'"),
    # The client
    (wrong(BatchTransport, url="/batch"), "url='/batch': give the URL of the batch endpoint, like 'https://exam"),
    (transport(window="2ms"), "window='2ms': give a number of seconds"),
    (transport(window=-1), "window=-1: give a number of seconds, at least 0"),
    (transport(dialect="rest"), "dialect='rest': give one of 'asana', 'plain'"),
    (transport(base_path="api"), "base_path='api': give a path like '/api/1.0'"),
    (transport(max_actions=0), "max_actions=0: give a whole number, at least 1"),
    (transport(max_body_size="1"), "max_body_size='1': give a whole number"),
    (transport(max_wait=None), "max_wait=None: give a number of seconds"),
    (wrong(BatchClient, "/api"), "base_url='/api': give the URL of the API, like 'https://example.com/api/1.0'"),
    (wrong(BatchClient, "https://me:secret@x/v1", url="https://y/batch"), "give one of the origin of base_url='https://x/v1/'"),
    (wrong(BatchClient, "http://x", url="http://x:8000/batch"), "url='http://x:8000/batch': give one of the origin"),
    (
        wrong(BatchClient, "https://x/v1", url="https://x/v2/batch"),
        "base_url='https://x/v1/': actions are relative to '/v2/', which is elsewhere: give url and base_path as the server has",
    ),
    (wrong(BatchClient, "https://x/api", base_path="/ap"), "actions are relative to '/ap/', which is elsewhere"),
    (
        wrong(httpx.Client(transport=untyped(BatchTransport)).get, "https://x"),
        "BatchTransport is for clients of httpx2, and this is a <class 'httpx.Request'>: import httpx2",
    ),
    (
        wrong(awaited, httpx.AsyncClient(transport=untyped(AsyncBatchTransport)).get, "https://x"),
        "AsyncBatchTransport is for clients of httpx2, and this is a <class 'httpx.Request'>: import httpx2",
    ),
    # What a host's own tests use, and the wings
    (checked(not_async, limit=12), "it is not called without arguments: give a function that makes the hook"),
    (checked(no_argument, limit=12), "it made None: give a function that makes the hook"),
    (checked(CallableHook, limit="12"), "limit='12': give a whole number of units, at least"),
    (checked(CallableHook, limit=12, patience="5"), "patience='5': give a number of seconds"),
    (checked(CallableHook, limit=12, path="x"), "path='x': give a path like '/checked'"),
    (checked(CallableHook, limit=12, method="get"), "method='get': give one of 'GET', 'HEAD'"),
    (checked(CallableHook, limit=12, gives_back="no"), "gives_back='no': give True or False"),
    (checked(CallableHook, limit=12, headers=[("a", "b")]), "headers: <class 'list'>: give a dict of strings"),
    (checked(CallableHook, limit=12, host=Starlette()), "it is not called without arguments: give a function that makes the app"),
    (wrong(assert_same_as_alone, client), "actions: there are none: give action(…) at least once"),
    (wrong(assert_same_as_alone, client, get_x, ignore="gid"), "ignore='gid': give a sequence of strings"),
    (wrong(assert_same_as_alone, client, get_x, dialect="rest"), "dialect='rest': give one of 'asana', 'plain'"),
    (wrong(assert_same_as_alone, Starlette, get_x), "Starlette'>: give a TestClient, an httpx.Client or AsyncClient, or"),
    (wrong(post_batch, client, "get", "/x"), "actions: 'get': give action(…), each as an argument of its own"),
    (wrong(post_batch, client, get_x, path=None), "path=None: give a path like '/api/1.0/batch'"),
    (wrong(post_batch, client, get_x, headers={"authorization": b"secret"}), "headers: 'authorization': <class 'bytes'>: give a"),
    (wrong(OpenTelemetry, tracer_provider=NoOpTracer()), "NoOpTracer object>: give a TracerProvider"),
    (wrong(OpenTelemetry, meter_provider="meter"), "meter_provider='meter': give a MeterProvider"),
    (wrong(openapi.document, BatchEndpoint), "BatchEndpoint'>: give a BatchEndpoint, as BatchEndpoint(…) makes one"),
    (wrong(openapi.document, BatchEndpoint(), "batch"), "path='batch': give a path like '/batch'"),
    (wrong(openapi.document, BatchEndpoint(), version=1.0), "version=1.0: give a text"),
]


@pytest.mark.parametrize(("written", "says"), WRONG)
def test_what_a_person_may_write(written: Callable[[], object], says: str) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError)) as raised:
        written()
    assert says in re.sub(r" at 0x\w+", "", str(raised.value))
    assert "secret" not in str(raised.value)


# What is seen only as it runs: nothing runs unpaid, and the log says what to do.


async def returns_false(batch: Batch) -> bool:
    return False


async def returns_an_admission(batch: Batch) -> Any:
    return limiter(batch)


async def answers_as_a_handler(batch: Batch) -> None:
    raise HTTPException(429)


async def refuses_by_the_base(batch: Batch) -> None:
    raise BatchError("no units left")


async def wait_in_its_message(batch: Batch) -> None:
    raise TooManyRequests(30)  # type: ignore[arg-type]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("cost_hook", "says", "allowed"),
    [
        (returns_false, "cost_hook returned bool: raise TooManyRequests to refuse, or return nothing", 503),
        (
            not_async,
            "cost_hook returned NoneType: write it with async def, and decorate one that yields with contextlib.asy",
            503,
        ),
        (async_generator, "cost_hook returned async_generator: write it with async def, and decorate one that yields", 503),
        (generator, "cost_hook returned generator: write it with async def, and decorate one that yields", 503),
        (returns_an_admission, "cost_hook returned Admission: give cost_hook=limiter, or write @asynccontextmanager", 503),
        # An exception of the hook's own, as of a limiter that it cannot reach.
        (wait_in_its_message, "TooManyRequests(30): give a text; a time in seconds is retry_after=", 200),
        (refuses_by_the_base, "cost_hook raised BatchError('no units left'): raise TooManyRequests to refuse", 503),
        (answers_as_a_handler, "HTTPException(status_code=429, detail='Too Many Requests'): raise TooManyRequests to", 503),
    ],
)
async def test_a_hook_that_is_wrong_only_as_it_runs(
    cost_hook: Any, says: str, allowed: int, caplog: pytest.LogCaptureFixture
) -> None:
    ran = []

    @batchable
    async def runs(request: Request) -> Response:
        ran.append(request)
        return Response()

    app = BatchEndpoint(cost_hook=cost_hook).mount_to(Starlette(routes=[Route("/x", runs)]))
    assert (await post(app, envelope(action("/x")))).status == 503
    assert says in caplog.text
    assert not ran
    app = BatchEndpoint(cost_hook=cost_hook, limiter_errors="allow").mount_to(Starlette(routes=[Route("/x", runs)]))
    assert (await post(app, envelope(action("/x")))).status == allowed


async def forgets(limiter: Limiter, another: Limiter, batch: Batch) -> None:
    limiter(batch)


def gives(limiter: Limiter, another: Limiter, batch: Batch) -> Any:
    return limiter(batch)


async def forgives(limiter: Limiter, another: Limiter, batch: Batch) -> None:
    with suppress(TooManyRequests):
        async with limiter(batch):
            pass


@asynccontextmanager
async def enters(limiter: Limiter, another: Limiter, batch: Batch) -> AsyncIterator[None]:
    async with another(batch), limiter(batch):
        yield


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("hook", "another_allows", "status"),
    # Each of the two actions meets the middleware where the batch was not charged: one passes.
    [(forgets, 2, 200), (forgives, 2, 200), (gives, 2, 429), (enters, 2, 429), (enters, 1, 429)],
)
async def test_what_a_limiter_gives_charges_as_it_is_entered(hook: Any, another_allows: int, status: int) -> None:
    """Otherwise nothing is charged, and the middleware counts the actions itself."""
    limiter = Limiter([Rate(1, 60, name="a")])
    mounted = BatchEndpoint(policy="all", cost_hook=partial(hook, limiter, Limiter([Rate(another_allows, 60, name="b")])))
    limiter.free(mounted)
    app = Starlette(routes=[Route("/x", endpoint)], middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    mounted.mount_to(app)
    assert (await post(app, envelope(action("/x"), action("/x")))).status == status
    # A batch that was refused has left one unit.
    assert (await request(app, "GET", "/x")).status == (429 if status == 200 else 200)


class Auth:
    """It tells those inside of it whose request it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["team"] = "a"
        await self.app(scope, receive, send)


async def in_time(request: Request) -> str:
    return "key"


def answers_401(request: Request) -> str:
    raise HTTPException(401)


def refuses(request: Request) -> str:
    raise TooManyRequests("closed for the night")


outside = (
    ": what it reads must come from middleware outside of LimitMiddleware (the last that was added is the outermost); path_pa"
)


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:coroutine 'in_time' was never awaited")
@pytest.mark.parametrize(
    ("key", "added", "says", "status"),
    [
        (lambda request: request.state.team, [Auth, LimitMiddleware], outside, 503),
        (lambda request: request.path_params["gid"], [LimitMiddleware], outside, 503),
        (lambda: "key", [LimitMiddleware], "the key of 'a' failed with TypeError(", 503),
        (in_time, [LimitMiddleware], "the key of 'a' returned coroutine: return a string for everybody", 503),
        (answers_401, [LimitMiddleware], "HTTPException(status_code=401, detail='Unauthorized'): return a string for", 503),
        # These are right.
        (refuses, [LimitMiddleware], "", 429),
        (lambda request: request.state.team, [LimitMiddleware, Auth], "", 200),
    ],
)
async def test_a_key_that_is_wrong_only_as_it_runs(
    key: Any, added: list[Any], says: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    for errors in ("refuse", "allow"):
        limiter = Limiter([Rate(9, 60, name="a", key=key)])
        app = Starlette(routes=[Route("/x/{gid}", endpoint)])
        for each in added:
            options = {"limiter": limiter, "limiter_errors": errors} if each is LimitMiddleware else {}
            app.add_middleware(each, **options)
        caplog.clear()
        assert (await request(app, "GET", "/x/1")).status == status
        assert says in caplog.text
        assert bool(says) == bool(caplog.text)
    if added[0] is LimitMiddleware:
        # A batch asks within all middleware.
        limiter = Limiter([Rate(9, 60, name="a", key=key)])
        app = Starlette(routes=[Route("/x/{gid}", endpoint)], middleware=[Middleware(each) for each in added if each is Auth])
        BatchEndpoint(policy="all", cost_hook=limiter).mount_to(app)
        caplog.clear()
        assert (await post(app, envelope(action("/x/1")))).status == status
        assert says in caplog.text


def test_a_fastapi_that_hides_included_routes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    app, router = FastAPI(), APIRouter()
    router.get("/x")(batchable(endpoint))
    app.include_router(router)
    monkeypatch.delattr("fastapi.routing.iter_route_contexts")
    with pytest.raises(RuntimeError, match="pip install -U fastapi"):
        Table(app.router, BatchEndpoint().settings).refresh()


# What is right


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"a": {"$anchor": "b"}}, "$ref": "#b"},
        {"properties": {"below": {"items": {"$ref": "#"}}}},
        {"$dynamicAnchor": "node", "properties": {"below": {"$dynamicRef": "#node"}}},
        {"$id": "https://example.com/a", "$defs": {"b": {"$id": "b", "type": "object"}}, "allOf": [{"$ref": "b"}]},
        MappingProxyType({"type": "object"}),
        True,
    ],
)
def test_no_schema_that_works_is_refused(schema: Any) -> None:
    mark = read_mark(batchable(schema=schema)(lambda request: None), "GET")
    assert isinstance(mark, Mark)
    assert mark.schema is not None
    assert explain(mark.schema, {"below": [{"below": []}]}, "") == []


@pytest.mark.parametrize(
    ("base_url", "options"),
    [
        ("https://x/api/1.0/", {"url": "https://X:443/api/1.0/batch"}),
        ("https://x/api/1.0", {"url": "https://x/batch", "base_path": "/api/1.0"}),
        ("https://x", {"url": "https://x/batch/"}),
        # What is below may be asked for with more of a path, and what is above with less.
        ("https://x", {"url": "https://x/api/1.0/batch"}),
        ("https://x/api/1.0/tasks", {"url": "https://x/api/1.0/batch"}),
        ("https://x/a%20b", {"url": "https://x/a b/batch"}),
        ("https://me:secret@x", {"url": "https://x/batch"}),
    ],
)
def test_no_place_of_an_api_that_works_is_refused(base_url: str, options: dict[str, Any]) -> None:
    BatchClient(base_url, **options)


@pytest.mark.parametrize("url", ["redis://:secret@h:6379/0/?x=y", "redis://[::1]", "valkey://h//2", "redis://h/%30"])
def test_no_url_that_works_is_refused(url: str) -> None:
    Limiter(asana_limits(), url)


def test_an_endpoint_shows_the_signature_of_an_asgi_app() -> None:
    """As those ask who take it for what it is: Litestar, mocks and debuggers."""
    endpoint = BatchEndpoint()
    assert list(signature(endpoint).parameters) == ["scope", "receive", "send"]
    assert dict(inspect.getmembers(endpoint))["settings"].max_actions == 10
    assert create_autospec(endpoint).settings.max_actions
    litestar.handlers.asgi("/batch", copy_scope=True)(endpoint)


@functools.wraps(wsgi)
async def adapted(scope: Scope, receive: Receive, send: Send) -> None: ...


class Adapter:
    async def __call__(self, *args: Any) -> None: ...


@pytest.mark.parametrize(
    "app", [another_app, adapted, partial(Adapter().__call__, 1), Adapter(), Mock(), AsyncMock(), FastAPI(), quart.Quart("quart")]
)
def test_no_app_that_works_is_refused(app: Any) -> None:
    BatchEndpoint(host=app, base_path="/")
    Mount("/x", not_batchable(app))


@pytest.mark.parametrize(
    ("app", "host"), [(Starlette(), None), (FastAPI(), None), (Router(), None), (APIRouter(prefix="/api"), FastAPI())]
)
def test_no_mount_that_works_is_refused(app: Any, host: Any) -> None:
    BatchEndpoint(host=host).mount_to(app, "/t/{tenant}/batch")


class Hook:
    """A hook that is an async context manager of a batch, made anew for each."""

    def __init__(self, batch: Batch) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


async def charge(batch: Batch) -> None: ...


@functools.wraps(two_arguments)
async def gives_one_more(batch: Batch) -> None:
    await two_arguments(batch, 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "cost_hook",
    [
        charge,
        gives_one_more,
        CallableHook(),
        partial(two_arguments, units=3),
        lambda batch: charge(batch),
        asynccontextmanager(async_generator),
        Hook,
        limiter,
    ],
)
async def test_no_hook_that_works_is_refused(cost_hook: Any) -> None:
    app = BatchEndpoint(cost_hook=cost_hook, plugins=[Watches()]).mount_to(Starlette(routes=[Route("/x", batchable(endpoint))]))
    async with lifespan(app):
        assert [result["status_code"] for result in await batch(app, action("/x"))] == [200]
