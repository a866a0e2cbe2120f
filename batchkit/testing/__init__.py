"""For a host's own tests: post batches, hold actions to what they are alone, and a cost hook to what it promises to clients."""

from batchkit.testing.batches import ActionResult, BatchRefused, action, post_batch
from batchkit.testing.cost_hook import CostHookError, check_cost_hook
from batchkit.testing.parity import assert_same_as_alone

__all__ = [
    "ActionResult",
    "BatchRefused",
    "CostHookError",
    "action",
    "assert_same_as_alone",
    "check_cost_hook",
    "post_batch",
]
