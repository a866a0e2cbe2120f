"""The batch's own HTTP request: what section 1 of the contract asks of it, and what answer it asks for."""

from __future__ import annotations

import re
from functools import lru_cache

from starlette.types import Receive, Scope

from batchkit.content import is_json_type, media_type
from batchkit.errors import BatchTooLarge, InvalidBatch, MethodNotAllowed, UnsupportedMediaType
from batchkit.model import RUNNING, current_action
from batchkit.settings import Settings

__all__ = ["ClientGone", "accepts", "is_nested", "line_type", "read"]


class ClientGone(Exception):
    """The client left before its body or its answer was complete: nothing more is sent (contract sections 1 and 6)."""


def is_nested(scope: Scope) -> bool:
    """Whether this request to a batch endpoint is itself an action of a batch."""
    running = RUNNING.get()
    return current_action(scope) is not None or (running is not None and running.carries(scope))


async def read(scope: Scope, receive: Receive, settings: Settings) -> bytes:
    """The body of a ``POST /batch``. Raises InvalidBatch in one of its kinds, or ClientGone."""
    if is_nested(scope):
        raise InvalidBatch("A batch request cannot be used in a batch request")
    if scope["method"] != "POST":
        raise MethodNotAllowed(console=settings.console, client_js=settings.client_js)
    fields: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        # A field that comes twice is joined, and so is no media type, coding or length any more.
        if name in _ASKED:
            fields[name] = fields[name] + b", " + value if name in fields else value
    is_json, dialect = _read_type(fields.get(b"content-type", b""))
    if settings.require_json and not is_json:
        raise UnsupportedMediaType("Send the request body as JSON in UTF-8, with Content-Type: application/json")
    if dialect and dialect != settings.dialect:
        raise UnsupportedMediaType(f"The dialect of this endpoint is {settings.dialect!r}: tell your client so")
    if fields.get(b"content-encoding", b"").strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("Send the request body without a Content-Encoding")
    length = fields.get(b"content-length", b"")
    if length.isdigit() and int(length[:20]) > settings.max_body_size:
        raise _too_large(settings)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > settings.max_body_size:
            raise _too_large(settings)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large(settings: Settings) -> BatchTooLarge:
    return BatchTooLarge(f"The request body is larger than {settings.max_body_size:,} bytes")


_ASKED = frozenset({b"content-type", b"content-encoding", b"content-length"})


@lru_cache(maxsize=64)
def _read_type(content_type: bytes) -> tuple[bool, str | None]:
    """Whether it is JSON in UTF-8, and the dialect that a client says it speaks: another one would ask for other requests."""
    essence, parameters = media_type(content_type)
    return is_json_type(essence) and parameters.get("charset", "utf-8") == "utf-8", parameters.get("dialect")


def accepts(scope: Scope, media_type: bytes) -> float:
    """How much the ``Accept`` of a request likes a media type that it names, from 0 to 1; 0 where it does not name it."""
    return _quality(_accept(scope), media_type)


def line_type(scope: Scope) -> bytes | None:
    """The media type in which this client prefers one line per result (contract section 6), None for the plain answer."""
    return _line_type(_accept(scope))


def _accept(scope: Scope) -> bytes:
    return b",".join([value for name, value in scope["headers"] if name == b"accept"])


@lru_cache(maxsize=64)
def _line_type(accept: bytes) -> bytes | None:
    quality, media_type = max((_quality(accept, media_type), media_type) for media_type in _LINE_TYPES)
    return media_type if quality > 0 and quality >= _quality(accept, b"application/json") else None


_LINE_TYPES = (b"application/jsonl", b"application/x-ndjson")
_WEIGHT = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)").fullmatch


def _quality(accept: bytes, media_type: bytes) -> float:
    for entry in accept.lower().split(b","):
        essence, *parameters = (part.strip() for part in entry.split(b";"))
        if essence == media_type:
            return next((float(match[1]) for part in parameters if (match := _WEIGHT(part))), 1.0)
    return 0.0
