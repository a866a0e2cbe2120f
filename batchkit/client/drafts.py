"""A request → the action that is exactly this request in a batch, or none: then it travels alone (protocol.md#an-action)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import httpx2
from msgspec import Struct

from batchkit._protocol.dialects import DIALECTS
from batchkit._protocol.headers import is_withheld
from batchkit._protocol.paths import LONGEST_PATH
from batchkit.client.server import Server
from batchkit.model import METHODS

__all__ = ["Draft", "draft_of"]

Fields = list[tuple[bytes, bytes]]

# What is to be streamed; and a batch that is asked for lines is answered in lines.
_ACCEPT_STREAM = (b"event-stream", b"ndjson", b"jsonl")


class Draft(Struct, frozen=True, eq=False):
    """The action that a request can travel as: ``json`` stands for it there. ``fields`` are the header fields that the batch must
    have for it, and ``key`` is that of the batches that it can travel in; ``path`` is relative to the base path.
    """

    request: httpx2.Request
    path: bytes
    json: bytes
    fields: Fields
    key: Hashable


def draft_of(request: httpx2.Request, server: Server) -> Draft | None:
    """The action that ``request`` is; None where it cannot be exactly that request, or the server would not take it."""
    url, method = request.url, request.method
    if not server.is_origin((url.scheme, url.host, url.port)) or method not in METHODS or server.absent:
        return None
    if not isinstance(request.stream, httpx2.ByteStream) or request.extensions.keys() - {"timeout"}:
        return None
    target, _, query = url.raw_path.partition(b"?")
    path = target.removeprefix(server.base)
    is_batch = target.rstrip(b"/") == server.url.raw_path.rstrip(b"/")
    if server.base + path != target or not path.startswith(b"/") or is_batch:
        return None
    # What is remembered of refused requests is as short as their paths.
    if len(path) > LONGEST_PATH or server.refuses(method, path):
        return None
    # The request that a redirect makes has not been read yet.
    content = request.read()
    fields = _shared(request.headers.raw, content)
    if fields is None:
        return None
    json = DIALECTS[server.dialect].draft(method, path.decode("ascii"), query.decode("ascii"), content)
    if json is None or len(json) + server.envelope > server.max_body_size:
        return None
    timeout: dict[str, Any] = request.extensions.get("timeout", {})
    return Draft(request, path, json, fields, (tuple(fields), tuple(timeout.items())))


def _shared(raw_headers: Fields, content: bytes) -> Fields | None:
    """The header fields of a request that a batch must have for it; None where it has some that an action cannot carry."""
    fields, described = [], []
    for original, value in raw_headers:
        name = original.lower()
        if name == b"accept" and any(word in value for word in _ACCEPT_STREAM):
            return None
        if not is_withheld(name):
            fields.append((name, value))
        elif name == b"accept-encoding" or (name == b"connection" and value.lower() == b"keep-alive"):
            # They are about the way back, and the batch has its own.
            fields.append((name, value))
        else:
            described.append((name, value))
    # What an action with a body says of it.
    own = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")] if content else []
    return fields if sorted(described) == own else None
