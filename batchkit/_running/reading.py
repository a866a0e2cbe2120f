"""The batch's own HTTP request: what protocol.md#the-batch-request asks of it."""

from __future__ import annotations

from functools import lru_cache

from starlette.types import Receive, Scope

from batchkit._protocol.content import is_json_type, media_type
from batchkit._protocol.headers import fields
from batchkit._record import record_of
from batchkit._running.uploading import Uploading
from batchkit.errors import BatchTooLarge, MethodNotAllowed, NestedBatch, UnsupportedMediaType
from batchkit.settings import Settings

__all__ = ["ClientGone", "read"]


class ClientGone(Exception):
    """The client left before its body or its answer was complete: nothing more is sent (protocol.md#the-batch-request)."""


async def read(scope: Scope, receive: Receive, settings: Settings, upload: Uploading | None) -> bytes:
    """The body of a ``POST /batch``, while which is read ``upload`` is held.

    Raises InvalidBatch in one of its kinds, ClientGone, or what ``upload`` raises.
    """
    if record_of(scope) is not None:
        raise NestedBatch("A batch request cannot be used in a batch request")
    if scope["method"] != "POST":
        raise MethodNotAllowed(console=settings.console, client_js=settings.client_js)
    content_type, coding, length = fields(scope, b"content-type", b"content-encoding", b"content-length")
    is_json, dialect = _read_known_type(content_type) if len(content_type) <= LONGEST_KNOWN else _read_type(content_type)
    if settings.require_json and not is_json:
        raise UnsupportedMediaType("Send the request body as JSON in UTF-8, with Content-Type: application/json")
    if dialect and dialect != settings.dialect:
        raise UnsupportedMediaType(f"The dialect of this endpoint is {settings.dialect!r}: tell your client so")
    if coding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("Send the request body without a Content-Encoding")
    if length.isdigit() and int(length[:20]) > settings.max_body_size:
        raise _too_large(settings)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await (receive() if upload is None or chunks else upload.first(receive))
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


def _read_type(content_type: bytes) -> tuple[bool, str | None]:
    """Whether it is JSON in UTF-8, and the dialect that a client says it speaks: another one would ask for other requests."""
    essence, parameters = media_type(content_type)
    return is_json_type(essence) and parameters.get("charset", "utf-8") == "utf-8", parameters.get("dialect")


# In bytes. What a client makes up at length is not kept.
LONGEST_KNOWN = 256
_read_known_type = lru_cache(maxsize=64)(_read_type)
