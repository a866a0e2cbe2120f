"""Asana's own Node client lives on the example app as on the original. It asks for gzip, and here it gets it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware.gzip import GZipMiddleware

from batchkit.limiter import Rate
from example_app.demo_data import WORKSPACE
from tests.trackers import serving_tracker

SCRIPTS = Path(__file__).parent / "node"


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with the client beside the scripts; without Node the test is skipped, but on CI it fails."""
    binary, npm = shutil.which("node"), shutil.which("npm")
    if not binary or not npm:
        message = "Node is not installed: apt-get install nodejs npm"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
        raise AssertionError
    installed, wanted = SCRIPTS / "node_modules" / ".package-lock.json", SCRIPTS / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    return binary


def passed_tests(node: str, script: str, *arguments: str) -> list[str]:
    """The names of the script's tests, which must all have passed."""
    command = [node, "--test-reporter=tap", str(SCRIPTS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^ok \d+ - (.*)$", done.stdout, re.MULTILINE)


def inside(app: Any) -> Any:
    """Compressing is the app's own middleware: the batch comes through it, and so does each action."""
    app.add_middleware(GZipMiddleware, minimum_size=1)
    return app


AROUND: list[Callable[[Any], Any]] = [inside, partial(GZipMiddleware, minimum_size=1)]


@pytest.mark.parametrize("around", AROUND, ids=["gzip inside", "gzip around"])
def test_the_ordinary_workflow(node: str, database: str, tmp_path: Path, around: Callable[[Any], Any]) -> None:
    with serving_tracker(database, tmp_path, around=around) as tracker:
        names = passed_tests(node, "workflow.mjs", tracker.url)
        assert names == re.findall(r'^test\("(.*?)"', (SCRIPTS / "workflow.mjs").read_text(), re.MULTILINE)
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
