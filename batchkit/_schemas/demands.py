"""What the keywords of JSON Schema 2020-12 demand of a value, counted where it can be much (``Judgement.spend``)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import count, islice, repeat
from types import NoneType
from typing import Any

from batchkit._schemas.validation import NAMES, Demand, Demands, Judgement, Node

__all__ = ["ALL", "KEYWORDS", "TYPES", "Constants", "never"]

# Bits of a number that are divided in a step.
BITS = 128

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
# Their values equal those of no other type.
_WITHOUT_EQUALS = {str, bool, NoneType}


class Constants:
    """The values of an ``enum`` or a ``const``."""

    def __init__(self, values: list[Any]) -> None:
        self._keys = {_key(value, lambda steps: None) for value in values}
        self._lengths = {len(value) for value in values if isinstance(value, dict | list)}

    def has(self, value: Any, spend: Callable[[int], None]) -> bool:
        """Whether ``value`` is one of them."""
        return (not isinstance(value, dict | list) or len(value) in self._lengths) and _key(value, spend) in self._keys


def _key(value: Any, spend: Callable[[int], None]) -> Any:
    """What two values share just if JSON Schema calls them equal: 1 and 1.0 do, 1 and true do not."""
    spend(2)
    kind = type(value)
    if kind in _WITHOUT_EQUALS:
        return value
    if kind is list:
        return ("[", *[_key(item, spend) for item in value])
    if kind is dict:
        return frozenset([(name, _key(inner, spend)) for name, inner in value.items()])
    # As text: numbers can be chosen so that the hashes of all are the same.
    return (value.hex() if kind is float and not value.is_integer() else hex(int(value)),)


def _is_unique(judgement: Judgement, rule: bool, value: list[Any], node: Node) -> bool:
    keys = set()
    for item in value if rule else ():
        key = _key(item, judgement.spend)
        if key in keys:
            return False
        keys.add(key)
    return True


def _contains(judgement: Judgement, rule: Node, value: list[Any], node: Node) -> bool:
    least, most = node.rules.get("minContains", 1), node.rules.get("maxContains", math.inf)
    found = 0
    for item in value:
        if found > most or (found >= least and most == math.inf):
            break
        found += judgement.meets(item, rule)
    return bool(least <= found <= most)


def _is_multiple(judgement: Judgement, rule: float, value: float, node: Node) -> bool:
    if isinstance(value, int):
        judgement.spend(value.bit_length() // BITS)
    if isinstance(rule, int):
        return not value % rule
    try:
        quotient = value / rule
        return int(quotient) == quotient
    except OverflowError:
        return abs(value) != math.inf and (Fraction(value) / Fraction(rule)).denominator == 1


def _is_long(value: str | list[Any] | dict[str, Any], least: int) -> bool:
    return len(value) >= least


def _is_short(value: str | list[Any] | dict[str, Any], most: int) -> bool:
    return len(value) <= most


def _depends(value: dict[str, Any], rule: dict[str, list[str]]) -> bool:
    return all(name in value for given, names in rule.items() if given in value for name in names)


def _properties(judgement: Judgement, rule: dict[str, Node], value: dict[str, Any], node: Node) -> Iterable[Demand]:
    return [(name, value[name], below) for name, below in rule.items() if name in value]


def _pattern_properties(judgement: Judgement, rule: Any, value: dict[str, Any], node: Node) -> Iterable[Demand]:
    return ((name, value[name], below) for pattern, below in rule for name in value if pattern.search(name, judgement.spend))


def _additional_properties(judgement: Judgement, rule: Node, value: dict[str, Any], node: Node) -> Iterable[Demand]:
    judgement.spend(len(value) // NAMES)
    known = node.rules.get("properties", ())
    patterns = node.rules.get("patternProperties", ())
    for name in value:
        if name not in known and not any(pattern.search(name, judgement.spend) for pattern, _ in patterns):
            yield name, value[name], rule


def _items(judgement: Judgement, rule: Node, value: list[Any], node: Node) -> Iterable[Demand]:
    start = len(node.rules.get("prefixItems", ()))
    return zip(count(start), islice(value, start, None), repeat(rule))


def _unevaluated(judgement: Judgement, rule: Node, value: Any, node: Node) -> Iterable[Demand]:
    evaluated = judgement.evaluated(value, node, with_own=False)
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return ((part, inner, rule) for part, inner in parts if part not in evaluated)


def _if(judgement: Judgement, rule: Node, value: Any, node: Node) -> Iterable[Demand]:
    branch = node.rules.get("then" if judgement.meets(value, rule) else "else")
    return () if branch is None else ((None, value, branch),)


_NEVER = Node(False)


def never(judgement: Judgement, rule: Any, value: Any, node: Node) -> Iterable[Demand]:
    """Demands what no value meets."""
    return ((None, value, _NEVER),)


def _any_of(judgement: Judgement, rule: list[Node], value: Any, node: Node) -> Iterable[Demand]:
    for below in rule:
        if judgement.meets(value, below):
            return ()
    return never(judgement, rule, value, node)


def _one_of(judgement: Judgement, rule: list[Node], value: Any, node: Node) -> Iterable[Demand]:
    met = 0
    for below in rule:
        met += judgement.meets(value, below)
        if met > 1:
            break
    return () if met == 1 else never(judgement, rule, value, node)


def _not(judgement: Judgement, rule: Node, value: Any, node: Node) -> Iterable[Demand]:
    return never(judgement, rule, value, node) if judgement.meets(value, rule) else ()


def _met(test: Callable[[Judgement, Any, Any, Node], bool]) -> Demands:
    return lambda judgement, rule, value, node: () if test(judgement, rule, value, node) else ((None, value, _NEVER),)


def _true(test: Callable[[Any, Any], bool]) -> Demands:
    return lambda judgement, rule, value, node: () if test(value, rule) else ((None, value, _NEVER),)


# By keyword: the types of values that it judges, and what it demands of them. ``type`` is known beforehand.
KEYWORDS: dict[str, tuple[tuple[type, ...], Demands]] = {
    "enum": (ALL, _met(lambda judgement, rule, value, node: rule.has(value, judgement.spend))),
    "const": (ALL, _met(lambda judgement, rule, value, node: rule.has(value, judgement.spend))),
    "minimum": (_NUMBER, _true(operator.ge)),
    "maximum": (_NUMBER, _true(operator.le)),
    "exclusiveMinimum": (_NUMBER, _true(operator.gt)),
    "exclusiveMaximum": (_NUMBER, _true(operator.lt)),
    "multipleOf": (_NUMBER, _met(_is_multiple)),
    "minLength": (_STRING, _true(_is_long)),
    "maxLength": (_STRING, _true(_is_short)),
    "pattern": (_STRING, _met(lambda judgement, rule, value, node: rule.search(value, judgement.spend))),
    "minItems": (_ARRAY, _true(_is_long)),
    "maxItems": (_ARRAY, _true(_is_short)),
    "uniqueItems": (_ARRAY, _met(_is_unique)),
    "contains": (_ARRAY, _met(_contains)),
    "prefixItems": (_ARRAY, lambda judgement, rule, value, node: zip(count(), value, rule)),
    "items": (_ARRAY, _items),
    "unevaluatedItems": (_ARRAY, _unevaluated),
    "minProperties": (_OBJECT, _true(_is_long)),
    "maxProperties": (_OBJECT, _true(_is_short)),
    "required": (_OBJECT, _true(lambda value, rule: all(name in value for name in rule))),
    "dependentRequired": (_OBJECT, _true(_depends)),
    "dependentSchemas": (
        _OBJECT,
        lambda judgement, rule, value, node: [(None, value, below) for name, below in rule.items() if name in value],
    ),
    "propertyNames": (_OBJECT, lambda judgement, rule, value, node: ((None, name, rule) for name in value)),
    "properties": (_OBJECT, _properties),
    "patternProperties": (_OBJECT, _pattern_properties),
    "additionalProperties": (_OBJECT, _additional_properties),
    "unevaluatedProperties": (_OBJECT, _unevaluated),
    "allOf": (ALL, lambda judgement, rule, value, node: [(None, value, below) for below in rule]),
    "anyOf": (ALL, _any_of),
    "oneOf": (ALL, _one_of),
    "not": (ALL, _not),
    "if": (ALL, _if),
    "$ref": (ALL, lambda judgement, rule, value, node: ((None, value, rule),)),
    "$dynamicRef": (ALL, lambda judgement, rule, value, node: ((None, value, rule),)),
}
