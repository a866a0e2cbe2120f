"""What breaks a schema, said in our own words (protocol.md#the-batch-request, protocol.md#an-action).

A valid batch never comes here: msgspec's types decide, which are made of its dialect's schemas. What they refuse, those schemas
explain; the schemas of routes judge ``data``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from batchkit._schemas.demands import TYPES
from batchkit._schemas.validation import Judgement, Node, Path, TooComplex, Violation

__all__ = ["LONGEST_NAME", "MOST_VIOLATIONS", "explain", "judge", "outline"]

MOST_VIOLATIONS = 10
LONGEST_NAME = 64
MOST_DIGITS = 4300


# Only the types of numbers matter to the schemas of the envelope, and int() refuses more than 4,300 digits: their length will do.
_outline = json.JSONDecoder(parse_int=len).decode


def outline(raw: bytes) -> Any:
    """The shape of valid JSON, for the schemas of this module: an integer stands there as some integer."""
    return _outline(raw.decode())


def judge(node: Node, raw: bytes, place: str) -> list[str]:
    """What ``explain`` says of an action's ``data`` and the schema of its route; ``raw`` is empty where there is no ``data``."""
    try:
        value = _loads(raw or b"{}")
    except RecursionError:
        return [_too_complex(place)]
    return explain(node, value, place)


def _loads(raw: bytes) -> Any:
    text = raw.decode()
    try:
        return _value(text)
    except ValueError:
        # Of a number with more digits than Python reads, the first ones.
        return json.loads(text, parse_int=lambda digits: int(digits[:MOST_DIGITS]))


_value = json.JSONDecoder().decode


def explain(node: Node, value: Any, place: str) -> list[str]:
    """At most ten violations of ``value``, each ``place.of.it: what was expected``, without values of the request.

    Empty where there is none. Where the steps or the depth do not suffice the last one says so, after those found till then.
    """
    sentences: dict[str, None] = {}
    try:
        # Only so many are drawn: a hostile megabyte can hold a million.
        for violation in islice(Judgement().violations(value, node), MOST_VIOLATIONS):
            sentences.update(dict.fromkeys(_words(violation, _place(place, violation.path))))
    except (TooComplex, RecursionError):
        sentences[_too_complex(place)] = None
    return list(sentences)[:MOST_VIOLATIONS]


def _too_complex(place: str) -> str:
    return f"{_at(place)}: Too complex to be checked"


def _place(place: str, path: Path | None) -> str:
    parts = []
    while path is not None:
        path, part = path
        parts.append(part)
    for part in reversed(parts):
        place = f"{place}[{part}]" if isinstance(part, int) else _below(place, part)
    return place


def _words(violation: Violation, at: str) -> Iterator[str]:
    schema = violation.schema if isinstance(violation.schema, dict) else {}
    rule: Any = schema.get(violation.keyword)
    match violation.keyword:
        case "required":
            yield from (f"{_below(at, name)}: Missing input" for name in rule if name not in violation.value)
        case "additionalProperties":
            allowed = ", ".join(schema.get("properties", {})) or "none"
            yield f"{at}: Unrecognized key; the allowed keys are: {allowed}"
        case "type":
            expected = " or ".join([rule] if isinstance(rule, str) else [name for name in rule if name != "null"])
            found = next(name for name, kinds in TYPES.items() if type(violation.value) in kinds)
            yield f"{_at(at)}: Expected {expected}, got {found}"
        case "minLength" | "minItems" | "minProperties":
            yield f"{_at(at)}: Must not be shorter than {rule}"
        case "maxLength" | "maxItems" | "maxProperties":
            yield f"{_at(at)}: Must not be longer than {rule}"
        case "enum":
            yield f"{_at(at)}: Must be one of {json.dumps(rule)[1:-1]}"
        case "pattern" if "description" in schema:
            yield f"{_at(at)}: Must be {schema['description']}"
        case keyword:
            yield f"{_at(at)}: Does not meet the rule {keyword!r} of its schema"


def _at(at: str) -> str:
    return at or "request body"


def _below(at: str, name: str) -> str:
    return f"{at}.{name[:LONGEST_NAME]}" if at else name[:LONGEST_NAME]
