"""The picture in the README, held by the code: modules import downwards, stay short, and say what they are."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import batchkit
from batchkit import client, limiter, testing
from batchkit.contrib import opentelemetry

PACKAGE = Path(batchkit.__file__).parent

# From the top to the bottom: a module imports only from rows below its own.
# The client, the limiter and all between are wings: the core knows nothing of them.
LAYERS = [
    ["client"],
    ["client.builder"],
    ["client.tasks", "client.threads"],
    ["client.window"],
    ["client.conversation"],
    ["client.results"],
    ["client.actions"],
    ["client.server"],
    ["testing"],
    ["testing.cost_hook", "testing.parity"],
    ["testing.batches", "testing.testbed"],
    ["testing.client", "testing.watched"],
    ["testing.asgi"],
    ["contrib", "contrib.opentelemetry"],
    ["limiter"],
    ["limiter.middleware"],
    ["limiter.limiter"],
    ["limiter.admission", "limiter.ends", "limiter.redis"],
    ["limiter.connections", "limiter.memory"],
    ["limiter.scripts", "limiter.store"],
    ["limiter.presets"],
    ["limiter.limits"],
    ["limiter.keys"],
    ["__init__"],
    ["app"],
    ["console", "fastapi", "lines"],
    ["openapi"],
    ["client_js"],
    ["admission", "dispatch", "request", "resolve", "wire"],
    ["uploading"],
    ["advice", "charging", "exchange", "guard"],
    ["find"],
    ["routes"],
    ["settings"],
    ["allow", "configuration", "dialect", "frame", "rules"],
    ["content", "cookies", "fields", "marks", "matching", "path"],
    ["compiler", "hooks", "keywords", "model", "schema", "standard"],
    ["demands"],
    ["errors", "installation", "validation"],
]


def dotted(path: Path) -> str:
    """The name of a module within the package."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {dotted(path): path for path in PACKAGE.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """The modules of the package that a module imports."""
    names: set[str] = set()
    tree = ast.parse(path.read_text())
    # What only a type checker imports is no import.
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "batchkit":
            submodule = node.module.partition(".")[2]
            names |= {submodule} if submodule else {alias.name for alias in node.names}
    return names


def test_every_module_has_its_place_in_the_picture() -> None:
    assert sorted(MODULES) == sorted(name for layer in LAYERS for name in layer)


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_only_downwards(name: str) -> None:
    depth = {module: index for index, layer in enumerate(LAYERS) for module in layer}
    for other in imported(MODULES[name]):
        assert depth[other] > depth[name], f"{name} imports {other}"


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_longer_than_about_300_lines(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= 320


@pytest.mark.parametrize("name", MODULES)
def test_no_private_name_of_another_library_is_imported(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            assert not [part for part in parts if part.startswith("_") and part != "__future__"], ast.unparse(node)


PUBLIC = [(package, name) for package in (batchkit, client, limiter, opentelemetry, testing) for name in package.__all__]


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_every_public_name_is_documented(package: ModuleType, name: str) -> None:
    item = getattr(package, name)
    assert inspect.getdoc(item)
    if inspect.isclass(item):
        for attribute, value in vars(item).items():
            if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                assert inspect.getdoc(value) or attribute in dir(item.__mro__[1]), f"{name}.{attribute}"
