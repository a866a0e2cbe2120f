"""Users, and the workspaces that they share."""

from functools import partial

from starlette.routing import Route

from example_app.models import User, Workspace
from example_app.objects import index, show

ROUTES = (
    Route("/users/{gid}", partial(show, User)),
    Route("/workspaces", partial(index, Workspace, None)),
    Route("/workspaces/{gid}", partial(show, Workspace)),
)
