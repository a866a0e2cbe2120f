"""Bytes → actions, results → bytes: the envelope on both ways (contract sections 1, 2 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw, Struct

from batchkit import schema
from batchkit.content import Rendering, render
from batchkit.dialect import DIALECTS, Dialect, Options
from batchkit.errors import InvalidAction, InvalidBatch
from batchkit.model import Action, Result
from batchkit.settings import NEVER_HEADERS, Settings

__all__ = ["decode", "encode"]

METHODS = {spelling: name for name in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD") for spelling in (name, name.lower())}


# In bytes. To find fault with ten long actions, item by item, costs more than to run a batch.
LONGEST_EXPLAINED = 2048


class _Data(Struct, forbid_unknown_fields=True):
    actions: list[Raw]


class _Batch(Struct, forbid_unknown_fields=True):
    data: _Data
    options: Raw = Raw()


class _Action(Struct, forbid_unknown_fields=True):
    relative_path: str
    method: str
    data: Raw = Raw()
    options: Options | None = None


_batch = msgspec.json.Decoder(_Batch)
_any = msgspec.json.Decoder(Raw)
_object = msgspec.json.Decoder(dict[str, Raw])
_action = msgspec.json.Decoder(_Action)
_encode_json = msgspec.json.Encoder().encode

_BATCH_SCHEMA = schema.compile_schema(schema.BATCH)
_ACTION_SCHEMA = schema.compile_schema(schema.ACTION)


def decode(body: bytes, settings: Settings) -> tuple[Action, ...]:
    """The actions that ``body`` holds, in order; a malformed one already has its 400 result.

    Raises InvalidBatch where the envelope is wrong, or holds no action or more than ``max_actions``.
    """
    try:
        if not body.isascii():
            body.decode()
        try:
            raw_actions = _batch.decode(body).data.actions
        except msgspec.ValidationError:
            raw_actions = _batch.decode(_last_of_each(body, "data")).data.actions
    except msgspec.ValidationError:
        raise InvalidBatch(*_explain_batch(body)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidBatch(_NOT_JSON) from None
    if not raw_actions:
        raise InvalidBatch("Batch requests must contain at least one action")
    if len(raw_actions) > settings.max_actions:
        raise InvalidBatch(f"Batch requests must contain no more than {settings.max_actions} actions")
    dialect = DIALECTS[settings.dialect]
    actions = []
    for index, raw_action in enumerate(raw_actions):
        action = Action(index)
        try:
            _decode_action(action, raw_action, dialect)
        except InvalidAction as error:
            action.refuse(error, settings.help)
        actions.append(action)
    return tuple(actions)


def _last_of_each(raw: bytes | Raw, inner: str) -> bytes:
    """``raw`` with, of a key that stands twice in it or in its object ``inner``, the last, which counts (contract section 1).

    Types are checked for every one of them by msgspec, those that do not count included.
    """
    fields = _object.decode(raw)
    with suppress(msgspec.ValidationError):
        fields[inner] = Raw(_encode_json(_object.decode(fields.get(inner, b"null"))))
    return _encode_json(fields)


_NOT_JSON = "Could not parse request data, invalid JSON"


def _explain_batch(body: bytes) -> list[str]:
    try:
        # msgspec stops at the first wrong type, and what follows may not be JSON at all.
        return schema.explain(_BATCH_SCHEMA, _outline(_any.decode(body), schema.BATCH), "") or [_NOT_JSON]
    except (msgspec.DecodeError, RecursionError):
        return [_NOT_JSON]


def _outline(raw: Raw, rules: dict[str, Any]) -> Any:
    """As much of a value as its schema looks at: the keys of objects it names, and types."""
    start = bytes(memoryview(raw)[:1])
    if start == b"{" and "properties" in rules:
        known = rules["properties"]
        return {key: _outline(value, known[key]) if key in known else None for key, value in _object.decode(raw).items()}
    return {b"{": {}, b"[": [], b'"': "", b"t": True, b"f": False, b"n": None}.get(start, 0)


def _decode_action(action: Action, raw: Raw, dialect: Dialect) -> None:
    try:
        try:
            fields = _action.decode(raw)
        except msgspec.ValidationError:
            fields = _action.decode(_last_of_each(raw, "options"))
        data = bytes(fields.data)
        if data == b"null":
            data = b""
        method = METHODS.get(fields.method) or METHODS.get(fields.method.lower() if fields.method.isascii() else "")
        if method is None or data[:1] not in b"{":
            raise msgspec.ValidationError
        action.method, action.data = method, data
        dialect.apply(action, fields.relative_path, fields.options)
    except InvalidAction as error:
        place = f"data.actions[{action.index}]."
        raise InvalidAction(*(place + message for message in error.messages)) from None
    except msgspec.ValidationError:
        raise InvalidAction(*_explain_action(raw, f"data.actions[{action.index}]")) from None


def _explain_action(raw: Raw, place: str) -> list[str]:
    vague = [f"{place}: Not a valid action"]
    try:
        # Its data is not looked into; without it an action is short, or somebody means ill.
        fields = _object.decode(raw)
        if bytes(memoryview(fields.get("data", b""))[:1]) == b"{":
            fields["data"] = Raw(b"{}")
        outline = _encode_json(fields)
    except msgspec.ValidationError:
        outline = bytes(raw)
    if len(outline) > LONGEST_EXPLAINED:
        return [f"{vague[0]}, and too long to say more"]
    return schema.explain(_ACTION_SCHEMA, schema.outline(outline), place) or vague


def encode(results: Sequence[Result], settings: Settings) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """The pieces of the batch's answer, in order, and the ``Set-Cookie`` fields of the actions, which go to its own."""
    pieces: list[bytes] = []
    cookies: list[tuple[bytes, bytes]] = []
    opening = b'{"data":['
    for result in results:
        fields = dict(result.raw_headers)
        if len(fields) != len(result.raw_headers):
            fields = _joined(result.raw_headers)
        if b"set-cookie" in fields:
            cookies += [header for header in result.raw_headers if header[0] == b"set-cookie"]
        body = render(fields.get(b"content-type", b""), fields.get(b"content-encoding", b""), result.body)
        nothing_shown = body.as_json and settings.shown is not None and settings.shown.isdisjoint(fields)
        headers = b"{}" if nothing_shown else _headers(fields, body, settings)
        pieces += (
            b'%s{"status_code":%d,"headers":%s,"body":' % (opening, result.status_code, headers),
            body.json,
            b"}" if body.encoding is None else b',"body_encoding":"base64"}',
        )
        opening = b","
    pieces.append(b"]}")
    return pieces, cookies


def _joined(raw_headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in raw_headers:
        fields[name] = b"%s, %s" % (fields[name], value) if name in fields else value
    return fields


def _headers(fields: dict[bytes, bytes], body: Rendering, settings: Settings) -> bytes:
    """The ``headers`` of one result, as JSON."""
    shown = settings.shown
    names = [name for name in fields if (name not in NEVER_HEADERS if shown is None else name in shown)]
    if not body.as_json:
        names += [name for name in (b"content-type", b"content-encoding") if name in fields and name not in names]
    if not names:
        return b"{}"
    return _encode_json({name.decode("latin-1"): fields[name].decode("latin-1") for name in names})
