"""The transport for ``httpx2.Client``: threads that call at the same moment share a batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from threading import Condition, Lock
from time import sleep
from typing import Unpack

import httpx2

from batchkit.client.conversation import Alone, Call, Chunk, Conversation, Send, Wait, conversation, fail
from batchkit.client.drafts import Draft, draft_of
from batchkit.client.server import Options, Server, check_request
from batchkit.client.window import Gathering, Windows

__all__ = ["BatchTransport", "Talk"]


class Talk:
    """A conversation that goes on step by step, one at a time, in whatever threads; ``send`` sends its requests."""

    def __init__(self, conversation: Conversation, send: Callable[[httpx2.Request], httpx2.Response]) -> None:
        self._conversation = conversation
        self._send = send
        self._next: Send | Chunk | Wait | None = None
        self._response: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def step(self) -> bool:
        """Do the next step, and have it thought over. False at the end; raises what the step raises, or the conversation."""
        reply: httpx2.Response | bytes | None = None
        if isinstance(self._next, Send):
            reply = self._response = self._send(self._next.request)
            self._chunks = self._response.iter_bytes()
        elif isinstance(self._next, Wait):
            sleep(self._next.seconds)
        elif self._next is not None:
            reply = next(self._chunks, None)
        try:
            self._next = self._conversation.send(reply)
        except StopIteration:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Leave the conversation where it is."""
        self._conversation.close()
        if self._response is not None:
            self._response.close()


class _Batch(Gathering):
    """A batch in which a thread is at work, or none: then any that waits for its outcome may go on. One lock guards them all."""

    talk: Talk

    def __init__(self, key: Hashable, lock: Lock) -> None:
        super().__init__(key)
        self.changed = Condition(lock)
        # Who opens it works on it until its window ends.
        self.at_work = True

    def close(self) -> None:
        super().close()
        self.changed.notify_all()

    def advance(self) -> None:
        """Work on it until one more call may have its outcome, and to the end where all have theirs."""
        try:
            while self.talk.step() and all(call.outcome is not None for call in self.calls):
                pass
        except Exception as error:
            self.talk.close()
            fail(self.calls, error)
        except BaseException:
            self.talk.close()
            fail(self.calls, httpx2.ReadError("The thread that read the answer to this batch was interrupted"))
            raise


class BatchTransport(httpx2.BaseTransport):
    """Requests that threads make at the same moment travel as one batch: ``httpx2.Client(transport=BatchTransport(url=…))``.

    ``url`` is that of the batch endpoint; ``transport`` is what really sends (an ``httpx2.HTTPTransport``); ``window`` the time
    in seconds in which requests wait for others to share a batch with; for the rest see ``Options``. Raises TypeError or
    ValueError for what they cannot be. A transport belongs to one client.

    **What travels in a batch**: a GET, HEAD or DELETE without a body, a POST, PUT or PATCH with a JSON object (in the asana
    dialect just ``{"data": {…}}``, as ``json=`` writes it), to a path below the base path, where the action is byte for byte
    the request. All others go out by themselves, unchanged: uploads, forms and generators, other hosts, header fields that
    an action cannot carry (``Range``, ``If-*``, ``Idempotency-Key`` …), queries that ``data`` and ``options`` cannot spell, a
    lone request, and what the server refused in a batch, which is remembered by method and kind of path; so is a GET whose
    answer was too large for a batch, and is asked for again by itself. ``extensions={"batch": False}`` keeps a request out, one
    whose answer is to be streamed, say. A batch holds requests with the same header fields and timeout; more than
    ``max_actions`` are split and sent side by side.

    **What comes back** is an ordinary response. It has the header fields that the server shows in results
    (``result_headers="*"`` there shows all), besides ``content-type``, ``content-length``, ``date`` and ``server``; that of a
    HEAD says neither type nor length. JSON is ``application/json``, whatever kind of JSON it was, and in a streamed answer it has
    no spaces between its tokens; an empty answer is ``{}``, but for HEAD, 204, 304 and redirects; text without a content type is
    a JSON string. Cookies that actions set come with the first response of their batch, and so into the client's jar. Only
    batches of GETs and HEADs are streamed, as an action that ends after a stream has begun loses its cookies, and with
    ``stream=False`` none is.

    **What goes wrong**: an action that is overdue is a 504, and is never repeated, as nobody knows whether it took effect. An
    answer that breaks off raises for what had not arrived, and only there. A batch that is refused for now (429 with
    ``Retry-After``) waits and is sent again, within ``max_wait``; a 5xx is the response of all its requests; refused otherwise,
    or without a batch endpoint, they go out by themselves, and where the set-up is why (the URL, the dialect, the maxima) a
    warning of the logger ``batchkit`` says so, once for each status. The client's timeouts hold for the batch: in a streamed
    answer ``read`` is the time without a result.
    """

    def __init__(
        self,
        transport: httpx2.BaseTransport | None = None,
        *,
        url: httpx2.URL | str,
        window: float = 0.002,
        **options: Unpack[Options],
    ) -> None:
        self._server = Server(url, window=window, **options)
        self._transport = httpx2.HTTPTransport() if transport is None else transport
        self._lock = Lock()
        self._windows = Windows(self._server, lambda key: _Batch(key, self._lock))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The response to ``request``. Raises what the inner transport raises, and httpx2.RemoteProtocolError."""
        check_request(self, request)
        draft = draft_of(request, self._server)
        outcome = None if draft is None else self._outcome(draft)
        if isinstance(outcome, httpx2.Response):
            return outcome
        if isinstance(outcome, Exception):
            raise outcome
        return self._transport.handle_request(request)

    def close(self) -> None:
        """Close the inner transport, and with it the connections of what is under way."""
        self._transport.close()

    def _outcome(self, draft: Draft) -> httpx2.Response | Exception | Alone:
        call = Call(draft)
        with self._lock:
            batch, opened = self._windows.join(draft.key, call)
        try:
            if opened:
                self._gather(batch)
            while True:
                with self._lock:
                    batch.changed.wait_for(lambda: call.outcome is not None or not batch.at_work)
                    if call.outcome is not None:
                        return call.outcome
                    batch.at_work = True
                try:
                    batch.advance()
                finally:
                    self._rest(batch)
        finally:
            with self._lock:
                call.left = True
                if not batch.at_work and all(call.left for call in batch.calls):
                    batch.talk.close()

    def _gather(self, batch: _Batch) -> None:
        try:
            with self._lock:
                batch.changed.wait_for(lambda: batch.gathered, self._server.window)
        finally:
            with self._lock:
                self._windows.close(batch)
            batch.talk = Talk(conversation(batch.calls, self._server), self._transport.handle_request)
            self._rest(batch)

    def _rest(self, batch: _Batch) -> None:
        with self._lock:
            batch.at_work = False
            batch.changed.notify_all()
