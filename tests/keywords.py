"""The README's table of keywords, made from the code: ``python -m tests.keywords`` prints it."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields

from batchkit import BatchEndpoint
from batchkit.settings import Settings

ENTRY = re.compile(r"^``(\w+)``: (.*?)(?=^``\w+``: |\Z)", re.DOTALL | re.MULTILINE)


def table() -> str:
    """A row for each keyword: its name, its default, and what ``help(BatchEndpoint)`` says of it."""
    says = dict(ENTRY.findall(inspect.getdoc(BatchEndpoint) or ""))
    rows = ["| keyword | default | |", "|---|---|---|"]
    for field in fields(Settings):
        if field.init:
            default = f"{field.default:_}" if type(field.default) is int else repr(field.default).replace("'", '"')
            text = " ".join(says[field.name].split()).replace("``", "`").rstrip(".")
            rows.append(f"| `{field.name}` | `{default}` | {text} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
