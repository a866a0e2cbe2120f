"""batchkit: a ``POST /batch`` for Starlette, FastAPI and other ASGI apps, as Asana has it.

A client posts up to ten actions in one request. Each runs as a request of its own through the whole app, all at the same
time, and the answer holds one result per action, in order::

    from batchkit import BatchEndpoint, batchable

    @batchable
    async def get_task(request): ...

    app = Starlette(routes=[Route("/tasks/{gid}", get_task)])
    BatchEndpoint().mount_to(app, "/batch")

``BatchEndpoint``: the endpoint; its keywords are all its configuration. ``batchable``, ``not_batchable``: which routes may run.
``current_action``: inside a handler or middleware, the action that a request is. ``Batch``, ``Action``, ``Result``: what cost
hooks and plugins see, ``Plugin``: what a plugin is. ``BatchError`` and its kinds: ``InvalidBatch``, ``TooManyRequests`` and
``LimiterUnavailable``; a cost hook raises the second to refuse a batch.

Beside it: ``batchkit.limiter`` charges a batch as a whole, ``batchkit.testing`` is for the tests of an app, ``batchkit.openapi``
describes the endpoint, ``batchkit.contrib.opentelemetry`` traces and counts, ``batchkit.client`` is a client that batches by
itself.
"""

from batchkit._checks import installation  # noqa: F401  first, as what follows may not fail before it is used
from batchkit._routing.marks import batchable, not_batchable
from batchkit.endpoint import BatchEndpoint
from batchkit.errors import BatchError, InvalidBatch, LimiterUnavailable, TooManyRequests
from batchkit.model import Action, Batch, Result, current_action
from batchkit.settings import Plugin

__all__ = [
    "Action",
    "Batch",
    "BatchEndpoint",
    "BatchError",
    "InvalidBatch",
    "LimiterUnavailable",
    "Plugin",
    "Result",
    "TooManyRequests",
    "batchable",
    "current_action",
    "not_batchable",
]
