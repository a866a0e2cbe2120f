"""A host for the tests of the client, which notes the requests that it gets over the wire."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from batchkit import BatchEndpoint, batchable, current_action
from tests.servers import serving

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


@dataclass
class Recorded:
    """``seen``: method and path of each request; ``ran``: those that reached the endpoint ``/tasks/{gid}``, batched or not;
    ``batched`` is set when a batch has come; ``open`` lets go the requests for ``/slow``; ``answer`` may answer first.
    """

    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    open: Event = field(default_factory=Event)
    batched: Event = field(default_factory=Event)
    answer: Callable[[Scope], Response | None] = lambda scope: None

    @property
    def batches(self) -> int:
        """How many batches have come."""
        return self.seen.count(("POST", "/batch"))

    def app(self, **settings: Any) -> Starlette:
        """The host; ``settings`` are those of its endpoint."""

        @batchable
        async def task(request: Request) -> Response:
            self.ran.append(request.path_params["gid"])
            if request.method == "GET":
                return JSONResponse({"data": {"gid": request.path_params["gid"]}})
            return JSONResponse(json.loads(await request.body() or b"null"), 201, {"location": "/tasks/7"})

        @batchable
        async def slow(request: Request) -> Response:
            await anyio.to_thread.run_sync(self.open.wait, abandon_on_cancel=True)
            return JSONResponse("slow")

        @batchable
        async def log_in(request: Request) -> Response:
            response = JSONResponse({})
            response.set_cookie("session", "1", httponly=True)
            return response

        @batchable(timeout=0.05)
        async def overdue(request: Request) -> Response:
            self.ran.append("overdue")
            await anyio.sleep_forever()
            raise AssertionError

        @batchable
        async def big(request: Request) -> Response:
            binary = request.query_params.get("binary")
            return JSONResponse("x" * 5000) if binary is None else Response(b"\xff" * int(binary), media_type="image/png")

        @batchable
        async def query(request: Request) -> Response:
            return JSONResponse(request.url.query)

        async def closed(request: Request) -> Response:
            return JSONResponse(current_action(request) is not None)

        routes = [
            Route("/tasks/{gid}", task, methods=METHODS),
            Route("/slow", slow),
            Route("/login", log_in, methods=["GET", "POST"]),
            Route("/overdue", overdue),
            Route("/big", big),
            Route("/query/{gid}", query),
            Route("/closed/{gid}", closed),
        ]
        return BatchEndpoint(**settings).mount_to(Starlette(routes=routes), "/batch")

    @contextmanager
    def serving(self, **settings: Any) -> Iterator[Recorded]:
        """Serve it."""
        app = self.app(**settings)

        async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.seen.append((scope["method"], scope["path"]))
                if self.batches:
                    self.batched.set()
            refused = self.answer(scope) if scope["type"] == "http" else None
            answer: Callable[[Scope, Receive, Send], Awaitable[None]] = app if refused is None else refused
            await answer(scope, receive, send)

        with serving(outermost) as self.url:
            try:
                yield self
            finally:
                self.open.set()
