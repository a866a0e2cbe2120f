"""What the example app promises its readers: its SQL is SQLAlchemy's, and nothing in it is shared by two apps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import example_app

MODULES = {path.name: path for path in sorted(Path(example_app.__file__).parent.glob("**/*.py"))}
# English would not shout.
SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s.+\sSET|DELETE\s+FROM|(CREATE|DROP)\s+TABLE|WHERE|PRAGMA|BEGIN)\b", re.DOTALL
)
# Their first argument is a statement or, with ``text``, becomes one.
RUNS_SQL = {"execute", "scalar", "scalars", "stream", "stream_scalars", "exec_driver_sql", "text", "literal_column"}
MUTABLE = {"list", "dict", "set", "bytearray", "defaultdict", "OrderedDict", "Counter", "deque", "count", "cycle", "ContextVar"}
CHANGES = {
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "add", "discard", "update", "setdefault"),
    *("popitem", "appendleft", "popleft", "difference_update", "intersection_update", "symmetric_difference_update", "subtract"),
}


def name_of(node: ast.expr) -> str:
    """The last name of what is called."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def sql_by_string(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value):
            yield ast.unparse(node)
        if isinstance(node, ast.Call) and name_of(node.func) in RUNS_SQL:
            statement = node.args[0] if node.args else None
            if isinstance(statement, ast.JoinedStr):
                statement = statement.values[0]
            if isinstance(statement, ast.FormattedValue) or (
                isinstance(statement, ast.Constant) and isinstance(statement.value, str)
            ):
                yield ast.unparse(node)


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return name_of(value.func) in MUTABLE
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def changed(node: ast.expr) -> str:
    return f".{node.attr}" if isinstance(node, ast.Attribute) else name_of(node)


def shared_state(tree: ast.Module) -> Iterator[str]:
    """What outlives a call and is changed by one: globals that are rebound or changed in place, caches, mutable defaults."""
    # A module's are changed by their name, a class's as attributes of something.
    scopes: list[ast.Module | ast.ClassDef] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    shared = {
        target.id if isinstance(scope, ast.Module) else f".{target.id}"
        for scope in scopes
        for node in scope.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and is_mutable(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield ast.unparse(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
            yield from (ast.unparse(default) for default in defaults if is_mutable(default))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if name_of(decorator.func if isinstance(decorator, ast.Call) else decorator) in {"cache", "lru_cache"}:
                    yield f"@{ast.unparse(decorator)} {node.name}"
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in CHANGES and changed(called.value) in shared:
            yield ast.unparse(node)
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and changed(node.value) in shared:
            yield ast.unparse(node)
        if isinstance(node, ast.AugAssign) and changed(node.target) in shared:
            yield ast.unparse(node)


@pytest.mark.parametrize("name", MODULES)
def test_no_sql_is_made_of_strings(name: str) -> None:
    assert list(sql_by_string(ast.parse(MODULES[name].read_text()))) == []


@pytest.mark.parametrize("name", MODULES)
def test_no_state_is_global(name: str) -> None:
    assert list(shared_state(ast.parse(MODULES[name].read_text()))) == []


@pytest.mark.parametrize(
    "source",
    [
        "session.execute(f'{statement}')",
        "session.execute(text('VACUUM'))",
        "x = 'SELECT gid FROM tasks'",
        "x = f'DELETE FROM {table}'",
        "x = 'PRAGMA foreign_keys = ON'",
        "begin = 'BEGIN IMMEDIATE'",
        "connection.exec_driver_sql('VACUUM')",
        "connection.exec_driver_sql(f'SET {name}')",
    ],
)
def test_sql_that_is_made_of_strings_is_found(source: str) -> None:
    assert list(sql_by_string(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "apps = []\ndef f(app):\n    apps.append(app)",
        "class A:\n    made = {}\n    def f(self):\n        self.made['a'] = 1",
        "last = 0\ndef f():\n    global last\n    last = 1",
        "def f(seen={}): ...",
        "@lru_cache(maxsize=1)\ndef engine(): ...",
        "gids = dict()\ndef f():\n    del gids['a']",
    ],
)
def test_state_that_is_global_is_found(source: str) -> None:
    assert list(shared_state(ast.parse(source)))
