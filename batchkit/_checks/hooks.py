"""What can be seen of a hook, a plugin or a key function before it is ever called."""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import logging
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from batchkit._arguments import check_function

__all__ = ["check_hook", "check_plugin"]

logger = logging.getLogger("batchkit")

# What a plugin's methods are called with, and what they answer.
_METHODS = {
    "batch": (("the Batch",), "an async context manager"),
    "refused": (("the Batch", "the error"), "nothing"),
    "action": (("the app",), "an ASGI app"),
}
_YIELDS = "it yields: decorate an async generator function with contextlib.asynccontextmanager"


def check_hook(name: str, hook: Callable[..., Any]) -> None:
    """Raise TypeError where ``hook`` can be neither an async function of a Batch nor an async context manager of it."""
    # A class may well be such a context, but not where its instances are hooks themselves.
    if isinstance(hook, type) and (not hasattr(hook, "__aenter__") or any("__call__" in vars(base) for base in hook.__mro__)):
        raise TypeError(f"{name}={hook!r}: it is a class: give an instance of it")
    check_function(name, hook, "the Batch")
    called = _called(hook)
    for given in getattr(called, "__defaults__", None) or ():
        if type(given).__module__.startswith("fastapi."):
            raise TypeError(f"{name}={hook!r}: it is no dependency, and nobody fills in {given!r}: use a closure, or partial")
    first = [kind for argument, kind in getattr(called, "__annotations__", {}).items() if argument != "return"][:1]
    # What wraps another function has its annotations, and a partial gives an argument of its own.
    own = not hasattr(called, "__wrapped__") and not isinstance(hook, functools.partial)
    if own and first and getattr(first[0], "__name__", first[0]) in ("Request", "HTTPConnection", "Scope"):
        raise TypeError(f"{name}={hook!r}: it is called with the Batch, whose request is batch.request")
    if _yields(called):
        raise TypeError(f"{name}={hook!r}: {_YIELDS}")
    if inspect.isfunction(called) and not inspect.iscoroutinefunction(called) and _returned(called) == {None}:
        raise TypeError(f"{name}={hook!r}: it is not async: write async def")


def check_plugin(plugin: object) -> None:
    """Raise TypeError where the methods of ``plugin`` cannot be those of a Plugin; warn of one that seems misspelled."""
    if isinstance(plugin, type):
        raise TypeError(f"plugins: {plugin!r} is a class: give an instance of it")
    for method, (arguments, answer) in _METHODS.items():
        function = getattr(plugin, method, None)
        if function is None:
            for near in get_close_matches(method, _others(type(plugin)), n=1, cutoff=0.9):
                logger.warning("plugins: %s.%s is never called: did you mean %r?", type(plugin).__name__, near, method)
            continue
        name = f"plugins: {type(plugin).__name__}.{method}"
        if not callable(function):
            raise TypeError(f"{name}={function!r}: give a method")
        check_function(name, function, *arguments)
        if _yields(_called(function)):
            raise TypeError(f"{name}: {_YIELDS}")
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{name}: it is async: it must return {answer}, when it is called and not when it is awaited")


def _others(plugin: type) -> list[str]:
    """The public methods that batchkit does not call."""
    return [name for name in dir(plugin) if name[0] != "_" and name not in _METHODS and callable(getattr(plugin, name, None))]


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs when this is called, as far as it is one."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) or isinstance(function, type) else type(function).__call__


def _returned(function: Callable[..., Any]) -> set[object]:
    """The constants that a function returns, and ``...`` for all else; None stands at the end of each that comes there."""
    instructions = list(dis.get_instructions(function))
    return {
        each.argval
        if each.opname == "RETURN_CONST"
        else before.argval
        if before.opname == "LOAD_CONST" and not each.is_jump_target
        else ...
        for before, each in itertools.pairwise(instructions)
        if each.opname in ("RETURN_CONST", "RETURN_VALUE")
    }


def _yields(function: Callable[..., Any]) -> bool:
    # contextlib.contextmanager wraps its generator function, and is as wrong here as that.
    return inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(inspect.unwrap(function))
