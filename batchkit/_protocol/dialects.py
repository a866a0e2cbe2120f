"""The two dialects: how ``relative_path``, ``data`` and ``options`` become path, query and body (contract section 2)."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

from msgspec import Meta, Struct

from batchkit._protocol.paths import LONGEST, ORDINARY, parse_path, parse_query
from batchkit._protocol.schema import MOST_NAMES
from batchkit._record import Record
from batchkit.errors import InvalidAction

__all__ = ["DIALECTS", "Asana", "Dialect", "Options", "Plain"]

Pairs = list[tuple[str, str]]

BODYLESS = frozenset({"GET", "HEAD", "DELETE"})

# More than common servers and proxies take in a request line.
LONGEST_QUERY = 16 * 1024

# Numbers keep the spelling that they came in.
_decode = json.JSONDecoder(parse_int=str, parse_float=str).decode


Names = Annotated[list[str], Meta(max_length=MOST_NAMES)] | str


class Options(Struct):
    """The ``options`` of an action; unknown ones are ignored."""

    limit: int | None = None
    offset: str | int | None = None
    fields: Names | None = None
    expand: Names | None = None


class Dialect:
    """What both dialects share; the differences are its four methods."""

    def apply(self, action: Record, relative_path: str, options: Options | None) -> None:
        """Give ``action`` the request that it stands for; its method and data are already there. Raises InvalidAction."""
        if len(relative_path) <= LONGEST and ORDINARY(relative_path):
            action.path, query_string = relative_path, b""
            action.raw_path = relative_path.encode()
        else:
            query_string = self._apply_path(action, relative_path)
        if action.method not in BODYLESS:
            action.body = self.body(action.data or b"{}")
        elif action.data:
            query_string = _joined(query_string, self.parameters(action.data), "data")
        if options is not None:
            query_string = _joined(query_string, self.options(options), "options")
        action.query_string = query_string

    def _apply_path(self, action: Record, relative_path: str) -> bytes:
        try:
            if len(relative_path) > LONGEST:
                raise InvalidAction(f"Must be 1 to {LONGEST:,} characters long")
            relative_path, query_string = self.split(relative_path)
            action.path, action.raw_path = parse_path(relative_path)
        except InvalidAction as error:
            raise InvalidAction(f"relative_path: {error}") from None
        return query_string

    def parameters(self, data: bytes) -> Pairs:
        """The query parameters that ``data`` stands for: numbers exactly as the JSON wrote them."""
        if len(data) > LONGEST_QUERY:
            raise _too_long("data")
        pairs: Pairs = []
        for name, value in _parse(data).items():
            values = [] if value is None else value if isinstance(value, list) else [value]
            if not all(isinstance(item, str | bool) for item in values):
                raise InvalidAction(f"data.{name[:64]}: Expected a string, number, boolean or an array of those")
            pairs += self.parameter(name, [item if isinstance(item, str) else str(item).lower() for item in values])
        return pairs

    def split(self, relative_path: str) -> tuple[str, bytes]:
        """The path and the query string that stand in a ``relative_path``."""
        raise NotImplementedError

    def parameter(self, name: str, values: list[str]) -> Pairs:
        """One entry of ``data`` as query parameters."""
        raise NotImplementedError

    def body(self, data: bytes) -> bytes:
        """The body the handler receives."""
        raise NotImplementedError

    def options(self, options: Options) -> Pairs:
        """The query parameters that ``options`` stand for."""
        raise NotImplementedError


class Asana(Dialect):
    """Asana's conventions: bodies in a ``data`` envelope, ``opt_fields``, arrays joined with commas."""

    def split(self, relative_path: str) -> tuple[str, bytes]:
        return relative_path, b""

    def parameter(self, name: str, values: list[str]) -> Pairs:
        if name in ("limit", "offset") or name.startswith("opt_"):
            raise InvalidAction(f"data.{name[:64]}: Options and pagination are not accepted here; put them in options instead")
        return [(name, ",".join(values))] if values else []

    def body(self, data: bytes) -> bytes:
        return b'{"data":' + data + b"}"

    def options(self, options: Options) -> Pairs:
        return [
            (name, value if isinstance(value, str) else ",".join(value) if isinstance(value, list) else str(value))
            for name, value in (
                ("limit", options.limit),
                ("offset", options.offset),
                ("opt_fields", options.fields),
                ("opt_expand", options.expand),
            )
            if value is not None and value != []
        ]


class Plain(Dialect):
    """For hosts without Asana's conventions: ``data`` itself is the body, arrays become repeated keys."""

    def split(self, relative_path: str) -> tuple[str, bytes]:
        path, _, query = relative_path.partition("?")
        return path, parse_query(query)

    def parameter(self, name: str, values: list[str]) -> Pairs:
        return [(name, value) for value in values]

    def body(self, data: bytes) -> bytes:
        return data

    def options(self, options: Options) -> Pairs:
        return [
            (name, str(text))
            for name in ("limit", "offset", "fields", "expand")
            if (value := getattr(options, name)) is not None
            for text in (value if isinstance(value, list) else [value])
        ]


DIALECTS: dict[str, Dialect] = {"asana": Asana(), "plain": Plain()}


def _joined(query_string: bytes, pairs: Pairs, source: str) -> bytes:
    if sum(len(name) + len(value) for name, value in pairs) > LONGEST_QUERY:
        raise _too_long(source)
    return b"&".join(part for part in (query_string, urlencode(pairs).encode()) if part)


def _too_long(source: str) -> InvalidAction:
    return InvalidAction(f"{source}: Longer than {LONGEST_QUERY:,} characters, which is more than a query can hold")


def _parse(data: bytes) -> dict[str, Any]:
    try:
        parameters: dict[str, Any] = _decode(data.decode())
    except RecursionError:
        raise InvalidAction("data: Nested too deeply") from None
    return parameters
