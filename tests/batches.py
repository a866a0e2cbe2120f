"""Posting batches in tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp

from tests.asgi import Answer, request

JSON = (b"content-type", b"application/json")
Headers = Sequence[tuple[bytes, bytes]]


def action(path: str, method: str = "get", **more: Any) -> dict[str, Any]:
    """One entry of a batch."""
    return {"relative_path": path, "method": method, **more}


def envelope(*actions: Any) -> bytes:
    """The body of a batch of these actions."""
    return json.dumps({"data": {"actions": actions}}).encode()


async def post(app: ASGIApp, body: bytes, *, path: str = "/batch", headers: Headers = ()) -> Answer:
    """The answer to one ``POST /batch`` with this body."""
    return await request(app, "POST", path, headers=[(b"host", b"testserver"), JSON, *headers], body=body)


async def batch(app: ASGIApp, *actions: Any, path: str = "/batch", headers: Headers = ()) -> list[dict[str, Any]]:
    """The results of a batch of these actions, which must be answered 200."""
    answer = await post(app, envelope(*actions), path=path, headers=headers)
    assert answer.status == 200, answer.body
    document = json.loads(answer.body)
    assert list(document) == ["data"]
    results: list[dict[str, Any]] = document["data"]
    return results


def messages(result: dict[str, Any]) -> list[str]:
    """The messages of an error, of a result or of a whole batch."""
    document = result.get("body", result)
    return [error["message"] for error in document["errors"]]


LINES = (b"accept", b"application/x-ndjson")


def lines(content: bytes) -> list[dict[str, Any]]:
    """The results in the body of a stream, each on a line of its own with a line feed."""
    *results, rest = content.split(b"\n")
    assert rest == b""
    return [json.loads(result) for result in results]
