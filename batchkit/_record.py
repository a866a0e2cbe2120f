"""Record: what the library knows of an action, from its input over its route to its result."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from batchkit.errors import InvalidAction
from batchkit.model import ACTION_KEY, Action, Result

if TYPE_CHECKING:
    from batchkit._routing.find import Found
    from batchkit._schemas.validation import Node

__all__ = ["RUNNING", "Record", "record_of"]


@dataclass(eq=False, slots=True)
class Record(Action):
    """The one record of an action that goes the whole way. Hooks, plugins and handlers see the ``Action`` that it is.

    Of the request: ``scope`` (None before and after), ``raw_path``, ``query_string`` and ``body`` (None where the method has
    none); ``data`` is the JSON that came; ``host`` its ``Host`` field.
    Of the verdict: ``app`` answers the action, within ``timeout`` seconds; ``found`` is its way through the host's routers, at
    whose end a guard answers it with ``refusal`` if there is one, or hands it to the route if its data meets ``schema``;
    ``refused`` says that a guard has answered it.
    Of its result: ``is_json`` where the body is known to stand in the answer as it is.
    """

    scope: Scope | None = None
    raw_path: bytes = b""
    query_string: bytes = b""
    body: bytes | None = None
    data: bytes = b""
    host: bytes | None = None
    app: ASGIApp | None = None
    timeout: float | None = None
    found: Found | None = None
    refusal: InvalidAction | None = None
    schema: Node | None = None
    refused: bool = False
    is_json: bool = False

    def refuse(self, result: Result) -> None:
        """Give the action its result before anything runs."""
        self.result = result
        self.runs = False
        self.app = None
        self.scope = None


class Running(Protocol):
    """The request that an action is, at work."""

    @property
    def action(self) -> Record: ...

    def carries(self, scope: Scope, receive: Receive | None = None, send: Send | None = None) -> bool:
        """Whether a request is this one still, though middleware has built its scope anew."""


# Known also where a middleware has built the scope anew, without the key: see the guard. What else runs in the context of an
# action, a worker or a request of its own that middleware starts, is nobody's action.
RUNNING: ContextVar[Running | None] = ContextVar("batchkit.action", default=None)


def record_of(scope: Scope, receive: Receive | None = None, send: Send | None = None) -> Record | None:
    """The record of the action that a request is, even if a middleware has built its scope anew; None if it is no action."""
    action: Record | None = scope.get(ACTION_KEY)
    if action is None and (running := RUNNING.get()) is not None and running.carries(scope, receive, send):
        return running.action
    return action
