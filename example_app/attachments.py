"""Attachments: files that are uploaded to a task, and links to files elsewhere."""

from functools import partial
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import anyio
from msgspec import Meta
from sqlalchemy import ColumnElement, event, select
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from example_app.api import ApiError, Json, Text, converted
from example_app.models import Attachment
from example_app.objects import answer, delete, find, found, index, show


class Filter(TypedDict):
    parent: str


class NewAttachment(Filter):
    name: NotRequired[Text]
    url: NotRequired[Annotated[str, Meta(pattern=r"\Ahttps?://[^\x00-\x20]+\Z")]]


def path_of(request: Request, gid: int) -> Path:
    """Where an uploaded file lies: never under a name that a client gave it."""
    folder: Path = request.app.state.files
    return folder / str(gid)


async def create_attachment(request: Request) -> Json:
    """Take the only request that is no JSON: a form with a file in it, or with the URL of one."""
    async with request.form(max_files=1, max_fields=10) as form:
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        upload = form.get("file")
        if isinstance(upload, UploadFile):
            texts = {"name": upload.filename or ""} | texts
        values = await found(request, Attachment, converted(texts, NewAttachment, "form"))
        attachment = Attachment(parent=values["parent"], name=values.get("name", ""), view_url=values.get("url"))
        if isinstance(upload, UploadFile):
            attachment.size = upload.size
            request.state.session.add(attachment)
            await request.state.session.flush()  # it has its gid now, and what the database might refuse it has refused
            await save(upload, path_of(request, attachment.gid))
        elif attachment.view_url is None:
            raise ApiError(400, "file: Missing input")
    return await answer(request, attachment, fields=Attachment.compact)


async def save(upload: UploadFile, path: Path) -> None:
    """Write a file, all of it or nothing."""
    try:
        async with await anyio.open_file(path, "xb") as file:
            while chunk := await upload.read(2**16):
                await file.write(chunk)
    except BaseException:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - a cancelled task can no longer wait
        raise


async def remove_files(request: Request, condition: ColumnElement[bool]) -> None:
    """Remove the files of attachments once their deletion is committed."""
    gids = list(await request.state.session.scalars(select(Attachment.gid).where(condition)))

    @event.listens_for(request.state.session.sync_session, "after_commit")
    def committed(session: Session) -> None:
        for gid in gids:
            path_of(request, gid).unlink(missing_ok=True)


async def delete_attachment(request: Request) -> Json:
    attachment = await find(request, Attachment, request.path_params["gid"])
    await remove_files(request, Attachment.gid == attachment.gid)
    return await delete(Attachment, request)


async def download(request: Request) -> FileResponse:
    attachment = await find(request, Attachment, request.path_params["gid"])
    if attachment.size is None:
        raise ApiError(404, "attachment: It lies elsewhere, see its view_url")
    # Whatever was uploaded, no browser shows it as a page of this site.
    path, media_type = path_of(request, attachment.gid), "application/octet-stream"
    return FileResponse(path, media_type=media_type, filename=attachment.name)


ROUTES = (
    Route("/attachments", partial(index, Attachment, Filter)),
    Route("/attachments", create_attachment, methods=["POST"]),
    Route("/attachments/{gid}", partial(show, Attachment)),
    Route("/attachments/{gid}", delete_attachment, methods=["DELETE"]),
    Route("/attachments/{gid}/download", download),
)
