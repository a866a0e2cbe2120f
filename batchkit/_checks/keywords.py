"""Keywords that somebody misspelled: the error says which one was meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_type_hints

__all__ = ["nearest", "suggesting"]

T = TypeVar("T", bound=Callable[..., Any])


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say to somebody who gave ``name``, which is none of ``known``."""
    names = list(known)
    if not names:
        return "it takes none"
    meant = get_close_matches(name, names, n=1)
    return f"did you mean {meant[0]!r}?" if meant else f"give one of {', '.join(names)}"


def suggesting(called: T) -> T:
    """Have a call of this function or class with a keyword, or in a position, that it does not have say what would do; and one
    without what it needs.

    Raises TypeError then, as Python does by itself.
    """
    if not isinstance(called, type):
        # A method is called with its object.
        own = next(iter(inspect.signature(called).parameters), "") in ("self", "cls")
        checked: T = _suggesting(called, called.__name__, int(own))
        return checked
    # The class stays what it is: people derive from it, and ask isinstance.
    its: Any = called
    its.__init__ = _suggesting(its.__init__, None, 1)
    return called


def _suggesting(function: Any, name: str | None, own: int) -> Any:
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[own:]
    positions = own + sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)
    unpacked = [key for each in parameters if each.kind is each.VAR_KEYWORD for key in _unpacked(function, each.name)]
    by_name = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY] + unpacked
    known = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)] + unpacked
    required = [each for each in parameters if each.default is each.empty and each.name in known]
    form = ", ".join(f"{each.name}=…" if each.kind is each.KEYWORD_ONLY else each.name for each in required)
    # Where any number of positions is right, or no keyword would do in place of one, Python itself has the last word.
    counts = by_name and not any(each.kind is each.VAR_POSITIONAL for each in parameters)

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        if counts and len(args) > positions:
            at = name or type(args[0]).__name__
            given = args[positions]
            # The values of a dict stay out of logs: those of a scope, or of header fields, are a client's secrets.
            if isinstance(given, Mapping):
                if "type" in given and own:
                    raise TypeError(f"{at}: the class was called as an ASGI app: give an instance: {at}(…)")
                given = type(given)
            raise TypeError(f"{at}: {given!r}: name it by its keyword: {', '.join(by_name)}")
        for keyword in keywords:
            if keyword not in known:
                at = name or type(args[0]).__name__
                raise TypeError(f"{at}: unexpected keyword argument {keyword!r}: {nearest(keyword, known)}")
        try:
            signature.bind(*args, **keywords)
        except TypeError as error:
            at = name or type(args[0]).__name__
            raise TypeError(f"{at}: {error}: write {at}({form})") from None
        return function(*args, **keywords)

    return call


def _unpacked(function: Any, name: str) -> Iterable[str]:
    """The keys of the TypedDict that ``**name`` of a function unpacks."""
    hint = get_type_hints(function)[name]
    return get_type_hints(get_args(hint)[0])
