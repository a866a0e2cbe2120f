"""The ready limiter: rates and concurrency, for batches and direct requests, in memory or in a Redis (protocol.md#admission)."""

from batchkit.limiter.keys import by_address, by_client, by_token
from batchkit.limiter.limiter import Limiter
from batchkit.limiter.limits import Concurrency, Rate
from batchkit.limiter.middleware import LimitMiddleware
from batchkit.limiter.presets import asana_limits

__all__ = ["Concurrency", "LimitMiddleware", "Limiter", "Rate", "asana_limits", "by_address", "by_client", "by_token"]
