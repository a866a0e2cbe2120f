"""What all tests share: every asynchronous one runs on asyncio and on trio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser

from tests.chromium import CHROMIUM, browsing
from tests.nodes import find_node
from tests.postgres import PostgresServer, serving_postgres
from tests.redises import RedisServer, serving_redis
from tests.trackers import Tracker, serving_tracker

# What a property is held to does not depend on how fast the machine is, nor on the run.
settings.register_profile("tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop that the test runs on."""
    backend: str = request.param
    return backend


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests that leave it running."""
    with serving_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives the URL of one more empty database; the test runs with each kind."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.new_database
    numbers = count()
    return lambda: f"sqlite:///{tmp_path / f'tracker{next(numbers)}.db'}"


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    """The URL of an empty database."""
    return new_database()


@pytest.fixture
def tracker(database: str, tmp_path: Path) -> Iterator[Tracker]:
    """The example app with nothing but its demo data, served without limits."""
    with serving_tracker(database, tmp_path / "files") as tracker:
        yield tracker


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with the packages of its scripts."""
    return find_node()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for each module; without one its tests are skipped, but on CI they fail."""
    if CHROMIUM is None:
        message = "Chromium is not installed: apt-get install chromium"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with browsing() as running:
        yield running
