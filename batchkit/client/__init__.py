"""A Python client that batches by itself: ordinary httpx2 requests that are made at the same moment travel as one batch.

::

    import httpx2
    from batchkit.client import AsyncBatchTransport

    transport = AsyncBatchTransport(url="https://example.com/api/1.0/batch")
    async with httpx2.AsyncClient(transport=transport, base_url="https://example.com/api/1.0") as client: ...

``BatchTransport``, ``AsyncBatchTransport``: the ``transport=`` of an ``httpx2.Client`` and ``AsyncClient``. ``BatchClient``: its
``batch()`` is a ``Batch``, requests that are sent together because you say so. ``Options``: the keywords that all share.
It needs httpx2: ``pip install 'batchkit-asgi[client]'``.
"""

try:
    import httpx2 as httpx2
except ImportError as error:
    raise ImportError("batchkit.client needs httpx2: pip install 'batchkit-asgi[client]'") from error

from batchkit.client.aio import AsyncBatchTransport
from batchkit.client.builder import Batch, BatchClient
from batchkit.client.server import Options
from batchkit.client.sync import BatchTransport

__all__ = ["AsyncBatchTransport", "Batch", "BatchClient", "BatchTransport", "Options"]
