"""Batches as tests write and read them."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, overload

from starlette.types import ASGIApp

from batchkit._protocol.dialects import DIALECTS, Dialect, ReadResult
from batchkit.testing.asgi import Answer
from batchkit.testing.client import Ask, AsyncClient, Client, check_headers, converse

__all__ = [
    "ActionResult",
    "BatchRefused",
    "action",
    "ask_batch",
    "check_actions",
    "check_path",
    "envelope",
    "post_batch",
    "read_result",
]


@dataclass(frozen=True, slots=True)
class ActionResult:
    """One result as the client reads it (protocol.md#the-answer).

    ``headers`` by lower-case name; ``body`` what its JSON says, a string for text, bytes where it is binary, ``{}`` where empty.
    """

    status_code: int
    headers: dict[str, str]
    body: Any


class BatchRefused(AssertionError):
    """A batch was refused as a whole: nothing ran. ``status_code``, ``headers`` by lower-case name, and ``messages`` say why."""

    def __init__(self, path: str, answer: Answer, dialect: Dialect) -> None:
        self.status_code = answer.status
        self.headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
        # Where they are not batchkit's, what stands before it in the host has answered.
        self.messages = dialect.messages(answer.body) or [answer.body[:200].decode(errors="replace")]
        super().__init__(f"POST {path} was answered {answer.status}: {'; '.join(self.messages)}")


def action(
    method: str, relative_path: str, data: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One action of a batch, as it is sent: ``action("post", "/tasks", {"name": "Water the beans"})``."""
    parts = {"method": method, "relative_path": relative_path, "data": data, "options": options}
    return {name: part for name, part in parts.items() if part is not None}


def check_actions(actions: tuple[object, ...]) -> None:
    """Raise TypeError where one of ``actions`` is none, or all are in a list."""
    for each in actions:
        if not isinstance(each, Mapping):
            raise TypeError(f"actions: {each!r}: give action(…), each as an argument of its own")


def check_path(name: str, path: object) -> None:
    """Raise TypeError where ``path``, the value of keyword ``name``, is no text."""
    if not isinstance(path, str):
        raise TypeError(f"{name}={path!r}: give a path like '/api/1.0/batch'")


def envelope(actions: tuple[Mapping[str, Any], ...], dialect: Dialect) -> bytes:
    """The body of a batch of these actions."""
    return dialect.batch([json.dumps(action).encode() for action in actions])


def read_result(result: ReadResult) -> ActionResult:
    """What stands in the JSON of a result."""
    body = json.loads(bytes(result.body))
    return ActionResult(result.status_code, result.headers, b64decode(body) if result.body_encoding == "base64" else body)


async def ask_batch(
    ask: Ask, path: str, headers: Mapping[str, str], actions: tuple[Mapping[str, Any], ...], dialect: Dialect
) -> list[ActionResult]:
    """The results of one batch. Raises BatchRefused."""
    answer = await ask("POST", path, headers, envelope(actions, dialect))
    if answer.status != 200:
        raise BatchRefused(path, answer, dialect)
    return [read_result(result) for result in dialect.read_results(answer.body)]


@overload
def post_batch(
    client: Client, *actions: Mapping[str, Any], path: str = "/batch", headers: Mapping[str, str] | None = None
) -> list[ActionResult]: ...


@overload
def post_batch(
    client: AsyncClient | ASGIApp, *actions: Mapping[str, Any], path: str = "/batch", headers: Mapping[str, str] | None = None
) -> Coroutine[Any, Any, list[ActionResult]]: ...


def post_batch(
    client: Client | AsyncClient | ASGIApp,
    *actions: Mapping[str, Any],
    path: str = "/batch",
    headers: Mapping[str, str] | None = None,
) -> Any:
    """The results of these actions in one batch, in their order.

    ``client``: a ``TestClient`` or ``httpx.Client``; or, to be awaited, an ``httpx.AsyncClient`` or an ASGI app itself, whose
    lifespan is then not run. ``path``: of the endpoint. ``headers``: of the POST, and so of its actions.

    Raises BatchRefused where the batch is not answered 200; TypeError for what is to be awaited in a synchronous test, and for
    arguments that cannot be.
    """
    check_actions(actions)
    check_path("path", path)
    check_headers(headers)
    # As an action(…) is written: the envelope of the plain dialect as well.
    return converse(client, lambda ask: ask_batch(ask, path, headers or {}, actions, DIALECTS["asana"]))
