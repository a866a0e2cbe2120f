"""Contract section 2, "Decided": a batch whose body is still being read holds one slot, which then is one of its N."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from batchkit import Batch, BatchEndpoint
from batchkit.limiter import Concurrency, Limiter, LimitMiddleware, Rate
from batchkit.limiter.stores.memory import MemoryStore
from tests.asgi import lifespan, request
from tests.batches import JSON, action, batch, envelope, messages, post
from tests.contract.test_admission import ANN, BOB, Counting, counting, limited, until
from tests.redises import RedisServer

__all__ = ["counting"]

pytestmark = pytest.mark.anyio


class Slow:
    """A POST of a batch whose body does not come: its first piece, and the rest when it is let go."""

    def __init__(self, app: ASGIApp, body: bytes, *, first: int = 1, headers: Any = ANN, **scope: Any) -> None:
        self.app, self.pieces, self.headers, self.more = app, [body[:first], body[first:]] if first else [body], headers, scope
        self.waits, self.go = anyio.Event(), anyio.Event()
        self.gone = False
        self.status, self.body = 0, b""

    async def run(self) -> None:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/batch",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"testserver"), JSON, *self.headers],
            "client": ("10.0.0.1", 1),
            **self.more,
        }
        with contextlib.suppress(OSError):
            await self.app(scope, self.receive, self.send)

    async def receive(self) -> Message:
        if len(self.pieces) == 1:
            self.waits.set()
            await self.go.wait()
        if self.gone or not self.pieces:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self.pieces.pop(0), "more_body": bool(self.pieces)}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message["body"]


@contextlib.asynccontextmanager
async def unfinished(*slow: Slow) -> AsyncIterator[None]:
    """These are being read; afterwards they are let go."""
    async with anyio.create_task_group() as group:
        for each in slow:
            group.start_soon(each.run)
            await each.waits.wait()
        yield
        for each in slow:
            each.go.set()


def tasks(count: int) -> bytes:
    return envelope(*[action("/tasks")] * count)


async def direct(app: ASGIApp, headers: Any = ANN) -> int:
    return (await request(app, "GET", "/tasks", headers=headers)).status


SLOTS = Concurrency(5, name="slots")


@pytest.mark.parametrize("first", [1, 0], ids=["a byte", "the header"])
async def test_unfinished_batches_hold_a_slot_each(counting: Counting, first: int) -> None:
    """“A batch whose body is still being read holds one slot”: of five slots the sixth finds none, whatever it is, and others' are their own."""
    async with limited(counting, SLOTS) as app:
        slow = [Slow(app, tasks(1), first=first) for _ in range(5)]
        async with unfinished(*slow):
            if first:
                assert counting.taken() == 5
                assert await direct(app) == 429
                answer = await post(app, tasks(1), headers=ANN)
                assert (answer.status, messages(answer.json())) == (429, ["slots: asked for 1 at once, 0 left"])
            for size in (0, 1, 40):
                more = Slow(app, tasks(1), first=size)
                more.go.set()
                if not first or size:
                    # What is refused is not read to its end.
                    more.pieces = [b"{", b"", b""] if size else [*more.pieces, b""]
                    await more.run()
                    assert (more.status, b"slots: asked for 1 at once, 0 left" in more.body) == (429, True)
            assert (await post(app, tasks(5), headers=BOB)).status == 200
        assert [each.status for each in slow] == [200] * 5
        assert counting.taken() == 0
        assert (await post(app, tasks(5), headers=ANN)).status == 200


@pytest.mark.parametrize("first", [1, 0])
async def test_the_slot_is_one_of_its_own(counting: Counting, first: int) -> None:
    """“… which then is one of its N”: so what may run at all may be uploaded slowly, and takes no more than it needs."""
    at_work, go = [], anyio.Event()

    async def task(request: Request) -> Response:
        at_work.append(1)
        await go.wait()
        return Response()

    async with limited(counting, SLOTS, routes=[Route("/tasks", task)]) as app:
        slow = Slow(app, tasks(5), first=first)
        async with unfinished(slow):
            assert (await post(app, envelope(*[5] * 4), headers=ANN)).status == 200
            slow.go.set()
            await until(lambda: len(at_work) == 5)
            await until(lambda: counting.taken() == 5)
            go.set()
        assert counting.taken() == 0


async def test_what_does_not_fit_beside_others_is_refused_with_its_own_slot_counted(counting: Counting) -> None:
    async with limited(counting, SLOTS) as app:
        slow = [Slow(app, tasks(4)), Slow(app, tasks(3)), Slow(app, tasks(1))]
        async with unfinished(*slow):
            slow[0].go.set()
            await until(lambda: slow[0].body != b"")
            assert (slow[0].status, b"slots: asked for 4 at once, 3 left" in slow[0].body) == (429, True)
            await until(lambda: counting.taken() == 2)
            slow[1].go.set()
            await until(lambda: slow[1].body != b"")
        assert [each.status for each in slow] == [429, 200, 200]
        assert counting.taken() == 0


async def test_it_holds_a_slot_of_each_limit_that_could_cover_it_and_keeps_those_that_do(counting: Counting) -> None:
    limits = [
        Concurrency(2, name="reads", methods=["GET"]),
        Concurrency(2, name="writes", methods=["POST"]),
        Concurrency(2, name="searches", limit="search"),
        Concurrency(1, name="purges", methods=["PURGE"]),
        Rate(3, 3600, name="requests"),
    ]
    async with limited(counting, *limits) as app:
        slow = Slow(app, tasks(2))
        async with unfinished(slow):
            assert counting.taken() == 3
            assert (await post(app, envelope(*[action("/tasks", "post")] * 2), headers=ANN)).status == 429
            # One of each is left, and a rate counts no upload.
            assert (await post(app, envelope(action("/tasks", "post")), headers=ANN)).status == 200
        assert slow.status == 200
        assert counting.taken() == 0


async def test_nothing_stays_taken_however_an_upload_ends(counting: Counting) -> None:
    """Broken, too large, too many, gone, cancelled: the slot is free again."""
    async with limited(counting, SLOTS, max_body_size=1000) as app:
        for body, status in ((b"{]", 400), (b"{" + b" " * 2000, 413), (envelope(*[5] * 51), 400), (tasks(6), 429)):
            slow = Slow(app, body)
            async with unfinished(slow):
                assert counting.taken() == 1
            assert (slow.status, counting.taken()) == (status, 0)
        slow = Slow(app, tasks(1))
        async with unfinished(slow):
            slow.gone = True
        assert (slow.status, counting.taken()) == (0, 0)
        with anyio.CancelScope() as scope:
            async with unfinished(Slow(app, tasks(1))):
                assert counting.taken() == 1
                scope.cancel()
                await anyio.sleep_forever()
        await until(lambda: counting.taken() == 0)


async def test_what_is_no_batch_holds_nothing(counting: Counting) -> None:
    """The checks of section 1 that need no body come first."""
    async with limited(counting, Concurrency(1, name="slots")) as app, unfinished(Slow(app, tasks(1))):
        for more, status in (
            ({"method": "GET"}, 405),
            ({"headers": [(b"content-type", b"text/plain")]}, 415),
            ({"headers": [(b"content-length", b"9999999")]}, 413),
        ):
            slow = Slow(app, tasks(1), **more)
            await slow.run()
            # The middleware counts a GET as the request that it is.
            assert slow.status == (429 if status == 405 else status)


async def test_a_body_that_is_there_is_judged_as_a_batch_even_if_there_is_no_slot(counting: Counting) -> None:
    """Section 1: what cannot be read is a 400 before any limit is asked; what is refused is told to plugins."""
    refused = []

    class Watching:
        def refused(self, batch: Batch, error: Exception) -> None:
            refused.append(len(batch.actions))

    async with (
        limited(counting, Concurrency(2, name="slots"), plugins=[Watching()]) as app,
        unfinished(Slow(app, tasks(1)), Slow(app, tasks(1))),
    ):
        assert (await post(app, b"{]", headers=ANN)).status == 400
        answer = await post(app, tasks(2), headers=ANN)
        assert (answer.status, messages(answer.json())) == (429, ["slots: asked for 2 at once, 0 left"])
        assert refused == [2]


async def test_a_limit_whose_key_asks_for_an_action_holds_slots_by_address(counting: Counting) -> None:
    """The POST itself may be none that the function can read."""
    limit = Concurrency(2, name="slots", key=lambda request: request.url.path.split("/")[2])
    async with limited(counting, limit) as app:
        slow = [Slow(app, envelope(action("/tasks/1"))) for _ in range(2)]
        async with unfinished(*slow):
            third = Slow(app, tasks(1))
            third.pieces.append(b"")
            third.go.set()
            await third.run()
            assert third.status == 429
        assert [each.status for each in slow] == [200, 200]
        assert counting.taken() == 0


async def test_a_key_that_is_none_holds_nothing(counting: Counting) -> None:
    limit = Concurrency(1, name="slots", key=lambda request: None)
    async with limited(counting, limit) as app, unfinished(*[Slow(app, tasks(3)) for _ in range(3)]):
        assert counting.taken() == 0


async def test_a_hook_of_the_hosts_that_asks_a_limiter(counting: Counting) -> None:
    """By `limiter.free(endpoint)` the limiter knows it."""
    limiter = Limiter([SLOTS], counting.store)

    @contextlib.asynccontextmanager
    async def hook(batch: Batch) -> AsyncIterator[None]:
        async with limiter(batch):
            yield

    async def task(request: Request) -> Response:
        return Response()

    around = [Middleware(LimitMiddleware, limiter=limiter, limiter_timeout=20)]
    app = Starlette(routes=[Route("/tasks", task)], middleware=around)
    endpoint = BatchEndpoint(policy="all", cost_hook=hook, limiter_timeout=20)
    for _ in range(2):
        limiter.free(endpoint)
    endpoint.mount_to(app)
    async with lifespan(app):
        slow = Slow(app, tasks(5))
        async with unfinished(slow):
            assert counting.taken() == 1
        assert slow.status == 200
        assert counting.taken() == 0


# A Redis


async def test_a_body_in_one_piece_asks_a_redis_no_more_than_before(redis: RedisServer) -> None:
    """One round trip for a batch; where the server sends the end of a known length in a message of its own, too."""
    body = tasks(2)
    length = (b"content-length", b"%d" % len(body))
    async with limited(Counting(redis.url, redis.taken), SLOTS) as app:
        await post(app, body, headers=ANN)
        for headers, version, calls in (([*ANN], "1.1", 4), ([*ANN, length], "2", 4), ([*ANN, length], "1.1", 2)):
            redis.ask("CONFIG RESETSTAT")
            slow = Slow(app, body, first=len(body), headers=headers, http_version=version)
            async with unfinished(slow):
                assert redis.taken() == (calls == 4)
            assert slow.status == 200
            # Taken, and given back.
            assert redis.calls("evalsha") == calls
        redis.ask("CONFIG RESETSTAT")
        assert (await post(app, body, headers=ANN)).status == 200
        assert redis.calls("evalsha") == 2


@pytest.mark.parametrize("errors", ["refuse", "allow"])
async def test_a_store_that_is_out_of_reach_while_a_body_is_read(own_redis: RedisServer, errors: Any) -> None:
    """“503 by default …, or let through and logged”: then it is still bounded by what this process knows of."""
    async with limited(Counting(own_redis.url, own_redis.taken), SLOTS, limiter_errors=errors, limiter_timeout=0.5) as app:
        own_redis.stop()
        slow = [Slow(app, tasks(1)) for _ in range(5)]
        if errors == "refuse":
            await slow[0].run()
            assert slow[0].status == 503
            return
        async with unfinished(*slow):
            sixth = Slow(app, tasks(1))
            await sixth.run()
            assert sixth.status == 429
        assert [each.status for each in slow] == [200] * 5


async def test_another_process_sees_it(redis: RedisServer) -> None:
    async with limited(Counting(redis.url, redis.taken), SLOTS) as one, limited(Counting(redis.url, redis.taken), SLOTS) as other:
        async with unfinished(*[Slow(one, tasks(1)) for _ in range(5)]):
            assert await direct(other) == 429
            slow = Slow(other, tasks(1))
            await slow.run()
            assert slow.status == 429
        assert await direct(other) == 200


def test_limits_without_slots_ask_nothing_of_an_upload() -> None:
    for limits, count in (([Rate(1, 1, name="a")], 0), ([Rate(1, 1, name="a"), SLOTS], 1)):
        assert len(BatchEndpoint(cost_hook=Limiter(limits, MemoryStore())).uploads) == count


async def test_a_slot_of_an_upload_is_given_back_where_the_hook_charges_nothing() -> None:
    """The batch's own actions met it in the middleware, and were 429."""
    limiter = Limiter([Concurrency(1, name="writes", methods=["POST"])])

    @contextlib.asynccontextmanager
    async def free_of_charge(batch: Batch) -> AsyncIterator[None]:
        yield

    async def write(request: Request) -> Response:
        return PlainTextResponse("written")

    app = Starlette(routes=[Route("/t", write, methods=["POST"])], middleware=[Middleware(LimitMiddleware, limiter=limiter)])
    endpoint = BatchEndpoint(policy="all", cost_hook=free_of_charge)
    limiter.free(endpoint)
    endpoint.mount_to(app)
    [result] = await batch(app, action("/t", "post"))
    assert result["body"] == "written"


@pytest.mark.parametrize("end", [False, True])
async def test_a_body_that_is_all_there_is_judged_as_a_batch_whatever_is_full(end: bool) -> None:
    """Hypercorn sends the end of a body in a message of its own. A batch of reads asks nothing of a limit on writes."""
    limiter = Limiter([Concurrency(1, name="writes", methods=["POST"])])

    async def read(request: Request) -> Response:
        if (write := request.query_params.get("write")) is not None:
            return PlainTextResponse(write)
        body = envelope(action("/t", data={"write": "read"}))
        messages: Any = [{"type": "http.request", "body": body, "more_body": end}]
        messages = iter([*messages, {"type": "http.request", "body": b""}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"testserver"), JSON, (b"content-length", b"%d" % len(body))]
        scope = {**request.scope, "method": "POST", "path": "/batch", "raw_path": b"/batch", "headers": headers}
        for key in ("path_params", "endpoint", "route"):
            scope.pop(key, None)
        await app(scope, receive, send)
        return PlainTextResponse(str(sent[0]["status"]))

    app = Starlette(
        routes=[Route("/t", read, methods=["GET", "POST"])], middleware=[Middleware(LimitMiddleware, limiter=limiter)]
    )
    BatchEndpoint(policy="all", cost_hook=limiter).mount_to(app)
    # While this write is at work, the limit is full.
    answer = await request(app, "POST", "/t", headers=[(b"host", b"testserver")])
    assert answer.body == b"200"
