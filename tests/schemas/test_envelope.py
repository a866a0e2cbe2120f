"""The schema of the batch and msgspec's types say the same; what a route's own schema refuses is said without values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchkit import BatchEndpoint, InvalidBatch
from batchkit._protocol.dialects import DIALECTS
from batchkit._protocol.request import decode
from batchkit._protocol.schema import explain, judge
from batchkit._schemas.compiler import compile_schema

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-2, 2)
    | st.sampled_from(["", "/x", "get", "GET", "Post", "get\n", "trace"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["limit", "offset", "fields", "expand", "x"]), inner)
    ),
    max_leaves=6,
)
options = st.fixed_dictionaries({}, optional=dict.fromkeys(("limit", "offset", "fields", "expand", "x"), values))
actions = values | st.fixed_dictionaries(
    {},
    optional={
        "relative_path": st.just("/x") | values,
        "method": st.sampled_from(["get", "post", "DELETE"]) | values,
        "data": st.just({}) | values,
        "options": options | values,
        "unknown": values,
    },
)
ASANA = DIALECTS["asana"]
ACTION_SCHEMA, BATCH_SCHEMA = compile_schema(ASANA.action_schema), compile_schema(ASANA.batch_schema())


def outcome(action: Any) -> bool:
    """Whether the types take the action; a path or a query that the dialect refuses is not the schema's affair."""
    [decoded] = decode(json.dumps({"data": {"actions": [action]}}).encode(), BatchEndpoint().settings)
    if decoded.result is None:
        return True
    messages = [error["message"] for error in json.loads(decoded.result.body)["errors"]]
    assert messages != ["data.actions[0]: Not a valid action"], "refused, and the schema finds nothing wrong"
    return all(message.startswith(("data.actions[0].data.", "data.actions[0].relative_path: ")) for message in messages) and (
        explain(ACTION_SCHEMA, action, "") == []
    )


@given(actions)
@settings(max_examples=600)
@example({"relative_path": "/x", "method": "get", "options": {"limit": 1.0}})
@example({"relative_path": "/x", "method": "get\n"})
@example({"relative_path": "x" * 2001, "method": "get"})
@example({"relative_path": "x" * 2000, "method": "get", "data": None, "options": None})
def test_schema_and_types_agree_on_every_action(action: Any) -> None:
    assert outcome(action) == (explain(ACTION_SCHEMA, action, "") == [])


envelopes = values | st.fixed_dictionaries(
    {},
    optional={
        "data": values | st.fixed_dictionaries({}, optional={"actions": values, "x": values}),
        "options": values,
        "x": values,
    },
)


@given(envelopes)
@settings(max_examples=400)
@example({"data": {"actions": []}})
def test_schema_and_types_agree_on_every_envelope(envelope: Any) -> None:
    messages: list[str] = []
    try:
        decode(json.dumps(envelope).encode(), BatchEndpoint(max_actions=100).settings)
    except InvalidBatch as error:
        messages += error.messages or ["refused without a word"]
    assert (explain(BATCH_SCHEMA, envelope, "") == []) == (messages in ([], ["Batch requests must contain at least one action"]))


@pytest.mark.parametrize(
    ("schema", "instance", "expected"),
    [
        ({"type": "object"}, [], ["data: Expected object, got array"]),
        ({"type": ["string", "null"]}, 1.5, ["data: Expected string, got number"]),
        ({"required": ["a", "b"]}, {}, ["data.a: Missing input", "data.b: Missing input"]),
        ({"properties": {"a": {"minimum": 3}}}, {"a": 2}, ["data.a: Does not meet the rule 'minimum' of its schema"]),
        (
            {"additionalProperties": {"type": "string"}},
            {"a": "x", "k" * 100: 2},
            [f"data.{'k' * 64}: Expected string, got integer"],
        ),
        ({"items": {"items": {"enum": [1, "x"]}}}, [[], [1, 2]], ['data[1][1]: Must be one of 1, "x"']),
        ({"patternProperties": {"^x": {}}, "additionalProperties": False}, {"x1": 1, "y": 2}, None),
        ({"minItems": 2}, [1], ["data: Must not be shorter than 2"]),
        ({"not": {}}, "secret", ["data: Does not meet the rule 'not' of its schema"]),
    ],
)
def test_violations_are_said_in_our_own_words(schema: dict[str, Any], instance: Any, expected: list[str] | None) -> None:
    found = explain(compile_schema(schema), instance, "data")
    assert found == (expected if expected is not None else ["data.y: Unrecognized key; the allowed keys are: none"])
    assert "secret" not in "".join(found)


@pytest.mark.parametrize(
    ("schema", "instance", "expected"),
    [
        ({"properties": {"a": False}}, {"a": 1}, "data.a: Does not meet the rule 'properties' of its schema"),
        ({"prefixItems": [{}], "items": False}, [1, 2], "data[1]: Does not meet the rule 'items' of its schema"),
        ({"unevaluatedProperties": False}, {"a": 1}, "data.a: Does not meet the rule 'unevaluatedProperties' of its schema"),
        ({"allOf": [{}, False]}, 1, "data: Does not meet the rule 'allOf' of its schema"),
        ({"anyOf": [{"items": {"type": "null"}}, False]}, [1], "data: Does not meet the rule 'anyOf' of its schema"),
        ({"if": {}, "then": {"maximum": 0}}, 1, "data: Does not meet the rule 'maximum' of its schema"),
        ({"additionalProperties": {"enum": ["x"]}}, {"k" * 99: 1}, f'data.{"k" * 64}: Must be one of "x"'),
        (False, 1, "data: Does not meet the rule 'false' of its schema"),
    ],
)
def test_a_violation_has_the_place_of_what_breaks_the_rule(schema: Any, instance: Any, expected: str) -> None:
    assert explain(compile_schema(schema), instance, "data") == [expected]


def test_at_most_ten_violations_are_listed() -> None:
    """“It lists at most ten violations, in our own words, each with its JSON path …, names cut to 64 characters.”."""
    expected = [f"data[{index}]: Expected string, got integer" for index in range(10)]
    assert explain(compile_schema({"items": {"type": "string"}}), [1] * 100_000, "data") == expected
    assert len(explain(compile_schema({"required": list("abcdefghijklmnop")}), {}, "data")) == 10


def test_what_was_found_before_it_was_too_complex_is_listed() -> None:
    """“a schema that spends it is a 400 for that action, `data: Too complex to be checked`”."""
    schema = compile_schema({"items": {"type": "string"}})
    assert explain(schema, ["x"] * 100_000, "data") == ["data: Too complex to be checked"]
    found = ["data[1]: Expected string, got integer", "data: Too complex to be checked"]
    assert explain(schema, ["x", 1] + ["x"] * 100_000, "data") == found


def test_what_is_nested_too_deeply_is_too_complex() -> None:
    schema = compile_schema({"additionalProperties": {"$ref": "#"}})
    assert judge(schema, b'{"a":' * 900 + b"1" + b"}" * 900, "data") == ["data: Too complex to be checked"]
    assert judge(schema, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "data") == ["data: Too complex to be checked"]


def test_a_number_that_python_does_not_read_can_be_judged() -> None:
    schema = compile_schema({"properties": {"a": {"minimum": 1e300}, "b": {"minimum": 10**4000}}})
    assert judge(schema, b'{"a":1e999,"b":' + b"9" * 5000 + b"}", "data") == []


def test_absent_data_is_judged_as_an_empty_object() -> None:
    """“A route's schema judges `{}` where `data` is absent”."""
    assert judge(compile_schema({"required": ["a"]}), b"", "data") == ["data.a: Missing input"]
