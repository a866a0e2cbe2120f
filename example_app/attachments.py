"""Attachments: files that are uploaded to a task, and links to files elsewhere."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from example_app.errors import ApiError, Json
from example_app.inputs import Text, checked, query
from example_app.models import Attachment, Task
from example_app.objects import delete, find, listed, show
from example_app.records import record


class NewAttachment(Struct):
    parent: str
    name: Text = ""
    url: Annotated[str, Meta(pattern=r"\Ahttps?://[^\x00-\x20]+\Z")] | None = None


class Filter(Struct):
    parent: str


async def list_attachments(request: Request) -> Json:
    parent = await find(request, Task, query(request, Filter).parent, "parent")
    return await listed(request, Attachment, Attachment.parent_id == parent.gid)


async def create_attachment(request: Request) -> Json:
    """Take the one request that is no JSON: a form with the file itself, or with the URL of one."""
    session: AsyncSession = request.state.session
    async with request.form(max_files=1, max_fields=10) as form:
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        file = form.get("file")
        if isinstance(file, UploadFile):
            texts = {"name": file.filename or "", **texts}
        sent = checked(texts, NewAttachment)
        parent = await find(request, Task, sent.parent, "parent")
        attachment = Attachment(parent=parent, name=sent.name, view_url=sent.url)
        if isinstance(file, UploadFile):
            attachment.file, attachment.size = await request.app.state.files.save(session, file), file.size
        elif sent.url is None:
            raise ApiError(400, "file: Missing input")
    session.add(attachment)
    await session.flush()
    return Json({"data": await record(request, attachment, Attachment.compact)})


async def download(request: Request) -> FileResponse:
    attachment = await find(request, Attachment, request.path_params["gid"])
    if attachment.file is None:
        raise ApiError(404, "attachment: Lies elsewhere, see its view_url")
    # Whatever was uploaded, no browser shows it as a page of this site.
    return FileResponse(
        request.app.state.files.folder / attachment.file, media_type="application/octet-stream", filename=attachment.name
    )


ROUTES = (
    Route("/attachments", list_attachments),
    Route("/attachments", create_attachment, methods=["POST"]),
    Route("/attachments/{gid}", partial(show, Attachment)),
    Route("/attachments/{gid}", partial(delete, Attachment), methods=["DELETE"]),
    Route("/attachments/{gid}/download", download),
)
