"""The objects of the task manager as they lie in the database, and the fields that a client sees of them."""

from datetime import UTC, date, datetime
from time import time_ns
from typing import Annotated, Any, ClassVar

from sqlalchemy import BigInteger, Column, ForeignKey, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, validates
from starlette.authentication import BaseUser


class Link(str):
    """A path below the base of the API, which is shown as a whole URL."""


def now() -> datetime:
    """The time in UTC, which is in all columns. SQLite keeps no time zones."""
    return datetime.now(UTC).replace(tzinfo=None)


class Object(DeclarativeBase):
    """Anything with a gid. ``full`` are the fields of its record, ``compact`` those in lists and in other records."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {int: BigInteger}
    resource_type: ClassVar[str]
    compact: ClassVar[tuple[str, ...]] = ("gid", "resource_type", "name")
    full: ClassVar[tuple[str, ...]] = compact

    # When it was created, in ten nanoseconds: whatever their kind, no two have the same, and lists begin with the oldest.
    gid: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=lambda: time_ns() // 10)
    created_at: Mapped[datetime] = mapped_column(default=now)

    permalink_url = property(lambda self: Link(f"/{self.__tablename__}/{self.gid}"))


UserGid = Annotated[int, mapped_column(ForeignKey("users.gid"), index=True)]
WorkspaceGid = Annotated[int, mapped_column(ForeignKey("workspaces.gid"), index=True)]
# Of what goes when its task goes.
TaskGid = Annotated[int, mapped_column(ForeignKey("tasks.gid", ondelete="CASCADE"), index=True)]
Text = Annotated[str, mapped_column(default="")]
Modified = Annotated[datetime, mapped_column(default=now, onupdate=now)]


def pairs(name: str, *tables: str) -> Table:
    """Which objects of two tables belong together, as long as both are there."""
    keys = ((table, ForeignKey(f"{table}.gid", ondelete="CASCADE")) for table in tables)
    return Table(name, Object.metadata, *(Column[int](table, key, primary_key=True, index=True) for table, key in keys))


MEMBERS = pairs("members", "workspaces", "users")
MEMBERSHIPS = pairs("memberships", "projects", "tasks")


class Workspace(Object):
    __tablename__, resource_type = "workspaces", "workspace"
    name: Mapped[str]


class User(Object, BaseUser):
    """Somebody with a bearer token, of which only the SHA-256 is kept, or without."""

    __tablename__, resource_type = "users", "user"
    full = (*Object.compact, "email", "photo", "workspaces")
    photo = None
    name: Mapped[str]
    email: Mapped[str]
    token_digest: Mapped[str | None] = mapped_column(unique=True)
    workspaces: Mapped[list[Workspace]] = relationship(secondary=MEMBERS, order_by=Workspace.gid)


class Project(Object):
    """A project: public in its workspace, or private to its owner."""

    __tablename__, resource_type = "projects", "project"
    full = (*Object.compact, "notes", "archived", "public", "created_at", "modified_at", "owner", "workspace", "permalink_url")
    name: Mapped[Text]
    notes: Mapped[Text]
    archived: Mapped[bool] = mapped_column(default=False)
    public: Mapped[bool] = mapped_column(default=True)
    modified_at: Mapped[Modified]
    created_by_id: Mapped[UserGid]
    owner: Mapped[User] = relationship()
    workspace_id: Mapped[WorkspaceGid]
    workspace: Mapped[Workspace] = relationship()


class Task(Object):
    """A task; one with a parent is a subtask, and in the parent's projects: who sees the one sees the other."""

    __tablename__, resource_type = "tasks", "task"
    compact = (*Object.compact, "resource_subtype")
    full = (
        *(*compact, "created_at", "modified_at", "notes", "actual_time_minutes", "completed", "completed_at", "due_on", "due_at"),
        *("start_on", "start_at", "num_hearts", "num_likes", "assignee", "assignee_status", "workspace", "parent", "hearted"),
        *("liked", "tags", "hearts", "likes", "permalink_url", "projects", "followers", "memberships"),
    )
    # Of Asana's record, what is the same for all tasks here.
    resource_subtype, assignee_status, actual_time_minutes = "default_task", "upcoming", None
    due_at = start_on = start_at = None
    num_hearts, num_likes, hearted, liked, tags, hearts, likes = 0, 0, False, False, (), (), ()

    name: Mapped[Text]
    notes: Mapped[Text]
    due_on: Mapped[date | None]
    completed: Mapped[bool] = mapped_column(default=False)
    completed_at: Mapped[datetime | None]
    modified_at: Mapped[Modified]
    created_by_id: Mapped[UserGid]
    created_by: Mapped[User] = relationship(foreign_keys="Task.created_by_id")
    assignee_id: Mapped[UserGid | None]
    assignee: Mapped[User | None] = relationship(foreign_keys="Task.assignee_id")
    workspace_id: Mapped[WorkspaceGid]
    workspace: Mapped[Workspace] = relationship()
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("tasks.gid"), index=True)
    parent: Mapped["Task | None"] = relationship(remote_side="Task.gid")
    projects: Mapped[list[Project]] = relationship(secondary=MEMBERSHIPS, order_by=Project.gid)

    @validates("completed")
    def when_completed(self, _: str, completed: bool) -> bool:
        self.completed_at = (self.completed_at or now()) if completed else None
        return completed

    followers = property(lambda self: [self.created_by])
    memberships = property(lambda self: [{"project": project, "section": None} for project in self.projects])


class Story(Object):
    """A comment on a task."""

    __tablename__, resource_type = "stories", "story"
    compact = ("gid", "resource_type", "resource_subtype", "type", "text", "created_at", "created_by")
    full = (*compact, "target")
    resource_subtype, type = "comment_added", "comment"
    text: Mapped[str]
    created_by_id: Mapped[UserGid]
    created_by: Mapped[User] = relationship()
    target_id: Mapped[TaskGid]
    target: Mapped[Task] = relationship()


class Attachment(Object):
    """A file of a task, which has a ``size`` and on the disk its gid for a name, or a link to one elsewhere."""

    __tablename__, resource_type = "attachments", "attachment"
    compact = (*Object.compact, "resource_subtype")
    full = (*compact, "created_at", "parent", "size", "download_url", "view_url", "permalink_url")
    name: Mapped[str]
    size: Mapped[int | None]
    view_url: Mapped[str | None]
    parent_id: Mapped[TaskGid]
    parent: Mapped[Task] = relationship()

    resource_subtype = property(lambda self: "external" if self.size is None else "asana")
    download_url = property(lambda self: None if self.size is None else Link(f"{self.permalink_url}/download"))


class OrganizationExport(Object):
    """A request for all data of a workspace. Nobody ever fulfils it."""

    __tablename__, resource_type = "organization_exports", "organization_export"
    compact = full = ("gid", "resource_type", "created_at", "download_url", "state", "organization")
    download_url, state = None, "queued"
    created_by_id: Mapped[UserGid]
    organization_id: Mapped[WorkspaceGid]
    organization: Mapped[Workspace] = relationship()
