"""Tasks and subtasks, and the search for them."""

from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, TypedDict

from msgspec import Meta
from sqlalchemy import ColumnElement, select
from sqlalchemy import delete as deletion
from starlette.requests import Request
from starlette.routing import Route

from batchkit import batchable
from example_app.api import ApiError, Gid, Json, Text, data, query
from example_app.attachments import remove_files
from example_app.models import Attachment, Project, Task, Workspace, now
from example_app.objects import answer, find, found, index, listed, show, update


class TaskForm(TypedDict, total=False):
    name: Text
    notes: Text
    completed: bool
    due_on: date | None
    assignee: Gid | None


class NewTask(TaskForm, total=False):
    workspace: Gid | None
    parent: Gid | None
    projects: Annotated[list[Gid], Meta(max_length=20)]


class Filter(TypedDict, total=False):
    project: str
    assignee: str
    workspace: str
    completed_since: str


class Search(TypedDict, total=False):
    text: Text
    completed: bool


async def list_tasks(request: Request) -> Json:
    """The tasks of a project, or those of somebody in a workspace."""
    wanted = query(request, Filter)
    match wanted:
        case {"project": gid} if not wanted.keys() & {"assignee", "workspace"}:
            conditions = [Task.projects.contains(await find(request, Project, gid)), Task.parent_id.is_(None)]
        case {"assignee": assignee, "workspace": workspace} if "project" not in wanted:
            values = await found(request, Task, {"workspace": workspace, "assignee": assignee})
            conditions = [Task.workspace == values["workspace"], Task.assignee == values["assignee"]]
        case _:
            raise ApiError(400, "Must specify exactly one of project, tag, section, user task list, or assignee + workspace")
    if "completed_since" in wanted:
        since = moment("completed_since", wanted["completed_since"])
        conditions.append(Task.completed_at.is_(None) | (Task.completed_at >= since))
    return await listed(request, Task, *conditions)


# Asana allows fewer searches than other requests: see asana_limits.
@batchable(limit="search")
async def search_tasks(request: Request) -> Json:
    wanted = query(request, Search)
    conditions = [Task.workspace == await find(request, Workspace, request.path_params["gid"])]
    if text := wanted.get("text"):
        conditions.append(Task.name.icontains(text, autoescape=True) | Task.notes.icontains(text, autoescape=True))
    if "completed" in wanted:
        conditions.append(Task.completed == wanted["completed"])
    return await listed(request, Task, *conditions)


async def create_task(request: Request) -> Json:
    """Create a task in the workspace that it says, or in that of its parent or projects."""
    values = await data(request, NewTask)
    projects = [await find(request, Project, gid) for gid in values.pop("projects", ())]
    values = await found(request, Task, values)
    if parent := values.get("parent"):
        projects += await request.state.session.run_sync(lambda _: parent.projects)
    homes = {thing.workspace_id for thing in (parent, *projects) if thing}
    if workspace := values.pop("workspace", None):
        homes.add(workspace.gid)
    if not homes:
        raise ApiError(400, "You should specify one of workspace, parent, projects")
    if len(homes) > 1:
        raise ApiError(400, "workspace: Parent and projects must be in the same workspace")
    values |= {"workspace_id": homes.pop(), "projects": list(dict.fromkeys(projects))}
    return await answer(request, Task(created_by_id=request.user.gid, **values), 201)


async def delete_task(request: Request) -> Json:
    task = await find(request, Task, request.path_params["gid"])
    await delete_tasks(request, Task.gid == task.gid)
    return Json({"data": {}})


async def delete_tasks(request: Request, condition: ColumnElement[bool]) -> None:
    """Delete tasks, and all those below them."""
    tree = select(Task.gid).where(condition).cte(recursive=True)
    gids = select(tree.union(select(Task.gid).join(tree, Task.parent_id == tree.c.gid)).c.gid)
    await remove_files(request, Attachment.parent_id.in_(gids))
    await request.state.session.execute(deletion(Task).where(Task.gid.in_(gids)))


def moment(name: str, text: str) -> datetime:
    """The time that a query parameter says; ``now`` is one."""
    try:
        time = now() if text == "now" else datetime.fromisoformat(text)
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError):
        raise ApiError(400, f"{name}: Give a date, a time like 2030-12-31T23:59:59Z, or now") from None


ROUTES = (
    Route("/tasks", list_tasks),
    Route("/tasks", create_task, methods=["POST"]),
    Route("/tasks/{gid}", partial(show, Task)),
    Route("/tasks/{gid}", partial(update, Task, TaskForm), methods=["PUT"]),
    Route("/tasks/{gid}", delete_task, methods=["DELETE"]),
    Route("/tasks/{parent}/subtasks", partial(index, Task, None)),
    Route("/tasks/{parent}/subtasks", create_task, methods=["POST"]),
    Route("/projects/{project}/tasks", list_tasks),
    Route("/workspaces/{gid}/tasks/search", search_tasks),
)
