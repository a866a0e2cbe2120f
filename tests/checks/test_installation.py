"""What is not installed, or is too old, is named, with what to install."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import batchkit

ROOT = Path(__file__).parents[2]


def run(code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """What becomes of a Python of its own that runs this."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **more
    )


@pytest.mark.parametrize(
    ("missing", "code", "says"),
    [
        ("coredis", "from batchkit.limiter import *; Limiter(asana_limits(), 'redis://h')", "pip install 'batchkit-asgi[redis]'"),
        ("uvicorn", "import runpy; runpy.run_module('example_app', run_name='__main__')", "pip install -e '.[example]'"),
        ("aiosqlite", "import runpy; runpy.run_module('example_app', run_name='__main__')", "pip install -e '.[example]'"),
    ],
)
def test_what_needs_an_extra_says_which(missing: str, code: str, says: str) -> None:
    done = run(f"import sys; sys.modules[{missing!r}] = None; {code}", cwd=ROOT)
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1]
    assert missing in done.stderr


def test_in_memory_the_limiter_needs_no_extra() -> None:
    assert (
        run("import sys; sys.modules['coredis'] = None; from batchkit.limiter import *; Limiter(asana_limits())").returncode == 0
    )


@pytest.mark.parametrize("version", ["0.37.2", "0.52.1"])
def test_an_old_starlette_is_named(version: str) -> None:
    done = run(f"import starlette; starlette.__version__ = {version!r}; import batchkit")
    assert f"needs Starlette 1.0 or later, and this is {version}: pip install -U starlette" in done.stderr.splitlines()[-1]


def test_an_old_anyio_is_named() -> None:
    old = "import importlib.metadata, sys; sys.modules['anyio'] = sys; importlib.metadata.version = {'anyio': '4.9.0'}.get"
    last = run(f"{old}; import batchkit").stderr.splitlines()[-1]
    assert "batchkit needs anyio 4.14 or later, and this is 4.9.0: pip install -U anyio" in last


@pytest.mark.parametrize("missing", ["anyio", "jsonschema", "jsonschema_specifications", "msgspec", "referencing", "starlette"])
def test_a_missing_library_is_named(missing: str) -> None:
    last = run(f"import sys; sys.modules[{missing!r}] = None; import batchkit").stderr.splitlines()[-1]
    assert f"batchkit needs {missing}, which is not installed: pip install batchkit-asgi" in last


def test_an_old_python_is_named() -> None:
    done = run("import sys, starlette; sys.version_info = (3, 10, 4); sys.version = '3.10.4 (main)'; import batchkit")
    assert "batchkit needs Python 3.11 or later, and this is 3.10.4" in done.stderr.splitlines()[-1]


def test_pypis_other_batchkit_below_ours_is_named(tmp_path: Path) -> None:
    """Both install ``batchkit/__init__.py``. Where theirs came last, none of ours is ever run."""
    shutil.copytree(Path(batchkit.__file__).parent, tmp_path / "batchkit")
    assert run("import batchkit; print(batchkit.__file__)", cwd=tmp_path).stdout.startswith(str(tmp_path))
    (tmp_path / "batchkit" / "apiserver.py").touch()
    last = run("import batchkit", cwd=tmp_path).stderr.splitlines()[-1]
    assert "pip uninstall batchkit batchkit-asgi, and then pip install batchkit-asgi" in last
