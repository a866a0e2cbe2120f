"""One conversation for every kind of client: an app itself, a TestClient, a synchronous and an asynchronous httpx client."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Protocol, TypeVar

from anyio import NoEventLoopError, get_current_task
from starlette.types import ASGIApp

from batchkit.testing.asgi import Answer, request

__all__ = ["Ask", "AsyncClient", "Client", "check_headers", "converse"]

Value = TypeVar("Value")


class Response(Protocol):
    """As httpx has it."""

    @property
    def status_code(self) -> int:
        """The status."""

    @property
    def headers(self) -> Any:
        """The header fields; ``raw`` gives them in bytes."""

    @property
    def content(self) -> bytes:
        """The body, with its Content-Encoding undone."""


class Client(Protocol):
    """Starlette's or FastAPI's ``TestClient``, or an ``httpx.Client``."""

    def request(
        self, method: str, url: str, /, *, content: bytes | None, headers: dict[str, str], follow_redirects: bool
    ) -> Response:
        """The answer to one request."""


class AsyncClient(Protocol):
    """An ``httpx.AsyncClient``."""

    async def request(
        self, method: str, url: str, /, *, content: bytes | None, headers: dict[str, str], follow_redirects: bool
    ) -> Response:
        """The answer to one request."""


class Ask(Protocol):
    """Asks a client for one answer; ``content`` is JSON."""

    async def __call__(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        """The answer."""


def converse(client: Client | AsyncClient | ASGIApp, conversation: Callable[[Ask], Coroutine[Any, Any, Value]]) -> Any:
    """What ``conversation`` comes to, at once with a synchronous client, else to be awaited.

    Raises TypeError where an app or an asynchronous client is given in a synchronous test, or anything else.
    """
    if isinstance(client, type) or not (callable(client) or hasattr(client, "request")):
        raise TypeError(f"client={client!r}: give a TestClient, an httpx.Client or AsyncClient, or the app itself")
    send = getattr(client, "request", None)
    if send is not None and not iscoroutinefunction(send):
        try:
            # Nothing in it waits.
            conversation(_asking(send)).send(None)
        except StopIteration as end:
            return end.value
    try:
        get_current_task()
    except NoEventLoopError:
        raise TypeError(f"{client!r} is to be awaited: in a synchronous test give a TestClient of the app") from None
    return conversation(_asking_app(client) if send is None else _asking(send))  # type: ignore[arg-type]


def check_headers(headers: object) -> None:
    """Raise TypeError where ``headers`` are neither None nor a mapping of strings."""
    if headers is None:
        return
    # Their values are as good as passwords, and the logs of tests are read by many.
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers: {type(headers)!r}: give a dict of strings, or None")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers: {name!r}: {type(value)!r}: give a dict of strings, or None")


def _asking(send: Callable[..., Any]) -> Ask:
    async def ask(method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        # What a client asks for by itself, an action does not.
        sent = {"accept-encoding": "identity", **_described(headers, content)}
        response = send(method, url, content=content, headers=sent, follow_redirects=False)
        if isawaitable(response):
            response = await response
        fields = [(name.lower(), value) for name, value in response.headers.raw]
        undone = ((b"content-encoding", b"gzip"), (b"content-encoding", b"deflate"))
        return Answer(response.status_code, [field for field in fields if field not in undone], response.content)

    return ask


def _asking_app(app: ASGIApp) -> Ask:
    async def ask(method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        path, _, query = url.partition("?")
        fields = {"host": "testserver", **_described(headers, content)}
        if content is not None:
            fields["content-length"] = str(len(content))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        return await request(app, method, path, query=query.encode(), headers=raw, body=content or b"")

    return ask


def _described(headers: Mapping[str, str], content: bytes | None) -> dict[str, str]:
    fields = {name.lower(): value for name, value in headers.items()}
    return fields if content is None else {"content-type": "application/json"} | fields
