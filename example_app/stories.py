"""Stories: the comments on a task, their target."""

from functools import partial
from typing import TypedDict

from starlette.routing import Route

from example_app.api import Text
from example_app.models import Story
from example_app.objects import create, index, show


class NewStory(TypedDict):
    target: str
    text: Text


ROUTES = (
    Route("/tasks/{target}/stories", partial(index, Story, None)),
    Route("/tasks/{target}/stories", partial(create, Story, NewStory), methods=["POST"]),
    Route("/stories/{gid}", partial(show, Story)),
)
