"""Attachments: files that are uploaded to a task, and links to files elsewhere."""

import secrets
from functools import partial
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import anyio
from msgspec import Meta
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from example_app.errors import ApiError, Json
from example_app.forms import Text, converted, query
from example_app.models import Attachment, Task
from example_app.objects import answer, delete, find, listed, show


class Files:
    """The uploads, in a folder, under names of our own, never a client's. Each comes and goes with a transaction."""

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
        """Remove files once that is committed."""
        event.listen(session.sync_session, "after_commit", lambda _: self._remove(*names))

    def _remove(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


class NewAttachment(TypedDict):
    parent: str
    name: NotRequired[Text]
    url: NotRequired[Annotated[str, Meta(pattern=r"\Ahttps?://[^\x00-\x20]+\Z")]]


class Filter(TypedDict):
    parent: str


async def list_attachments(request: Request) -> Json:
    task = await find(request, Task, query(request, Filter)["parent"], "parent")
    return await listed(request, Attachment, Attachment.parent_id == task.gid)


async def create_attachment(request: Request) -> Json:
    """Take the only request that is no JSON: a form with a file in it, or with the URL of one."""
    session: AsyncSession = request.state.session
    async with request.form(max_files=1, max_fields=10) as form:
        upload = form.get("file")
        file = upload if isinstance(upload, UploadFile) else None
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        values = converted({"name": file.filename or ""} | texts if file else texts, NewAttachment)
        task = await find(request, Task, values["parent"], "parent")
        attachment = Attachment(parent=task, name=values.get("name", ""), view_url=values.get("url"), resource_subtype="external")
        if file is not None:
            attachment.file, attachment.size = await request.app.state.files.save(session, file), file.size
            attachment.resource_subtype = "asana"
        elif attachment.view_url is None:
            raise ApiError(400, "file: Missing input")
    return await answer(request, attachment, fields=Attachment.compact)


async def download(request: Request) -> FileResponse:
    attachment = await find(request, Attachment, request.path_params["gid"])
    if attachment.file is None:
        raise ApiError(404, "attachment: It lies elsewhere, see its view_url")
    # Whatever was uploaded, no browser shows it as a page of this site.
    path, media_type = request.app.state.files.folder / attachment.file, "application/octet-stream"
    return FileResponse(path, media_type=media_type, filename=attachment.name)


ROUTES = (
    Route("/attachments", list_attachments),
    Route("/attachments", create_attachment, methods=["POST"]),
    Route("/attachments/{gid}", partial(show, Attachment)),
    Route("/attachments/{gid}", partial(delete, Attachment), methods=["DELETE"]),
    Route("/attachments/{gid}/download", download),
)
