"""What the keywords of JSON Schema 2020-12 demand of a value, counted where it can be much (``Judgement.spend``)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Iterable
from itertools import count, islice, repeat
from types import NoneType
from typing import Any

from jsonschema import Draft202012Validator

from batchkit._schemas.validation import NAMES, Demand, Demands, Judgement, Node

__all__ = ["ALL", "KEYWORDS", "REFUSED", "TYPES", "key"]

# Bits of a number that are divided in a step.
BITS = 128
# jsonschema's keywords ask a validator for the types of values.
_ANY = Draft202012Validator({})

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    # 1.0 is an integer to JSON Schema; to the handler, which reads the text, it is not.
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (NoneType,),
    "array": (list,),
    "object": (dict,),
}
ALL = tuple({kind for kinds in TYPES.values() for kind in kinds})
_STRING, _NUMBER, _ARRAY, _OBJECT = (TYPES[name] for name in ("string", "number", "array", "object"))


def key(value: Any, spend: Callable[[int], None]) -> Any:
    """What two values share just if JSON Schema calls them equal: 1 and 1.0 do, 1 and true do not."""
    spend(2)
    if isinstance(value, list):
        return ("[", *[key(item, spend) for item in value])
    if isinstance(value, dict):
        return frozenset([(name, key(inner, spend)) for name, inner in value.items()])
    if type(value) in _NUMBER:
        # As text: numbers can be chosen so that the hashes of all are the same.
        return (value.hex() if isinstance(value, float) and not value.is_integer() else hex(int(value)),)
    return value


def _is_unique(judgement: Judgement, rule: bool, value: list[Any], node: Node) -> bool:
    return not rule or len({key(item, judgement.spend) for item in value}) == len(value)


def _contains(judgement: Judgement, rule: Node, value: list[Any], node: Node) -> bool:
    found = sum(judgement.meets(item, rule) for item in value)
    return bool(node.rules.get("minContains", 1) <= found <= node.rules.get("maxContains", found))


def _is_multiple(judgement: Judgement, rule: float, value: float, node: Node) -> bool:
    if isinstance(value, int):
        judgement.spend(value.bit_length() // BITS)
    try:
        return not any(Draft202012Validator.VALIDATORS["multipleOf"](_ANY, rule, value, {}))
    except OverflowError:
        # It is beyond the floats, where nobody can tell.
        return False


def _pattern_properties(judgement: Judgement, rule: Any, value: dict[str, Any], node: Node) -> Iterable[Demand]:
    return ((name, value[name], below) for pattern, below in rule for name in value if judgement.finds(pattern, name))


def _additional_properties(judgement: Judgement, rule: Node, value: dict[str, Any], node: Node) -> Iterable[Demand]:
    judgement.spend(len(value) // NAMES)
    known = node.rules.get("properties", ())
    patterns = node.rules.get("patternProperties", ())
    for name in value:
        if name not in known and not any(judgement.finds(pattern, name) for pattern, _ in patterns):
            yield name, value[name], rule


def _items(judgement: Judgement, rule: Node, value: list[Any], node: Node) -> Iterable[Demand]:
    start = len(node.rules.get("prefixItems", ()))
    return zip(count(start), islice(value, start, None), repeat(rule))


def _unevaluated(judgement: Judgement, rule: Node, value: Any, node: Node) -> Iterable[Demand]:
    evaluated = _evaluated(judgement, value, node, {"unevaluatedItems", "unevaluatedProperties"})
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return ((part, inner, rule) for part, inner in parts if part not in evaluated)


def _evaluated(judgement: Judgement, value: Any, node: Node, without: Container[str] = ()) -> set[Any]:
    """The keys or indices of ``value`` of which ``node`` demands something, ``without`` some of its keywords."""
    judgement.spend(node.checks[type(value)][0] + len(value) // NAMES)
    found: set[Any] = set()
    for keyword, rule in node.rules.items():
        kinds, demands = KEYWORDS.get(keyword, ((), None))
        if demands is None or type(value) not in kinds or keyword in without:
            continue
        in_place: list[Node] = []
        if keyword in ("anyOf", "oneOf"):
            in_place = [below for below in rule if judgement.meets(value, below)]
        elif keyword == "contains":
            found.update(index for index, item in enumerate(value) if judgement.meets(item, rule))
        elif not isinstance(demanded := demands(judgement, rule, value, node), bool):
            for part, inner, below in demanded:
                if part is not None:
                    found.add(part)
                elif inner is value:
                    in_place.append(below)
            if keyword == "if" and judgement.meets(value, rule):
                in_place.append(rule)
        for below in in_place:
            found |= _evaluated(judgement, value, below)
    return found


def _if(judgement: Judgement, rule: Node, value: Any, node: Node) -> Iterable[Demand]:
    branch = node.rules.get("then" if judgement.meets(value, rule) else "else")
    return () if branch is None else ((None, value, branch),)


def _that(test: Callable[[Any, Any], bool]) -> Demands:
    return lambda judgement, rule, value, node: test(value, rule)


_is_long, _is_short = _that(lambda value, least: len(value) >= least), _that(lambda value, most: len(value) <= most)

# What the schema ``false`` checks.
REFUSED: tuple[str, Any, Demands] = ("false", None, _that(lambda value, rule: False))
# By keyword: the types of values that it judges, and what it demands of them.
KEYWORDS: dict[str, tuple[tuple[type, ...], Demands]] = {
    # Of a type that is among them it is not asked.
    "type": (ALL, _that(lambda value, rule: False)),
    "enum": (ALL, lambda judgement, rule, value, node: key(value, judgement.spend) in rule),
    "const": (ALL, lambda judgement, rule, value, node: key(value, judgement.spend) in rule),
    "minimum": (_NUMBER, _that(operator.ge)),
    "maximum": (_NUMBER, _that(operator.le)),
    "exclusiveMinimum": (_NUMBER, _that(operator.gt)),
    "exclusiveMaximum": (_NUMBER, _that(operator.lt)),
    "multipleOf": (_NUMBER, _is_multiple),
    "minLength": (_STRING, _is_long),
    "maxLength": (_STRING, _is_short),
    "pattern": (_STRING, lambda judgement, rule, value, node: judgement.finds(rule, value)),
    "minItems": (_ARRAY, _is_long),
    "maxItems": (_ARRAY, _is_short),
    "uniqueItems": (_ARRAY, _is_unique),
    "contains": (_ARRAY, _contains),
    "prefixItems": (_ARRAY, lambda judgement, rule, value, node: zip(count(), value, rule)),
    "items": (_ARRAY, _items),
    "unevaluatedItems": (_ARRAY, _unevaluated),
    "minProperties": (_OBJECT, _is_long),
    "maxProperties": (_OBJECT, _is_short),
    "required": (_OBJECT, _that(lambda value, names: all(name in value for name in names))),
    "dependentRequired": (
        _OBJECT,
        _that(lambda value, rule: all(name in value for given, names in rule.items() if given in value for name in names)),
    ),
    "dependentSchemas": (
        _OBJECT,
        lambda judgement, rule, value, node: [(None, value, below) for name, below in rule.items() if name in value],
    ),
    "propertyNames": (_OBJECT, lambda judgement, rule, value, node: ((None, name, rule) for name in value)),
    "properties": (
        _OBJECT,
        lambda judgement, rule, value, node: [(name, value[name], below) for name, below in rule.items() if name in value],
    ),
    "patternProperties": (_OBJECT, _pattern_properties),
    "additionalProperties": (_OBJECT, _additional_properties),
    "unevaluatedProperties": (_OBJECT, _unevaluated),
    "allOf": (ALL, lambda judgement, rule, value, node: [(None, value, below) for below in rule]),
    "anyOf": (ALL, lambda judgement, rule, value, node: any(judgement.meets(value, below) for below in rule)),
    "oneOf": (ALL, lambda judgement, rule, value, node: sum(judgement.meets(value, below) for below in rule) == 1),
    "not": (ALL, lambda judgement, rule, value, node: not judgement.meets(value, rule)),
    "if": (ALL, _if),
    "$ref": (ALL, lambda judgement, rule, value, node: ((None, value, rule),)),
    "$dynamicRef": (ALL, lambda judgement, rule, value, node: ((None, value, rule),)),
}
