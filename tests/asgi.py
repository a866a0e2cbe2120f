"""The ASGI client of the tests: requests straight to an app, and its lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import Event, create_task_group
from starlette.types import ASGIApp, Message

from batchkit.testing.asgi import ASCII, Answer, NoAnswer, request

__all__ = ["ASCII", "Answer", "NoAnswer", "lifespan", "request"]


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """Start ``app`` up, and shut it down in the end. Gives its lifespan state, for ``request``."""
    state: dict[str, Any] = {}
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    started, stopping = Event(), Event()

    async def receive() -> Message:
        message = next(messages)
        if message == "lifespan.shutdown":
            await stopping.wait()
        return {"type": message}

    async def send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            started.set()

    async def run() -> None:
        await app({"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}, receive, send)

    async with create_task_group() as tasks:
        tasks.start_soon(run)
        await started.wait()
        yield state
        stopping.set()
