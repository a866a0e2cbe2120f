"""Who asks, by a bearer token, and what they may see."""

from collections.abc import Callable
from hashlib import sha256

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import selectinload
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError
from starlette.requests import HTTPConnection

from example_app.database import Database
from example_app.models import Attachment, Object, OrganizationExport, Project, Story, Task, User, Workspace


def digest(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode()).hexdigest()


class BearerToken(AuthenticationBackend):
    """Makes the token's user the ``request.user``. A batch comes through here, and so does each of its actions."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, User]:
        scheme, _, token = conn.headers.get("authorization", "").partition(" ")
        statement = select(User).where(User.token_digest == digest(token)).options(selectinload(User.workspaces))
        # A session of its own, not that of the request: a batch would hold its connection while its actions wait for one each,
        # and as many batches as there are connections would wait for each other forever.
        async with self.database.session() as session:
            user = await session.scalar(statement)
        if user is None or scheme.lower() != "bearer":
            raise AuthenticationError("Not Authorized")
        return AuthCredentials(["authenticated"]), user


def visible(kind: type[Object], user: User) -> ColumnElement[bool]:
    """The condition under which ``user`` may see an object of this kind: it is in a workspace of theirs, and not private."""
    mine = [workspace.gid for workspace in user.workspaces]
    conditions: dict[type[Object], Callable[[], ColumnElement[bool]]] = {
        Workspace: lambda: Workspace.gid.in_(mine),
        User: lambda: User.workspaces.any(Workspace.gid.in_(mine)),
        Project: lambda: Project.workspace_id.in_(mine) & (Project.public | (Project.created_by_id == user.gid)),
        Task: lambda: Task.workspace_id.in_(mine) & (~Task.projects.any() | Task.projects.any(visible(Project, user))),
        Story: lambda: Story.target.has(visible(Task, user)),
        Attachment: lambda: Attachment.parent.has(visible(Task, user)),
        OrganizationExport: lambda: OrganizationExport.organization_id.in_(mine),
    }
    return conditions[kind]()
