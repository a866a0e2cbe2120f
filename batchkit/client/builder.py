"""Batches made by hand: requests that are sent together because the program says so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, Unpack

import httpx2
from anyio import create_task_group

from batchkit.client.aio import talk
from batchkit.client.conversation import Alone, Call, Conversation, conversation, fail
from batchkit.client.drafts import draft_of
from batchkit.client.server import Options, Server, read_url
from batchkit.client.sync import Talk
from batchkit.client.window import Gathering, Windows

__all__ = ["Batch", "BatchClient"]

# What one ``send_sync`` has under way at the same time: as much as a browser to one host.
THREADS = 6

Added = tuple[str, httpx2.URL, dict[str, Any]]


class BatchClient:
    """Makes batches by hand, for asyncio, trio and synchronous code::

        async with BatchClient("https://example.com/api/1.0") as client:
            batch = client.batch()
            batch.get("/tasks/1")
            batch.post("/tasks", json={"data": {"name": "Water the beans"}})
            task, added = await batch.send()

    ``client`` is what sends, with its headers, authentication and timeouts: an ``httpx2.AsyncClient`` for ``send``, an
    ``httpx2.Client`` for ``send_sync``; left out, one is made and closed again. ``url`` is that of the batch endpoint, by default
    ``/batch`` below ``base_url``; for the rest see ``Options``. Raises TypeError or ValueError for what they cannot be.
    """

    def __init__(
        self,
        base_url: httpx2.URL | str,
        client: httpx2.Client | httpx2.AsyncClient | None = None,
        *,
        url: httpx2.URL | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        base = read_url("base_url", base_url, "the API, like 'https://example.com/api/1.0'")
        self._base_url = base if base.raw_path.endswith(b"/") else base.copy_with(raw_path=base.raw_path + b"/")
        self._server = Server(self._base_url.join("batch") if url is None else url, **options)
        self._server.check_base_url(self._base_url)
        self._client = client
        self._owned = client is None

    def batch(self) -> Batch:
        """A batch with nothing in it yet."""
        return Batch(self)

    async def aclose(self) -> None:
        """Close the client that was made for ``send``."""
        if self._owned and isinstance(self._client, httpx2.AsyncClient):
            await self._client.aclose()

    def close(self) -> None:
        """Close the client that was made for ``send_sync``."""
        if self._owned and isinstance(self._client, httpx2.Client):
            self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sender(self) -> httpx2.Client:
        if self._client is None:
            self._client = httpx2.Client()
        if not isinstance(self._client, httpx2.Client):
            raise TypeError("send_sync() needs an httpx2.Client: give BatchClient one, or await send()")
        return self._client

    def _async_sender(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient()
        if not isinstance(self._client, httpx2.AsyncClient):
            raise TypeError("send() needs an httpx2.AsyncClient: give BatchClient one, or use send_sync()")
        return self._client


class Batch:
    """Requests to be sent together, in batches of up to ``max_actions``, side by side.

    What a batch cannot carry (see ``BatchTransport``) is sent beside them by itself. The keywords of each are those of
    ``httpx2.Client.build_request``: ``params``, ``json``, ``headers``, ``timeout`` … Redirects of actions are not followed.
    Raises TypeError for what is no URL, where it is given.
    """

    def __init__(self, client: BatchClient) -> None:
        self._client = client
        self._added: list[Added] = []

    def request(self, method: str, url: httpx2.URL | str, **keywords: Any) -> None:
        """Add a request to ``url``: a whole URL, or a path, joined to the base URL as ``httpx2.Client`` joins it to its own."""
        url = httpx2.URL(url)
        if url.is_relative_url:
            base = self._client._base_url
            url = base.copy_with(raw_path=base.raw_path + url.raw_path.lstrip(b"/"))
        self._added.append((method, url, keywords))

    def get(self, url: httpx2.URL | str, **keywords: Any) -> None:
        """Add a GET."""
        self.request("GET", url, **keywords)

    def head(self, url: httpx2.URL | str, **keywords: Any) -> None:
        """Add a HEAD."""
        self.request("HEAD", url, **keywords)

    def post(self, url: httpx2.URL | str, **keywords: Any) -> None:
        """Add a POST."""
        self.request("POST", url, **keywords)

    def put(self, url: httpx2.URL | str, **keywords: Any) -> None:
        """Add a PUT."""
        self.request("PUT", url, **keywords)

    def patch(self, url: httpx2.URL | str, **keywords: Any) -> None:
        """Add a PATCH."""
        self.request("PATCH", url, **keywords)

    def delete(self, url: httpx2.URL | str, **keywords: Any) -> None:
        """Add a DELETE."""
        self.request("DELETE", url, **keywords)

    async def send(self) -> list[httpx2.Response]:
        """Send what was added since the last time; the responses, in the order in which it was.

        Raises the first error there was, once all have their outcome: httpx2.RequestError in its kinds.
        """
        client = self._client._async_sender()
        plan = _Plan(client, self._added, self._client._server)

        async def alone(index: int) -> None:
            try:
                plan.outcomes[index] = await client.send(plan.requests[index])
            except Exception as error:
                plan.outcomes[index] = error

        async def together(batch: Gathering) -> None:
            try:
                await talk(plan.conversation(batch), lambda request: client.send(request, stream=True, follow_redirects=False))
            except Exception as error:
                fail(batch.calls, error)
            for index in plan.settle(batch):
                tasks.start_soon(alone, index)

        async with create_task_group() as tasks:
            for batch in plan.batches:
                tasks.start_soon(together, batch)
            for index in plan.alone:
                tasks.start_soon(alone, index)
        return plan.responses()

    def send_sync(self) -> list[httpx2.Response]:
        """As ``send``, without an event loop: up to six batches are under way at the same time, in threads that end with it."""
        client = self._client._sender()
        plan = _Plan(client, self._added, self._client._server)

        def alone(index: int) -> None:
            try:
                plan.outcomes[index] = client.send(plan.requests[index])
            except Exception as error:
                plan.outcomes[index] = error

        def together(batch: Gathering) -> None:
            talk = Talk(plan.conversation(batch), lambda request: client.send(request, stream=True, follow_redirects=False))
            try:
                while talk.step():
                    pass
            except Exception as error:
                fail(batch.calls, error)
            finally:
                talk.close()
            for index in plan.settle(batch):
                alone(index)

        with ThreadPoolExecutor(THREADS) as threads:
            work = [threads.submit(together, batch) for batch in plan.batches]
            work += [threads.submit(alone, index) for index in plan.alone]
        for future in work:
            future.result()
        return plan.responses()


class _Plan:
    """What becomes of what was added, which are taken away when all are answered: ``batches``, and by index in ``requests`` those
    that go ``alone``.
    """

    def __init__(self, client: httpx2.Client | httpx2.AsyncClient, added: list[Added], server: Server) -> None:
        self._server = server
        self.requests = [client.build_request(method, url, **keywords) for method, url, keywords in added]
        self._added = added
        self.outcomes: list[httpx2.Response | Exception | None] = [None] * len(self.requests)
        self.batches: list[Gathering] = []
        self.alone: list[int] = []
        self._places: dict[Call, int] = {}
        windows = Windows(server, Gathering)
        for index, request in enumerate(self.requests):
            draft = draft_of(request, server)
            if draft is None:
                self.alone.append(index)
                continue
            call = Call(draft)
            self._places[call] = index
            batch, opened = windows.join(draft.key, call)
            if opened:
                self.batches.append(batch)

    def conversation(self, batch: Gathering) -> Conversation:
        """What is to be said for a batch."""
        return conversation(batch.calls, self._server)

    def settle(self, batch: Gathering) -> list[int]:
        """Take over the outcomes of a batch; those that are to be sent alone are given back."""
        alone = []
        for call in batch.calls:
            index = self._places[call]
            if isinstance(call.outcome, Alone):
                alone.append(index)
                continue
            self.outcomes[index] = outcome = call.outcome
            if isinstance(outcome, httpx2.Response | httpx2.RequestError):
                outcome.request = self.requests[index]
            if isinstance(outcome, httpx2.Response):
                outcome.read()
        return alone

    def responses(self) -> list[httpx2.Response]:
        """All of them. Raises the first error."""
        for outcome in self.outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        del self._added[: len(self.outcomes)]
        return [outcome for outcome in self.outcomes if isinstance(outcome, httpx2.Response)]
