"""What can be seen of a plugin before it is ever called."""

from __future__ import annotations

import inspect

from batchkit._arguments import check_function

__all__ = ["check_plugin"]

# What a plugin's methods are called with, and what to write instead of one that would have to be awaited: what they raise is only
# logged, so nobody would notice.
_METHODS = {
    "batch": (("the Batch",), "decorate it with contextlib.asynccontextmanager"),
    "refused": (("the Batch", "the error"), "write def"),
    "action": (("the app",), "write def, and return an ASGI app"),
}


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
