"""The allow-list that stands for the routes of a host which cannot be read (protocol.md#an-action)."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, Router
from starlette.types import Receive, Scope, Send

from batchkit._routing.marks import batchable

__all__ = ["allow_list"]


class Allowed(Route):
    """A route of a host whose own routes cannot be read, by a template that the host's developer allows."""

    def __init__(self, method: str | None, template: str) -> None:
        super().__init__(template, _allowed, methods=[] if method is None else [method])

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """No match for another method: only the host could say whether it has that one."""
        match, child_scope = super().matches(scope)
        return (match, child_scope) if match is Match.FULL else (Match.NONE, {})


@batchable
async def _allowed(request: Request) -> Response:
    raise NotImplementedError("stands for an endpoint of the host, which runs in its place")


def allow_list(templates: Iterable[tuple[str | None, str]]) -> Router:
    """The routes of such a host; what none of them matches is refused (protocol.md#an-action)."""
    return Router([Allowed(method, template) for method, template in templates], redirect_slashes=False, default=_unknown)


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError("stands for whatever the host would do")
