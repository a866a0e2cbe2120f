"""What a person may write that has no effect, while all may yet be right: it is told in the log when the app has started."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, FastAPI, File, Form, UploadFile
from pydantic import AliasChoices, BaseModel, Field, RootModel, model_validator
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Mount, Route
from starlette.types import Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, not_batchable
from batchkit._checks import startup
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate, asana_limits
from tests.asgi import lifespan, request
from tests.batches import JSON, action, batch, envelope


async def another_app(scope: Scope, receive: Receive, send: Send) -> None: ...


def endpoint(request: Request) -> Response:
    return Response()


def fresh() -> Callable[[Request], Response]:
    """An endpoint of which nobody else has a mark."""

    def endpoint(request: Request) -> Response:
        return Response()

    return endpoint


ROUTES = [
    Route("/tasks", endpoint),
    Route("/dav", endpoint, methods=["PROPFIND"]),
    Mount("/users", routes=[Route("/{gid:int}", endpoint)]),
    Route("/uploads", endpoint, methods=["PUT"]),
]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def warned(app: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is warned of at the start of ``app``."""
    caplog.clear()
    async with lifespan(app):
        pass
    return warnings(caplog)


@pytest.fixture(autouse=True)
def unmarked() -> None:
    """Marks stay where they were put: each test begins without those of others."""
    for function in (endpoint, handler):
        for name in ("__batchable__", "__not_batchable__"):
            vars(function).pop(name, None)


# Limits


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (Rate(5, 60, name="a", routes=["/taks"]), "a: routes: '/taks': the app has no such route: did you mean '/tasks'?"),
        (Concurrency(5, name="a", routes=["/user/*"]), "a: routes: '/user/*': the app has no such route"),
        (Rate(5, 60, name="a", routes=["POST /upload"]), "did you mean 'PUT /uploads'?"),
        (Rate(5, 60, name="a", routes=["DELETE /users/*"]), "'DELETE /users/*': the app has no such route: did you mean 'GET /u"),
        # Nothing that a rule could say means it.
        (Rate(5, 60, name="a", routes=["GET /dav"]), "a: routes: 'GET /dav': the app has no such route"),
        # These are right.
        (Rate(5, 60, name="a", methods=["HEAD"], routes=["GET /tasks"]), None),
        (Rate(5, 60, name="a", routes=["GET /tasks", "/users/{gid}", "/users/*", "HEAD /tasks/"], methods=["GET"]), None),
        (Rate(5, 60, name="a", methods=["PROPFIND"], routes=["/dav"]), None),
        (Rate(5, 60, name="a", routes=["PUT /uploads", "HEAD /users/*", "GET /users/{gid}"]), None),
    ],
)
async def test_a_limit_on_a_route_that_is_not_there(
    limit: Rate | Concurrency, says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = Limiter([limit])
    app = Starlette(routes=ROUTES, middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    told = await warned(BatchEndpoint(cost_hook=limiter, policy="all").mount_to(app), caplog)
    assert [says is not None and says in sentence for sentence in told] == [True] * (2 * (says is not None))


@pytest.mark.anyio
async def test_a_limiter_that_direct_requests_do_not_meet(caplog: pytest.LogCaptureFixture) -> None:
    says = "cost_hook: direct requests are not counted: write app.add_middleware(LimitMiddleware, limiter=limiter)"
    limiter, another = Limiter(asana_limits()), Limiter(asana_limits())
    for around in ([], [Middleware(LimitMiddleware, limiter=another)]):
        app = Starlette(routes=ROUTES, middleware=around)
        told = await warned(BatchEndpoint(policy="all", cost_hook=limiter).mount_to(app), caplog)
        assert says in told
    # Around the app, in it, or in one that is mounted, whose middleware is made with its first request.
    inner = Starlette(routes=ROUTES, middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    app = Starlette(routes=[Mount("/sub", inner)])
    assert await warned(BatchEndpoint(policy="all", cost_hook=limiter).mount_to(app), caplog) == []
    app = Starlette(routes=ROUTES)
    outer = LimitMiddleware(app, limiter=limiter)
    BatchEndpoint(policy="all", cost_hook=limiter, host=outer).mount_to(app)
    assert await warned(outer, caplog) == []


@pytest.mark.anyio
async def test_a_limiter_that_no_batch_asks(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter(asana_limits())
    for cost_hook in (None, Limiter(asana_limits())):
        apart = Starlette(routes=ROUTES, middleware=[Middleware(LimitMiddleware, limiter=limiter)])
        assert (
            "LimitMiddleware: the batch endpoint at /batch does not ask this limiter, so its actions are counted one by one "
            "as they run: give it cost_hook=limiter, or where its hook asks the limiter, say limiter.free(endpoint)"
        ) in await warned(BatchEndpoint(policy="all", cost_hook=cost_hook).mount_to(apart), caplog)
    app = Starlette(routes=[Route("/x", batchable(limit="search")(fresh()))])
    assert await warned(BatchEndpoint().mount_to(app), caplog) == [
        "/x: @batchable(limit='search'): without cost_hook=limiter no batch is counted by it"
    ]


@pytest.mark.anyio
async def test_a_mark_with_a_limit_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter(asana_limits())
    routes = [Route("/x", batchable(limit="serch")(fresh()))]
    app = Starlette(routes=routes, middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    await batch(BatchEndpoint(cost_hook=limiter).mount_to(app), action("/x"), action("/x"))
    assert warnings(caplog) == [
        "@batchable(limit='serch') on /x: the limiter has no Rate or Concurrency with that limit=: did you mean 'search'?"
    ]


@pytest.mark.anyio
async def test_without_a_lifespan_the_first_batch_and_request_tell(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([Rate(5, 60, name="a", routes=["/taks"])])
    around = [Middleware(LimitMiddleware, limiter=limiter)]
    app = BatchEndpoint(cost_hook=limiter, exclude=["/y"]).mount_to(
        Starlette(routes=[Route("/tasks", batchable(endpoint))], middleware=around)
    )
    for _ in range(2):
        await request(app, "GET", "/tasks")
        await batch(app, action("/tasks"))
    meant = "a: routes: '/taks': the app has no such route: did you mean '/tasks'?"
    assert warnings(caplog) == [f"LimitMiddleware: {meant}", "exclude: '/y': the app has no such route", f"cost_hook: {meant}"]


# What may run


@pytest.mark.anyio
async def test_an_exclusion_of_a_method_that_no_route_has(caplog: pytest.LogCaptureFixture) -> None:
    class Tasks(HTTPEndpoint):
        pass

    async def told(*exclude: str, **more: Any) -> list[str]:
        app = Starlette(routes=[Route("/any", Tasks), Mount("/opaque", another_app), *ROUTES])
        return await warned(BatchEndpoint(policy="all", exclude=exclude, **more).mount_to(app), caplog)

    assert await told("POST /uploads") == ["exclude: 'POST /uploads': the app has no such route: did you mean 'PUT /uploads'?"]
    assert await told("POST /any", "DELETE /opaque", "PUT /uploads", "HEAD /tasks") == []
    allowing = BatchEndpoint(host=another_app, base_path="/", allow=["/a", "PUT /b"], exclude=["POST /a", "GET /b"])
    caplog.clear()
    caplog.set_level("INFO", "batchkit")
    await batch(Starlette(routes=[Route("/batch", allowing)]), action("/x"))
    assert "6 routes may run: GET /a, HEAD /a, PUT /a, PATCH /a, DELETE /a, PUT /b" in caplog.text
    assert warnings(caplog) == ["exclude: 'GET /b': the app has no such route: did you mean 'PUT /b'?"]


REMEDY = "no route that may run is below it: give base_path='/', or what your routes are below"
STARTED = "Batches go to Starlette, below /, through no middleware; 0 routes may run: none, "


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("keywords", "path", "says"),
    [
        ({}, "/batch", [STARTED + "mark some with @batchable"]),
        ({"policy": "all", "exclude": ["/*"]}, "/batch", [STARTED + "all are excluded, or cannot be read"]),
        ({"policy": "all", "base_path": "/ap"}, "/batch", [f"base_path='/ap': {REMEDY}"]),
        ({"policy": "all", "base_path": "/batch"}, "/batch", [f"base_path='/batch': {REMEDY}"]),
        ({"policy": "all"}, "/api/batch", [f"'/api', the parent of the batch URL: {REMEDY}"]),
        # These are right.
        ({"policy": "all", "base_path": "/users"}, "/batch", []),
        ({"policy": "all", "base_path": ""}, "/batch", []),
    ],
)
async def test_what_may_run_is_nothing_or_elsewhere(
    keywords: Any, path: str, says: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert await warned(BatchEndpoint(**keywords).mount_to(Starlette(routes=ROUTES), path), caplog) == says


@pytest.mark.anyio
async def test_a_base_path_with_parameters_or_above_an_app_is_right(caplog: pytest.LogCaptureFixture) -> None:
    routes = [Route("/t/{tenant}/x", endpoint), Mount("/opaque", batchable(another_app))]
    for keywords, path in (({"base_path": "/t/acme"}, "/b"), ({"base_path": "/opaque"}, "/b"), ({}, "/t/{org}/batch")):
        endpoint_there = BatchEndpoint(policy="all", **keywords)  # type: ignore[arg-type]
        assert await warned(endpoint_there.mount_to(Starlette(routes=routes), path), caplog) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("root_path", "relative_path", "says"),
    [
        ("", "/api/tasks/1", "relative_path='/api/tasks/1' repeats the base path '/api': write '/tasks/1'"),
        ("/v1", "/v1/api/tasks/1", "relative_path='/v1/api/tasks/1' repeats the base path '/v1/api': write '/tasks/1'"),
        ("/v1", "/api/tasks/1", "relative_path='/api/tasks/1' repeats the base path '/api': write '/tasks/1'"),
        ("", "/apis/tasks/1", None),
        ("", "/elsewhere", None),
        # There is one below.
        ("", "/api/here", None),
    ],
)
async def test_a_relative_path_that_repeats_the_base_path(
    root_path: str, relative_path: str, says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    routes = [Route("/api/tasks/{gid}", batchable(endpoint)), Route("/api/api/here", batchable(endpoint))]
    app = BatchEndpoint().mount_to(Starlette(routes=routes), "/api/batch")
    for _ in range(2):
        body = envelope(action("/tasks/1"), action(relative_path))
        answer = await request(app, "POST", "/api/batch", headers=[JSON], body=body, root_path=root_path)
        # The log alone tells.
        assert b"repeats" not in answer.body
    assert warnings(caplog) == ([] if says is None else [f"data.actions[1]: {says}"])


@pytest.mark.anyio
async def test_routes_that_the_app_adds_as_it_starts_are_there(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def adds(app: Starlette) -> AsyncIterator[None]:
        app.add_route("/late", endpoint)
        yield

    limiter = Limiter([Rate(5, 60, name="a", routes=["/late"])])
    app = Starlette(lifespan=adds, middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    BatchEndpoint(policy="all", cost_hook=limiter, exclude=["/late"]).mount_to(app)
    # Nothing but that none is left to run.
    assert [sentence for sentence in await warned(app, caplog) if not sentence.startswith("Batches go")] == []


# Marks that nobody sees


def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
    async def around(request: Request) -> Response:
        answer: Response = await function(request)
        return answer

    return around


class Tasks:
    async def show(self, request: Request) -> Response:
        return Response()


class Base(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return Response()


class Derived(batchable(type("Marked", (Base,), {}))):  # type: ignore[misc]
    pass


async def handler(request: Request) -> Response:
    return Response()


ASGI = Starlette(routes=[Route("/y", endpoint)])
hides = "decorator.<locals>.around: seems to hide the mark of handler: write it with functools.wraps, or mark it again"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda: Route("/x", decorator(batchable(handler))), hides),
        # This one would run with policy="all".
        (lambda: Route("/x", decorator(not_batchable(handler))), hides),
        (lambda: Route("/x", Derived), "Derived: the mark of Marked is for that class alone: mark this one as well"),
        # These are right.
        (lambda: Route("/x", functools.wraps(handler)(decorator(batchable(handler)))), None),
        (lambda: Route("/x", batchable(decorator(batchable(handler)))), None),
        (lambda: Route("/x", not_batchable(decorator(batchable(handler)))), None),
        (lambda: Route("/x", batchable(decorator(handler))), None),
        (lambda: Route("/x", batchable(Tasks().show)), None),
        (lambda: Route("/x", batchable(type("Own", (Derived,), {}))), None),
        (lambda: Mount("/x", batchable(ASGI)), None),
        (lambda: Host("a.example", batchable(ASGI)), None),
    ],
)
async def test_a_mark_that_nobody_sees(write: Callable[[], Any], says: str | None, caplog: pytest.LogCaptureFixture) -> None:
    told = await warned(BatchEndpoint(policy="all").mount_to(Starlette(routes=[write(), Route("/z", endpoint)])), caplog)
    assert told == ([] if says is None else [says])


@pytest.mark.anyio
async def test_what_calls_a_marked_endpoint_that_has_a_route_hides_no_mark(caplog: pytest.LogCaptureFixture) -> None:
    first = batchable(fresh())

    async def second(request: Request) -> Response:
        return first(request)

    app = BatchEndpoint().mount_to(Starlette(routes=[Route("/1", first), Route("/2", second)]))
    assert await warned(app, caplog) == []


@pytest.mark.anyio
async def test_one_failure_to_advise_leaves_the_rest(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(survey: object) -> list[str]:
        raise OSError

    monkeypatch.setattr(startup, "_lost_marks", fails)
    app = Starlette(routes=[Route("/x", batchable(fresh()))])
    assert await warned(BatchEndpoint(exclude=["/z"]).mount_to(app), caplog) == ["exclude: '/z': the app has no such route"]


# Bodies


class Task(BaseModel):
    name: str


class Envelope(BaseModel):
    data: Task


class Aliased(BaseModel):
    task: Task = Field(alias="data")


class Choices(BaseModel):
    task: Task = Field(validation_alias=AliasChoices("data", "task"))


class Root(RootModel[dict[str, Any]]):
    pass


class Optional(BaseModel):
    name: str = ""


class Unwraps(Task):
    @model_validator(mode="before")
    @classmethod
    def unwrap(cls, value: Any) -> Any:
        return value["data"]


async def one(task: Task) -> None: ...
async def two(task: Task, other: Task) -> None: ...
async def right(task: Envelope) -> None: ...
async def aliased(task: Aliased) -> None: ...
async def optional(task: Optional) -> None: ...
async def unwraps(task: Unwraps) -> None: ...
async def embedded(data: Annotated[Task, Body(embed=True)]) -> None: ...
async def anything(task: dict[str, Any]) -> None: ...
async def choices(task: Choices) -> None: ...
async def root(task: Root) -> None: ...


@pytest.mark.anyio
async def test_bodies_that_asanas_dialect_cannot_send(caplog: pytest.LogCaptureFixture) -> None:
    app, router = FastAPI(), APIRouter()
    router.post("/1")(batchable(one))
    router.put("/2")(batchable(two))
    fine: list[Callable[..., Any]] = [right, aliased, optional, unwraps, embedded, anything, choices, root]
    for number, each in enumerate(fine):
        router.post(f"/right/{number}")(batchable(each))

    @router.post("/not/marked")
    async def unmarked(task: Task) -> None: ...

    app.include_router(router)
    says = "its body has no 'data', where dialect='asana' puts all: give dialect='plain'"
    assert await warned(BatchEndpoint(dialect="plain").mount_to(app, "/plain"), caplog) == []
    BatchEndpoint().mount_to(app)
    assert await warned(app, caplog) == [f"POST /1: {says}", f"PUT /2: {says}"]


async def login(name: Annotated[str, Form()]) -> None: ...
async def upload(file: UploadFile, name: Annotated[str, Form()]) -> None: ...
async def form(task: Annotated[Task, Form()]) -> None: ...
async def maybe(file: Annotated[bytes, File()] = b"") -> None: ...


@pytest.mark.anyio
@pytest.mark.parametrize("dialect", ["asana", "plain"])
async def test_bodies_that_no_action_has(dialect: Any, caplog: pytest.LogCaptureFixture) -> None:
    app, router = FastAPI(), APIRouter()
    for each in (login, upload, form, maybe):
        router.post(f"/{each.__name__}")(each)
    app.include_router(router)
    says = "takes a form or a file, which no action can carry: mark it @not_batchable"
    told = await warned(BatchEndpoint(dialect=dialect, policy="all", exclude=["/form"]).mount_to(app), caplog)
    assert told == [f"POST /login: {says}", f"POST /upload: {says}"]


# Units


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (lambda: BatchEndpoint(max_body_size=10), "max_body_size=10: it is counted in bytes: for 10 MiB give 10 * 2**20"),
        (lambda: BatchEndpoint(max_result_size=5), "max_result_size=5: it is counted in bytes: for 10 MiB give 10 * 2**20"),
        (
            lambda: BatchEndpoint(action_timeout=30_000),
            "action_timeout=30000: it is counted in seconds: for half a minute give 30",
        ),
        (
            lambda: BatchEndpoint(limiter_timeout=1000),
            "limiter_timeout=1000: it is counted in seconds: for a tenth of one give 0.1",
        ),
        (lambda: batchable(timeout=30_000), "batchable(timeout=30000): it is counted in seconds: for half a minute give 30"),
        # These are right.
        (lambda: batchable(timeout=600), None),
        (lambda: BatchEndpoint(action_timeout=600, limiter_timeout=10, max_body_size=1000), None),
    ],
)
def test_what_may_be_another_unit(written: Callable[[], object], says: str | None, caplog: pytest.LogCaptureFixture) -> None:
    written()
    assert caplog.messages == ([says] if says else [])


# Where it is mounted


@pytest.mark.anyio
async def test_a_host_that_its_batches_do_not_reach(caplog: pytest.LogCaptureFixture) -> None:
    """Where the endpoint is in another app than its host, only a batch tells what its actions are relative to."""
    sub = Starlette(routes=[Route("/x", batchable(endpoint))])
    app = BatchEndpoint(host=sub, exclude=["/typo"]).mount_to(Starlette(routes=[Mount("/api", sub)]), "/api/batch")
    assert await warned(app, caplog) == []
    for _ in range(2):
        assert [result["status_code"] for result in await batch(app, action("/x"), path="/api/batch")] == [404]
    remedy = "no route that may run is below it: give base_path='/', or what your routes are below"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "exclude: '/typo': the app has no such route",
        f"'/api', the parent of the batch URL: {remedy}",
    ]


@pytest.mark.anyio
async def test_an_endpoint_that_comes_after_the_start(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def late(app: Starlette) -> AsyncIterator[None]:
        BatchEndpoint(policy="all").mount_to(app)
        yield

    async with lifespan(Starlette(routes=[Route("/x", endpoint)], lifespan=late)):
        [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == (
        "mount_to: the app has started, so actions will not have its lifespan state, nor a Limiter its connections: "
        "call mount_to where the app is made"
    )
