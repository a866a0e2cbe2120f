"""The Redis scripts, which stand beside this module. Each is one atomic step by the server's own clock, and names all its keys.

``ADMIT`` is the twin of ``MemoryStore.admit``. It and ``RENEW`` do nothing after the server's time ``ARGV[1]``: a server that
hung, and then reads what was sent to it long ago, must not charge a batch that nobody waits for any more. All times are in
microseconds, which a double holds exactly.
"""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

from msgspec import Struct

__all__ = ["ADMIT", "ADMITTED", "GIVE_BACK", "LATE", "RENEW", "Script"]

LATE, ADMITTED = 0, 1


class Script(Struct, frozen=True):
    """A script and the name that a server which has seen it knows it by."""

    text: str
    name: str

    @classmethod
    def of(cls, text: str) -> Script:
        """The script with this text."""
        # The name is Redis's own choice, and guards nothing.
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(*names: str) -> Script:
    return Script.of("".join(files(__package__ or "").joinpath(f"{name}.lua").read_text("utf-8") for name in names))


ADMIT = _read("begin", "admit")
RENEW = _read("begin", "renew")
GIVE_BACK = _read("give_back")
