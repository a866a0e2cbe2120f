"""Uploads on the disk: a file comes and goes with the transaction that it belongs to."""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import UploadFile


class Files:
    """The files in a folder, under names of our own: never under one that a client gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def save(self, session: AsyncSession, upload: UploadFile) -> str:
        """The name of a new file with the content of ``upload``."""
        name = secrets.token_hex(16)
        event.listen(session.sync_session, "after_soft_rollback", lambda *_: self._remove(name))
        async with await anyio.open_file(self.folder / name, "xb") as file:
            while chunk := await upload.read(2**16):
                await file.write(chunk)
        return name

    def discard(self, session: AsyncSession, *names: str) -> None:
        """Remove files once the transaction is committed."""
        event.listen(session.sync_session, "after_commit", lambda _: self._remove(*names))

    def _remove(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
