"""The app that ``test_servers`` starts on each server: good handlers beside some that misbehave."""

from __future__ import annotations

import asyncio
import os
import threading

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from batchkit import BatchEndpoint, batchable


async def hello(request: Request) -> Response:
    return JSONResponse({"url": str(request.url), "body": (await request.body()).decode()})


async def alive(request: Request) -> Response:
    """What is left in the process: tasks, threads at work, and resident memory in KiB."""
    pages = int((await anyio.Path("/proc/self/statm").read_text()).split()[1])
    # anyio keeps its worker threads, up to 40 of them, for the next call.
    others = sum(not thread.name.startswith("AnyIO worker") for thread in threading.enumerate())
    threads = others + anyio.to_thread.current_default_thread_limiter().borrowed_tokens
    return JSONResponse([len(asyncio.all_tasks()), threads, pages * os.sysconf("SC_PAGE_SIZE") // 1024])


async def fails(request: Request) -> Response:
    raise ValueError("secret")


async def leaves(request: Request) -> Response:
    raise SystemExit(3)


async def strays(request: Request) -> Response:
    raise asyncio.CancelledError


let_go: dict[str, anyio.Event] = {}
ended: dict[str, int] = {}


async def hold(request: Request) -> Response:
    """A GET waits for the POST, which tells how many have waited to their end so far."""
    name = request.path_params["name"]
    event = let_go.setdefault(name, anyio.Event())
    if request.method == "GET":
        await event.wait()
        ended[name] = ended.get(name, 0) + 1
    else:
        event.set()
    return JSONResponse(ended.get(name, 0))


@batchable(timeout=0.05)
async def never(request: Request) -> Response:
    await anyio.sleep_forever()
    raise AssertionError


@batchable(timeout=0.05)
async def endless(request: Request) -> Response:
    async def chunks() -> object:
        while True:
            yield b""

    return StreamingResponse(chunks())  # type: ignore[arg-type]


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends nothing."""


async def rubbish(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"set-cookie", b"a\r\nb: c")]})


def thread(request: Request) -> Response:
    async def later() -> None:
        raise ValueError("secret")

    return PlainTextResponse("thread", background=BackgroundTask(later))


app = Starlette(
    routes=[
        Route("/hello", hello, methods=["GET", "POST"]),
        Route("/alive", alive),
        Route("/fails", fails),
        Route("/held/{name}", hold, methods=["GET", "POST"]),
        Route("/leaves", leaves),
        Route("/strays", strays),
        Route("/never", never),
        Route("/endless", endless),
        Route("/thread", thread),
        Mount("/silent", batchable(silent)),
        Mount("/rubbish", batchable(rubbish)),
    ]
)
BatchEndpoint(policy="all", max_actions=20).mount_to(app, "/batch")
