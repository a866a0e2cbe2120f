"""The rooms of the library: modules import downwards, and what is public is documented."""

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

# From the top to the bottom: a room imports only from rooms below its own. In a room nobody imports in a circle.
# The client, the limiter and what stands beside them are wings: the core knows nothing of them.
ROOMS = [
    ["client", "testing", "contrib"],
    ["limiter"],
    ["__init__"],
    ["endpoint"],
    ["_checks"],
    ["_running"],
    ["_routing"],
    ["console"],
    ["client_js", "openapi"],
    ["_protocol"],
    ["_schemas"],
    ["settings"],
    ["_record"],
    ["model"],
    ["errors"],
    ["_arguments"],
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


def room(name: str) -> str:
    return name.partition(".")[0]


def test_every_module_is_in_a_room() -> None:
    assert {room(name) for name in MODULES} == {name for floor in ROOMS for name in floor}


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_only_downwards(name: str) -> None:
    depth = {each: index for index, floor in enumerate(ROOMS) for each in floor}
    for other in imported(MODULES[name]):
        assert room(other) == room(name) or depth[room(other)] > depth[room(name)], f"{name} imports {other}"


@pytest.mark.parametrize("name", MODULES)
def test_no_private_name_of_another_library_is_imported(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] != "batchkit":
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
