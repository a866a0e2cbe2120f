"""The JSON Schema of a batch request, and what breaks a schema said in our own words (contract sections 1 and 2).

A valid batch never comes here: msgspec's types in ``wire`` decide, and a property test holds the two equal. jsonschema
explains what they refused, and judges the ``data`` of routes that bring a schema of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

__all__ = ["ACTION", "BATCH", "Validator", "compile_schema", "explain", "loads", "outline"]

MOST_VIOLATIONS = 10
LONGEST_NAME = 64
MOST_DIGITS = 4300
MOST_NAMES = 1000

_METHODS = ("get", "post", "put", "patch", "delete", "head")
_either_case = ("".join(f"[{letter}{letter.upper()}]" for letter in name) for name in _METHODS)
# The look-ahead is for engines whose $ also matches before a last line feed.
_METHOD_PATTERN = f"^(?:{'|'.join(_either_case)})$(?!\n)"

_NAMES = {"type": ["array", "string", "null"], "maxItems": MOST_NAMES, "items": {"type": "string"}}

ACTION: dict[str, Any] = {
    "type": "object",
    "required": ["relative_path", "method"],
    "properties": {
        "relative_path": {
            "type": "string",
            "minLength": 1,
            "maxLength": 2000,
            "description": "The path of the desired endpoint relative to the API's base URL.",
            "examples": ["/tasks/123"],
        },
        "method": {
            "type": "string",
            "pattern": _METHOD_PATTERN,
            "description": f"one of {', '.join(_METHODS)}",
            "examples": ["get"],
        },
        "data": {
            "type": ["object", "null"],
            "description": "The query parameters of a get, head or delete; the content of the body of a post, put or patch.",
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

BATCH: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "object",
            "required": ["actions"],
            # Each action is judged alone: a malformed one is a result in its own place, never the batch's error.
            "properties": {"actions": {"type": "array"}},
            "additionalProperties": False,
        },
        "options": {},
    },
    "additionalProperties": False,
}


def _is_integer(_: object, instance: object) -> bool:
    # 1.0 is an integer to JSON Schema; to the handler, which reads the text, it is not.
    return isinstance(instance, int) and not isinstance(instance, bool)


def _type(validator: Validator, types: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """``type`` as jsonschema has it, but for its message, which would hold the instance, a megabyte of it at times."""
    if not any(validator.is_type(instance, name) for name in ([types] if isinstance(types, str) else types)):
        yield ValidationError("wrong type")


def _additional_properties(validator: Validator, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """``additionalProperties`` as jsonschema has it, but lazily where it is False, and again without listing what it found."""
    if allowed is not False:
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, allowed, instance, schema)
    elif validator.is_type(instance, "object") and next(_unknown_keys(schema, instance), None) is not None:
        yield ValidationError("unknown key")


def _unknown_keys(schema: Mapping[str, Any], instance: Mapping[str, Any]) -> Iterator[str]:
    patterns = list(schema.get("patternProperties", ()))
    known = schema.get("properties", {})
    return (key for key in instance if key not in known and not any(re.search(pattern, key) for pattern in patterns))


_StrictValidator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"type": _type, "additionalProperties": _additional_properties},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


DRAFT: str = Draft202012Validator.META_SCHEMA["$id"]


def compile_schema(schema: Mapping[str, Any]) -> Validator:
    """A validator of ``schema`` (JSON Schema 2020-12).

    Raises jsonschema's SchemaError where it is none, or refers to what is not in it, which is not fetched, or to itself for ever.
    """
    if isinstance(schema, Mapping):
        schema = dict(schema)
        if str(schema.get("$schema", DRAFT)).rstrip("#") != DRAFT:
            raise SchemaError(f"$schema {schema['$schema']!r}: write it for {DRAFT}, which says some things by other keywords")
    Draft202012Validator.check_schema(schema)
    _check_references(schema)
    compiled: Validator = _StrictValidator(schema, registry=REGISTRY)
    return compiled


def _check_references(schema: Mapping[str, Any]) -> None:
    root = DRAFT202012.create_resource(schema)
    schemas = [(root, REGISTRY.resolver_with_root(root))]
    # By identity: the schemas that judge the very value that this one does.
    judges: dict[int, set[int]] = {}
    for resource, resolver in schemas:
        contents = resource.contents
        if not isinstance(contents, dict) or id(contents) in judges:
            continue
        schemas.extend((below, resolver.in_subresource(below)) for below in resource.subresources())
        judges[id(contents)] = {id(each) for each in _in_place(contents)}
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in contents:
                try:
                    found = resolver.lookup(contents[keyword])
                except Unresolvable:
                    raise SchemaError(f"{keyword} {contents[keyword]!r} leads nowhere: put what it means below $defs") from None
                # What no keyword leads to has not been checked yet.
                Draft202012Validator.check_schema(found.contents)
                schemas.append((DRAFT202012.create_resource(found.contents), found.resolver))
                judges[id(contents)].add(id(found.contents))
    try:
        TopologicalSorter(judges).prepare()
    except CycleError:
        raise SchemaError("it refers to itself without end") from None


def _in_place(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(keyword, ())
    yield from schema.get("dependentSchemas", {}).values()
    yield from (schema[keyword] for keyword in ("not", "if", "then", "else") if keyword in schema)


# Only the types of numbers matter to the two schemas above, and int() refuses more than 4,300 digits: their length will do.
_outline = json.JSONDecoder(parse_int=len).decode


def outline(raw: bytes) -> Any:
    """The shape of valid JSON, for the schemas of this module: an integer stands there as some integer."""
    return _outline(raw.decode())


def loads(raw: bytes) -> Any:
    """The value of valid JSON, for the schema of a route; of a number with more digits than Python reads, the first ones."""
    try:
        return json.loads(raw)
    except ValueError:
        return json.loads(raw, parse_int=lambda digits: int(digits[:MOST_DIGITS]))


def explain(validator: Validator, instance: Any, place: str) -> list[str]:
    """At most ten violations of ``instance``, each ``place.of.it: what was expected``, without values of the request.

    Only the first ten errors are drawn: a hostile megabyte can hold a million. Empty where there is none.
    """
    errors = islice(validator.iter_errors(instance), MOST_VIOLATIONS)
    sentences = dict.fromkeys(sentence for error in errors for sentence in _words(error, _place(place, error)))
    return list(sentences)[:MOST_VIOLATIONS]


def judge(schema: Validator, data: bytes, place: str) -> list[str]:
    """The violations of the ``data`` of an action, which stands at ``place``; empty where there is none."""
    try:
        return explain(schema, loads(data or b"{}"), place)
    except RecursionError:
        return [f"{place}: Nested too deeply"]


def _place(place: str, error: ValidationError) -> str:
    for part in error.absolute_path:
        place += f"[{part}]" if isinstance(part, int) else f".{part[:LONGEST_NAME]}" if place else part[:LONGEST_NAME]
    return place


def _words(error: ValidationError, at: str) -> Iterator[str]:
    schema = error.schema if isinstance(error.schema, dict) else {}
    rule: Any = error.validator_value
    instance: Any = error.instance
    match error.validator:
        case "required":
            yield from (f"{_below(at, name)}: Missing input" for name in rule if name not in instance)
        case "additionalProperties":
            allowed = ", ".join(schema.get("properties", {})) or "none"
            yield from (
                f"{_below(at, name)}: Unrecognized key; the allowed keys are: {allowed}"
                for name in islice(_unknown_keys(schema, instance), MOST_VIOLATIONS)
            )
        case "type":
            expected = " or ".join([rule] if isinstance(rule, str) else [name for name in rule if name != "null"])
            yield f"{_at(at)}: Expected {expected}, got {_type_name(instance)}"
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


def _type_name(instance: object) -> str:
    match instance:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
