"""Connections to a Redis, by coredis, and what it takes to survive a server that hangs, dies or comes back.

coredis, because it works on asyncio and on trio; redis-py and valkey-py work on asyncio only. It wants a task around its pool,
which is opened here for the life of the app.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from anyio import CancelScope, Event, create_task_group, get_cancelled_exc_class, move_on_after
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from msgspec import Struct

from batchkit.limiter.stores.scripts import Script

try:
    from coredis import Redis
    from coredis.exceptions import NoScriptError
    from coredis.retry import NoRetryPolicy
except ImportError as error:
    raise ImportError("A limiter with a Redis needs coredis: pip install 'batchkit-asgi[redis]'") from error

__all__ = ["PATIENCE", "Connections"]

logger = logging.getLogger("batchkit")

# Seconds for a call that nobody else bounds.
PATIENCE = 1.0

SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}

Argument = str | int
Reply = list[int]


class Pool(Struct, eq=False):
    """A client with its connections, held open by a task of its own, until it is given up and nobody uses it any more."""

    client: Redis[bytes]
    tasks: TaskGroup
    ready: Event
    done: Event
    users: int = 0
    given_up: bool = False

    async def hold(self) -> None:
        """Keep the connections open."""
        try:
            async with self.client:
                self.ready.set()
                await self.done.wait()
        except Exception:
            logger.warning("Connections to the limiter's store broke", exc_info=True)
        finally:
            self.given_up = True
            self.ready.set()


class Connections:
    """Runs scripts on the server at ``url``, a ``redis://``, ``rediss://`` or ``valkey://`` one. ValueError for another."""

    def __init__(self, url: str) -> None:
        scheme = SCHEMES.get(urlsplit(url).scheme)
        if scheme is None:
            raise ValueError("store: give None for memory, or a URL that begins with redis://, rediss:// or valkey://")
        try:
            _ = urlsplit(url).port, int(unquote(urlsplit(url).path).replace("/", "") or 0)
        except ValueError:
            # Without it: it may hold a password.
            raise ValueError("store: give a URL like redis://127.0.0.1:6379/0, with numbers for port and database") from None
        self.url = scheme + url[url.index(":") :]
        # By itself coredis would take a certificate for any host.
        self.tls = scheme == "rediss" and "ssl_" not in url
        self.tasks: list[TaskGroup] = []
        self._pool: Pool | None = None
        self._warned = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Keep connections open in this context. It needs no server: they are made when they are used."""
        failure = None
        async with create_task_group() as tasks:
            self.tasks.append(tasks)
            try:
                yield
            except Exception as error:
                # Not the task group's: it would come out of it as a group.
                failure = error
            finally:
                with CancelScope(shield=True):
                    await self._leave(tasks)
                self.tasks.remove(tasks)
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _leave(self, tasks: TaskGroup) -> None:
        """Let those finish who use the pool of this task group: another app, or what gives back the last slots."""
        # What was only just started begins to use it in here.
        await checkpoint()
        pool = self._pool
        if pool is not None and pool.tasks is tasks:
            self._pool = None
            pool.given_up = True
            if pool.users:
                with move_on_after(PATIENCE):
                    await pool.done.wait()

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """The reply of a script, in one round trip, sent once: a second try could charge twice. Raises whatever coredis does."""
        if not self.tasks:
            if not self._warned:
                self._warned = True
                logger.warning("Each use of the limiter connects anew: use mount_to, LimitMiddleware or `async with limiter:`")
            async with self._client() as client:
                return await _run(client, script, keys, arguments)
        pool = self._pool
        if pool is None or pool.given_up:
            pool = self._pool = Pool(self._client(), self.tasks[-1], Event(), Event())
            pool.tasks.start_soon(pool.hold)
        pool.users += 1
        try:
            await pool.ready.wait()
            return await _run(pool.client, script, keys, arguments)
        except get_cancelled_exc_class():
            # Out of time. A pool of coredis never gets back the place of a connection that was given up while it was made.
            pool.given_up = True
            raise
        finally:
            pool.users -= 1
            if pool.given_up and not pool.users:
                pool.done.set()

    def _client(self) -> Redis[bytes]:
        more: dict[str, Any] = {"ssl_context": ssl.create_default_context()} if self.tls else {}
        return Redis.from_url(self.url, retry_policy=NoRetryPolicy(), verify_version=False, decode_components=True, **more)


async def _run(client: Redis[bytes], script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
    try:
        reply = await client.evalsha(script.name, keys=list(keys), args=list(arguments))
    except NoScriptError:
        # A server that has not seen it yet, or was restarted: nothing has run.
        reply = await client.eval(script.text, keys=list(keys), args=list(arguments))
    if not isinstance(reply, list):
        raise TypeError("The store answered with something else than a script does")
    return [int(str(value)) for value in reply]
