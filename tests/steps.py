"""Counting what is done, where a test is about cost: the same on every machine, however busy it is."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any


@dataclass
class Steps:
    """``calls`` of functions, those in C included; ``read``, the length of the texts whose methods were among them; ``patterns``,
    what was looked for by regular expressions.
    """

    calls: int = 0
    read: int = 0
    patterns: set[str | bytes] = field(default_factory=set)


@contextmanager
def counted() -> Iterator[Steps]:
    """Count what this thread does."""
    steps = Steps()

    def note(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            steps.calls += 1
        elif event == "c_call":
            steps.calls += 1
            owner = getattr(arg, "__self__", None)
            if isinstance(owner, str | bytes):
                steps.read += len(owner)
            elif isinstance(owner, re.Pattern):
                steps.patterns.add(owner.pattern)

    # What the collector finds, and calls, is left from before.
    gc.collect()
    gc.disable()
    sys.setprofile(note)
    try:
        yield steps
    finally:
        sys.setprofile(None)
        gc.enable()
