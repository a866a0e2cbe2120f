"""What can be seen of a hook, a plugin or a host before it is ever called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["check_app", "check_function", "check_hook", "check_plugin"]

# What a plugin's methods are called with, and what to write instead of one that would have to be awaited: what they raise is only
# logged, so nobody would notice.
_METHODS = {
    "batch": (("the Batch",), "decorate it with contextlib.asynccontextmanager"),
    "refused": (("the Batch", "the error"), "write def"),
    "action": (("the app",), "write def, and return an ASGI app"),
}


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


def check_hook(name: str, hook: Callable[..., Any]) -> None:
    """Raise TypeError where ``hook`` cannot be called with a Batch: with ``limiter_errors="allow"`` nothing would be charged."""
    check_function(name, hook, "the Batch")


def check_plugin(plugin: object) -> None:
    """Raise TypeError where the methods of ``plugin`` cannot be those of a Plugin."""
    if isinstance(plugin, type):
        raise TypeError(f"plugins: {plugin!r} is a class: give an instance of it")
    for method, (arguments, remedy) in _METHODS.items():
        function = getattr(plugin, method, None)
        if function is None:
            continue
        name = f"plugins: {type(plugin).__name__}.{method}"
        check_function(name, function, *arguments)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{name}: nobody awaits it: {remedy}")
