"""Users, and the workspaces that they share."""

from functools import partial

from starlette.requests import Request
from starlette.routing import Route

from example_app.errors import Json
from example_app.models import User, Workspace
from example_app.objects import answer, find, listed, show


async def user_of(request: Request, gid: object, name: str = "user") -> User:
    """The user with this gid; ``me`` is who asks."""
    return await find(request, User, request.user.gid if gid == "me" else gid, name)


async def show_user(request: Request) -> Json:
    return await answer(request, await user_of(request, request.path_params["gid"]))


async def list_workspaces(request: Request) -> Json:
    return await listed(request, Workspace)


ROUTES = (
    Route("/users/{gid}", show_user),
    Route("/workspaces", list_workspaces),
    Route("/workspaces/{gid}", partial(show, Workspace)),
)
