"""Bytes → actions, results → bytes: the envelope on both ways (contract sections 1, 2, 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from batchkit._protocol import schema
from batchkit._protocol.content import on_one_line, render
from batchkit._protocol.cookies import cookies_of
from batchkit._protocol.dialects import DIALECTS, Dialect, Options
from batchkit._protocol.headers import NEVER_SHOWN
from batchkit._record import Record
from batchkit._schemas.compiler import compile_schema
from batchkit.errors import EmptyBatch, InvalidAction, InvalidBatch, InvalidJson, TooManyActions
from batchkit.model import METHODS
from batchkit.settings import Settings

__all__ = ["decode", "encode", "encode_line"]

_SPELLINGS = {spelling: name for name in METHODS for spelling in (name, name.lower())}


# In bytes. To find fault with ten long actions, item by item, costs more than to run a batch.
LONGEST_EXPLAINED = 2048


class _Action(Struct, forbid_unknown_fields=True, omit_defaults=True):
    relative_path: str
    method: str
    data: Raw = Raw()
    options: Options | None = None


Item = TypeVar("Item")


class _Data(Struct, Generic[Item], forbid_unknown_fields=True):
    actions: list[Item]


class _Batch(Struct, Generic[Item], forbid_unknown_fields=True):
    data: _Data[Item]
    options: Raw = Raw()


# A batch in which every action has the right types is decoded in one go; only another one, action by action.
_well_formed = msgspec.json.Decoder(_Batch[_Action])
_batch = msgspec.json.Decoder(_Batch[Raw])
_any = msgspec.json.Decoder(Raw)
_object = msgspec.json.Decoder(dict[str, Raw])
_action = msgspec.json.Decoder(_Action)


# Of a key that stands twice, a Raw field keeps the last, whatever the types of the others.
class _LastData(Struct, forbid_unknown_fields=True, omit_defaults=True):
    actions: Raw = Raw()


class _LastBatch(Struct, forbid_unknown_fields=True, omit_defaults=True):
    data: Raw = Raw()
    options: Raw = Raw()


class _LastOptions(Struct, omit_defaults=True):
    limit: Raw = Raw()
    offset: Raw = Raw()
    fields: Raw = Raw()
    expand: Raw = Raw()


class _LastAction(Struct, forbid_unknown_fields=True, omit_defaults=True):
    relative_path: Raw = Raw()
    method: Raw = Raw()
    data: Raw = Raw()
    options: Raw = Raw()


_encode_json = msgspec.json.Encoder().encode

_BATCH_SCHEMA = compile_schema(schema.BATCH)
_ACTION_SCHEMA = compile_schema(schema.ACTION)


def decode(body: bytes, settings: Settings) -> tuple[Record, ...]:
    """The actions that ``body`` holds, in order; a malformed one already has its 400 result.

    Raises InvalidBatch where the envelope is wrong, or holds no action or more than ``max_actions``.
    """
    try:
        if not body.isascii():
            body.decode()
        try:
            items: Sequence[_Action | Raw] = _well_formed.decode(body).data.actions
        except msgspec.ValidationError:
            items = _raw_actions(body)
    except msgspec.ValidationError:
        raise _explain_batch(body) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidJson(_NOT_JSON) from None
    if not items:
        raise EmptyBatch("Batch requests must contain at least one action")
    if len(items) > settings.max_actions:
        raise TooManyActions(f"Batch requests must contain no more than {settings.max_actions} actions")
    dialect = DIALECTS[settings.dialect]
    actions = []
    for index, item in enumerate(items):
        action = Record(index)
        try:
            _decode_action(action, _fields(item) if isinstance(item, Raw) else item, dialect)
        except msgspec.ValidationError:
            # By its own bytes: a look into the whole body for each would be quadratic.
            raw = item if isinstance(item, Raw) else Raw(_encode_json(item))
            action.refuse(InvalidAction(*_explain_action(raw, f"data.actions[{index}]")), settings.help)
        except InvalidAction as error:
            action.refuse(InvalidAction(*(f"data.actions[{index}].{message}" for message in error.messages)), settings.help)
        actions.append(action)
    return tuple(actions)


def _raw_actions(body: bytes) -> list[Raw]:
    try:
        return _batch.decode(body).data.actions
    except msgspec.ValidationError:
        return _batch.decode(_last_of_each(body, _LastBatch, "data", _LastData)).data.actions


def _fields(raw: Raw) -> _Action:
    try:
        return _action.decode(raw)
    except msgspec.ValidationError:
        return _action.decode(_last_of_each(raw, _LastAction, "options", _LastOptions))


def _last_of_each(raw: bytes | Raw, outer: type[Struct], name: str, inner: type[Struct]) -> bytes:
    """``raw`` with, of a key that stands twice in it or in its object ``name``, the last, which counts (contract section 1).

    Types are checked for every one of them by msgspec, those that do not count included.
    """
    fields = msgspec.json.decode(raw, type=outer)
    with suppress(msgspec.DecodeError):
        setattr(fields, name, Raw(_encode_json(msgspec.json.decode(getattr(fields, name), type=inner))))
    return _encode_json(fields)


_NOT_JSON = "Could not parse request data, invalid JSON"


def _explain_batch(body: bytes) -> InvalidBatch:
    try:
        # msgspec stops at the first wrong type, and what follows may not be JSON at all.
        faults = schema.explain(_BATCH_SCHEMA, _outline(_any.decode(body), schema.BATCH), "")
    except (msgspec.DecodeError, RecursionError):
        faults = []
    return InvalidBatch(*faults) if faults else InvalidJson(_NOT_JSON)


def _outline(raw: Raw, rules: dict[str, Any]) -> Any:
    """As much of a value as its schema looks at: the keys of objects it names, and types."""
    start = bytes(memoryview(raw)[:1])
    if start == b"{" and "properties" in rules:
        known = rules["properties"]
        fields = _object.decode(raw)
        # Of a hundred thousand unknown keys, ten are ever named.
        unknown = dict.fromkeys(islice((key for key in fields if key not in known), schema.MOST_VIOLATIONS))
        return unknown | {key: _outline(fields[key], known[key]) for key in known if key in fields}
    return {b"{": {}, b"[": [], b'"': "", b"t": True, b"f": False, b"n": None}.get(start, 0)


def _decode_action(action: Record, fields: _Action, dialect: Dialect) -> None:
    """Raises InvalidAction, its messages without their place, or ValidationError for what the schema can explain."""
    method = _SPELLINGS.get(fields.method) or _SPELLINGS.get(fields.method.lower() if fields.method.isascii() else "")
    if method is None:
        raise msgspec.ValidationError
    action.method = method
    if fields.data:
        data = bytes(fields.data)
        if data[:1] == b"{":
            action.data = data
        elif data != b"null":
            raise msgspec.ValidationError
    dialect.apply(action, fields.relative_path, fields.options)


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


_RESULT = b'{"status_code":%d,"headers":%b,"body":'


@cache
def _start_of(status_code: int) -> bytes:
    """How a result begins that shows no header field, as most; there are 800 statuses."""
    return _RESULT % (status_code, b"{}")


def encode(actions: Sequence[Record], settings: Settings) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body of the batch's answer, and the ``Set-Cookie`` fields that its header has. Each action has its result."""
    with_cookies: list[Record] = []
    # Joined once: a body that is JSON is never copied but into the whole.
    parts = [b'{"data":[']
    for action in actions:
        parts += _parts(action, settings.shown, with_cookies)
        parts.append(b",")
    parts[-1] = b"]}"
    return b"".join(parts), cookies_of(with_cookies)


def encode_line(action: Record, settings: Settings) -> bytes:
    """The line of an action that has its result, line feed included; its ``Set-Cookie`` fields are another matter."""
    start, body, end = _parts(action, settings.shown, [])
    return b'{"index":%d,%b%b%b\n' % (action.index, start[1:], on_one_line(body), end)


def _parts(action: Record, shown: Set[bytes] | None, with_cookies: list[Record]) -> tuple[bytes, bytes, bytes]:
    """The JSON of a result: what stands before its body, the body, and what follows it. One with cookies joins those."""
    result = action.result
    assert result is not None
    content_type = None if shown is None else _only_type(result.raw_headers, shown)
    if content_type is not None and (action.is_json or render(content_type, b"", result.body)[0] == "json"):
        # As most: it shows no field at all.
        return _start_of(result.status_code), result.body or b"{}", b"}"
    fields = dict(result.raw_headers)
    if len(fields) != len(result.raw_headers):
        fields = _joined(result.raw_headers)
    if b"set-cookie" in fields:
        with_cookies.append(action)
    described = fields.get(b"content-type", b""), fields.get(b"content-encoding", b"")
    form, body = ("json", result.body) if action.is_json else render(*described, result.body)
    if form == "json":
        return _RESULT % (result.status_code, _encode_json(_shown(fields, shown))), body, b"}"
    headers = _encode_json(_shown(fields, (shown or fields.keys() - NEVER_SHOWN) | _DESCRIBING))
    start = _RESULT % (result.status_code, headers)
    if form == "base64":
        return start, _encode_json(body), b',"body_encoding":"base64"}'
    return start, body, b"}"


def _only_type(raw_headers: Sequence[tuple[bytes, bytes]], shown: Set[bytes]) -> bytes | None:
    """The ``Content-Type`` of an answer with no other field that matters to its result; None where one does."""
    content_type = None
    for name, value in raw_headers:
        if name == b"content-type" and content_type is None:
            content_type = value
        elif name in shown or name in _MATTERING:
            return None
    return content_type or b""


def _joined(raw_headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, list[bytes]] = {}
    for name, value in raw_headers:
        fields.setdefault(name, []).append(value)
    return {name: b", ".join(values) for name, values in fields.items()}


# What tells how to read a body that does not stand as JSON.
_DESCRIBING = frozenset({b"content-type", b"content-encoding"})
_MATTERING = _DESCRIBING | {b"set-cookie"}


def _shown(fields: dict[bytes, bytes], shown: Set[bytes] | None) -> dict[str, str]:
    """The ``headers`` of a result: the fields with a name in ``shown``; None stands for all that may be shown."""
    if shown is None:
        shown = fields.keys() - NEVER_SHOWN
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields.items() if name in shown}
