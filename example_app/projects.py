"""Projects."""

from functools import partial
from typing import TypedDict

from starlette.requests import Request
from starlette.routing import Route

from example_app.api import Gid, Json, Text
from example_app.models import Project, Task
from example_app.objects import create, delete, find, index, show, update
from example_app.tasks import delete_tasks


class ProjectForm(TypedDict, total=False):
    name: Text
    notes: Text
    archived: bool
    public: bool


class NewProject(ProjectForm):
    workspace: Gid


class Filter(TypedDict, total=False):
    workspace: str
    archived: bool


async def delete_project(request: Request) -> Json:
    """Delete a project, and the tasks that are in no other."""
    project = await find(request, Project, request.path_params["gid"])
    await delete_tasks(request, Task.projects.contains(project) & ~Task.projects.any(Project.gid != project.gid))
    return await delete(Project, request)


ROUTES = (
    Route("/projects", partial(index, Project, Filter)),
    Route("/projects", partial(create, Project, NewProject), methods=["POST"]),
    Route("/projects/{gid}", partial(show, Project)),
    Route("/projects/{gid}", partial(update, Project, ProjectForm), methods=["PUT"]),
    Route("/projects/{gid}", delete_project, methods=["DELETE"]),
    Route("/workspaces/{workspace}/projects", partial(index, Project, Filter)),
    Route("/workspaces/{workspace}/projects", partial(create, Project, NewProject), methods=["POST"]),
)
