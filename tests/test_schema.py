"""The schema of the batch and msgspec's types say the same; what a route's own schema refuses is said without values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchkit import BatchEndpoint, InvalidBatch
from batchkit.schema import ACTION, BATCH, compile_schema, explain, loads
from batchkit.wire import decode

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
ACTION_VALIDATOR, BATCH_VALIDATOR = compile_schema(ACTION), compile_schema(BATCH)


def outcome(action: Any) -> bool:
    """Whether the types take the action; a path or a query that the dialect refuses is not the schema's affair."""
    [decoded] = decode(json.dumps({"data": {"actions": [action]}}).encode(), BatchEndpoint())
    if decoded.result is None:
        return True
    messages = [error["message"] for error in json.loads(decoded.result.body)["errors"]]
    assert messages != ["data.actions[0]: Not a valid action"], "refused, and the schema finds nothing wrong"
    return all(message.startswith(("data.actions[0].data.", "data.actions[0].relative_path: ")) for message in messages) and (
        ACTION_VALIDATOR.is_valid(action)
    )


@given(actions)
@settings(max_examples=600)
@example({"relative_path": "/x", "method": "get", "options": {"limit": 1.0}})
@example({"relative_path": "/x", "method": "get\n"})
@example({"relative_path": "x" * 2001, "method": "get"})
@example({"relative_path": "x" * 2000, "method": "get", "data": None, "options": None})
def test_schema_and_types_agree_on_every_action(action: Any) -> None:
    assert outcome(action) == ACTION_VALIDATOR.is_valid(action)


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
        decode(json.dumps(envelope).encode(), BatchEndpoint(max_actions=100))
    except InvalidBatch as error:
        messages += error.messages or ["refused without a word"]
    assert BATCH_VALIDATOR.is_valid(envelope) == (messages in ([], ["Batch requests must contain at least one action"]))


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


def test_a_number_that_python_does_not_read_can_be_judged() -> None:
    assert loads(b'{"a":1e999,"b":' + b"9" * 5000 + b"}")["b"] > 10**4000
