"""The dialects by their names. A new one is a module here, with a class that says what it has otherwise, and a line below."""

from __future__ import annotations

from typing import Literal

from batchkit._protocol.dialects.asana import Asana
from batchkit._protocol.dialects.dialect import Dialect, ReadResult
from batchkit._protocol.dialects.plain import Plain

__all__ = ["DIALECTS", "Dialect", "DialectName", "ReadResult"]

DIALECTS: dict[str, Dialect] = {"asana": Asana(), "plain": Plain()}

# For type checkers; a test holds it equal to the table.
DialectName = Literal["asana", "plain"]
