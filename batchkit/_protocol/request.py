"""Bytes → actions: the body of a POST is read, and what is wrong with it is explained (protocol.md#the-batch-request)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Raw

from batchkit._protocol import schema
from batchkit._protocol.answer import error_result
from batchkit._protocol.dialects import DIALECTS, Dialect
from batchkit._protocol.structs import Schema, type_of
from batchkit._record import Record
from batchkit._schemas.compiler import compile_schema
from batchkit.errors import EmptyBatch, InvalidAction, InvalidBatch, InvalidJson, TooManyActions
from batchkit.settings import Settings

__all__ = ["decode"]

# In bytes. To find fault with ten long actions, item by item, costs more than to run a batch.
LONGEST_EXPLAINED = 2048

_NOT_JSON = "Could not parse request data, invalid JSON"

_any = msgspec.json.Decoder(Raw)
_object = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


class _Reader:
    """The decoders of a dialect, and the schemas that say why they refuse something."""

    def __init__(self, dialect: Dialect) -> None:
        self.actions_of: Callable[[Any], Sequence[Any]] = attrgetter(dialect.actions_at)
        self.batch_schema, self.action_schema = dialect.batch_schema(), dialect.action_schema
        # A batch in which every action has the right types is decoded in one go; only another one, action by action.
        self.well_formed = msgspec.json.Decoder(type_of(self.batch_schema, dialect.action_type))
        self.batch = msgspec.json.Decoder(type_of(self.batch_schema))
        self.action = msgspec.json.Decoder(dialect.action_type)
        self.batch_rules, self.action_rules = compile_schema(self.batch_schema), compile_schema(self.action_schema)


_reader = cache(_Reader)


def decode(body: bytes, settings: Settings) -> tuple[Record, ...]:
    """The actions that ``body`` holds, in order; a malformed one already has its 400 result.

    Raises InvalidBatch where the envelope is wrong, or holds no action or more than ``max_actions``.
    """
    dialect = DIALECTS[settings.dialect]
    reader = _reader(dialect)
    try:
        if not body.isascii():
            body.decode()
        try:
            items = reader.actions_of(reader.well_formed.decode(body))
        except msgspec.ValidationError:
            items = reader.actions_of(_decode_last(reader.batch, body, reader.batch_schema))
    except msgspec.ValidationError:
        raise _explain_batch(body, reader) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidJson(_NOT_JSON) from None
    if not items:
        raise EmptyBatch("Batch requests must contain at least one action")
    if len(items) > settings.max_actions:
        raise TooManyActions(f"Batch requests must contain no more than {settings.max_actions} actions")
    actions = []
    for index, item in enumerate(items):
        action = Record(index)
        try:
            entry = _decode_last(reader.action, item, reader.action_schema) if isinstance(item, Raw) else item
            dialect.apply(action, entry)
        except msgspec.ValidationError:
            # By its own bytes: a look into the whole body for each would be quadratic.
            raw = item if isinstance(item, Raw) else Raw(_encode(item))
            messages = _explain_action(raw, reader, dialect.data_key, dialect.place(index))
            action.refuse(error_result(InvalidAction(*messages), settings))
        except InvalidAction as error:
            placed = InvalidAction(*(f"{dialect.place(index)}.{message}" for message in error.messages))
            action.refuse(error_result(placed, settings))
        actions.append(action)
    return tuple(actions)


def _decode_last(decoder: msgspec.json.Decoder[Any], raw: bytes | Raw, described: Schema) -> Any:
    """What ``raw`` holds where, of a key that stands twice in it or in an object of its, the last counts
    (protocol.md#the-batch-request).

    msgspec checks the types of every one of them, those that do not count included.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        fields = _object.decode(raw)
        for name, inner in described["properties"].items():
            if name in fields and "properties" in inner:
                with suppress(msgspec.ValidationError):
                    fields[name] = Raw(_encode(_object.decode(fields[name])))
        return decoder.decode(_encode(fields))


def _explain_batch(body: bytes, reader: _Reader) -> InvalidBatch:
    try:
        # msgspec stops at the first wrong type, and what follows may not be JSON at all.
        faults = schema.explain(reader.batch_rules, _outline(_any.decode(body), reader.batch_schema), "")
    except (msgspec.DecodeError, RecursionError):
        faults = []
    return InvalidBatch(*faults) if faults else InvalidJson(_NOT_JSON)


def _outline(raw: Raw, described: Schema) -> Any:
    """As much of a value as its schema looks at: the keys of objects it names, and types."""
    start = bytes(memoryview(raw)[:1])
    if start == b"{" and "properties" in described:
        known = described["properties"]
        fields = _object.decode(raw)
        # Of a hundred thousand unknown keys, ten are ever named.
        unknown = dict.fromkeys(islice((key for key in fields if key not in known), schema.MOST_VIOLATIONS))
        return unknown | {key: _outline(fields[key], known[key]) for key in known if key in fields}
    return {b"{": {}, b"[": [], b'"': "", b"t": True, b"f": False, b"n": None}.get(start, 0)


def _explain_action(raw: Raw, reader: _Reader, data_key: str, place: str) -> list[str]:
    vague = [f"{place}: Not a valid action"]
    try:
        # Its data is not looked into; without it an action is short, or somebody means ill.
        fields = _object.decode(raw)
        if bytes(memoryview(fields.get(data_key, b""))[:1]) == b"{":
            fields[data_key] = Raw(b"{}")
        outline = _encode(fields)
    except msgspec.ValidationError:
        outline = bytes(raw)
    if len(outline) > LONGEST_EXPLAINED:
        return [f"{vague[0]}, and too long to say more"]
    return schema.explain(reader.action_rules, schema.outline(outline), place) or vague
