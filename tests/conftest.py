"""What all tests share: every asynchronous one runs on asyncio and on trio."""

from __future__ import annotations

import math

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop that the test runs on."""
    backend: str = request.param
    return backend


@pytest.fixture(params=[0, math.inf], ids=["trusted", "watched"])
def conduct(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions run in their task itself, as those of a route that has proved itself, or in one more group around each."""
    monkeypatch.setattr("batchkit.dispatch.TRUSTED_AFTER", request.param)
