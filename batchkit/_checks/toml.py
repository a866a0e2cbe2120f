"""Keywords from a TOML file: each error names the file, the table and the key, and says what to do."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from batchkit._arguments import nearest

__all__ = ["KeywordFile"]

# What these keys name is Python's.
OBJECTS = ("host", "cost_hook", "plugins")
_REFERENCE = re.compile(r"\w+(?:\.\w+)*:\w+(?:\.\w+)*")


class KeywordFile:
    """The ``[tool.batchkit]`` of a pyproject.toml, or the ``[batchkit]`` of another TOML file.

    ``place`` names file and table, for errors. Raises OSError where the file cannot be read, TypeError or ValueError where it
    has no such table, or has keys that are not ``known``.
    """

    def __init__(self, path: str | os.PathLike[str], known: Collection[str]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"path={path!r}: give the path of a TOML file")
        file = Path(path).absolute()
        try:
            # Some editors begin a file with a byte order mark.
            document = tomllib.loads(file.read_text("utf-8-sig"))
        except OSError as error:
            where = f"; {os.fspath(path)!r} begins in the working directory" if not Path(path).is_absolute() else ""
            raise type(error)(f"{file}: {error.strerror}: give the path of a TOML file{where}") from None
        except ValueError as error:
            raise ValueError(f"{file}: this is no TOML: {error}") from None
        tool = document.get("tool")
        tables = {"batchkit": document.get("batchkit"), "tool.batchkit": tool.get("batchkit") if isinstance(tool, dict) else None}
        found = [name for name, table in tables.items() if isinstance(table, dict)]
        if len(found) != 1:
            name = "tool.batchkit" if file.name == "pyproject.toml" else "batchkit"
            has = "two tables, [batchkit] and [tool.batchkit]: keep one" if found else f"no table [{name}]: add it"
            raise ValueError(f"{file}: it has {has}")
        self.place = f"{file}, [{found[0]}]"
        self.values: dict[str, Any] = tables[found[0]] or {}
        for key in self.values:
            if key not in known:
                raise ValueError(f"{self.place}: unknown key {key!r}: {nearest(key, known)}")

    def value(self, key: str) -> Any:
        """The value of a key; the object that ``"module:name"`` stands for where it takes one.

        Raises TypeError or ValueError for another kind of value, ImportError where there is no such object.
        """
        value = self.values[key]
        if key not in OBJECTS:
            return value
        if key != "plugins":
            return self._object(key, value)
        if not isinstance(value, list):
            raise TypeError(f'{self.place}: {key}={value!r}: give a list, ["module:name"]')
        return [self._object(key, item) for item in value]

    def _object(self, key: str, reference: object) -> Any:
        at = f"{self.place}: {key}={reference!r}"
        if not isinstance(reference, str):
            raise TypeError(f'{at}: give "module:name"')
        if not _REFERENCE.fullmatch(reference):
            raise ValueError(f'{at}: give "module:name"')
        module, _, name = reference.partition(":")
        try:
            found = import_module(module)
        except ImportError as error:
            raise ImportError(f"{at}: {error}: install it, or start where it can be imported from") from error
        except Exception as error:
            error.add_note(f"{at}: this went wrong in importing {module}")
            raise
        try:
            return attrgetter(name)(found)
        except AttributeError:
            raise ImportError(
                f"{at}: there is no {name} in {module}, or not yet, where that is just being imported: "
                f"then give it in Python: from_toml(…, {key}=…)"
            ) from None
