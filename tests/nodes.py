"""Node for tests: the scripts beside this module, what they need from npm, and the tests that they hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

SCRIPTS = Path(__file__).parent / "node"


def find_node() -> str:
    """Node, with its packages beside the scripts; without Node the test is skipped, but on CI it fails."""
    binary, npm = shutil.which("node"), shutil.which("npm")
    if not binary or not npm:
        message = "Node is not installed: apt-get install nodejs npm"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
        raise AssertionError
    installed, wanted = SCRIPTS / "node_modules" / ".package-lock.json", SCRIPTS / "package-lock.json"
    # Several processes run the tests.
    with FileLock(SCRIPTS / ".lock"):
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=SCRIPTS, capture_output=True, text=True, timeout=900, check=False)
            assert done.returncode == 0, done.stderr
    return binary


def passed_tests(node: str, script: str, *arguments: str) -> list[str]:
    """The names of the script's tests, which must all have passed."""
    command = [node, "--test-reporter=tap", str(SCRIPTS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^ok \d+ - (.*)$", done.stdout, re.MULTILINE)


def named_tests(script: str) -> list[str]:
    """The names of the script's tests, as they stand in it."""
    return re.findall(r'^test\("(.*?)"', (SCRIPTS / script).read_text(), re.MULTILINE)
