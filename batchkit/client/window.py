"""The window in which requests find the others that they may share a batch with."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from batchkit.client.conversation import Call
from batchkit.client.server import Server

__all__ = ["Gathering", "Windows"]


class Gathering:
    """The calls that will be one batch; ``gathered`` once no more can join them."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.calls: list[Call] = []
        self.size = 0
        self.gathered = False

    def close(self) -> None:
        """Let no more calls join."""
        self.gathered = True


G = TypeVar("G", bound=Gathering)


class Windows(Generic[G]):
    """The batches that calls can join, one for each key."""

    def __init__(self, server: Server, new: Callable[[Hashable], G]) -> None:
        self._server = server
        self._new = new
        self._open: dict[Hashable, G] = {}

    def join(self, key: Hashable, call: Call) -> tuple[G, bool]:
        """The batch of this key that the call is now in, and whether it is the first there, who ends the window."""
        batch = self._open.get(key)
        size = len(call.draft.json) + 1
        if batch is not None and self._server.envelope + batch.size + size > self._server.max_body_size:
            self.close(batch)
            batch = None
        opened = batch is None
        if batch is None:
            batch = self._open[key] = self._new(key)
        batch.calls.append(call)
        batch.size += size
        if len(batch.calls) >= self._server.max_actions:
            self.close(batch)
        return batch, opened

    def close(self, batch: G) -> None:
        """End the window of a batch."""
        if not batch.gathered:
            del self._open[batch.key]
            batch.close()
