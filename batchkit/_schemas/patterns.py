"""Regular expressions, searched in steps that can be counted (contract section 2, "within a budget of steps").

Python's re tries every way through a pattern, with some patterns twice as many for each character of the text, and nothing
stops it. It searches here where its pattern and the length of the text say that it is done soon. Any other pattern is walked
as the automaton that it is, each of its states once per place in the text, which finds what re would find.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, NamedTuple

__all__ = ["Pattern", "Unbounded"]

# A try is one comparison of the text with one item of the pattern. What re does of them in the time of a step …
TRIES_PER_STEP = 128
# … and beyond how many per character the automaton is done sooner.
MOST_TRIES = 512
# A pattern with larger counts, (?:ab){9000} for one, has no automaton.
MOST_STATES = 5000
# The length of a text counts with so many bits.
KEPT_BITS = 5

# re's own parser, since no other has just its syntax; there is no public name for it.
_parse: Callable[[str], Any] = import_module("re._parser").parse

_FOUND = 0
_OF_TYPE = re.ASCII | re.UNICODE
_SPELLINGS = {
    "AT_BEGINNING": "^",
    "AT_BEGINNING_STRING": r"\A",
    "AT_BOUNDARY": r"\b",
    "AT_NON_BOUNDARY": r"\B",
    "AT_END": "$",
    "AT_END_STRING": r"\Z",
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


class Unbounded(ValueError):
    """A pattern whose search nothing bounds, and what it has that makes it so."""


class _Around(NamedTuple):
    """A look-ahead or look-behind: the state in which it begins, how far back, and whether it must match."""

    entry: int
    back: int
    expected: bool


_Test = Callable[[str, int], object] | _Around | None


class _State(NamedTuple):
    """A state of an automaton: what the text must have in its place, how wide that is, and the states that may follow."""

    test: _Test
    width: int
    following: tuple[int, ...]


class Pattern:
    """A regular expression in the syntax of ``re``, to be searched for.

    Raises Unbounded for one that is exponential in ``re`` and has no automaton: by back-references, conditions, atomic groups
    or large counts, where repeats stand in repeats.
    """

    def __init__(self, text: str) -> None:
        self._re = re.compile(text)
        self._tree = _parse(text)
        flags = self._tree.state.flags
        first = str(self._tree[0][1]) if len(self._tree) else ""
        self._anchored = first.startswith("AT_BEGINNING") and not flags & re.MULTILINE
        self._tries: dict[int, float] = {}
        self._states = [_State(None, 0, ())]
        try:
            self._entry = self._chain(self._tree, flags, _FOUND)
        except Unbounded:
            self._states.clear()
            if self.most_tries(1000) == math.inf:
                raise

    def search(self, text: str, spend: Callable[[int], None]) -> bool:
        """Whether it is found in ``text``. ``spend`` is given numbers of steps, each before they are taken, and may raise."""
        tries = self.most_tries(len(text))
        if tries <= MOST_TRIES * (len(text) + 1) or not self._states:
            spend(1 + int(min(tries, 1e9)) // TRIES_PER_STEP)
            return self._re.search(text) is not None
        return self._reaches(self._entry, text, range(1 if self._anchored else len(text) + 1), spend)

    def most_tries(self, length: int) -> float:
        """How many tries ``re`` makes at most in a text of that length."""
        # Rounded up, so that what is kept does not grow with what clients send.
        spare = max(length.bit_length() - KEPT_BITS, 0)
        length = -(-length >> spare) << spare
        tries = self._tries.get(length)
        if tries is None:
            starts = 1 if self._anchored else length + 1
            tries = self._tries[length] = starts * _effort(self._tree, length)[0]
        return tries

    def _reaches(self, entry: int, text: str, starts: Iterable[int], spend: Callable[[int], None]) -> bool:
        states = self._states
        seen: set[tuple[int, int]] = set()
        for start in starts:
            points = [(entry, start)]
            while points:
                point = points.pop()
                if point in seen:
                    continue
                spend(1)
                seen.add(point)
                number, place = point
                test, width, following = states[number]
                if test is None:
                    if number == _FOUND:
                        return True
                elif isinstance(test, _Around):
                    begin = place - test.back
                    if (begin >= 0 and self._reaches(test.entry, text, (begin,), spend)) is not test.expected:
                        continue
                elif test(text, place) is None:
                    continue
                place += width
                for each in following:
                    points.append((each, place))
        return False

    def _add(self, test: _Test, width: int, *following: int) -> int:
        if len(self._states) > MOST_STATES:
            raise Unbounded("counts that large")
        self._states.append(_State(test, width, following))
        return len(self._states) - 1

    def _chain(self, items: Any, flags: int, then: int) -> int:
        """The state in which ``items`` begin; ``then`` is the one after them."""
        for operation, argument in reversed(list(items)):
            then = self._item(str(operation), argument, flags, then)
        return then

    def _item(self, operation: str, argument: Any, flags: int, then: int) -> int:
        match operation:
            case "AT" | "ANY" | "LITERAL" | "NOT_LITERAL" | "IN":
                test = re.compile(_spelled(operation, argument), flags).match
                return self._add(test, 0 if operation == "AT" else 1, then)
            case "SUBPATTERN":
                return self._chain(argument[3], _scoped(flags, argument), then)
            case "BRANCH":
                return self._add(None, 0, *[self._chain(items, flags, then) for items in argument[1]])
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, items = argument
                return self._repeat(least, most, items, flags, then)
            case "ASSERT" | "ASSERT_NOT":
                direction, items = argument
                back = items.getwidth()[0] if direction < 0 else 0
                return self._add(_Around(self._chain(items, flags, _FOUND), back, operation == "ASSERT"), 0, then)
            case "FAILURE":
                return self._add(None, 0)
            case _:
                raise Unbounded("back-references, conditions, atomic groups and possessive repeats")

    def _repeat(self, least: int, most: int, items: Any, flags: int, then: int) -> int:
        if str(most) == "MAXREPEAT":
            end, then = then, self._add(None, 0)
            self._states[then] = _State(None, 0, (end, self._chain(items, flags, then)))
        else:
            end = then
            for _ in range(most - least):
                then = self._add(None, 0, end, self._chain(items, flags, then))
        # Of what is empty, any number is none.
        for _ in range(min(least, MOST_STATES)):
            then = self._chain(items, flags, then)
        return then


def _spelled(operation: str, argument: Any) -> str:
    """An item that is one character wide or none, as a pattern of its own."""
    match operation:
        case "AT" | "CATEGORY":
            return _SPELLINGS[str(argument)]
        case "ANY":
            return "."
        case "LITERAL":
            return f"\\U{argument:08x}"
        case "NOT_LITERAL":
            return f"[^\\U{argument:08x}]"
        case "RANGE":
            return f"\\U{argument[0]:08x}-\\U{argument[1]:08x}"
        case "NEGATE":
            return "^"
        case _:
            return f"[{''.join(_spelled(str(inner), value) for inner, value in argument)}]"


def _effort(items: Any, length: int) -> tuple[float, float]:
    """How many tries ``re`` makes of ``items`` at most, in a text of that length, and in how many ways it can pass them."""
    tries, ways = 1.0, 1.0
    for operation, argument in items:
        more, choices = _effort_of(str(operation), argument, length)
        tries += ways * more
        ways *= choices
    return tries, ways


def _effort_of(operation: str, argument: Any, length: int) -> tuple[float, float]:
    match operation:
        case "SUBPATTERN":
            return _effort(argument[3], length)
        case "ASSERT" | "ASSERT_NOT":
            return _effort(argument[1], length)[0], 1
        case "ATOMIC_GROUP":
            return _effort(argument, length)[0], 1
        case "BRANCH" | "GROUPREF_EXISTS":
            branches = [_effort(items or (), length) for items in (argument[1] if operation == "BRANCH" else argument[1:])]
            return sum(tries for tries, _ in branches), sum(ways for _, ways in branches)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, items = argument
            tries, ways = _effort(items, length)
            width = items.getwidth()[0]
            # What can be empty may have to be there so often, and then takes a character each time.
            rounds = min(most, length // width + 1 if width else least + length + 1)
            choices = _sum_of_powers(ways, rounds + 1) if ways > 1 else max(rounds + 1 - least, 1)
            return tries * _sum_of_powers(ways, rounds), 1 if operation == "POSSESSIVE_REPEAT" else choices
        case "GROUPREF":
            return length + 1, 1
        case _:
            return 1, 1


def _scoped(flags: int, group: tuple[Any, int, int, Any]) -> int:
    _, added, removed, _ = group
    return ((flags & ~_OF_TYPE if added & _OF_TYPE else flags) | added) & ~removed


def _sum_of_powers(base: float, count: int) -> float:
    if base == 1:
        return count
    return (base**count - 1) / (base - 1) if count * math.log2(base) < 99 else math.inf
