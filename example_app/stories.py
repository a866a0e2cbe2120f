"""Stories: the comments on a task."""

from __future__ import annotations

from functools import partial

from msgspec import Struct
from starlette.requests import Request
from starlette.routing import Route

from example_app.errors import Json
from example_app.inputs import Text, data
from example_app.models import Story, Task
from example_app.objects import added, find, listed, show


class NewStory(Struct):
    text: Text


async def list_stories(request: Request) -> Json:
    task = await find(request, Task, request.path_params["gid"])
    return await listed(request, Story, Story.target_id == task.gid)


async def create_story(request: Request) -> Json:
    sent = await data(request, NewStory)
    task = await find(request, Task, request.path_params["gid"])
    return await added(request, Story(text=sent.text, target=task, created_by_id=request.user.gid))


ROUTES = (
    Route("/tasks/{gid}/stories", list_stories),
    Route("/tasks/{gid}/stories", create_story, methods=["POST"]),
    Route("/stories/{gid}", partial(show, Story)),
)
