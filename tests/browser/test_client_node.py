"""The browser's module on Node, against a real server, in both dialects; and its types, as TypeScript reads them."""

from __future__ import annotations

import subprocess
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from batchkit import Batch, BatchEndpoint, TooManyRequests
from batchkit.settings import CostHook
from tests.nodes import SCRIPTS, named_tests, passed_tests
from tests.servers import serving
from tests.trackers import Wire

SPELLED = b'{"big":12345678901234567890,"one":1.00,"text":"\\u00e9 \\\\"}'
SHOWN = ("authorization", "x-team", "cache-control", "pragma")


async def echo(request: Request) -> Response:
    """What arrived of the request."""
    fields = {name: value for name, value in request.headers.items() if name in SHOWN}
    content = {"method": request.method, "path": request.url.path, "query": sorted(request.query_params.multi_items())}
    return JSONResponse(content | {"headers": fields, "body": (await request.body()).decode("latin-1")})


async def accepts(request: Request) -> Response:
    return JSONResponse(request.headers["accept"])


async def length(request: Request) -> Response:
    return JSONResponse(len(await request.body()))


async def fails(request: Request) -> Response:
    raise ValueError("secret")


async def closed(request: Request) -> Response:
    return JSONResponse(f"closed {request.path_params['number']}")


async def no_json(request: Request) -> Response:
    return Response(status_code=415)


class Gates:
    """Requests wait at a gate until it is opened; whoever opens it can know that they are there."""

    def __init__(self) -> None:
        self.open: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)
        self.reached: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    async def gate(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "POST":
            self.open[name].set()
        else:
            self.reached[name].set()
            await self.open[name].wait()
        return JSONResponse("open")

    async def arrived(self, request: Request) -> Response:
        await self.reached[request.path_params["name"]].wait()
        return Response()


async def leave(request: Request) -> Response:
    content = await request.json()
    return RedirectResponse(content.get("data", content)["to"], 303)


class Creation:
    """POST, redirect, GET."""

    def __init__(self) -> None:
        self.count = 0
        self.asked: Counter[str] = Counter()

    async def once(self, request: Request) -> Response:
        """What is gone when it is asked for again: a redirect of this status, or a refusal in other words than a batch's."""
        self.asked[request.url.path] += 1
        if self.asked[request.url.path] > 1:
            return Response(status_code=410)
        status = request.path_params["status"]
        return JSONResponse({"errors": []}, 400) if status == 400 else RedirectResponse("/api/echo/went", status)

    async def create(self, request: Request) -> Response:
        self.count += 1
        return RedirectResponse("/api/created", 303)

    async def created(self, request: Request) -> Response:
        return JSONResponse(self.count)


def cost_hook() -> CostHook:
    refusals: Counter[str] = Counter()

    async def refuse(batch: Batch) -> None:
        """``X-Refuse: name times seconds`` is refused that many times."""
        _, times, seconds = batch.request.headers.get("x-refuse", "none 0 0").split()
        key = batch.request.headers.get("x-refuse", "")
        refusals[key] += 1
        if refusals[key] <= int(times):
            raise TooManyRequests(retry_after=None if seconds == "never" else float(seconds))

    return refuse


def host(dialect: Literal["asana", "plain"]) -> Wire:
    gates, creation = Gates(), Creation()
    answers = {
        "spelled": Response(SPELLED, media_type="application/json"),
        "text": PlainTextResponse("äöü\r\n"),
        "binary": Response(bytes(range(256)), media_type="image/png"),
        "string": JSONResponse("a string"),
        "nothing": Response(status_code=204),
        "moved": RedirectResponse("/api/echo/moved", 307),
        "elsewhere": RedirectResponse("/outside", 302),
    }

    def fixed(response: Response) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return response

        return endpoint

    routes = [
        *(Route(f"/{name}", fixed(response), methods=["GET", "POST"]) for name, response in answers.items()),
        Route("/echo/{rest:path}", echo, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        Route("/accept", accepts),
        Route("/length", length, methods=["POST"]),
        Route("/fails", fails),
        Route("/closed/{number}", closed),
        Route("/no-json", no_json, methods=["POST"]),
        Route("/gate/{name}", gates.gate, methods=["GET", "POST"]),
        Route("/gate/{name}/arrived", gates.arrived),
        Route("/create", creation.create, methods=["POST"]),
        Route("/created", creation.created),
        Route("/leave", leave, methods=["POST"]),
        Route("/once/{name}/{status:int}", creation.once, methods=["GET", "POST", "PUT"]),
    ]

    async def seen(request: Request) -> Response:
        """What came over the wire since this was asked last."""
        lines = [line for line in wire.seen if line != "GET /seen"]
        wire.seen.clear()
        return JSONResponse(lines)

    app = Starlette(routes=[Mount("/api", routes=routes), Route("/seen", seen), Route("/outside", echo)])
    endpoint = BatchEndpoint(dialect=dialect, policy="all", exclude=["/api/closed/{number}"], cost_hook=cost_hook())
    wire = Wire(endpoint.mount_to(app, "/api/batch"))
    return wire


@pytest.fixture(params=["asana", "plain"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The URL of a host, and its dialect."""
    with serving(host(request.param)) as url:
        yield url, request.param


def test_the_module_on_node(node: str, served: tuple[str, str]) -> None:
    names = passed_tests(node, "batching.mjs", *served)
    assert names == named_tests("batching.mjs")


def test_the_types_are_strictly_what_the_module_is_used_as(node: str) -> None:
    """Issue 10: "Type declarations checked with `tsc --strict` on a usage file"."""
    compiler = SCRIPTS / "node_modules" / "typescript" / "bin" / "tsc"
    options = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom", "--types", ""]
    command: list[str | Path] = [node, compiler, *options, SCRIPTS / "usage.ts"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
