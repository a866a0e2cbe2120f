"""What all tests share: every asynchronous one runs on asyncio and on trio."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from tests.redises import RedisServer, serving_redis


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop that the test runs on."""
    backend: str = request.param
    return backend


@pytest.fixture(params=[0, math.inf], ids=["trusted", "watched"])
def conduct(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions run in their task itself, as those of a route that has proved itself, or in one more group around each."""
    monkeypatch.setattr("batchkit.dispatch.TRUSTED_AFTER", request.param)


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisServer]:
    """One server for all tests that leave it running."""
    with serving_redis() as server:
        yield server


@pytest.fixture
def redis(redis_process: RedisServer) -> RedisServer:
    """A running server with nothing in it."""
    redis_process.ask("FLUSHALL")
    return redis_process


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that the test may stop."""
    with serving_redis() as server:
        yield server
