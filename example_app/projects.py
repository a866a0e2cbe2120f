"""Projects."""

from functools import partial
from typing import Required

from sqlalchemy import select
from sqlalchemy.orm import selectinload
from starlette.requests import Request
from starlette.routing import Route

from example_app.api import Gid, Json, Text, form
from example_app.models import Project, Task
from example_app.objects import create, delete, find, index, show, update

CHANGES = form(name=Text, notes=Text, archived=bool, public=bool)
NEW = form(CHANGES, workspace=Required[Gid])
FILTER = form(workspace=str, archived=bool)


async def delete_project(request: Request) -> Json:
    """Remove a project, and the tasks that are in no other."""
    project = await find(request, Project, request.path_params["gid"])
    alone = Task.projects.contains(project) & ~Task.projects.any(Project.gid != project.gid)
    whole = [selectinload(part) for part in (Task.projects, Task.subtasks, Task.stories, Task.attachments)]
    for task in await request.state.session.scalars(select(Task).where(alone).options(*whole)):
        await request.state.session.delete(task)
    return await delete(Project, request)


ROUTES = (
    Route("/projects", partial(index, Project, FILTER)),
    Route("/projects", partial(create, Project, NEW), methods=["POST"]),
    Route("/projects/{gid}", partial(show, Project)),
    Route("/projects/{gid}", partial(update, Project, CHANGES), methods=["PUT"]),
    Route("/projects/{gid}", delete_project, methods=["DELETE"]),
    Route("/workspaces/{workspace}/projects", partial(index, Project, FILTER)),
    Route("/workspaces/{workspace}/projects", partial(create, Project, NEW), methods=["POST"]),
)
