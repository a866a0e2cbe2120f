"""Stories: the comments on a task."""

from functools import partial
from typing import TypedDict

from starlette.requests import Request
from starlette.routing import Route

from example_app.errors import Json
from example_app.forms import Text, data
from example_app.models import Story, Task
from example_app.objects import answer, find, listed, show


class NewStory(TypedDict):
    text: Text


async def list_stories(request: Request) -> Json:
    task = await find(request, Task, request.path_params["gid"])
    return await listed(request, Story, Story.target_id == task.gid)


async def create_story(request: Request) -> Json:
    values = await data(request, NewStory)
    task = await find(request, Task, request.path_params["gid"])
    return await answer(request, Story(target=task, created_by_id=request.user.gid, **values), 201)


ROUTES = (
    Route("/tasks/{gid}/stories", list_stories),
    Route("/tasks/{gid}/stories", create_story, methods=["POST"]),
    Route("/stories/{gid}", partial(show, Story)),
)
