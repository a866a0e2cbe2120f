"""Batch, Action and Result: the records that travel the whole way and that hooks see."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

__all__ = ["Action", "Batch", "Result", "current_action"]

ACTION_KEY = "batchkit.action"

# What an action's method may be (protocol.md#an-action).
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# Those whose data is the query, as their requests have no body.
BODYLESS = frozenset({"GET", "HEAD", "DELETE"})


class Result(Struct, frozen=True, eq=False, gc=False):
    """What an action was answered: the host's own answer, or batchkit's where the action did not run to its end.

    ``status_code`` as sent; ``raw_headers`` all header fields as sent, names in lower case; ``body`` the content in bytes,
    with a gzip or deflate ``Content-Encoding`` undone; ``duration`` in seconds from the start of the action to the last
    byte of its answer or to its failure, 0.0 for an action that did not run.
    """

    status_code: int
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes
    duration: float = 0.0

    @property
    def headers(self) -> Headers:
        """The header fields, read by name without regard to case."""
        return Headers(raw=self.raw_headers)


@dataclass(eq=False, slots=True)
class Action:
    """One entry of a batch, from its input to its result (protocol.md#an-action).

    For hooks and handlers, to be read and never written: ``index`` its place in the batch, from 0; ``method`` in upper
    case, empty where it has no usable one; ``path`` the decoded path of the request it makes, with the base path; ``route``
    the template of the route it was resolved to (``/tasks/{gid}``), None where there is none; ``cost`` in requests;
    ``limit`` the name given by ``@batchable(limit=…)``; ``runs`` False where it already had its result at admission;
    ``result`` once there is one.

    ``on_end`` is for the cost hook to set: called with the action as its work ends, that after its result included. So slots
    are given back one by one (protocol.md#admission); it must not wait. An action that does not run never ends: see ``runs``.
    ``charged_by`` are the limiters that have charged it, so that their middleware need not. ``below`` is True where nobody can
    tell more of its route than that it is ``route`` or one below it; with None as ``route``, any of the host's.

    ``batch_context`` is for plugins: the context variables of the batch's POST as its actions began. An action itself starts
    without them, as it would alone; its plugin carries over what it should have, ``tenant.set(action.batch_context[tenant])``.
    """

    index: int
    method: str = ""
    path: str = ""
    route: str | None = None
    cost: int = 1
    limit: str | None = None
    runs: bool = True
    result: Result | None = None
    on_end: Callable[[Action], None] | None = None
    charged_by: tuple[object, ...] = ()
    below: bool = False
    batch_context: Context | None = None


class Batch(Struct, eq=False):
    """One ``POST /batch`` with its actions in order, as the cost hook and plugins see it.

    ``scope`` is the ASGI scope of the POST; ``uploads`` is what limiters have held while its body was read.
    """

    scope: Scope
    actions: Sequence[Action]
    name: str | None = None
    uploads: Sequence[object] = ()

    @property
    def id(self) -> str:
        """An opaque name for logs."""
        if self.name is None:
            self.name = secrets.token_hex(8)
        return self.name

    @property
    def request(self) -> Request:
        """The POST itself. Its body is already read."""
        return Request(self.scope)

    @property
    def cost(self) -> int:
        """What the batch costs in requests: the sum over all actions, refused ones included (protocol.md#admission)."""
        return sum(action.cost for action in self.actions)


def current_action(scope: Mapping[str, Any]) -> Action | None:
    """The action of a batch that this request is, or None for a request of its own.

    ``scope`` is an ASGI scope or a Starlette ``Request``. A client cannot forge the answer: it is no header.
    """
    return scope.get(ACTION_KEY)
