"""What a batch is on the wire: one description, from which all that reads, explains, writes and documents it derives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from operator import attrgetter
from typing import Any, cast
from urllib.parse import urlencode

import msgspec
from msgspec import Raw, Struct, defstruct

from batchkit._protocol.content import Form, is_json
from batchkit._protocol.paths import LONGEST_PATH, ORDINARY, parse_path
from batchkit._protocol.schema import LONGEST_NAME
from batchkit._protocol.structs import Schema, type_of
from batchkit._record import Record
from batchkit.errors import BatchError, InvalidAction
from batchkit.model import BODYLESS, METHODS

__all__ = ["Dialect", "Parameters", "ReadResult"]

Parameters = list[tuple[str, str]]

# More than common servers and proxies take in a request line.
LONGEST_QUERY = 16 * 1024
# Names in ``fields`` or ``expand``.
MOST_NAMES = 1000

_SPELLINGS = {spelling: name for name in METHODS for spelling in (name, name.lower())}
# HEAD last, which few ask for.
_LOWER = [name.lower() for name in sorted(METHODS, key="HEAD".__eq__)]
_EITHER_CASE = ["".join(f"[{letter}{letter.upper()}]" for letter in name) for name in _LOWER]

_NAMES: Schema = {"type": ["array", "string", "null"], "maxItems": MOST_NAMES, "items": {"type": "string"}}

# Numbers keep the spelling that they came in.
_decode = json.JSONDecoder(parse_int=str, parse_float=str).decode
_encode = msgspec.json.Encoder().encode


class ReadResult(Struct):
    """One result as a client reads it; ``index`` in lines only."""

    status_code: int
    headers: dict[str, str]
    body: Raw
    body_encoding: str | None = None
    index: int = -1


class _Error(Struct):
    message: str


class _Errors(Struct):
    errors: list[_Error]


_errors = msgspec.json.Decoder(_Errors)


class Dialect:
    """What all dialects share. One of its own says in a module of its own what it has otherwise: keys, texts and methods.

    ``actions_at`` is where the actions stand in the body of a POST, ``results_at`` where their results stand in its answer.
    ``path_key`` and ``data_key`` are keys of an action, ``status_key`` and ``body_key`` those of a result. ``guide`` tells a
    person how an action becomes a request. The methods without a body here say how: four for the server, and two that undo them
    for a client.
    """

    actions_at = "data.actions"
    results_at = "data"
    path_key = "relative_path"
    data_key = "data"
    status_key = "status_code"
    body_key = "body"
    guide: str

    def __init__(self) -> None:
        # What stands before the results in an answer, and what follows them.
        self.around_results = _around(self.results_at)
        self._start = b'{"%b":%%d,"headers":%%b,"%b":' % (self.status_key.encode(), self.body_key.encode())
        # There are 800 statuses.
        self._bare_start_of = cache(lambda status_code: self._start % (status_code, b"{}"))

    @property
    def encoding_key(self) -> str:
        """The key of a result that says how its body is encoded, where it is binary."""
        return f"{self.body_key}_encoding"

    # The schemas: what a batch and its answer may hold. Of the first two msgspec's types are made.

    def batch_schema(self, actions: Schema | None = None) -> Schema:
        """The schema of the body of a POST. Without one for its ``actions`` it takes any array.

        Each action is judged alone: a malformed one is a result in its own place, never the batch's error.
        """
        schema = _nested(self.actions_at, actions or {"type": "array"})
        # Asana's clients send it.
        schema["properties"]["options"] = {}
        return schema

    @cached_property
    def action_schema(self) -> Schema:
        """The schema of one action."""
        return {
            "type": "object",
            "required": [self.path_key, "method"],
            "properties": {
                self.path_key: {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": LONGEST_PATH,
                    "description": "The path of the desired endpoint relative to the API's base URL.",
                    "examples": ["/tasks/123"],
                },
                "method": {
                    "type": "string",
                    # The look-ahead is for engines whose $ also matches before a last line feed.
                    "pattern": f"^(?:{'|'.join(_EITHER_CASE)})$(?!\n)",
                    "description": f"one of {', '.join(_LOWER)}",
                    "examples": ["get"],
                },
                self.data_key: {
                    "type": ["object", "null"],
                    "description": (
                        "The query parameters of a get, head or delete; the content of the body of a post, put or patch."
                    ),
                },
                "options": {
                    "type": ["object", "null"],
                    "properties": {
                        "limit": {"type": ["integer", "null"]},
                        "offset": {"type": ["string", "integer", "null"]},
                        "fields": _NAMES,
                        "expand": _NAMES,
                    },
                    "description": "Pagination (limit and offset) and output options (fields or expand) for the action.",
                },
            },
            "additionalProperties": False,
        }

    @property
    def example(self) -> dict[str, Any]:
        """A batch, as a person may try it."""
        actions = [
            {self.path_key: "/tasks/123", "method": "get"},
            {self.path_key: "/tasks", "method": "post", self.data_key: {"name": "Water the beans"}},
        ]
        batch: dict[str, Any] = json.loads(self.batch([_encode(action) for action in actions]))
        return batch

    def answer_schema(self, results: Schema) -> Schema:
        """The schema of an answer that holds these ``results``."""
        return _nested(self.results_at, results)

    @property
    def result_schema(self) -> Schema:
        """The schema of one result."""
        return {
            "type": "object",
            "description": "What one action was answered.",
            "required": [self.status_key, "headers", self.body_key],
            "properties": {
                self.status_key: {"type": "integer", "description": "The HTTP status code of the action.", "examples": [200]},
                "headers": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "description": "The header fields that are specific to the action, by lower-case name.",
                    "examples": [{"location": "/tasks/124"}],
                },
                self.body_key: {"description": "JSON as the endpoint wrote it; of any other kind, a string; of none, {}."},
                self.encoding_key: {"const": "base64", "type": "string", "description": "Only where the body is binary."},
            },
            "additionalProperties": False,
        }

    @property
    def error_schema(self) -> Schema:
        """The schema of what a batch is answered that is refused as a whole."""
        return {
            "type": "object",
            "description": "Why no action was run.",
            "required": ["errors"],
            "properties": {
                "errors": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["message", "code"],
                        "properties": {
                            "message": {"type": "string", "examples": [f"{self.actions_at}: Missing input"]},
                            "code": {
                                "type": "string",
                                "description": "A stable word for programs.",
                                "examples": ["invalid_batch"],
                            },
                            "help": {"type": "string", "description": "Where the server has such a text."},
                        },
                    },
                }
            },
            "additionalProperties": False,
        }

    @cached_property
    def action_type(self) -> Any:
        """The type of one action; its attributes have Asana's names, whatever its keys are."""
        return type_of(self.action_schema, attributes={self.path_key: "relative_path", self.data_key: "data"})

    # An action → its request.

    def place(self, index: int) -> str:
        """Where the action at ``index`` stands in a batch, for sentences."""
        return f"{self.actions_at}[{index}]"

    def apply(self, action: Record, entry: Any) -> None:
        """Give ``action`` the request that ``entry`` stands for, which has the type of the schema of one action.

        Raises InvalidAction, its messages without their place, or msgspec.ValidationError for what the schema can explain.
        """
        spelling, relative_path, options = entry.method, entry.relative_path, entry.options
        method = _SPELLINGS.get(spelling) or _SPELLINGS.get(spelling.lower() if spelling.isascii() else "")
        if method is None:
            raise msgspec.ValidationError
        action.method = method
        if entry.data:
            data = bytes(entry.data)
            if data[:1] == b"{":
                action.data = data
            elif data != b"null":
                raise msgspec.ValidationError
        if len(relative_path) <= LONGEST_PATH and ORDINARY(relative_path):
            action.path, query_string = relative_path, b""
            action.raw_path = relative_path.encode()
        else:
            query_string = self._apply_path(action, relative_path)
        if method not in BODYLESS:
            action.body = self.body_of(action.data or b"{}")
        elif action.data:
            query_string = _joined(query_string, self._parameters(action.data), self.data_key)
        if options is not None:
            query_string = _joined(query_string, self.option_parameters(options), "options")
        action.query_string = query_string

    def _apply_path(self, action: Record, relative_path: str) -> bytes:
        try:
            if len(relative_path) > LONGEST_PATH:
                raise InvalidAction(f"Must be 1 to {LONGEST_PATH:,} characters long")
            relative_path, query_string = self.split(relative_path)
            action.path, action.raw_path = parse_path(relative_path)
        except InvalidAction as error:
            raise InvalidAction(f"{self.path_key}: {error}") from None
        return query_string

    def _parameters(self, data: bytes) -> Parameters:
        """The query parameters that ``data`` stands for: numbers exactly as the JSON wrote them."""
        if len(data) > LONGEST_QUERY:
            raise _too_long(self.data_key)
        try:
            members = _decode(data.decode())
        except RecursionError:
            raise InvalidAction(f"{self.data_key}: Nested too deeply") from None
        pairs: Parameters = []
        for name, value in members.items():
            values = [] if value is None else value if isinstance(value, list) else [value]
            place = f"{self.data_key}.{name[:LONGEST_NAME]}"
            if not all(isinstance(item, str | bool) for item in values):
                raise InvalidAction(f"{place}: Expected a string, number, boolean or an array of those")
            pairs += self.parameters_of(name, [item if isinstance(item, str) else str(item).lower() for item in values], place)
        return pairs

    def split(self, relative_path: str) -> tuple[str, bytes]:
        """The path and the query string that stand in a ``relative_path``."""
        raise NotImplementedError

    def parameters_of(self, name: str, values: list[str], place: str) -> Parameters:
        """One entry of ``data`` as query parameters. Raises InvalidAction, which names its ``place``."""
        raise NotImplementedError

    def option_parameters(self, options: Any) -> Parameters:
        """The query parameters that ``options`` stand for."""
        raise NotImplementedError

    def body_of(self, data: bytes) -> bytes:
        """The body that the handler receives."""
        raise NotImplementedError

    # Results and errors → their JSON.

    def result(self, action: Record, headers: Mapping[str, str], form: Form, body: bytes) -> tuple[bytes, bytes, bytes]:
        """The JSON of the result of ``action``: what stands before its body, the body, and what follows it.

        ``headers`` are the fields that it shows; ``body`` stands there as it is, or has the ``form`` base64.
        """
        assert action.result is not None
        if not headers and form == "json":
            # As most.
            return self._bare_start_of(action.result.status_code), body, b"}"
        start = self._start % (action.result.status_code, _encode(headers))
        if form == "base64":
            return start, _encode(body), b',"%b":"base64"}' % self.encoding_key.encode()
        return start, body, b"}"

    def error(self, error: BatchError, help: str | None) -> bytes:
        """The JSON of an error, of a whole batch or of one action, with ``help`` where the host configured a text."""
        return error.content(help)

    # What a client says, and what it reads.

    def draft(self, method: str, path: str, query: str, content: bytes) -> bytes | None:
        """The JSON of the action that is just this request, byte for byte; None where there is none."""
        entry = {"method": method.lower(), **self.target_of(path, query)}
        if content or method not in BODYLESS:
            data = self.data_of(content)
            if method in BODYLESS or "data" in entry or not _is_object(data):
                return None
            entry["data"] = Raw(data)
        written = _encode(self.action_type(**entry))
        action = Record(0)
        try:
            # What the server will make of it, by the server's own means.
            self.apply(action, msgspec.json.decode(written, type=self.action_type))
        except (InvalidAction, msgspec.ValidationError):
            return None
        same = (path.encode(), query.encode(), content or None) == (action.raw_path, action.query_string, action.body)
        return written if same else None

    def target_of(self, path: str, query: str) -> dict[str, Any]:
        """The attributes of an action that may stand for a path and a query."""
        raise NotImplementedError

    def data_of(self, body: bytes) -> bytes:
        """The ``data`` of an action whose handler receives ``body``, if it can be any's."""
        raise NotImplementedError

    def batch(self, actions: Iterable[bytes]) -> bytes:
        """The body of a POST with these actions, each in JSON."""
        before, after = _around(self.actions_at)
        return before + b",".join(actions) + after

    @cached_property
    def _result_type(self) -> type[ReadResult]:
        keys = {"status_code": self.status_key, "body": self.body_key, "body_encoding": self.encoding_key}
        fields = [(each.name, each.type, each.default) for each in msgspec.structs.fields(ReadResult)]
        return cast("type[ReadResult]", defstruct("Result", fields, bases=(ReadResult,), rename=keys))

    @cached_property
    def _answer_type(self) -> Any:
        # Keys that a later version may add are none of its business.
        answer_type: Any = list[self._result_type]  # type: ignore[name-defined]
        for key in reversed(self.results_at.split(".")):
            answer_type = defstruct("Answer", [(key, answer_type)])
        return answer_type

    def read_results(self, content: bytes) -> Sequence[ReadResult]:
        """The results that an answer holds. Raises msgspec.DecodeError or UnicodeDecodeError where it holds none."""
        answer = msgspec.json.decode(content, type=self._answer_type)
        results: list[ReadResult] = attrgetter(self.results_at)(answer)
        return results

    def read_line(self, line: bytes) -> ReadResult:
        """The result in a line of an answer. Raises msgspec.DecodeError or UnicodeDecodeError where it is none."""
        return msgspec.json.decode(line, type=self._result_type)

    def messages(self, content: bytes) -> list[str]:
        """The sentences of an error, of a whole batch or of one action; none where it is not batchkit's."""
        try:
            return [error.message for error in _errors.decode(content).errors]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []


def _nested(place: str, schema: Schema) -> Schema:
    """The schema of an object that holds nothing but, at this place, what meets ``schema``."""
    for key in reversed(place.split(".")):
        schema = {"type": "object", "required": [key], "properties": {key: schema}, "additionalProperties": False}
    return schema


def _around(place: str) -> tuple[bytes, bytes]:
    """What stands before and after the items of the one array at this place."""
    keys = place.split(".")
    return "".join(f'{{"{key}":' for key in keys).encode() + b"[", b"]" + b"}" * len(keys)


def _joined(query_string: bytes, pairs: Parameters, source: str) -> bytes:
    if sum(len(name) + len(value) for name, value in pairs) > LONGEST_QUERY:
        raise _too_long(source)
    return b"&".join(part for part in (query_string, urlencode(pairs).encode()) if part)


def _too_long(source: str) -> InvalidAction:
    return InvalidAction(f"{source}: Longer than {LONGEST_QUERY:,} characters, which is more than a query can hold")


def _is_object(content: bytes) -> bool:
    return content[:1] == b"{" and content[-1:] == b"}" and is_json(content)
