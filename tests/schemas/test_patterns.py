"""Patterns find what Python's re finds, and are stopped at a time.

Why regex, of all libraries: it reads what re reads, and is the only one that can be stopped. google-re2 has no look-around, its
``\\w`` is ASCII, and a count of 900 takes it ten microseconds for each character.
"""

from __future__ import annotations

import re
from time import thread_time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchkit._protocol.schema import explain
from batchkit._schemas.compiler import compile_schema
from batchkit._schemas.validation import SECONDS

TOO_COMPLEX = ["data: Too complex to be checked"]

atoms = st.sampled_from(
    ["a", "b", "A", "é", "-", r"\n", ".", r"\w", r"\W", r"\d", r"\s", "[a-b]", "[^a]", r"[^\d-]", "[]a]", r"\{"]
)
anchors = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\Z", r"(?<=a)", r"(?<!b)", "{", "{e}", "[{]", "{a", "e}"])
counts = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "{,2}", "*?", "+?", "??", "{0,2}?", "*+"])
groups = st.sampled_from(["(?:", "(", "(?=", "(?!", "(?i:", "(?s:", "(?-i:", "(?m:", "(?>"])
expressions = st.recursive(
    atoms | anchors,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map("".join),
        st.builds(lambda group, some: f"{group}{'|'.join(some)})", groups, st.lists(inner, min_size=1, max_size=3)),
        st.builds("(?:{}){}".format, inner, counts),
    ),
    max_leaves=8,
)


def faults(schema: Any, value: Any) -> list[str]:
    return explain(compile_schema(schema), value, "data")


@given(
    st.sampled_from(["", "(?i)", "(?m)", "(?s)", "(?x)"]),
    expressions,
    st.lists(st.text("abAé1- \n{e}", max_size=8), min_size=1, max_size=4),
)
@settings(max_examples=500, deadline=None, derandomize=True)
@example("", "^(?:a|b*)*?c", ["abab", "ababc"])
@example("", "^a{e}$", ["a{e}", "b"])
@example("", "^a$", ["a\n", "a\n\n"])
@example("", r"(a)\1", ["aa", "ab"])
def test_what_is_found_is_what_re_finds(flags: str, expression: str, some: list[str]) -> None:
    # In an empty text re, before Python 3.14, finds no place that is none between words.
    for text in some if "\\B" not in expression else filter(None, some):
        assert (faults({"pattern": flags + expression}, text) == []) == (re.search(flags + expression, text) is not None)


@pytest.mark.parametrize(("text", "found"), [("é", True), ("हिन्दी", True), ("²", False)])
def test_a_letter_has_its_marks(text: str, found: bool) -> None:
    r"""re's ``\w`` has no mark of any script, and so half the words of India in pieces; this one is that of Pydantic's engine."""
    assert (faults({"pattern": r"^\w+$"}, text) == []) == found


EVIL = ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^(a*)*b", "(a+a+)+b", "^(?=(a+)+$)", "^(?!(a+)+$)", "a*a*a*a*a*a*b", "(?i)^(A+)+$"]
EVIL += ["(?<=a)(a+)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", "^(?:a?){40}a{40}$", "(.*)*,", "^(a?b?c?)*d", "^([^@]+@?)+$", "^(a*?)*?b"]
EVIL += [
    r"^(?:(a+)-?\1)*$",
    "^(?:(?>a)|a+)+$",
    "^([a-z]{1,999}-?){1,999}$",
    "^(?:a++|a)*$",
    "(a|b)*a(a|b){900}c",
    r"^(\S+@?)+\n$",
]


@pytest.mark.parametrize("pattern", EVIL)
@pytest.mark.parametrize("keyword", ["pattern", "items", "propertyNames", "patternProperties", "unevaluatedProperties"])
def test_no_pattern_takes_longer_than_its_time(pattern: str, keyword: str) -> None:
    """“within a budget of steps (a few milliseconds of CPU for one action, whatever the schema …)”.

    By the clock, for want of steps: ten times what there is, where exponential time would be years.
    """
    texts = ["a" * 30 + "!", "a" * 50_000 + "!", "ab" * 500_000]
    cases: dict[str, tuple[Any, list[Any]]] = {
        "pattern": ({"pattern": pattern}, texts),
        "items": ({"items": {"pattern": pattern}}, [[text] * 10_000 for text in texts]),
        "propertyNames": ({"propertyNames": {"pattern": pattern}}, [{f"{text}{n}": 1 for n in range(99)} for text in texts]),
        "patternProperties": ({"patternProperties": {pattern: {}}, "additionalProperties": False}, [{text: 1} for text in texts]),
        "unevaluatedProperties": (
            {"patternProperties": {pattern: {}}, "unevaluatedProperties": False},
            [{text: 1} for text in texts],
        ),
    }
    schema, values = cases[keyword]
    compiled = compile_schema(schema)
    for value in values:
        began = thread_time()
        explain(compiled, value, "data")
        assert thread_time() - began < 10 * SECONDS


def test_a_pattern_that_takes_too_long_is_too_complex() -> None:
    assert faults({"pattern": r"^(?:(a+)-?\1)*$"}, "a" * 5000 + "!") == TOO_COMPLEX


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^[a-z]*$", "a" * 100_000),
        (r"^[\w\s.,-]*$", "word, " * 20_000),
        (r"\S", " " * 100_000 + "x"),
        ("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$", "abcd" * 2_000),
        (r"^(?=.*[A-Z])(?=.*\d).{8,}$", "A1" + "b" * 50_000),
        (r"^https?://[^\s/$.?#].[^\s]*$", "http://example.com/" + "x" * 50_000),
        ("^.{0,65535}$", "a" * 60_000),
        (r"^(['\"]).*\1$", "'a'"),
        ("^([a-z0-9]+-?)*$", "a-slug-that-is-no-longer-than-others"),
        (r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "ann@example.com"),
    ],
)
def test_an_ordinary_text_is_soon_searched(pattern: str, text: str) -> None:
    assert faults({"pattern": pattern}, text) == []


def test_five_hundred_ordinary_texts_are_soon_searched() -> None:
    assert faults({"items": {"pattern": r"^[^@\s]+@[^@\s]+\.[^@\s]+$"}}, ["ann@example.com"] * 500) == []
