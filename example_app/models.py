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
    # When it was created, in ten nanoseconds: whatever their kind, no two have the same, and lists have the oldest first.
    gid: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=lambda: time_ns() // 10)
    created_at: Mapped[datetime] = mapped_column(default=now)
    permalink_url = property(lambda self: Link(f"/{self.__tablename__}/{self.gid}"))


Text = Annotated[str, mapped_column(default="")]


def reference(kind: str, *, nullable: bool = False, **options: Any) -> tuple[Any, Any]:
    """The column with the gid of an object of another kind, and that object."""
    column = mapped_column(ForeignKey(f"{kind.lower()}s.gid"), index=True, nullable=nullable)
    return column, relationship(kind, foreign_keys=column, **options)


def pairs(name: str, *tables: str) -> Table:
    """Which objects of two tables belong together."""
    keys = ((table, ForeignKey(f"{table}.gid")) for table in tables)
    return Table(name, Object.metadata, *(Column[int](table, key, primary_key=True, index=True) for table, key in keys))


MEMBERS = pairs("members", "workspaces", "users")
MEMBERSHIPS = pairs("memberships", "projects", "tasks")


class Workspace(Object):
    __tablename__, resource_type = "workspaces", "workspace"
    name: Mapped[str]


class User(Object, BaseUser):
    __tablename__, resource_type = "users", "user"
    full = (*Object.compact, "email", "photo", "workspaces")
    photo = None
    name: Mapped[str]
    email: Mapped[str]
    token_digest: Mapped[str | None] = mapped_column(unique=True)
    workspaces: Mapped[list[Workspace]] = relationship(secondary=MEMBERS, order_by=Workspace.gid)


class Project(Object):
    __tablename__, resource_type = "projects", "project"
    full = (*Object.compact, "notes", "archived", "public", "created_at", "owner", "workspace", "permalink_url")
    name: Mapped[Text]
    notes: Mapped[Text]
    archived: Mapped[bool] = mapped_column(default=False)
    public: Mapped[bool] = mapped_column(default=True)
    created_by_id, owner = reference("User")
    workspace_id, workspace = reference("Workspace")
    tasks: Mapped[list["Task"]] = relationship(secondary=MEMBERSHIPS, back_populates="projects")


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
    modified_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)
    created_by_id, created_by = reference("User")
    assignee_id, assignee = reference("User", nullable=True)
    workspace_id, workspace = reference("Workspace")
    parent_id, parent = reference("Task", nullable=True, remote_side="Task.gid", back_populates="subtasks")
    projects: Mapped[list[Project]] = relationship(secondary=MEMBERSHIPS, order_by=Project.gid, back_populates="tasks")
    # What goes when the task goes.
    subtasks: Mapped[list["Task"]] = relationship(back_populates="parent", cascade="all")
    stories: Mapped[list["Story"]] = relationship(back_populates="target", cascade="all")
    attachments: Mapped[list["Attachment"]] = relationship(back_populates="parent", cascade="all")

    followers = property(lambda self: [self.created_by])
    memberships = property(lambda self: [{"project": project, "section": None} for project in self.projects])

    @validates("completed")
    def when_completed(self, _: str, completed: bool) -> bool:
        self.completed_at = (self.completed_at or now()) if completed else None
        return completed


class Story(Object):
    __tablename__, resource_type = "stories", "story"
    compact = ("gid", "resource_type", "resource_subtype", "type", "text", "created_at", "created_by")
    full = (*compact, "target")
    resource_subtype, type = "comment_added", "comment"
    text: Mapped[str]
    created_by_id, created_by = reference("User")
    target_id, target = reference("Task", back_populates="stories")


class Attachment(Object):
    __tablename__, resource_type = "attachments", "attachment"
    compact = (*Object.compact, "resource_subtype")
    full = (*compact, "created_at", "parent", "size", "download_url", "permalink_url")
    resource_subtype = "asana"
    name: Mapped[str]
    size: Mapped[int]
    parent_id, parent = reference("Task", back_populates="attachments")
    download_url = property(lambda self: Link(f"{self.permalink_url}/download"))


class OrganizationExport(Object):
    """A request for all data of a workspace. Nobody ever fulfils it."""

    __tablename__, resource_type = "organization_exports", "organization_export"
    compact = full = ("gid", "resource_type", "created_at", "download_url", "state", "organization")
    download_url, state = None, "queued"
    created_by_id, created_by = reference("User")
    organization_id, organization = reference("Workspace")
