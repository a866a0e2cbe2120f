"""Tasks and subtasks, the search for them, and stories: the comments on a task."""

from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Required

from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from batchkit import batchable
from example_app.api import Gid, Json, Text, data, form, query
from example_app.models import Project, Story, Task, Workspace, now
from example_app.objects import answer, create, delete, find, found, index, listed, show, update

CHANGES = form(name=Text, notes=Text, completed=bool, due_on=date | None, assignee=Gid | None)
NEW = form(CHANGES, workspace=Gid | None, parent=Gid | None, projects=Annotated[list[Gid], Meta(max_length=20)])
FILTER = form(project=str, assignee=str, workspace=str, completed_since=str)
SEARCH = form(text=Text)


async def list_tasks(request: Request) -> Json:
    """The tasks of a project, or those of somebody in a workspace."""
    wanted = query(request, FILTER)
    text = wanted.pop("completed_since", "0001-01-01")
    try:
        since = now() if text == "now" else datetime.fromisoformat(text)
        since = since.astimezone(UTC).replace(tzinfo=None) if since.tzinfo else since
    except (ValueError, OverflowError):
        raise HTTPException(400, "completed_since: Give a date, a time like 2030-12-31T23:59:59Z, or now") from None
    recent = Task.completed_at.is_(None) | (Task.completed_at >= since)
    if wanted.keys() == {"project"}:
        project = await find(request, Project, wanted["project"])
        return await listed(request, Task, recent, Task.projects.contains(project), Task.parent_id.is_(None))
    if wanted.keys() == {"assignee", "workspace"}:
        values = await found(request, Task, wanted)
        return await listed(request, Task, recent, Task.workspace == values["workspace"], Task.assignee == values["assignee"])
    raise HTTPException(400, "Must specify exactly one of project, tag, section, user task list, or assignee + workspace")


@batchable(limit="search")  # Asana allows fewer searches than other requests: see asana_limits
async def search_tasks(request: Request) -> Json:
    workspace = await find(request, Workspace, request.path_params["gid"])
    text = query(request, SEARCH).get("text", "")
    contained = Task.name.icontains(text, autoescape=True) | Task.notes.icontains(text, autoescape=True)
    return await listed(request, Task, Task.workspace == workspace, contained)


async def create_task(request: Request) -> Json:
    """Create a task in the workspace that it says, or in that of its parent or projects."""
    values = await data(request, NEW)
    projects = [await find(request, Project, gid) for gid in values.pop("projects", ())]
    values = await found(request, Task, values)
    if parent := values.get("parent"):
        projects += await request.state.session.run_sync(lambda _: parent.projects)
    workspace = values.pop("workspace", None)
    homes = {thing.workspace_id for thing in (parent, *projects) if thing} | ({workspace.gid} if workspace else set())
    if not homes:
        raise HTTPException(400, "You should specify one of workspace, parent, projects")
    if len(homes) > 1 or len({project.public for project in projects}) > 1:
        raise HTTPException(400, "projects: All must be in the workspace of the parent, and all public or all private")
    values |= {"workspace_id": homes.pop(), "projects": list(dict.fromkeys(projects))}
    return await answer(request, Task(created_by_id=request.user.gid, **values), 201)


ROUTES = (
    Route("/tasks", list_tasks),
    Route("/tasks", create_task, methods=["POST"]),
    Route("/tasks/{gid}", partial(show, Task)),
    Route("/tasks/{gid}", partial(update, Task, CHANGES), methods=["PUT"]),
    Route("/tasks/{gid}", partial(delete, Task), methods=["DELETE"]),
    Route("/tasks/{parent}/subtasks", partial(index, Task, None)),
    Route("/tasks/{parent}/subtasks", create_task, methods=["POST"]),
    Route("/tasks/{target}/stories", partial(index, Story, None)),
    Route("/tasks/{target}/stories", partial(create, Story, form(target=str, text=Required[Text])), methods=["POST"]),
    Route("/stories/{gid}", partial(show, Story)),
    Route("/projects/{project}/tasks", list_tasks),
    Route("/workspaces/{gid}/tasks/search", search_tasks),
)
