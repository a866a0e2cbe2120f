"""Values that people give by a keyword: each check names the keyword, and says what would do."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

__all__ = ["check_app", "check_base_path", "check_choice", "check_count", "check_function", "check_seconds", "nearest", "strings"]


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError where the value of keyword ``name`` is none of ``choices``."""
    if value not in [*choices]:
        raise ValueError(f"{name}={value!r}: give one of {', '.join(map(repr, choices))}")


def check_count(name: str, value: object) -> None:
    """Raise ValueError where the value of keyword ``name`` is no whole number, at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r}: give a whole number, at least 1")


def check_base_path(value: object) -> None:
    """Raise ValueError where the value of keyword ``base_path`` is neither None nor a path that others can be below."""
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"(?:/[^/?#\s]+)*/?", value)):
        raise ValueError(f"base_path={value!r}: give a path like '/api/1.0', or None for the parent of the batch URL")


def check_seconds(name: str, value: object, *, zero: bool = False) -> None:
    """Raise TypeError or ValueError where the value of keyword ``name`` is no length of time; ``zero`` is whether 0 is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r}: give a number of seconds")
    if not 0 < value < math.inf and not (zero and value == 0):
        raise ValueError(f"{name}={value!r}: give a number of seconds{', at least 0' if zero else ' above 0'}")


def strings(name: str, value: object) -> tuple[str, ...]:
    """The values of keyword ``name``. Raises TypeError where they are not a sequence of strings."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name}={value!r}: give a sequence of strings")
    values = tuple(value)
    for item in values:
        if not isinstance(item, str):
            raise TypeError(f"{name}: {item!r} is not a string")
    return values


def check_function(name: str, function: Callable[..., Any], *arguments: str) -> None:
    """Raise TypeError where ``function``, the value of keyword ``name``, cannot be called with just these ``arguments``."""
    try:
        # Its own, and not that of what it wraps, to which it may give other arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        # Of something written in C, or that shows none: it is seen when it is called.
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise TypeError(f"{name}={function!r}: it is called with {' and '.join(arguments)}, and takes {signature}") from None


def check_app(name: str, app: Callable[..., Any]) -> None:
    """Raise TypeError where ``app``, the value of keyword ``name``, cannot be an ASGI app."""
    try:
        check_function(name, app, "scope", "receive", "send")
    except TypeError as error:
        raise TypeError(f"{error}: give an ASGI app; a WSGI app needs a2wsgi's WSGIMiddleware") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say to somebody who gave ``name``, which is none of ``known``."""
    names = list(known)
    if not names:
        return "it takes none"
    meant = get_close_matches(name, names, n=1)
    return f"did you mean {meant[0]!r}?" if meant else f"give one of {', '.join(names)}"
