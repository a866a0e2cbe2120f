"""The lifespan of a host, as it passes by."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Message, Send

__all__ = ["telling"]


def telling(send: Send, started: Callable[[], None]) -> Send:
    """The ``send`` of a lifespan that calls ``started`` as the app has started: it may have added routes until then."""

    async def tell(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            started()
        await send(message)

    return tell
