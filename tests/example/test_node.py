"""Asana's own Node client lives on the example app as on the original. It asks for gzip, and here it gets it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware.gzip import GZipMiddleware

from batchkit.limiter import Rate
from example_app.demo_data import WORKSPACE
from tests.nodes import named_tests, passed_tests
from tests.trackers import serving_tracker


def inside(app: Any) -> Any:
    """Compressing is the app's own middleware: the batch comes through it, and so does each action."""
    app.add_middleware(GZipMiddleware, minimum_size=1)
    return app


AROUND: list[Callable[[Any], Any]] = [inside, partial(GZipMiddleware, minimum_size=1)]


@pytest.mark.parametrize("around", AROUND, ids=["gzip inside", "gzip around"])
def test_the_ordinary_workflow(node: str, database: str, tmp_path: Path, around: Callable[[Any], Any]) -> None:
    with serving_tracker(database, tmp_path, around=around) as tracker:
        names = passed_tests(node, "workflow.mjs", tracker.url)
        assert names == named_tests("workflow.mjs")
        # One for each: three mixed ones, two of the wrong size, one with a wrong token.
        assert tracker.wire.seen.count("POST /api/1.0/batch") == 6


def test_an_exhausted_limit_refuses_the_whole_batch_with_one_request_on_the_wire(
    node: str, database: str, tmp_path: Path
) -> None:
    limits = [Rate(5, 3600, name="requests")]
    with serving_tracker(database, tmp_path, limits=limits, around=inside) as tracker:
        before = tracker.rows()
        assert passed_tests(node, "refused.mjs", tracker.url, str(WORKSPACE)) == ["an exhausted limit"]
        assert tracker.wire.seen == ["POST /api/1.0/batch"]
        assert tracker.rows() == before
