"""Schemas mean what jsonschema says, and what they cost is bounded, whatever the schema and the data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import extend

from batchkit._protocol.schema import explain
from batchkit._schemas.compiler import compile_schema
from batchkit._schemas.validation import STEPS, Judgement, TooComplex


def is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# jsonschema's own keywords, but for 1.0, which is no integer here.
Reference: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer)
)

NAMES = ("a", "b", "ab")
names = st.sampled_from(NAMES)
scalars = st.sampled_from([None, True, False, 0, 1, -1, 1.0, 0.5, 1.5, 3, 2**70, 1e308, "", "a", "b", "ab", "aab", "1"])
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
counts = st.integers(0, 3)
patterns = st.sampled_from(["a", "^a*$", "^(a|b)*$", "^[^a]", "b$", "^(?=a)", "^(a+b?)+$", "(?!b)", "^$"])
references = st.sampled_from(["#", "#/$defs/one", "#/$defs/two", "#one"])


def keywords(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(schemas, min_size=1, max_size=3)
    named = st.dictionaries(names, schemas, max_size=2)
    types = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
    known: dict[str, st.SearchStrategy[Any]] = {
        "type": types | st.lists(types, min_size=1, max_size=3, unique=True),
        "enum": st.lists(values, max_size=3),
        "const": values,
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), st.sampled_from([-1, 0, 0.5, 1, 1e308])),
        "multipleOf": st.sampled_from([1, 2, 0.5, 0.1, 1e-5]),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), counts),
        **dict.fromkeys(("minContains", "maxContains"), counts),
        "uniqueItems": st.booleans(),
        "pattern": patterns,
        "required": st.lists(names, max_size=2, unique=True),
        "dependentRequired": st.dictionaries(names, st.lists(names, max_size=2, unique=True), max_size=2),
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several),
        **dict.fromkeys(("properties", "dependentSchemas"), named),
        "patternProperties": st.dictionaries(patterns, schemas, max_size=2),
        **dict.fromkeys(("not", "if", "then", "else", "items", "contains", "propertyNames"), schemas),
        **dict.fromkeys(("additionalProperties", "unevaluatedProperties", "unevaluatedItems"), schemas),
        "$ref": references,
        "$dynamicRef": references,
    }
    chosen = st.lists(st.sampled_from(sorted(known)), max_size=4, unique=True)
    return chosen.flatmap(lambda some: st.fixed_dictionaries({name: known[name] for name in some}))


below: st.SearchStrategy[Any] = st.recursive(st.booleans() | keywords(st.booleans()), keywords, max_leaves=6)
schemas = st.builds(
    lambda schema, one, two: {**schema, "$defs": {"one": one, "two": {**two, "$dynamicAnchor": "one"}}},
    keywords(below),
    below,
    keywords(below),
)


@given(schemas, st.lists(values, min_size=1, max_size=6))
@settings(max_examples=300, deadline=None, derandomize=True)
@example({"multipleOf": 0.1}, [0.3, 1, 2**2000, 1e308])
@example({"unevaluatedItems": False, "dependentSchemas": {"a": {"items": True}}}, [["a"], [[]], []])
def test_a_verdict_is_that_of_jsonschema(schema: dict[str, Any], instances: list[Any]) -> None:
    try:
        node = compile_schema(schema)
    except SchemaError as error:
        if error.message != "it refers to itself without end":
            raise
        return
    for instance in instances:
        try:
            expected = Reference(schema).is_valid(instance)
        except OverflowError:
            # Of an integer beyond the floats, and a multipleOf that is one.
            continue
        assert (explain(node, instance, "") == []) == expected, instance


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        ([1], [1.0], True),
        ([1], [True], False),
        ([], {}, False),
        ({"a": [0], "b": 1}, {"b": 1.0, "a": [0.0]}, True),
        ({"a": [0]}, {"a": [False]}, False),
        (2**53 + 1, float(2**53), False),
        (10**300, 1e300, False),
        (-0.0, 0, True),
        (0.5, "0x1.0000000000000p-1", False),
    ],
)
def test_which_values_are_equal(one: Any, other: Any, equal: bool) -> None:
    """As numbers, whatever their spelling; true and 1 are not. Old versions of jsonschema have it otherwise within arrays."""
    assert (explain(compile_schema({"const": one}), other, "") == []) == equal
    assert (explain(compile_schema({"enum": ["x", one]}), other, "") == []) == equal
    assert (explain(compile_schema({"uniqueItems": True}), [one, "x", other], "") == []) != equal


def steps(schema: Any, value: Any) -> int:
    """How many steps it takes to judge ``value``: those that there are, if they do not suffice."""
    judgement = Judgement()
    try:
        list(judgement.violations(value, compile_schema(schema)))
    except TooComplex:
        return STEPS
    return STEPS - judgement.left


def nested(depth: int, innermost: Any, around: Callable[[Any], Any]) -> Any:
    for _ in range(depth):
        innermost = around(innermost)
    return innermost


def recursive(keyword: str, *operators: str, first: bool = True) -> dict[str, Any]:
    """A union of models that hold each other, as Pydantic describes it; ``first``: the operator precedes the argument."""
    properties = [
        {"op": {"const": name}, "arg": {"$ref": "#/$defs/E"}} if first else {"arg": {"$ref": "#/$defs/E"}, "op": {"const": name}}
        for name in operators
    ]
    branches = [{"type": "object", "properties": each, "required": ["op", "arg"]} for each in properties]
    leaf = {"type": "object", "properties": {"op": {"const": "var"}}, "required": ["op"]}
    return {"$defs": {"E": {keyword: [*branches, leaf]}}, "properties": {"where": {"$ref": "#/$defs/E"}}}


def expression(depth: int, operator: str = "neg") -> Any:
    return {"where": nested(depth, {"op": "var"}, lambda inner: {"op": operator, "arg": inner})}


SELF = {"$ref": "#"}
A = {"properties": {"a": SELF}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (recursive("oneOf", "not", "neg"), expression),
        (recursive("anyOf", "not", "neg"), expression),
        (recursive("anyOf", "not", "neg", first=False), expression),
        (recursive("oneOf", "not", "neg", "abs", "ceil", first=False), lambda depth: expression(depth, "ceil")),
        ({"not": {"not": {"anyOf": [A, A]}}}, lambda depth: nested(depth, 1, lambda inner: {"a": inner})),
        ({"anyOf": [A, A], "unevaluatedProperties": False}, lambda depth: nested(depth, 1, lambda inner: {"a": inner})),
        ({"oneOf": [A, {"required": ["b"]}]}, lambda depth: nested(depth, 1, lambda inner: {"a": inner})),
        ({"contains": SELF, "anyOf": [{"items": SELF}, False]}, lambda depth: nested(depth, [], lambda inner: [inner])),
        (
            {"$dynamicAnchor": "n", "anyOf": [{"properties": {"a": {"$dynamicRef": "#n"}}}] * 2},
            lambda depth: nested(depth, 1, lambda inner: {"a": inner}),
        ),
        ({"uniqueItems": True}, lambda depth: [*range(depth * 10)]),
        ({"uniqueItems": True}, lambda depth: [number * (2**61 - 1) for number in range(depth * 10)]),
        ({"uniqueItems": True}, lambda depth: [{"a": [str(number)]} for number in range(depth * 10)]),
        ({"uniqueItems": True}, lambda depth: [1, "1", None, [], {}] + [[number] for number in range(depth * 10)]),
        ({"contains": {"const": 1}}, lambda depth: [0] * depth * 10),
        ({"propertyNames": {"pattern": "^(a+)+$"}}, lambda depth: {"a" * 9 + str(number): 1 for number in range(depth)}),
        ({"patternProperties": {"^(a+)+$": False}}, lambda depth: {"a" * 9 + str(number): 1 for number in range(depth)}),
    ],
)
def test_twice_as_much_takes_twice_as_long(schema: Any, value: Callable[[int], Any]) -> None:
    """“whatever the schema: recursive unions, patterns and `uniqueItems` included”."""
    once, twice = steps(schema, value(30)), steps(schema, value(60))
    assert once < twice < 2.5 * once < STEPS


def work(judging: Callable[[], Any]) -> int:
    """How many functions are called by it, those of Python's own included."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        judging()
    finally:
        sys.setprofile(None)
    return calls


DEEP = nested(200, 1, lambda inner: {"a": inner})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"allOf": [A, A]}, DEEP),
        ({"allOf": [{"allOf": [A, A]}, A], "unevaluatedProperties": SELF}, DEEP),
        ({"allOf": [{"additionalProperties": SELF}, {"patternProperties": {"a": SELF}}]}, DEEP),
        ({"dependentSchemas": {"a": {"allOf": [A, A]}}}, DEEP),
        ({"items": {"type": "string"}}, ["x"] * 100_000),
        ({"items": {"type": "string"}}, [1] * 100_000),
        ({"properties": {"a": {}}, "additionalProperties": False}, {str(number): 1 for number in range(100_000)}),
        ({"additionalProperties": {"type": "string"}}, {str(number): 1 for number in range(100_000)}),
        ({"propertyNames": {"maxLength": 1}}, {str(number): 1 for number in range(100_000)}),
        ({"patternProperties": {"^x": {}}, "additionalProperties": False}, {f"x{number}": 1 for number in range(100_000)}),
        ({"unevaluatedProperties": False, "allOf": [{"patternProperties": {"^x": {}}}] * 9}, {f"x{n}": 1 for n in range(50_000)}),
        ({"unevaluatedItems": False, "prefixItems": [{}] * 9}, [1] * 100_000),
        ({"unevaluatedItems": False, "contains": {"type": "null"}}, [None] * 100_000),
        ({"contains": {"type": "null"}}, [1] * 100_000),
        ({"uniqueItems": True}, [*range(100_000)]),
        ({"uniqueItems": True}, [number * (2**61 - 1) for number in range(100_000)]),
        ({"uniqueItems": True}, [[[number], {"a": number}] for number in range(100_000)]),
        ({"enum": [[*range(100_000)]]}, [*range(100_000)]),
        ({"const": [[1] * 1000] * 100}, [[1] * 1000] * 100),
        ({"items": {"multipleOf": 0.1}}, [10**4000 + number for number in range(1000)]),
        ({"anyOf": [{"minItems": 10**6}, {"maxItems": 1}, {"not": {}}] * 100}, [["x" * 100] * 1000]),
        ({"if": A, "then": A, "else": A}, DEEP),
    ],
)
def test_no_judgement_takes_longer_than_its_steps(schema: Any, value: Any) -> None:
    """“within a budget of steps (a few milliseconds of CPU for one action, whatever the schema …)”."""
    node = compile_schema(schema)
    assert work(lambda: explain(node, value, "")) < 8 * STEPS
