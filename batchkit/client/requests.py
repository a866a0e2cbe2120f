"""A request → the action that is exactly this request in a batch, or none: then it travels alone (contract section 2)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from batchkit._protocol.content import is_json
from batchkit._protocol.dialects import BODYLESS, DIALECTS
from batchkit._protocol.dialects import Options as ActionOptions
from batchkit._protocol.headers import is_withheld
from batchkit._protocol.paths import LONGEST
from batchkit._record import Record
from batchkit.client.server import Server
from batchkit.errors import InvalidAction
from batchkit.model import METHODS

__all__ = ["ENVELOPE", "Action", "action_of"]

Fields = list[tuple[bytes, bytes]]

# What a batch is besides its actions, in bytes, and more.
ENVELOPE = 32

# What is to be streamed; and a batch that is asked for lines is answered in lines.
_ACCEPT_STREAM = (b"event-stream", b"ndjson", b"jsonl")
_OPTIONS = {"limit": "limit", "offset": "offset", "opt_fields": "fields", "opt_expand": "expand"}


class _Json(Struct, omit_defaults=True):
    relative_path: str
    method: str
    data: Raw | dict[str, str] | UnsetType = UNSET
    options: dict[str, str | int] | UnsetType = UNSET


class Action(Struct, frozen=True, eq=False):
    """A request that can travel in a batch: ``json`` stands for it there. ``fields`` are the header fields that the batch must
    have for it, and ``key`` is that of the batches that it can travel in; ``path`` is relative to the base path.
    """

    request: httpx2.Request
    path: bytes
    json: bytes
    fields: Fields
    key: Hashable


_encode = msgspec.json.Encoder().encode


def action_of(request: httpx2.Request, server: Server) -> Action | None:
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
    if len(path) > LONGEST or server.refuses(method, path):
        return None
    # The request that a redirect makes has not been read yet.
    content = request.read()
    fields = _shared(request.headers.raw, content)
    if fields is None:
        return None
    json = _json(method, path.decode("ascii"), query.decode("ascii"), content, server.dialect)
    if json is None or len(json) + ENVELOPE > server.max_body_size:
        return None
    timeout: dict[str, Any] = request.extensions.get("timeout", {})
    return Action(request, path, json, fields, (tuple(fields), tuple(timeout.items())))


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


def _json(method: str, path: str, query: str, content: bytes, dialect: str) -> bytes | None:
    """The JSON of the action that the server reads as just this request, byte for byte; None where there is none."""
    plain = dialect == "plain"
    entry = _Json(f"{path}?{query}" if plain and query else path, method.lower())
    if query and not plain:
        data, entry.options = _parameters(query)
        if data:
            entry.data = data
    if content or method not in BODYLESS:
        inner = content if plain else content[8:-1]
        if method in BODYLESS or entry.data is not UNSET or not _is_object(inner):
            return None
        entry.data = Raw(inner)
    # What the server will make of it, by the server's own means.
    options = None if entry.options is UNSET else msgspec.convert(entry.options, ActionOptions)
    record = Record(0, method, data=b"" if entry.data is UNSET else _encode(entry.data))
    try:
        DIALECTS[dialect].apply(record, entry.relative_path, options)
    except InvalidAction:
        return None
    same = (path.encode(), query.encode(), content or None) == (record.raw_path, record.query_string, record.body)
    return _encode(entry) if same else None


def _parameters(query: str) -> tuple[dict[str, str], dict[str, str | int] | UnsetType]:
    """The ``data`` and the ``options`` that may stand for a query of the asana dialect."""
    data: dict[str, str] = {}
    options: dict[str, str | int] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            data[name] = value
        elif name != "limit":
            options[_OPTIONS[name]] = value
        elif value.isascii() and value.isdecimal() and len(value) < 10:
            options["limit"] = int(value)
    return data, options or UNSET


def _is_object(content: bytes) -> bool:
    return content[:1] == b"{" and content[-1:] == b"}" and is_json(content)
