"""“Every wrong keyword, mark, hook or installation that a person can write is met by an error that says what to do.”

One table of what a person wrote and what the error must say: which argument it was, and what would do.
"""

from __future__ import annotations

import functools
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from copy import copy
from functools import partial
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast
from unittest.mock import AsyncMock, Mock, create_autospec

import anyio
import httpx
import httpx2
import litestar.handlers
import pytest
import quart
from fastapi import APIRouter, Depends, FastAPI
from httpx2 import AsyncHTTPTransport, HTTPTransport
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracer
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

import batchkit
import batchkit.testing
from batchkit import Action, Batch, BatchEndpoint, BatchError, TooManyRequests, batchable, not_batchable, openapi
from batchkit._protocol.schema import explain
from batchkit._routing.marks import Mark, read_mark
from batchkit._routing.table import Table
from batchkit.client import AsyncBatchTransport, BatchClient, BatchTransport
from batchkit.client.server import Options
from batchkit.contrib.opentelemetry import OpenTelemetry
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, asana_limits
from batchkit.limiter.stores.memory import MemoryStore
from batchkit.testing import assert_same_as_alone, check_cost_hook, post_batch
from tests.asgi import lifespan, request
from tests.batches import action, batch, envelope, post

ROOT = Path(__file__).parents[2]
limiter = Limiter(asana_limits())


async def another_app(scope: Scope, receive: Receive, send: Send) -> None: ...


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


def endpoint(request: Request) -> Response:
    return Response()


async def no_argument() -> None: ...


async def two_arguments(batch: Batch, units: int) -> None: ...


def not_async(batch: Batch) -> None: ...


def unannotated(batch):  # type: ignore[no-untyped-def]
    if batch.cost > 5:
        raise TooManyRequests("more than 5")


async def async_generator(batch: Batch) -> AsyncIterator[None]:
    yield


def generator(batch: Batch) -> Iterator[None]:
    yield


class CallableHook:
    async def __call__(self, batch: Batch) -> None: ...


class GeneratorHook:
    async def __call__(self, batch: Batch) -> AsyncIterator[None]:
        yield


class Watches:
    @asynccontextmanager
    async def batch(self, batch: Batch) -> AsyncIterator[None]:
        yield


class RefusedInTime:
    async def refused(self, batch: Batch, error: BatchError) -> None: ...


class TakesTheBatch:
    def refused(self, batch: Batch) -> None: ...


class Undecorated:
    async def batch(self, batch: Batch) -> AsyncIterator[None]:
        yield


class Awaited:
    async def batch(self, batch: Batch) -> None: ...


class TakesNothing:
    def action(self) -> None: ...


class IsAnApp:
    async def action(self, app: ASGIApp) -> None: ...


class ReturnsNothing:
    def action(self, app: ASGIApp) -> None: ...


class NoMethod:
    batch = 5


class CalledWithARequest:
    async def __call__(self, request: Request) -> Response:
        return Response()


class AsyncKey:
    async def __call__(self, request: Request) -> str:
        return "key"


async def takes_a_request(request: Request) -> None: ...


provided = Depends(endpoint)


async def depends(batch: Batch, limiter: Any = provided) -> None: ...


class OfClass(HTTPEndpoint):
    @classmethod
    def get(cls, request: Request) -> None: ...


def mounted() -> Callable[..., Any]:
    it = BatchEndpoint()
    it.mount_to(Starlette())
    return it.mount_to


async def fetch(request: Request) -> str:
    return "key"


async def entered(client: httpx2.AsyncClient) -> None:
    async with client:
        pass


def awaited(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    async def run() -> Any:
        return await function(*args, **keywords)

    return anyio.run(run)


def swapped(transport: Any) -> Any:
    """What a type checker would refuse."""
    return transport(url="https://x/batch")


# What a person wrote, mistakes and all, to be run later.
wrong: Any = partial
client = TestClient(Starlette())
get_x = batchkit.testing.action("get", "/x")
asks_for_host = BatchEndpoint(host=another_app, base_path="/", allow=["/x"])

WRONG: list[tuple[Any, type[Exception], str]] = [
    # BatchEndpoint
    (
        wrong(BatchEndpoint, max_action=5),
        TypeError,
        "BatchEndpoint: unexpected keyword argument 'max_action': did you mean 'max_actions'?",
    ),
    (wrong(BatchEndpoint, timeout=3), TypeError, "unexpected keyword argument 'timeout': did you mean 'action_timeout'?"),
    (wrong(BatchEndpoint, rules=()), TypeError, "unexpected keyword argument 'rules': give one of host, base_path"),
    (wrong(BatchEndpoint, Starlette()), TypeError, "name it by its keyword: host, base_path"),
    (wrong(BatchEndpoint, host="app:app"), TypeError, "host='app:app': give a callable"),
    (
        wrong(BatchEndpoint, host=Starlette),
        TypeError,
        "host=<class 'starlette.applications.Starlette'>: it is a class: give the app",
    ),
    (
        wrong(BatchEndpoint, host=Wsgi(), base_path="/", allow=["/x"]),
        TypeError,
        "host=<tests.checks.test_wrong_use.Wsgi object>: it is called with scope and receive and send, and takes (environ: ",
    ),
    (wrong(BatchEndpoint, host=wsgi), TypeError, "give an ASGI app; a WSGI app needs a2wsgi's WSGIMiddleware"),
    (wrong(BatchEndpoint, base_path="api"), ValueError, "base_path='api': give a path like '/api/1.0'"),
    (wrong(BatchEndpoint, base_path="/api?x"), ValueError, "base_path='/api?x': give a path"),
    (wrong(BatchEndpoint, base_path=1.0), ValueError, "base_path=1.0: give a path"),
    (wrong(BatchEndpoint, dialect="jsonapi"), ValueError, "dialect='jsonapi': give one of 'asana', 'plain'"),
    (wrong(BatchEndpoint, policy="none"), ValueError, "policy='none': give one of 'marked', 'all'"),
    (wrong(BatchEndpoint, exclude="/scim/*"), TypeError, "exclude='/scim/*': give a sequence of strings"),
    (wrong(BatchEndpoint, exclude=[7]), TypeError, "exclude: 7 is not a string"),
    (wrong(BatchEndpoint, exclude=["post /x"]), ValueError, "exclude: 'post /x': give a route template like 'POST /attach"),
    (wrong(BatchEndpoint, exclude=["scim"]), ValueError, "exclude: 'scim': give a route template"),
    (wrong(BatchEndpoint, exclude=["PSOT /x"]), ValueError, "exclude: 'PSOT /x': give a route template"),
    (wrong(BatchEndpoint, allow=["/x/*"]), ValueError, "allow: '/x/*': spell out each path"),
    (
        wrong(BatchEndpoint, host=another_app, allow=["/x/<gid>"]),
        ValueError,
        "allow: '/x/<gid>': write parameters as in '/tasks/{gid",
    ),
    (wrong(BatchEndpoint, host=another_app, allow=["/x/:gid"]), ValueError, "allow: '/x/:gid': write parameters as"),
    (wrong(BatchEndpoint, host=another_app, allow=["/x/{gid"]), ValueError, "allow: '/x/{gid': write parameters as"),
    (wrong(BatchEndpoint, host=another_app, allow=["/x/*/y"]), ValueError, "allow: '/x/*/y': write parameters as"),
    (wrong(BatchEndpoint, host=another_app, allow=["/x/{a:decimal}"]), ValueError, "Unknown path convertor 'decimal'"),
    (wrong(BatchEndpoint, host=another_app, allow=["/x/{a}/{a}"]), ValueError, "Duplicated param name a at path /x/{a}/{a}"),
    (wrong(BatchEndpoint, allow=["x"]), ValueError, "allow: 'x': give a route template"),
    (
        wrong(BatchEndpoint, allow=["/x"]),
        ValueError,
        "allow=['/x']: it is for a host= whose routes cannot be read; mark those of others",
    ),
    (wrong(BatchEndpoint, allow=["/x"], host=FastAPI()), ValueError, "allow=['/x']: it is for a host= whose routes"),
    (wrong(BatchEndpoint, max_actions=0), ValueError, "max_actions=0: give a whole number, at least 1"),
    (wrong(BatchEndpoint, max_actions=True), ValueError, "max_actions=True: give a whole number"),
    (wrong(BatchEndpoint, max_concurrency=0), ValueError, "max_concurrency=0: give a whole number, at least 1, or None"),
    (wrong(BatchEndpoint, max_concurrency=2.5), ValueError, "max_concurrency=2.5: give a whole number, at least 1, or None"),
    (wrong(BatchEndpoint, max_body_size="1 MiB"), ValueError, "max_body_size='1 MiB': give a whole number"),
    (wrong(BatchEndpoint, max_result_size=1.5), ValueError, "max_result_size=1.5: give a whole number"),
    (wrong(BatchEndpoint, action_timeout=0), ValueError, "action_timeout=0: give a number of seconds above 0"),
    (wrong(BatchEndpoint, action_timeout=float("inf")), ValueError, "action_timeout=inf: give a number of seconds"),
    (wrong(BatchEndpoint, action_timeout=float("nan")), ValueError, "action_timeout=nan: give a number of seconds"),
    (wrong(BatchEndpoint, action_timeout="30"), TypeError, "action_timeout='30': give a number of seconds"),
    (wrong(BatchEndpoint, limiter_timeout=0), ValueError, "limiter_timeout=0: give a number of seconds above 0"),
    (wrong(BatchEndpoint, limiter_errors="ignore"), ValueError, "limiter_errors='ignore': give one of 'refuse', 'allow'"),
    (wrong(BatchEndpoint, require_json="no"), TypeError, "require_json='no': give True or False"),
    (wrong(BatchEndpoint, result_headers="etag"), TypeError, "result_headers='etag': give a sequence of strings"),
    (wrong(BatchEndpoint, result_headers=["Set-Cookie"]), ValueError, "result_headers: 'Set-Cookie' is never shown"),
    (
        wrong(BatchEndpoint, result_headers=["*"]),
        ValueError,
        "result_headers: '*': give names of header fields, or the string '*'",
    ),
    (wrong(BatchEndpoint, result_headers=["X: y"]), ValueError, "result_headers: 'X: y': give names of header fields"),
    (wrong(BatchEndpoint, withhold="cookie"), TypeError, "withhold='cookie': give a sequence of strings"),
    (wrong(BatchEndpoint, withhold=[b"x-a"]), TypeError, "withhold: b'x-a' is not a string"),
    (wrong(BatchEndpoint, withhold=["X: y"]), ValueError, "withhold: 'X: y': give whole names of header fields"),
    (wrong(BatchEndpoint, withhold=["x-internal-*"]), ValueError, "withhold: 'x-internal-*': give whole names"),
    (wrong(BatchEndpoint, withhold=["Host"]), ValueError, "withhold: 'Host': apps route by it"),
    (wrong(BatchEndpoint, scope_keys="aws.event"), TypeError, "scope_keys='aws.event': give a sequence of strings"),
    (wrong(BatchEndpoint, scope_keys=[1]), TypeError, "scope_keys: 1 is not a string"),
    *(
        (wrong(BatchEndpoint, scope_keys=["aws.event", key]), ValueError, f"scope_keys: {key!r}: each action has its own")
        for key in (
            *("method", "path", "raw_path", "query_string", "headers", "state", "root_path", "app_root_path", "asgi"),
            *("extensions", "path_params", "app", "router", "route", "endpoint", "user", "auth", "session", "batchkit.action"),
            *("starlette.exception_handlers", "starlette.max_body_size", "fastapi", "fastapi_inner_astack", "fastapi.telemetry"),
        )
    ),
    (wrong(BatchEndpoint, help=1), TypeError, "help=1: give a text"),
    (wrong(BatchEndpoint, console="yes"), TypeError, "console='yes': give True or False"),
    (wrong(BatchEndpoint, client_js="yes"), TypeError, "client_js='yes': give True or False"),
    (wrong(BatchEndpoint, server_timing=1), TypeError, "server_timing=1: give True or False, or None"),
    # mount_to
    (wrong(BatchEndpoint().mount_to, Starlette(), prefix="/api"), TypeError, "mount_to: unexpected keyword argument 'prefix'"),
    (wrong(BatchEndpoint().mount_to), TypeError, "argument: 'app': write mount_to(app)"),
    (wrong(BatchEndpoint, exclude={"/x": ["POST"]}), TypeError, "exclude={'/x': ['POST']}: give a sequence of strings"),
    (wrong(BatchEndpoint().mount_to, another_app), TypeError, "is no Starlette app and no Router; mount the endpoint by hand"),
    (wrong(BatchEndpoint().mount_to, FastAPI), TypeError, "is no Starlette app"),
    (
        wrong(BatchEndpoint().mount_to, batchable(FastAPI())),
        TypeError,
        "mount_to: what batchable(app) returns is for Mount(…): mark the routes of an app one by one, or give policy='all'",
    ),
    (wrong(BatchEndpoint().mount_to, Starlette(), "batch"), ValueError, "mount_to: 'batch': give a path like '/batch'"),
    (wrong(BatchEndpoint().mount_to, Starlette(), "/"), ValueError, "mount_to: '/': give a path"),
    (wrong(BatchEndpoint().mount_to, Starlette(), "/batch/*"), ValueError, "mount_to: '/batch/*': write parameters as"),
    (wrong(BatchEndpoint().mount_to, Starlette(), "/{"), ValueError, "mount_to: '/{': write parameters as"),
    (wrong(BatchEndpoint().mount_to, Starlette(), ""), ValueError, "mount_to: '': give a path"),
    (wrong(BatchEndpoint().mount_to, Starlette(), "/batch?x"), ValueError, "mount_to: '/batch?x': give a path"),
    (wrong(BatchEndpoint().mount_to, Starlette(), None), ValueError, "mount_to: None: give a path"),
    (wrong(mounted(), Starlette()), RuntimeError, "this BatchEndpoint is already mounted; make a second one"),
    (
        wrong(BatchEndpoint().mount_to, BatchEndpoint().mount_to(Starlette())),
        ValueError,
        "mount_to: '/batch' is a route already: give another path",
    ),
    (wrong(BatchEndpoint().mount_to, Starlette(routes=[Route("/batch", endpoint)])), ValueError, "'/batch' is a route already"),
    (
        wrong(BatchEndpoint, host=another_app, base_path="/api", allow=["GET /x"]),
        ValueError,
        "allow: '/x': it is not below base_path='/api': give whole paths",
    ),
    (
        wrong(FastAPI().post("/batch"), BatchEndpoint()),
        TypeError,
        "A BatchEndpoint is an ASGI app, and no path operation: write endpoint.mount_to(app, '/batch')",
    ),
    (wrong(APIRouter().add_api_route, "/batch", BatchEndpoint(), methods=["POST"]), TypeError, "and no path operation: write"),
    (wrong(asks_for_host.mount_to, Starlette()), ValueError, "mount_to: allow=['/x'] is for other hosts: mark the routes"),
    (
        wrong(TestClient(BatchEndpoint()).__enter__),
        RuntimeError,
        "A BatchEndpoint has no lifespan: serve the app that it is mounted to: mount_to(app, '/batch')",
    ),
    (wrong(BatchEndpoint.from_toml, None), TypeError, "path=None: give the path of a TOML file"),
    # Hooks and plugins
    (wrong(BatchEndpoint, cost_hook=3), TypeError, "cost_hook=3: give a callable"),
    (wrong(BatchEndpoint, cost_hook=not_async), TypeError, "not_async>: it is not async: write async def"),
    (wrong(BatchEndpoint, cost_hook=takes_a_request), TypeError, "it is called with the Batch, whose request is batch.request"),
    (wrong(BatchEndpoint, cost_hook=depends), TypeError, "it is no dependency, and nobody fills in Depends("),
    (wrong(BatchEndpoint, cost_hook=unannotated), TypeError, "unannotated>: it is not async: write async def"),
    (wrong(BatchEndpoint, cost_hook=lambda batch: None), TypeError, "it is not async: write async def"),
    (wrong(BatchEndpoint, cost_hook=no_argument), TypeError, "no_argument>: it is called with the Batch"),
    (wrong(BatchEndpoint, cost_hook=two_arguments), TypeError, "it is called with the Batch, and takes (batch:"),
    (
        wrong(BatchEndpoint, cost_hook=partial(two_arguments, Batch({}, ()), 1)),
        TypeError,
        "it is called with the Batch",
    ),
    (wrong(BatchEndpoint, cost_hook=async_generator), TypeError, "decorate an async generator function with contextlib.async"),
    (wrong(BatchEndpoint, cost_hook=partial(async_generator)), TypeError, "it yields: decorate"),
    (wrong(BatchEndpoint, cost_hook=generator), TypeError, "it yields: decorate an async generator function"),
    (wrong(BatchEndpoint, cost_hook=contextmanager(generator)), TypeError, "contextlib.asynccontextmanager"),
    (wrong(BatchEndpoint, cost_hook=GeneratorHook()), TypeError, "GeneratorHook object>: it yields: decorate"),
    (wrong(BatchEndpoint, cost_hook=CallableHook), TypeError, "CallableHook'>: it is a class: give an instance of it"),
    (wrong(BatchEndpoint, cost_hook=Limiter), TypeError, "cost_hook=<class 'batchkit.limiter.limiter.Limiter'>: it is a class"),
    (
        wrong(BatchEndpoint, plugins=[object()]),
        TypeError,
        "plugins: <object object> has none of the methods 'batch', 'action' and 'refused'",
    ),
    (wrong(BatchEndpoint, plugins=Watches()), TypeError, "Watches object>: give a list of plugins"),
    (wrong(BatchEndpoint, plugins=None), TypeError, "plugins=None: give a list of plugins"),
    (wrong(BatchEndpoint, plugins=[Watches]), TypeError, "Watches'> is a class: give an instance of it"),
    (wrong(BatchEndpoint, plugins=[Undecorated()]), TypeError, "plugins: Undecorated.batch: it yields: decorate"),
    (
        wrong(BatchEndpoint, plugins=[Awaited()]),
        TypeError,
        "plugins: Awaited.batch: it is async: it must return an async context manager",
    ),
    (wrong(BatchEndpoint, plugins=[IsAnApp()]), TypeError, "plugins: IsAnApp.action: it is async: it must return an ASGI app"),
    (wrong(BatchEndpoint, plugins=[RefusedInTime()]), TypeError, "RefusedInTime.refused: it is async: it must return nothing"),
    (wrong(BatchEndpoint, plugins=[TakesTheBatch()]), TypeError, "it is called with the Batch and the error, and takes (batch:"),
    (wrong(BatchEndpoint, plugins=[TakesNothing()]), TypeError, "it is called with the app, and takes ()"),
    (wrong(BatchEndpoint, plugins=[NoMethod()]), TypeError, "plugins: NoMethod.batch=5: give a method"),
    (wrong(BatchEndpoint, plugins=[ReturnsNothing()]), TypeError, "its action(app) returned None: return an ASGI app"),
    (wrong(TooManyRequests, 30), TypeError, "TooManyRequests(30): give a text; a time in seconds is retry_after="),
    (wrong(TooManyRequests, retry_after=1795390240.4), ValueError, "give the seconds to wait, and not a point in time"),
    (wrong(TooManyRequests, retry_after="30"), TypeError, "retry_after='30': give a number of seconds"),
    # Marks
    (wrong(batchable, costs=3), TypeError, "batchable: unexpected keyword argument 'costs': did you mean 'cost'?"),
    (wrong(batchable, endpoint, 3), TypeError, "batchable: 3: name it by its keyword: cost, schema, timeout, limit"),
    (wrong(batchable, cost=0), ValueError, "batchable(cost=0): give a whole number of requests, at least 1"),
    (wrong(batchable, cost="3"), ValueError, "batchable(cost='3'): give a whole number"),
    (wrong(batchable, timeout=-1), ValueError, "batchable(timeout=-1): give seconds above 0"),
    (wrong(batchable, timeout="5"), ValueError, "batchable(timeout='5'): give seconds"),
    (wrong(batchable, timeout=True), ValueError, "batchable(timeout=True): give seconds"),
    (wrong(batchable, limit=5), TypeError, "batchable(limit=5): give the name of a limit"),
    (wrong(batchable, limit=""), TypeError, "batchable(limit=''): give the name of a limit"),
    (wrong(batchable, schema={"type": "objekt"}), ValueError, "batchable(schema=…): not a JSON Schema: 'objekt'"),
    (wrong(batchable, schema="object"), ValueError, "batchable(schema=…): not a JSON Schema"),
    (
        wrong(batchable, schema={"properties": {"a": {"$ref": "#/$defs/lost"}}}),
        ValueError,
        "batchable(schema=…): not a JSON Schema: $ref '#/$defs/lost' leads nowhere: put what it means below $defs",
    ),
    (
        wrong(batchable, schema={"$ref": "https://example.com/task.json"}),
        ValueError,
        "'https://example.com/task.json' leads nowh",
    ),
    (wrong(batchable, schema={"allOf": [{"$dynamicRef": "#lost"}]}), ValueError, "$dynamicRef '#lost' leads nowhere"),
    (
        wrong(batchable, schema={"$ref": "#/components/a", "components": {"a": {"items": {"$ref": "#/components/b"}}}}),
        ValueError,
        "$ref '#/components/b' leads nowhere",
    ),
    (wrong(batchable, schema={"$ref": "#/required", "required": ["a"]}), ValueError, "['a'] is not of type 'object', 'boolean'"),
    (
        wrong(batchable, schema={"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}),
        ValueError,
        "it refers to itself without end",
    ),
    (
        wrong(batchable, schema={"$schema": "http://json-schema.org/draft-07/schema#"}),
        ValueError,
        "$schema 'http://json-schema.org/draft-07/schema#': write it for https://json-schema.org/draft/2020-12/schema",
    ),
    (wrong(batchable, schema=CallableHook), TypeError, "give its JSON Schema, as a Pydantic model's model_json_schema()"),
    (
        wrong(batchable(cost=3), batchable(limit="x")(lambda request: None)),
        TypeError,
        "is marked already: give all keywords to one",
    ),
    (wrong(batchable, schema={"type": "array"}), ValueError, "no action can meet it: its data is always an object"),
    (wrong(batchable, schema=False), ValueError, "batchable(schema=False): no action can meet it"),
    (wrong(not_batchable, endpoint, cost=1), TypeError, "unexpected keyword argument 'cost': it takes none"),
    (wrong(batchable, CalledWithARequest()), TypeError, "to mark an object that is called with a request, mark its __call__"),
    (wrong(not_batchable, WebSocketEndpoint), TypeError, "cannot be marked: it answers websockets, which no batch has"),
    (wrong(batchable, schema={"$ref": "#"}), ValueError, "not a JSON Schema: it refers to itself without end"),
    (wrong(batchable, schema={"pattern": "("}), ValueError, "'(' is not a 'regex'"),
    (
        wrong(batchable, schema={"properties": {"a": {"$ref": "http://json-schema.org/draft-07/schema#"}}}),
        ValueError,
        "write it for https://json-schema.org/draft/2020-12/schema",
    ),
    (wrong(batchable, "search"), TypeError, "'search' cannot be marked: give a function, an HTTPEndpoint class or an ASGI app"),
    (wrong(batchable, None), TypeError, "None cannot be marked: give a function"),
    (wrong(batchable(cost=2), 5), TypeError, "5 cannot be marked: give a function"),
    (wrong(batchable, Route("/x", endpoint)), TypeError, "cannot be marked: mark the endpoint or the app that it leads to"),
    (wrong(not_batchable, Mount("/x", another_app)), TypeError, "cannot be marked: mark the endpoint or the app"),
    (wrong(batchable, staticmethod(endpoint)), TypeError, "cannot be marked: mark the function, below @staticmethod"),
    (wrong(batchable, vars(OfClass)["get"]), TypeError, "cannot be marked: give a function"),
    (
        wrong(not_batchable, Wsgi()),
        TypeError,
        "Wsgi object>: it is called with scope and receive and send, and takes (environ: ",
    ),
    (
        wrong(lambda: batchable(APIRouter()).get("/x")),
        AttributeError,
        "'get': what batchable(app) returns is for Mount(…): mark the routes of an app one by one, or give policy='all'",
    ),
    (wrong(FastAPI().include_router, batchable(APIRouter())), AttributeError, "what batchable(app) returns is for Mount(…)"),
    # The limiter
    (wrong(Rate, 0, 60, name="a"), ValueError, "Rate(0): give a whole number, at least 1"),
    (wrong(Rate, True, 60, name="a"), ValueError, "Rate(True): give a whole number"),
    (wrong(Rate, 5, 0, name="a"), ValueError, "a: per=0: give a number of seconds above 0"),
    (wrong(Rate, 5, "60", name="a"), TypeError, "a: per='60': give a number of seconds"),
    (wrong(Rate, 5, 10**9, name="a"), ValueError, "a: per=1000000000: give at most 31,622,400 seconds, a year"),
    (wrong(Rate, 5, 1e-6, name="a"), ValueError, "give less than one per microsecond"),
    (wrong(Rate, 5, name="a"), TypeError, "argument: 'per': write Rate(amount, per, name=…)"),
    (wrong(Rate, 5, 60), TypeError, "argument: 'name': write Rate(amount, per, name=…)"),
    (wrong(Rate, "5/minute"), TypeError, "argument: 'per': write Rate(amount, per, name=…)"),
    (wrong(Limiter), TypeError, "argument: 'limits': write Limiter(limits)"),
    (wrong(Rate, 5, 60, "a"), TypeError, "Rate: 'a': name it by its keyword: name, key, methods"),
    (
        wrong(Rate, 5, 60, name="a", method="GET"),
        TypeError,
        "Rate: unexpected keyword argument 'method': did you mean 'methods'?",
    ),
    (wrong(Rate, 5, 60, name=""), TypeError, "Rate(name=''): give a name"),
    (wrong(Rate, 5, 60, name="a", limit=3), TypeError, "Rate(limit=3): give a name"),
    (wrong(Rate, 5, 60, name="a", key="user"), TypeError, "a: key='user': give a function of a request that returns a string"),
    (wrong(Rate, 5, 60, name="a", key=lambda: "x"), TypeError, "it is called with the request, and takes ()"),
    (wrong(Rate, 5, 60, name="a", key=fetch), TypeError, "it is async: give a function that returns the string at once"),
    (wrong(Rate, 5, 60, name="a", key=AsyncKey()), TypeError, "it is async: give a function that returns the string at once"),
    (wrong(Rate, 5, 60, name="a", methods="GET"), TypeError, "a: methods='GET': give a sequence of strings"),
    (wrong(Rate, 5, 60, name="a", methods=[]), ValueError, "a: methods is empty, and counts nothing: give None for all"),
    (wrong(Rate, 5, 60, name="a", methods=["*"]), ValueError, "a: methods: '*': give None for all"),
    (wrong(Rate, 5, 60, name="a", methods=["all"]), ValueError, "a: methods: 'ALL': give None for all"),
    (wrong(Rate, 5, 60, name="a", methods=["GET POST"]), ValueError, "methods: 'GET POST': give each as a string of its own"),
    (wrong(Concurrency, 5, name="a", methods=["GET,POST"]), ValueError, "methods: 'GET,POST': give each as a string of its own"),
    (wrong(Rate, 5, 60, name="a", methods=[""]), ValueError, "a: methods: '': give each as a string of its own, like 'GET'"),
    (wrong(Rate, 5, 60, name="a", routes=[]), ValueError, "a: routes is empty, and counts nothing: give None for all"),
    (
        wrong(Rate, 5, 60, name="a", routes=["POST /x"], methods=["GET"]),
        ValueError,
        "a: routes: 'POST /x': POST is none of its methods; it counts nothing",
    ),
    (wrong(Rate, 5, 60, name="a", routes=["tasks"]), ValueError, "a: routes: 'tasks': give a route template"),
    (wrong(Concurrency, "5", name="a"), ValueError, "Concurrency('5'): give a whole number"),
    (wrong(Concurrency, 5, name="a", lease=0), ValueError, "a: lease=0: give a number of seconds above 0"),
    (wrong(Concurrency, 5, name="a", lease=10**9), ValueError, "a: lease=1000000000: give at most 31,622,400 seconds, a year"),
    (
        wrong(Concurrency, 5, name="a", leese=3),
        TypeError,
        "Concurrency: unexpected keyword argument 'leese': did you mean 'lease'?",
    ),
    (wrong(Limiter, []), ValueError, "Limiter: no limits: give limits, each with a name of its own"),
    (wrong(Limiter, Rate(5, 60, name="a")), TypeError, "give a list of Rate(…) and Concurrency(…)"),
    (
        wrong(Limiter, [Rate(5, 60, name="a"), Concurrency(5, name="a")]),
        ValueError,
        "a, a: give limits, each with a name of its own",
    ),
    (wrong(Limiter, [5]), TypeError, "Limiter: 5: give Rate(…) and Concurrency(…)"),
    (wrong(Limiter, asana_limits(), "http://h"), ValueError, "store: give None for memory, or a URL that begins with redis://"),
    (wrong(Limiter, asana_limits(), 6379), TypeError, "store=6379: give None for memory, a URL like redis://127.0.0.1:6379/0"),
    (wrong(Limiter, asana_limits(), MemoryStore), TypeError, "MemoryStore'>: give None for memory, a URL"),
    (wrong(Limiter, asana_limits(), "redis://h:abc/0"), ValueError, "with numbers for port and database"),
    (wrong(Limiter, asana_limits(), "redis://h/db"), ValueError, "with numbers for port and database"),
    (wrong(Limiter, asana_limits(), prefix=5), TypeError, "Limiter: prefix=5: give a text"),
    (wrong(asana_limits, 150), TypeError, "asana_limits: 150: name it by its keyword: per_minute, search_routes, key"),
    (
        wrong(asana_limits, per_min=3),
        TypeError,
        "asana_limits: unexpected keyword argument 'per_min': did you mean 'per_minute'?",
    ),
    (wrong(Limiter, asana_limits(), "redis://h", prefix="{x}"), ValueError, "prefix='{x}': give a text without braces"),
    (
        wrong(Limiter, asana_limits(), url="redis://h"),
        TypeError,
        "Limiter: unexpected keyword argument 'url': give one of limits, store",
    ),
    (
        wrong(limiter, endpoint),
        TypeError,
        "<function endpoint> is no batch: it is for BatchEndpoint(cost_hook=limiter) and Limit",
    ),
    (wrong(getattr, limiter, "limit"), AttributeError, "Limiter has no 'limit': it is for BatchEndpoint(cost_hook=limiter)"),
    (
        wrong(LimitMiddleware, Starlette()),
        TypeError,
        "argument: 'limiter': write LimitMiddleware(app, limiter=…)",
    ),
    (wrong(LimitMiddleware, "app:app", limiter=limiter), TypeError, "app='app:app': give an ASGI app"),
    (wrong(LimitMiddleware, Starlette, limiter=limiter), TypeError, "give an ASGI app"),
    (wrong(limiter.free, "/batch"), TypeError, "free: '/batch': give the BatchEndpoint itself"),
    (wrong(limiter.free, BatchEndpoint), TypeError, "give the BatchEndpoint itself"),
    (wrong(LimitMiddleware, Starlette(), limiter), TypeError, "name it by its keyword: limiter, limiter_timeout"),
    (wrong(LimitMiddleware, Starlette(), limiter=None), TypeError, "limiter=None: give a Limiter"),
    (wrong(LimitMiddleware, Starlette(), limiter=limiter, limiter_timeout=0), ValueError, "limiter_timeout=0: give a number of"),
    (
        wrong(LimitMiddleware, Starlette(), limiter=limiter, limiter_errors="x"),
        ValueError,
        "limiter_errors='x': give one of 'refuse'",
    ),
    (wrong(LimitMiddleware, Starlette(), limiter=limiter, help=3), TypeError, "help=3: give a text, or None"),
    (
        wrong(LimitMiddleware, Starlette(), limits=limiter),
        TypeError,
        "unexpected keyword argument 'limits': did you mean 'limiter'?",
    ),
    # The client
    (wrong(BatchTransport), TypeError, "argument: 'url': write BatchTransport(url=…)"),
    (
        wrong(BatchTransport, "https://x/batch", url="https://x/batch"),
        TypeError,
        "transport='https://x/batch': give what sends, an httpx2",
    ),
    (wrong(BatchTransport, url="/batch"), ValueError, "url='/batch': give the URL of the batch endpoint, like 'https://exam"),
    (wrong(BatchTransport, url=5), TypeError, "url=5: give the URL of the batch endpoint"),
    (
        wrong(BatchTransport, url="https://x/batch", max_action=5),
        TypeError,
        "BatchTransport: unexpected keyword argument 'max_action': did you mean 'max_actions'?",
    ),
    (wrong(BatchTransport, None, "https://x/batch"), TypeError, "name it by its keyword: url, window, base_path, dialect"),
    (wrong(AsyncBatchTransport, url="https://x/batch", windows=1), TypeError, "AsyncBatchTransport: unexpected keyword argument"),
    (
        wrong(AsyncBatchTransport, HTTPTransport(), url="https://x/batch"),
        TypeError,
        "HTTPTransport object>: give what sends, an httpx2.AsyncBaseTransport, or None",
    ),
    (wrong(BatchTransport, AsyncHTTPTransport(), url="https://x/batch"), TypeError, "give what sends, an httpx2.BaseTransport"),
    (
        wrong(BatchTransport, HTTPTransport, url="https://x/batch"),
        TypeError,
        "HTTPTransport'>: it is a class: give an instance of it",
    ),
    (
        wrong(AsyncBatchTransport, AsyncHTTPTransport, url="https://x/batch"),
        TypeError,
        "AsyncHTTPTransport'>: it is a class: give",
    ),
    (wrong(BatchTransport, url="https://x/batch", window="2ms"), TypeError, "window='2ms': give a number of seconds"),
    (wrong(BatchTransport, url="https://x/batch", window=-1), ValueError, "window=-1: give a number of seconds, at least 0"),
    (wrong(BatchTransport, url="https://x/batch", dialect="rest"), ValueError, "dialect='rest': give one of 'asana', 'plain'"),
    (wrong(BatchTransport, url="https://x/batch", base_path="api"), ValueError, "base_path='api': give a path like '/api/1.0'"),
    (wrong(BatchTransport, url="https://x/batch", base_path=1), ValueError, "base_path=1: give a path like '/api/1.0'"),
    (wrong(BatchTransport, url="https://x/batch", max_actions=0), ValueError, "max_actions=0: give a whole number, at least 1"),
    (wrong(BatchTransport, url="https://x/batch", max_body_size="1"), ValueError, "max_body_size='1': give a whole number"),
    (wrong(BatchTransport, url="https://x/batch", max_wait=None), TypeError, "max_wait=None: give a number of seconds"),
    (wrong(BatchTransport, url="https://x/batch", stream="yes"), TypeError, "stream='yes': give True or False"),
    (
        wrong(BatchClient, "https://user:secret@x/v1", url="https://y/batch"),
        ValueError,
        "url='https://y/batch': give one of the origin of base_url='https://x/v1/'",
    ),
    (wrong(BatchClient, "/api"), ValueError, "base_url='/api': give the URL of the API, like 'https://example.com/api/1.0'"),
    (wrong(BatchClient, "https://x", url="/batch"), ValueError, "url='/batch': give the URL of the batch endpoint"),
    (wrong(BatchClient, "https://x", "https://x/batch"), TypeError, "client='https://x/batch': give an httpx2.AsyncClient"),
    (
        wrong(BatchClient, "https://x", max_action=5),
        TypeError,
        "BatchClient: unexpected keyword argument 'max_action': did you mean",
    ),
    (
        wrong(BatchClient, "https://x", url="https://y/batch"),
        ValueError,
        "url='https://y/batch': give one of the origin of base_url='https://x",
    ),
    (
        wrong(BatchClient, "https://x", url="http://x/batch"),
        ValueError,
        "url='http://x/batch': give one of the origin of base_url",
    ),
    (wrong(BatchClient, "http://x", url="http://x:8000/batch"), ValueError, "url='http://x:8000/batch': give one of the origin"),
    (
        wrong(BatchClient, "https://x/v1", url="https://x/v2/batch"),
        ValueError,
        "base_url='https://x/v1/': actions are relative to '/v2/', which is elsewhere: give url and base_path as the server has",
    ),
    (wrong(BatchClient, "https://x/api", base_path="/ap"), ValueError, "actions are relative to '/ap/', which is elsewhere"),
    # The client's transports, the other's URLs, and what is added to a batch
    (
        wrong(BatchTransport, httpx.HTTPTransport(), url="https://x/batch"),
        TypeError,
        "it is one of httpx, and this is for httpx2: give an httpx2.BaseTransport",
    ),
    (
        wrong(httpx.Client(transport=swapped(BatchTransport)).get, "https://x"),
        TypeError,
        "BatchTransport is for clients of httpx2, and this is a <class 'httpx.Request'>: import httpx2",
    ),
    (
        wrong(awaited, httpx.AsyncClient(transport=swapped(AsyncBatchTransport)).get, "https://x"),
        TypeError,
        "AsyncBatchTransport is for clients of httpx2, and this is a <class 'httpx.Request'>: import httpx2",
    ),
    (
        wrong(awaited, entered, httpx2.AsyncClient(transport=swapped(BatchTransport))),
        TypeError,
        "BatchTransport is for httpx2.Client: give an AsyncClient an AsyncBatchTransport",
    ),
    (
        wrong(awaited, httpx2.AsyncClient(transport=swapped(BatchTransport)).get, "https://x"),
        TypeError,
        "BatchTransport is for httpx2.Client: give an AsyncClient an AsyncBatchTransport",
    ),
    (
        wrong(httpx2.Client(transport=swapped(AsyncBatchTransport)).__enter__),
        TypeError,
        "AsyncBatchTransport is for httpx2.AsyncClient: give a Client a BatchTransport",
    ),
    (
        wrong(httpx2.Client(transport=swapped(AsyncBatchTransport)).get, "https://x"),
        TypeError,
        "AsyncBatchTransport is for httpx2.AsyncClient: give a Client a BatchTransport",
    ),
    (
        wrong(BatchTransport, url="https://x/batch?a=1"),
        ValueError,
        "url='https://x/batch': it has a query: give the URL of the batch endpoint",
    ),
    (wrong(BatchTransport, url="https://x/batch?"), ValueError, "it has a query"),
    (wrong(BatchTransport, url="https://x/batch#a"), ValueError, "it has a fragment"),
    (wrong(BatchTransport, url="https://x:port/batch"), ValueError, "url: Invalid port: 'port': give the URL of the batch"),
    (wrong(BatchTransport, url="https://x/batch", base_path="/a?x"), ValueError, "base_path='/a?x': give a path"),
    (wrong(BatchTransport, url="https://x/batch", max_wait=-1), ValueError, "max_wait=-1: give a number of seconds, at least 0"),
    (wrong(BatchClient, None), TypeError, "base_url=None: give the URL of the API, like 'https://example.com/api/1.0'"),
    (wrong(BatchClient, 5), TypeError, "base_url=5: give the URL of the API"),
    (wrong(BatchClient, "https://x?a"), ValueError, "base_url='https://x': it has a query: give the URL of the API"),
    (
        wrong(BatchClient("https://x").batch().get, "/x", parms={}),
        TypeError,
        "get: unexpected keyword argument 'parms': did you mean 'params'?",
    ),
    (wrong(BatchClient("https://x").batch().get, 1), TypeError, "Expected str or httpx2.URL, got <class 'int'>: 1"),
    (wrong(BatchClient("https://x").batch().request, "GET", None), TypeError, "Expected str or httpx2.URL, got <class 'None"),
    # What a host's own tests use
    (
        wrong(awaited, check_cost_hook, not_async, limit=12),
        TypeError,
        "it is not called without arguments: give a function that makes the hook",
    ),
    (wrong(awaited, check_cost_hook, limiter, limit=12), TypeError, "give a function that makes the hook, in a fresh state"),
    (wrong(awaited, check_cost_hook, Concurrency, limit=12), TypeError, "limits.Concurrency'>: it is not called without arg"),
    (wrong(awaited, check_cost_hook, None, limit=12), TypeError, "make_hook=None: it is not called without arguments"),
    (wrong(awaited, check_cost_hook, no_argument, limit=12), TypeError, "it made None: give a function that makes the hook"),
    (wrong(awaited, check_cost_hook, CallableHook, limit="12"), TypeError, "limit='12': give a whole number of units, at least"),
    (wrong(awaited, check_cost_hook, CallableHook, limit=0), ValueError, "limit=0: give at least 10 units"),
    (wrong(awaited, check_cost_hook, CallableHook, limit=12, patience="5"), TypeError, "patience='5': give a number of seconds"),
    (wrong(awaited, check_cost_hook, CallableHook, limit=12, path="x"), ValueError, "path='x': give a path like '/checked'"),
    (wrong(awaited, check_cost_hook, CallableHook, limit=12, batch_path="/x?y"), ValueError, "batch_path='/x?y': give a path"),
    (
        wrong(awaited, check_cost_hook, CallableHook, limit=12, method="get"),
        ValueError,
        "method='get': give one of 'GET', 'HEAD'",
    ),
    (wrong(awaited, check_cost_hook, CallableHook, limit=12, gives_back="no"), TypeError, "gives_back='no': give True or False"),
    (wrong(awaited, check_cost_hook, CallableHook, limit=12, limit_name=5), TypeError, "batchable(limit=5): give the name of a"),
    (
        wrong(awaited, check_cost_hook, CallableHook, limit=12, host=Starlette()),
        TypeError,
        "it is not called without arguments: give a function that makes the app",
    ),
    (
        wrong(awaited, check_cost_hook, CallableHook, limit=12, headers=[("a", "b")]),
        TypeError,
        "headers: <class 'list'>: give a dict of strings",
    ),
    (
        wrong(awaited, check_cost_hook, CallableHook, limits=12),
        TypeError,
        "check_cost_hook: unexpected keyword argument 'limits': did you mean 'limit'?",
    ),
    (wrong(assert_same_as_alone, client), ValueError, "actions: there are none: give action(…) at least once"),
    (wrong(assert_same_as_alone, client, [get_x]), TypeError, "give action(…), each as an argument of its own"),
    (wrong(assert_same_as_alone, client, get_x, ignore="gid"), TypeError, "ignore='gid': give a sequence of strings"),
    (wrong(assert_same_as_alone, client, get_x, dialect="rest"), ValueError, "dialect='rest': give one of 'asana', 'plain'"),
    (wrong(assert_same_as_alone, client, get_x, path=5), TypeError, "path=5: give a path"),
    (wrong(assert_same_as_alone, client, get_x, base_path=1.0), TypeError, "base_path=1.0: give a path"),
    (wrong(assert_same_as_alone, client, get_x, headers="a"), TypeError, "headers: <class 'str'>: give a dict of strings"),
    (wrong(assert_same_as_alone, client, get_x, ignored=["gid"]), TypeError, "did you mean 'ignore'?"),
    (
        wrong(assert_same_as_alone, Starlette, get_x),
        TypeError,
        "Starlette'>: give a TestClient, an httpx.Client or AsyncClient, or",
    ),
    (wrong(post_batch, "app:app", get_x), TypeError, "client='app:app': give a TestClient"),
    (wrong(post_batch, client, "get", "/x"), TypeError, "actions: 'get': give action(…), each as an argument of its own"),
    (wrong(post_batch, client, get_x, path=None), TypeError, "path=None: give a path like '/api/1.0/batch'"),
    (wrong(post_batch, client, get_x, headers={"a": 1}), TypeError, "headers: 'a': <class 'int'>: give a dict of strings"),
    (
        wrong(post_batch, client, get_x, header={}),
        TypeError,
        "post_batch: unexpected keyword argument 'header': did you mean 'he",
    ),
    (wrong(batchkit.testing.action, "get", "/x", option={}), TypeError, "did you mean 'options'?"),
    # The wings
    (wrong(OpenTelemetry, tracer_provider=5), TypeError, "tracer_provider=5: give a TracerProvider, or None for the global one"),
    (wrong(OpenTelemetry, tracer_provider=NoOpTracer()), TypeError, "NoOpTracer object>: give a TracerProvider"),
    (wrong(OpenTelemetry, tracer_provider=NoOpMeterProvider()), TypeError, "NoOpMeterProvider object>: give a TracerProvider"),
    (wrong(OpenTelemetry, meter_provider=NoOpMeterProvider), TypeError, "NoOpMeterProvider'>: give a MeterProvider, or None"),
    (wrong(OpenTelemetry, meter_provider="meter"), TypeError, "meter_provider='meter': give a MeterProvider"),
    (
        wrong(OpenTelemetry, trace_provider=None),
        TypeError,
        "OpenTelemetry: unexpected keyword argument 'trace_provider': did you mean 'tracer_provider'?",
    ),
    (wrong(OpenTelemetry, None), TypeError, "OpenTelemetry: None: name it by its keyword: tracer_provider, meter_provider"),
    (wrong(openapi.document, Starlette()), TypeError, "Starlette object>: give a BatchEndpoint"),
    (wrong(openapi.document, BatchEndpoint), TypeError, "BatchEndpoint'>: give a BatchEndpoint, as BatchEndpoint(…) makes one"),
    (wrong(openapi.operation, BatchEndpoint), TypeError, "BatchEndpoint'>: give a BatchEndpoint"),
    (wrong(openapi.schemas, None), TypeError, "settings=None: give a BatchEndpoint"),
    (wrong(openapi.document, BatchEndpoint(), "batch"), ValueError, "path='batch': give a path like '/batch'"),
    (wrong(openapi.document, BatchEndpoint(), title=None), TypeError, "title=None: give a text"),
    (wrong(openapi.document, BatchEndpoint(), version=1.0), TypeError, "version=1.0: give a text"),
    (
        wrong(openapi.document, BatchEndpoint(), name="Tasks"),
        TypeError,
        "document: unexpected keyword argument 'name': give one of settings, path, title, version",
    ),
]


ALIKE: list[tuple[Any, ...]] = [(Rate, Concurrency), (BatchTransport, AsyncBatchTransport, BatchClient)]


@pytest.mark.parametrize(("written", "error", "says"), WRONG)
def test_what_a_person_may_write(written: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as raised:
        written()
    assert says in re.sub(r" at 0x\w+", "", str(raised.value))


@pytest.mark.parametrize(
    "function",
    [
        *(
            BatchEndpoint,
            batchable,
            Rate,
            Concurrency,
            Limiter,
            LimitMiddleware,
            BatchTransport,
            AsyncBatchTransport,
            BatchClient,
        ),
        *(assert_same_as_alone, check_cost_hook, OpenTelemetry, openapi.document),
    ],
)
def test_the_table_leaves_no_argument_out(function: Callable[..., Any]) -> None:
    # What several have in common is checked in one place.
    functions = [each for group in ALIKE if function in group for each in group] or [function]
    written = set()
    for row, *_ in WRONG:
        called, *args = [*row.args] if row.func is awaited else [row.func, *row.args]
        if called in functions:
            written |= {*row.keywords, *list(signature(called).parameters)[: len(args)]}
    assert set(signature(function).parameters) - {"options"} <= written
    if "options" in signature(function).parameters:
        assert set(Options.__annotations__) <= written


@pytest.mark.parametrize("route", [Route("/batch", BatchEndpoint), wrong(Mount, "/batch", OpenTelemetry)()])
def test_a_class_where_its_instance_belongs_tells_no_header_field(route: Any) -> None:
    with pytest.raises(TypeError) as raised:
        TestClient(Starlette(routes=[route])).post("/batch", headers={"authorization": "Bearer secret"})
    name = raised.value.args[0].partition(":")[0]
    assert str(raised.value) == f"{name}: the class was called as an ASGI app: give an instance: {name}(…)"


def test_values_of_header_fields_are_not_told() -> None:
    fields: Any = {"authorization": b"secret"}
    for written in (
        wrong(BatchClient, "https://x", None, fields),
        wrong(post_batch, client, get_x, headers=fields),
        wrong(post_batch, client, get_x, headers=[*fields.items()]),
    ):
        with pytest.raises(TypeError) as raised:
            written()
        assert "secret" not in str(raised.value)


def test_a_marked_app_is_no_surprise_to_who_asks() -> None:
    app = FastAPI()
    app.get("/x")(endpoint)
    marked = copy(batchable(app))
    assert not hasattr(marked, "router")
    assert getattr(marked, "__name__", None) is None
    assert TestClient(Starlette(routes=[Mount("/a", marked)])).get("/a/x").status_code == 200


def test_a_checked_class_shows_its_own_signature() -> None:
    assert list(signature(BatchEndpoint).parameters)[:2] == ["host", "base_path"]
    assert str(signature(Limiter)).startswith("(limits: ")
    assert str(signature(batchable)).startswith("(endpoint: ")


# What is seen only as it runs: nothing runs unpaid, and the log says what to do.


async def returns_false(batch: Batch) -> bool:
    return False


async def returns_true(batch: Batch) -> bool:
    return True


async def returns_an_admission(batch: Batch) -> Any:
    return limiter(batch)


async def awaits_an_admission(batch: Batch) -> None:
    await cast(Any, limiter(batch))


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
        (returns_true, "cost_hook returned bool: raise TooManyRequests to refuse, or return nothing", 503),
        (lambda batch: not_async(batch), "cost_hook returned NoneType: write it with async def", 503),
        (
            returns_an_admission,
            "cost_hook returned Admission: give cost_hook=limiter, or write @asynccontextmanager with `asy",
            503,
        ),
        (awaits_an_admission, "limiter(batch) is a context, and was awaited: give cost_hook=limiter, or write @async", 503),
        # An exception of the hook's own, as of a limiter that it cannot reach.
        (wait_in_its_message, "TooManyRequests(30): give a text; a time in seconds is retry_after=", 200),
        (
            refuses_by_the_base,
            "cost_hook raised BatchError('no units left'): raise TooManyRequests to refuse",
            503,
        ),
        (
            answers_as_a_handler,
            "HTTPException(status_code=429, detail='Too Many Requests'): raise TooManyRequests to refuse",
            503,
        ),
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


async def leaves(limiter: Limiter, another: Limiter, batch: Batch) -> None:
    # That of rates may be left at once.
    async with Limiter([Rate(9, 60, name="c")])(batch), Limiter([Concurrency(9, name="d")])(batch):
        pass
    async with another(batch):
        pass


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
    ("hook", "another_allows", "says", "status"),
    [
        (
            forgets,
            2,
            [
                "limiter(batch) is a context, and was never entered, so it has charged nothing: "
                "give cost_hook=limiter, or write @asynccontextmanager with `async with limiter(batch): yield`"
            ],
            200,
        ),
        (
            leaves,
            2,
            [
                "limiter(batch) is a context around the run of a batch, and was left before: its slots are free again: "
                "give cost_hook=limiter, or write @asynccontextmanager with `async with limiter(batch): yield`"
            ],
            200,
        ),
        # Each of the two actions meets the middleware: one passes.
        (forgives, 2, [], 200),
        (gives, 2, [], 429),
        (enters, 2, [], 429),
        (enters, 1, [], 429),
    ],
)
async def test_what_a_limiter_gives_is_to_be_entered(
    hook: Any, another_allows: int, says: list[str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise nothing is charged, and the middleware counts the actions itself."""
    limiter = Limiter([Rate(1, 60, name="a")])
    mounted = BatchEndpoint(policy="all", cost_hook=partial(hook, limiter, Limiter([Rate(another_allows, 60, name="b")])))
    limiter.free(mounted)
    app = Starlette(routes=[Route("/x", endpoint)], middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    mounted.mount_to(app)
    assert (await post(app, envelope(action("/x"), action("/x")))).status == status
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == says
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


def answers_401(request: Request) -> str:
    raise HTTPException(401)


def refuses(request: Request) -> str:
    raise TooManyRequests("closed for the night")


outside = (
    ": what it reads must come from middleware outside of LimitMiddleware (the last that was added is the outermost); path_pa"
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key", "added", "says", "status", "allowed"),
    [
        (
            lambda request: request.state.team,
            [Auth, LimitMiddleware],
            outside,
            503,
            503,
        ),
        (
            lambda request: request.path_params["gid"],
            [LimitMiddleware],
            outside,
            503,
            503,
        ),
        (
            lambda request: len(request.headers),
            [LimitMiddleware],
            "the key of 'a' returned int: return a string for everybody",
            503,
            503,
        ),
        (answers_401, [LimitMiddleware], "HTTPException(status_code=401, detail='Unauthorized'): return a string for", 503, 503),
        # These are right.
        (refuses, [LimitMiddleware], "", 429, 429),
        (lambda request: request.state.team, [LimitMiddleware, Auth], "", 200, 200),
    ],
)
async def test_a_key_that_is_wrong_only_as_it_runs(
    key: Any, added: list[Any], says: str, status: int, allowed: int, caplog: pytest.LogCaptureFixture
) -> None:
    for errors, expected in (("refuse", status), ("allow", allowed)):
        limiter = Limiter([Rate(9, 60, name="a", key=key)])
        app = Starlette(routes=[Route("/x/{gid}", endpoint)])
        for each in added:
            options = {"limiter": limiter, "limiter_errors": errors} if each is LimitMiddleware else {}
            app.add_middleware(each, **options)
        caplog.clear()
        assert (await request(app, "GET", "/x/1")).status == expected
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


async def waits_for_the_end(batch: Batch) -> None:
    async def on_end(action: Action) -> None: ...

    for each in batch.actions:
        each.on_end = on_end  # type: ignore[assignment]


async def refuses_all(batch: Batch) -> None:
    raise TooManyRequests


class RefusedByLambda:
    def __init__(self) -> None:
        self.refused: Any = lambda batch, error: charge(batch)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("cost_hook", "says"),
    [
        (waits_for_the_end, "on_end returned a coroutine, and is not awaited: write def"),
        (refuses_all, "refused returned a coroutine, and is not awaited: write def"),
    ],
)
async def test_what_nobody_waits_for_is_told_where_it_waits(cost_hook: Any, says: str, caplog: pytest.LogCaptureFixture) -> None:
    app = BatchEndpoint(cost_hook=cost_hook, plugins=[RefusedByLambda()], policy="all")
    await post(app.mount_to(Starlette(routes=[Route("/x", endpoint)])), envelope(action("/x")))
    assert says in caplog.text


def test_a_fastapi_that_hides_included_routes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    app, router = FastAPI(), APIRouter()
    router.get("/x")(batchable(endpoint))
    app.include_router(router)
    monkeypatch.delattr("fastapi.routing.iter_route_contexts")
    with pytest.raises(RuntimeError, match="pip install -U fastapi"):
        Table(app.router, BatchEndpoint().settings).refresh()


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


def test_a_transport_for_others_is_no_surprise_to_who_asks() -> None:
    transport = BatchTransport(url="https://x/batch")
    assert not hasattr(transport, "aclose")
    assert getattr(transport, "__aenter__", None) is None


@pytest.mark.parametrize(
    ("base_url", "options"),
    [
        ("https://x/api/1.0", {}),
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
    assert list(signature(BatchEndpoint).parameters)[:2] == ["host", "base_path"]
    litestar.handlers.asgi("/batch", copy_scope=True)(endpoint)


@functools.wraps(wsgi)
async def adapted(scope: Scope, receive: Receive, send: Send) -> None: ...


class Adapter:
    async def __call__(self, *args: Any) -> None: ...


@pytest.mark.parametrize(
    "app",
    [
        another_app,
        adapted,
        partial(Adapter().__call__, 1),
        Adapter(),
        functools.update_wrapper(Adapter(), wsgi),
        Mock(),
        AsyncMock(),
        FastAPI(),
        quart.Quart("quart"),
        BatchEndpoint(),
    ],
)
def test_no_app_that_works_is_refused(app: Any) -> None:
    BatchEndpoint(host=app, base_path="/")
    Mount("/x", not_batchable(app))


class Hook:
    """A hook that is an async context manager of a batch, made anew for each."""

    def __init__(self, batch: Batch) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


async def charge(batch: Batch) -> None: ...


def sometimes(batch: Batch) -> Any:
    if batch.cost > 5:
        raise TooManyRequests("more than 5")
    return charge(batch)


@functools.wraps(takes_a_request)
async def gives_the_request(batch: Batch) -> None:
    await takes_a_request(batch.request)


async def of_request(request: Request | None, batch: Batch) -> None: ...


@functools.wraps(charge)
def wrapped(*args: Any) -> Any:
    return charge(*args)


@functools.wraps(two_arguments)
async def gives_one_more(batch: Batch) -> None:
    await two_arguments(batch, 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "cost_hook",
    [
        charge,
        wrapped,
        gives_one_more,
        gives_the_request,
        partial(of_request, None),
        CallableHook(),
        CallableHook().__call__,
        partial(two_arguments, units=3),
        lambda batch: charge(batch),
        lambda batch: charge(batch) or None,
        lambda batch: charge(batch) if batch.cost < 99 else None,
        sometimes,
        asynccontextmanager(async_generator),
        Hook,
        limiter,
    ],
)
async def test_no_hook_that_works_is_refused(cost_hook: Any) -> None:
    app = BatchEndpoint(cost_hook=cost_hook, plugins=[Watches()]).mount_to(Starlette(routes=[Route("/x", batchable(endpoint))]))
    async with lifespan(app):
        assert [result["status_code"] for result in await batch(app, action("/x"))] == [200]


# Installations


def run(code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """What becomes of a Python of its own that runs this."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **more
    )


@pytest.mark.parametrize(
    ("missing", "code", "says"),
    [
        ("coredis", "from batchkit.limiter import *; Limiter(asana_limits(), 'redis://h')", "pip install 'batchkit-asgi[redis]'"),
        ("uvicorn", "import runpy; runpy.run_module('example_app', run_name='__main__')", "pip install -e '.[example]'"),
        ("aiosqlite", "import runpy; runpy.run_module('example_app', run_name='__main__')", "pip install -e '.[example]'"),
    ],
)
def test_what_needs_an_extra_says_which(missing: str, code: str, says: str) -> None:
    done = run(f"import sys; sys.modules[{missing!r}] = None; {code}", cwd=ROOT)
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1]
    assert missing in done.stderr


def test_in_memory_the_limiter_needs_no_extra() -> None:
    assert (
        run("import sys; sys.modules['coredis'] = None; from batchkit.limiter import *; Limiter(asana_limits())").returncode == 0
    )


@pytest.mark.parametrize("version", ["0.37.2", "0.52.1"])
def test_an_old_starlette_is_named(version: str) -> None:
    done = run(f"import starlette; starlette.__version__ = {version!r}; import batchkit")
    assert f"needs Starlette 1.0 or later, and this is {version}: pip install -U starlette" in done.stderr.splitlines()[-1]


def test_an_old_anyio_is_named() -> None:
    old = "import importlib.metadata, sys; sys.modules['anyio'] = sys; importlib.metadata.version = {'anyio': '4.9.0'}.get"
    last = run(f"{old}; import batchkit").stderr.splitlines()[-1]
    assert "batchkit needs anyio 4.14 or later, and this is 4.9.0: pip install -U anyio" in last


LIBRARIES = ["anyio", "jsonschema", "jsonschema_specifications", "msgspec", "referencing", "regex", "starlette"]


@pytest.mark.parametrize("missing", LIBRARIES)
def test_a_missing_library_is_named(missing: str) -> None:
    last = run(f"import sys; sys.modules[{missing!r}] = None; import batchkit").stderr.splitlines()[-1]
    assert f"batchkit needs {missing}, which is not installed: pip install batchkit-asgi" in last


def test_an_old_python_is_named() -> None:
    done = run("import sys, starlette; sys.version_info = (3, 10, 4); sys.version = '3.10.4 (main)'; import batchkit")
    assert "batchkit needs Python 3.11 or later, and this is 3.10.4" in done.stderr.splitlines()[-1]


def test_pypis_other_batchkit_below_ours_is_named(tmp_path: Path) -> None:
    """Both install ``batchkit/__init__.py``. Where theirs came last, none of ours is ever run."""
    shutil.copytree(Path(batchkit.__file__).parent, tmp_path / "batchkit")
    assert run("import batchkit; print(batchkit.__file__)", cwd=tmp_path).stdout.startswith(str(tmp_path))
    (tmp_path / "batchkit" / "apiserver.py").touch()
    last = run("import batchkit", cwd=tmp_path).stderr.splitlines()[-1]
    assert "pip uninstall batchkit batchkit-asgi, and then pip install batchkit-asgi" in last
