"""A small ASGI client: requests straight to an app, handed over and answered as a server does it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from anyio import Event, create_task_group
from starlette.types import ASGIApp, Message, Scope

__all__ = ["ASCII", "Answer", "NoAnswer", "request"]

logger = logging.getLogger("batchkit.testing")

ASCII = "".join(map(chr, range(0x21, 0x7F)))


class NoAnswer(Exception):
    """The app ended without a complete answer: a server would answer 500, or cut the connection where one had begun.

    Its cause is the exception that the app raised, if it did.
    """


class Answer(NamedTuple):
    """What the client receives; the names of header fields are in lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        """The values of every header field of this name, in order."""
        return [value for key, value in self.headers if key == name]

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


async def request(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    root_path: str = "",
    state: Mapping[str, Any] | None = None,
) -> Answer:
    """The answer of ``app``, given when its work has ended, background tasks included.

    ``path`` is the request target as it stands on the wire, below ``root_path`` and without the query; what is not ASCII in it
    is percent-encoded first, as any client does. No header field is added. ``state`` is the lifespan state: the app gets a copy.

    Raises NoAnswer.
    """
    target = quote(path, safe=ASCII)
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": method,
        "root_path": root_path,
        "path": root_path + unquote(target),
        "raw_path": (root_path + target).encode(),
        "query_string": query,
        "headers": list(headers),
        "state": dict(state or {}),
    }
    start: Message = {}
    chunks: list[bytes] = []
    received = False
    complete = Event()
    failure: Exception | None = None

    async def receive() -> Message:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": body, "more_body": False}
        await complete.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        expected = "http.response.body" if start else "http.response.start"
        if complete.is_set() or message["type"] != expected:
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r}")
        if not start:
            start.update(message)
            return
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            complete.set()

    async def run() -> None:
        nonlocal failure
        try:
            await app(scope, receive, send)
        except Exception as error:
            failure = error
            if complete.is_set():
                logger.info("The app raised after its answer", exc_info=error)

    # In a task of its own, as on a server: the context variables that it sets end with it.
    async with create_task_group() as tasks:
        tasks.start_soon(run)
    if not complete.is_set():
        raise NoAnswer(f"{method} {path}") from failure
    fields = [(name.lower(), value) for name, value in start.get("headers", ())]
    # Nothing of such a body goes over the wire.
    empty = method == "HEAD" or start["status"] in (204, 304)
    return Answer(start["status"], fields, b"" if empty else b"".join(chunks))
