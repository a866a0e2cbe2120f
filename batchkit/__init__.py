"""batchkit: a ``POST /batch`` for Starlette and ASGI apps, as Asana has it."""

from batchkit.app import BatchEndpoint
from batchkit.errors import BatchError, InvalidBatch, LimiterUnavailable, TooManyRequests
from batchkit.marks import batchable, not_batchable
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
