"""Many mixed batches from many clients to one real server: nothing is left behind, nobody gets another's result."""

from __future__ import annotations

import random

import anyio
import httpx2
import pytest

from tests.batches import action
from tests.running.test_servers import EXPECTED, running

CLIENTS = 50
MOST_GROWTH = 5 * 1024  # KiB

# What costs a deadline is left to the smaller test: here the number counts.
PATHS = {path: status for path, status in EXPECTED.items() if status != 504}
BROKEN = [b"{", b"[]", b'{"data":{"actions":[]}}', b'{"data":{"actions":[1,2,3]},"x":1}', b"\xff" * 1000]


async def client(url: str, seed: int, batches: int) -> None:
    """Send batches in turn, some of them faulty as a whole and most in some of their actions, and check each result."""
    random_ = random.Random(seed)
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as connection:
        for number in range(batches):
            if random_.random() < 0.1:
                content, headers = random_.choice(BROKEN), {"content-type": "application/json"}
                assert (await connection.post(f"{url}/batch", content=content, headers=headers)).status_code == 400
                continue
            paths = random_.choices(list(PATHS), k=random_.randint(1, 5))
            mine = f"{seed}-{number}"
            actions = [*map(action, paths), action("/hello", "post", data={"mine": mine})]
            answer = await connection.post(f"{url}/batch", json={"data": {"actions": actions}})
            assert answer.status_code == 200
            results = answer.json()["data"]
            assert [result["status_code"] for result in results] == [*(PATHS[path] for path in paths), 200]
            assert mine in results[-1]["body"]["body"]


async def soak(url: str, batches: int) -> list[int]:
    """Tasks, threads and memory of the server after so many batches."""
    async with anyio.create_task_group() as tasks:
        for seed in range(CLIENTS):
            tasks.start_soon(client, url, seed, batches // CLIENTS)
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as connection:
        # An action's work may end after the answer: it is over when nothing more ends.
        left, before = [0], list[int]()
        while left[:2] != before[:2]:
            left, before = (await connection.get(f"{url}/alive")).json(), left
        return left


@pytest.mark.parametrize("batches", [300, pytest.param(10_000, marks=pytest.mark.soak)])
def test_nothing_is_left_behind(batches: int) -> None:
    with running("uvicorn, httptools") as url:
        tasks, threads, memory = anyio.run(soak, url, batches)
        more_tasks, more_threads, more_memory = anyio.run(soak, url, batches)
    assert more_tasks <= tasks
    assert more_threads <= threads
    assert more_memory <= memory + MOST_GROWTH
