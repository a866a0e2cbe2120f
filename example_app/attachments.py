"""Attachments: files that are uploaded to a task."""

from functools import partial
from pathlib import Path
from typing import Any, Required

import anyio
from sqlalchemy import event
from sqlalchemy.orm import object_session
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from example_app.api import Json, Text, converted, form
from example_app.models import Attachment
from example_app.objects import answer, delete, find, found, index, show

NEW = form(parent=Required[str], file=Required[UploadFile], name=Text)


def path_of(attachment: Attachment) -> Path:
    """Where the file lies: never under a name that a client gave it."""
    session: Any = object_session(attachment)
    return Path(session.info["files"], str(attachment.gid))


async def create_attachment(request: Request) -> Json:
    """Take the only request that is no JSON: a form with a file in it."""
    async with request.form(max_files=1, max_fields=10) as content:
        named = {"name": getattr(content.get("file"), "filename", None) or ""} | dict(content)
        values = await found(request, Attachment, converted(named, NEW, "form"))
        upload = values.pop("file")
        attachment = Attachment(size=upload.size, **values)
        request.state.session.add(attachment)
        await request.state.session.flush()  # it has its gid now, and what the database might refuse it has refused
        path = path_of(attachment)
        try:
            async with await anyio.open_file(path, "xb") as file:
                while chunk := await upload.read(2**16):
                    await file.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)  # at once: a cancelled task can no longer wait
            raise
    return await answer(request, attachment, fields=Attachment.compact)


@event.listens_for(Attachment, "after_delete")
def deleted(mapper: object, connection: object, attachment: Attachment) -> None:
    """Once it is committed that an attachment is gone, by itself or with its task, its file goes too."""
    path = path_of(attachment)
    event.listen(object_session(attachment), "after_commit", lambda session: path.unlink(missing_ok=True))


async def download(request: Request) -> FileResponse:
    attachment = await find(request, Attachment, request.path_params["gid"])
    # Whatever was uploaded, no browser shows it as a page of this site.
    return FileResponse(path_of(attachment), media_type="application/octet-stream", filename=attachment.name)


ROUTES = (
    Route("/attachments", partial(index, Attachment, form(parent=Required[str]))),
    Route("/attachments", create_attachment, methods=["POST"]),
    Route("/attachments/{gid}", partial(show, Attachment)),
    Route("/attachments/{gid}", partial(delete, Attachment), methods=["DELETE"]),
    Route("/attachments/{gid}/download", download),
)
