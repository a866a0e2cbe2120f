"""Patterns find what Python's re finds, in no more steps than they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchkit._schemas import patterns
from batchkit._schemas.patterns import KEPT_BITS, Pattern, Unbounded

parser: Any = import_module("re._parser")
compiler: Any = import_module("re._compiler")

texts = st.text("abc\n", max_size=8)
atoms = st.sampled_from(["a", "b", "A", "é", "-", r"\n", ".", r"\w", r"\W", r"\d", r"\s", "[a-b]", "[^a]", r"[^\d-]", "[]a]"])
anchors = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\Z"])
counts = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?", "??", "{0,2}?"])


def expressions(groups: list[str], *more: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        atoms | anchors,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map("".join),
            st.lists(inner, min_size=1, max_size=3).flatmap(
                lambda branches: st.sampled_from([f"{group}{'|'.join(branches)})" for group in groups])
            ),
            st.builds("(?:{}){}".format, inner, counts),
            *more,
        ),
        max_leaves=8,
    )


class Backtracking:
    """A search of the tree that re goes through, as re does it, with its tries counted."""

    def __init__(self, pattern: str, text: str) -> None:
        self.tree = parser.parse(pattern)
        self.text = text
        self.tries = 0

    def starts(self) -> range:
        return range(1 if self.tree and str(self.tree[0][1]).startswith("AT_BEGINNING") else len(self.text) + 1)

    def ends(self, items: list[Any], start: int) -> Iterator[int]:
        if not items:
            yield start
            return
        operation, argument = items[0]
        for end in self.ends_of(operation, argument, start):
            yield from self.ends(items[1:], end)

    def ends_of(self, operation: Any, argument: Any, start: int) -> Iterator[int]:
        match str(operation):
            case "SUBPATTERN":
                yield from self.ends(list(argument[3]), start)
            case "BRANCH":
                for branch in argument[1]:
                    yield from self.ends(list(branch), start)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, items = argument
                if least == 0 and str(operation) == "MIN_REPEAT":
                    yield start
                for end in self.ends(list(items), start) if most else ():
                    if end > start or least:
                        yield from self.ends_of(operation, (max(least - 1, 0), most if most > 99 else most - 1, items), end)
                if least == 0 and str(operation) == "MAX_REPEAT":
                    yield start
            case _:
                self.tries += 1
                alone = parser.SubPattern(self.tree.state, [(operation, argument)])
                if found := compiler.compile(alone).match(self.text, start):
                    yield found.end()


@given(st.sampled_from(["", "^"]), expressions(["(?:", "("]), st.sampled_from(["", "$"]), texts)
@settings(max_examples=1000, deadline=None, derandomize=True)
@example("^", "(?:a+b?)*", "$", "a" * 9 + "c")
@example("", "(?:a|a|ab)*", "$", "aaaaaaaac")
@example("", ".*.*?.*.*?", "c", "aaaaaaaa")
@example("", "(?:(?:^){2,})+", "", "")
def test_re_makes_no_more_tries_than_are_told(start: str, expression: str, end: str, text: str) -> None:
    pattern = start + expression + end
    search = Backtracking(pattern, text)
    found = any(True for place in search.starts() for _ in search.ends(list(search.tree), place))
    assert found == (re.search(pattern, text) is not None)
    assert len(text).bit_length() <= KEPT_BITS, "or it is rounded up"
    assert search.tries <= Pattern(pattern).most_tries(len(text))


def steps(pattern: str, text: str) -> tuple[bool, int]:
    spent: list[int] = []
    found = Pattern(pattern).search(text, spent.append)
    return found, sum(spent)


around = expressions(
    ["(?:", "(", "(?=", "(?!", "(?i:", "(?s:", "(?-i:", "(?m:"],
    st.builds("(?{}{})".format, st.sampled_from(["<=", "<!"]), atoms),
)


@given(
    st.sampled_from(["", "(?i)", "(?m)", "(?s)", "(?x)"]),
    st.sampled_from(["", "^"]),
    around,
    st.sampled_from(["", "$"]),
    st.lists(st.text("abAé1- \n", max_size=8), min_size=1, max_size=4),
)
@settings(max_examples=1000, deadline=None, derandomize=True)
@example("", "^", "(?:a|b*)*?c", "", ["abab", "ababc"])
@example("", "", "(?<=a)(?<!b)(?:|a)+", "$", ["a", "ba"])
@example("(?i)", "^", "(?-i:a)(?:b){1,3}a", "", ["abbba", "Abba", "aBBa", "abbbba"])
def test_what_the_automaton_finds_is_what_re_finds(flags: str, start: str, expression: str, end: str, some: list[str]) -> None:
    pattern = flags + start + expression + end
    with pytest.MonkeyPatch.context() as patch:
        # So re is never soon done.
        patch.setattr(patterns, "MOST_TRIES", 0)
        for text in some:
            assert steps(pattern, text)[0] == (re.search(pattern, text) is not None)


EXPONENTIAL = [
    "^(a+)+$",
    "^(a|a)*$",
    "^(a|aa)+$",
    "^(a*)*b",
    "(a+a+)+b",
    "^(?=(a+)+$)",
    "(?i)^(A+)+$",
    "(?<=a)(a+)+$",
    "^(a*?)*?b",
]
POLYNOMIAL = ["a*a*a*a*b", "(.*)*,", "^(.*?,){11}P", "a*b", "^a*a*a*$", "^(?:a?b?c?)*d", r"^[^@\s]+@[^@\s]+\.[^@\s]+$"]


@pytest.mark.parametrize("pattern", EXPONENTIAL + POLYNOMIAL)
def test_twice_the_text_takes_twice_the_steps(pattern: str) -> None:
    """“within a budget of steps …, whatever the schema: recursive unions, patterns and `uniqueItems` included”."""
    (found, once), (_, twice) = steps(pattern, "a" * 400 + "!"), steps(pattern, "a" * 800 + "!")
    assert not found
    assert twice <= 2.1 * once <= 2.1 * 50 * 400


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^[a-z]*$", "a" * 100_000),
        (r"^[\w\s.,-]*$", "word, " * 20_000),
        (r"\S", " " * 100_000 + "x"),
        ("^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$", "abcd" * 25_000),
        (r"^(?=.*[A-Z])(?=.*\d).{8,}$", "A1" + "b" * 50_000),
        (r"^https?://[^\s/$.?#].[^\s]*$", "http://example.com/" + "x" * 50_000),
        ("^.{0,65535}$", "a" * 60_000),
    ],
)
def test_a_long_text_takes_few_steps_where_re_is_soon_done(pattern: str, text: str) -> None:
    found, spent = steps(pattern, text)
    assert found
    assert spent < len(text) / 10


@pytest.mark.parametrize(
    "pattern",
    [r"^(['\"]).*\1$", "^(?>[a-z]+-?)*$", r"^(a)?(?(1)b|c)$", "^[a-z]++-[a-z]*+$", "^[a-z]{1,9000}-[a-z]{1,9000}$"],
)
def test_without_an_automaton_re_searches(pattern: str) -> None:
    for text in ("'a'", "'a\"", "a-b", "ab", "c", "ac", "a" * 300):
        assert steps(pattern, text)[0] == (re.search(pattern, text) is not None)


def test_without_an_automaton_each_try_that_re_could_make_counts() -> None:
    assert steps(r"^(['\"]).*\1$", "a" * 4000)[1] > 50 * steps(r"^(['\"]).*\1$", "a" * 400)[1]


@pytest.mark.parametrize("pattern", [r"^(?:(a+)-?\1)*$", "^(?:(?>a)|a+)+$", "^([a-z]{1,999}-?){1,999}$", "^(?:a++|a)*$"])
def test_what_nothing_bounds_is_refused(pattern: str) -> None:
    with pytest.raises(Unbounded):
        Pattern(pattern)
