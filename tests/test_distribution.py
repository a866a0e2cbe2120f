"""What people install: the wheel, built from the sdist, in an environment that has nothing else of this tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from batchkit import __all__

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    # From a copy of what is committed or will be: a build leaves folders in the tree.
    tree = folder / "tree"
    tree.mkdir()
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, tree, cwd=folder)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def python(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel installed, and the libraries that it stands on, which are those of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", built[1], cwd=folder)
    [packages] = (folder / "lib").glob("python*/site-packages")
    # What an editable install of this tree put there is not followed from here.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = set(ZipFile(built[1]).namelist())
    package = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    in_tree = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "batchkit", cwd=ROOT).split()
    assert package == set(in_tree)
    assert {"batchkit/py.typed", "batchkit/console/page.html"} < package


def test_the_sdist_holds_what_tells_of_it(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "setup.cfg", "pyproject.toml", "batchkit/py.typed"} < names


USE = """
import json
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
import batchkit, batchkit.limiter

endpoint = batchkit.batchable(lambda request: JSONResponse("here"))
app = batchkit.BatchEndpoint(console=True).mount_to(Starlette(routes=[Route("/here", endpoint)]))
client = TestClient(app)
page = client.get("/batch", headers={"accept": "text/html"})
answer = client.post("/batch", json={"data": {"actions": [{"method": "get", "relative_path": "/here"}]}})
print(json.dumps([str(Path(batchkit.__file__).parent), page.headers["content-type"], len(page.text), answer.json()]))
"""


def test_the_installed_wheel_runs_a_batch_and_shows_the_page(python: Path, tmp_path: Path) -> None:
    place, content_type, size, answer = json.loads(run(python, "-c", USE, cwd=tmp_path))
    assert Path(place).is_relative_to(python.parent.parent)
    assert (content_type, size > 40_000) == ("text/html; charset=utf-8", True)
    assert answer == {"data": [{"status_code": 200, "headers": {}, "body": "here"}]}


def test_help_tells_what_the_package_is(python: Path, tmp_path: Path) -> None:
    text = run(python, "-c", "import batchkit; help(batchkit)", cwd=tmp_path)
    for name in __all__:
        assert name in text


@pytest.mark.parametrize(
    "checker", [["mypy", "--strict", "--python-executable"], ["pyright", "--pythonpath"]], ids=["mypy", "pyright"]
)
def test_a_type_checker_reads_the_installed_names_as_they_are_meant(python: Path, tmp_path: Path, checker: list[str]) -> None:
    shutil.copy(ROOT / "tests" / "typing_api.py", tmp_path)
    run(sys.executable, "-m", *checker, python, "typing_api.py", cwd=tmp_path)
