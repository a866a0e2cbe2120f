"""``python -m tests.benchmarks``: the figures of the README, as ratios measured side by side in one run.

Absolute times belong to the machine; the ratios are what to compare.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchkit import BatchEndpoint, batchable

ACTIONS = 10
ROUNDS = 31
CALLS = 60
MIB = 2**20


@batchable
async def get_task(request: Request) -> Response:
    gid = request.path_params["gid"]
    # Asana's compact record of a task.
    return JSONResponse(
        {"data": {"gid": gid, "resource_type": "task", "resource_subtype": "default_task", "name": "Write the benchmark"}}
    )


LARGE = JSONResponse({"data": "x" * (MIB - 12)})


@batchable
async def get_large(request: Request) -> Response:
    return Response(bytes(bytearray(LARGE.body)), media_type="application/json")


@batchable(schema={"properties": {"tags": {"type": "array", "items": {"type": "string"}}}})
async def checked(request: Request) -> Response:
    return Response()


async def by_hand(request: Request) -> Response:
    """What one would write without a library: the same requests in a bare anyio task group, JSON by the standard library."""
    actions = (await request.json())["data"]["actions"]
    results: list[Any] = [None] * len(actions)

    async def one(index: int, action: dict[str, Any]) -> None:
        status, body = await call(action["method"].upper(), action["relative_path"], request.headers.raw.copy())
        results[index] = {"status_code": status, "headers": {}, "body": json.loads(body)}

    async with anyio.create_task_group() as tasks:
        for index, action in enumerate(actions):
            tasks.start_soon(one, index, action)
    return JSONResponse({"data": results})


app = Starlette(
    routes=[
        Route("/by-hand", by_hand, methods=["POST"]),
        Route("/tasks/{gid}", get_task),
        Route("/large", get_large),
        Route("/checked", checked, methods=["POST"]),
    ]
)
BatchEndpoint().mount_to(app, "/batch")

HEADERS = [(b"host", b"localhost"), (b"user-agent", b"benchmark"), (b"accept", b"*/*"), (b"authorization", b"Bearer token")]
Answer = tuple[int, bytes]


async def call(method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> Answer:
    """One request to the host app, as a server would call it."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1234),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    status = 0
    chunks: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            chunks.append(message.get("body", b""))

    await app(scope, receive, send)
    return status, b"".join(chunks)


def envelope(paths: list[str]) -> bytes:
    return json.dumps({"data": {"actions": [{"relative_path": path, "method": "get"} for path in paths]}}).encode()


PATHS = [f"/tasks/{index}" for index in range(ACTIONS)]
BATCH = envelope(PATHS)
JSON_HEADERS = [*HEADERS, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(BATCH))]


async def batched() -> None:
    status, _ = await call("POST", "/batch", JSON_HEADERS, BATCH)
    assert status == 200


async def grouped() -> None:
    answers: list[Answer | None] = [None] * ACTIONS

    async def one(index: int) -> None:
        answers[index] = await call("GET", PATHS[index], HEADERS.copy())

    async with anyio.create_task_group() as tasks:
        for index in range(ACTIONS):
            tasks.start_soon(one, index)


async def grouped_json() -> None:
    """As ``grouped``, with the JSON of the batch read and written by the standard library, outside of any request."""
    actions = json.loads(BATCH)["data"]["actions"]
    results: list[Any] = [None] * len(actions)

    async def one(index: int, action: dict[str, Any]) -> None:
        status, body = await call(action["method"].upper(), action["relative_path"], HEADERS.copy())
        results[index] = {"status_code": status, "headers": {}, "body": json.loads(body)}

    async with anyio.create_task_group() as tasks:
        for index, action in enumerate(actions):
            tasks.start_soon(one, index, action)
    json.dumps({"data": results}).encode()


async def handmade() -> None:
    status, _ = await call("POST", "/by-hand", JSON_HEADERS, BATCH)
    assert status == 200


async def cpu(function: Callable[[], Awaitable[None]]) -> float:
    before = time.process_time()
    for _ in range(CALLS):
        await function()
    return (time.process_time() - before) / CALLS


async def ratio(numerator: Callable[[], Awaitable[None]], denominator: Callable[[], Awaitable[None]]) -> str:
    """Median and quartiles of the ratio of CPU times, the two alternated."""
    ratios = []
    for _ in range(ROUNDS):
        ratios.append(await cpu(numerator) / await cpu(denominator))
    low, median, high = statistics.quantiles(ratios, n=4)
    return f"{median:.2f}  ({low:.2f} to {high:.2f})"


def hostile_bodies() -> dict[str, bytes]:
    """Bodies of just under 1 MiB, each made to be dear in its own way."""

    def fill(start: str, item: str, end: str) -> bytes:
        return (start + item * ((MIB - len(start) - len(end)) // len(item)) + end).encode()

    def ten(more: str, method: str = "get", path: str = "/tasks/1") -> bytes:
        one = f'{{"relative_path":"{path}","method":"{method}",{more}}}'
        return ('{"data":{"actions":[' + ",".join([one] * 10) + "]}}").encode()

    keys = ",".join(f'"k{index:06}":1' for index in range(80_000))
    action = '{"data":{"actions":[{"relative_path":"/tasks/1","method":"get",'
    return {
        "empty actions": fill('{"data":{"actions":[0', ",0", "]}}"),
        "empty objects as actions": fill('{"data":{"actions":[{}', ",{}", "]}}"),
        "deep arrays": fill("", "[", ""),
        "deep arrays in data": fill(action + '"data":{"a":', "[", ""),
        "deep arrays, closed": (action + '"data":{"a":' + "[" * 900 + "]" * 900 + "}}]}}").encode(),
        "unknown keys at the top": ("{" + keys + "}").encode(),
        "unknown keys in an action": (action + keys + "}]}}").encode(),
        "wrong fields": fill(action + '"options":{"fields":[0', ",0", "]}}]}}"),
        "wrong fields, nested": fill(action + '"options":{"fields":[{}', ",[]", "]}}]}}"),
        "ten actions, each wrong at its end": ten('"options":{"fields":[' + '"",' * 21_000 + "1]}"),
        "ten actions, each just short enough to explain": ten('"options":{"fields":[' + '"",' * 600 + "1]}"),
        "ten long queries": ten('"data":{' + ",".join(f'"{index}":"/"' for index in range(1_400)) + "}"),
        "ten long lists of options": ten('"options":{"fields":[' + ",".join(['"/////////////"'] * 1000) + "]}"),
        "ten bodies for a schema": ten('"data":{"tags":[' + ",".join(["{}"] * 1000) + "]}", "post", "/checked"),
        "ten large bodies for a schema": ten('"data":{"tags":[' + ",".join(["{}"] * 30_000) + "]}", "post", "/checked"),
        "a method of a megabyte": fill('{"data":{"actions":[{"relative_path":"/","method":"', "x", '"}]}}'),
        "a path of a megabyte": fill('{"data":{"actions":[{"method":"get","relative_path":"', "/..", '"}]}}'),
        "a path that is an array": fill('{"data":{"actions":[{"method":"get","relative_path":[0', ",0", "]}]}}"),
        "a query of a megabyte": (action + '"data":{' + keys + "}}]}}").encode(),
        "a query array": fill(action + '"data":{"a":[0', ",0", "]}}]}}"),
        "escapes": fill(action + '"data":{"a":"', "\\u00e9", '"}}]}}'),
        "digits": fill(action + '"data":{"a":', "9", "}}]}}"),
        "digits in options": fill(action + '"options":{"limit":', "9", "}}]}}"),
        "an exponent": fill(action + '"data":{"a":1e', "9", "}}]}}"),
        "white space": fill("", " ", ""),
        "not UTF-8": b"\xff" * (MIB - 1),
    }


async def hostile() -> list[tuple[float, str, int]]:
    rows = []
    for name, body in hostile_bodies().items():
        assert len(body) <= MIB, name
        times = []
        for _ in range(3):
            before = time.process_time()
            status, _ = await call("POST", "/batch", JSON_HEADERS[:-1], body)
            times.append(time.process_time() - before)
        rows.append((min(times) * 1000, name, status))
    return sorted(rows, reverse=True)


async def memory() -> float:
    """The peak while ten results of the largest size are gathered and written, answer included, by their sum."""
    body = envelope(["/large"] * ACTIONS)
    await call("POST", "/batch", JSON_HEADERS[:-1], body)
    tracemalloc.start()
    await call("POST", "/batch", JSON_HEADERS[:-1], body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / (ACTIONS * len(LARGE.body))


async def main() -> None:
    names = ("starlette", "anyio", "msgspec", "jsonschema")
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names))
    print(f"CPU, a batch of {ACTIONS} trivial actions in process, {ROUNDS} rounds alternated: median (quartiles)")
    print(f"  against the same requests in a bare anyio task group, no JSON     {await ratio(batched, grouped)}")
    print(f"  against these and the JSON of the batch, outside of any request   {await ratio(batched, grouped_json)}")
    print(f"  against a POST endpoint written by hand that does both            {await ratio(batched, handmade)}")
    print(f"Peak memory of {ACTIONS} results at the cap, by the sum of their sizes: {await memory():.2f}")
    print("CPU of hostile bodies of 1 MiB, in ms (best of 3), with the batch's status:")
    for milliseconds, name, status in await hostile():
        print(f"  {milliseconds:7.1f}  {status}  {name}")


if __name__ == "__main__":
    asyncio.run(main())
