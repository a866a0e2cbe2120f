"""What the example app reads is committed, and for each request of one moment, on each kind of database."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import func, select

from example_app.database import Database
from example_app.models import Workspace


def test_what_a_request_reads_is_all_of_one_moment(database: str, tmp_path: Path) -> None:
    workspaces = select(func.count()).select_from(Workspace)

    async def run() -> None:
        data = Database(database, tmp_path)
        async with data.filled([]), data.session() as reader, data.session(writes=True) as writer:
            assert await reader.scalar(workspaces) == 0
            writer.add(Workspace(name="New"))
            await writer.flush()
            assert await reader.scalar(workspaces) == 0
            # PostgreSQL does it at once, SQLite when nobody reads what was before.
            committing = asyncio.create_task(writer.commit())
            await asyncio.wait({committing}, timeout=1)
            assert await reader.scalar(workspaces) == 0
            await reader.rollback()
            await committing
            assert await reader.scalar(workspaces) == 1

    asyncio.run(run())
