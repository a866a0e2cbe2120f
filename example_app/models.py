"""The objects of the task manager, what a client sees of them, and who may see them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, ColumnElement, DateTime, Dialect, ForeignKey, Identity, Integer, Table, and_, or_
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship
from sqlalchemy.types import TypeDecorator
from starlette.authentication import BaseUser

# SQLite counts up by itself only what is called INTEGER.
GID = BigInteger().with_variant(Integer, "sqlite")


class Timestamp(TypeDecorator[datetime]):
    """A moment in UTC. SQLite does not keep the time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


class Link(str):
    """A path below the base of the API, which is shown as a whole URL."""


class Base(AsyncAttrs, DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: Timestamp}


class Object(Base):
    """Anything with a gid: all kinds count on in one table, so that no two objects have the same. Tables are called as paths are.

    ``full`` are the fields of its record, ``compact`` those of its record in lists and in other records.
    """

    __tablename__ = "objects"
    # A gid is never given twice.
    __table_args__ = ({"sqlite_autoincrement": True},)
    compact: ClassVar[tuple[str, ...]] = ("gid", "resource_type", "name")
    full: ClassVar[tuple[str, ...]] = compact

    # What is below is for the demo data.
    gid: Mapped[int] = mapped_column(GID, Identity(start=2001), primary_key=True)
    resource_type: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        kind = re.sub("(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        # What hangs on an object may be deleted by itself while the object is: that is no mistake.
        common = {"polymorphic_identity": kind, "confirm_deleted_rows": False}
        return common | {"polymorphic_on": "resource_type"} if kind == "object" else common

    @classmethod
    def visible_to(cls, user: User) -> ColumnElement[bool]:
        """The condition under which a user may see an object of this kind."""
        raise NotImplementedError

    @property
    def permalink_url(self) -> Link:
        return Link(f"/{self.__tablename__}/{self.gid}")


def key_of(table: str, **options: Any) -> Any:
    """A column that refers to an object."""
    return mapped_column(ForeignKey(f"{table}.gid"), index=True, **options)


def own_key() -> Any:
    """The primary key of a kind of object."""
    return mapped_column(ForeignKey(Object.gid), primary_key=True)


MEMBERSHIPS = Table(
    "memberships",
    Base.metadata,
    Column("workspace_id", ForeignKey("workspaces.gid"), primary_key=True),
    Column("user_id", ForeignKey("users.gid"), primary_key=True),
)
PROJECT_TASKS = Table(
    "project_tasks",
    Base.metadata,
    Column("project_id", ForeignKey("projects.gid", ondelete="CASCADE"), primary_key=True),
    Column("task_id", ForeignKey("tasks.gid", ondelete="CASCADE"), primary_key=True, index=True),
)


class Workspace(Object):
    __tablename__ = "workspaces"

    gid: Mapped[int] = own_key()
    name: Mapped[str]

    @classmethod
    def visible_to(cls, user: User) -> ColumnElement[bool]:
        return cls.gid.in_(user.workspace_ids)


class User(Object, BaseUser):
    __tablename__ = "users"
    full: ClassVar = (*Object.compact, "email", "photo", "workspaces")
    photo = None

    gid: Mapped[int] = own_key()
    name: Mapped[str]
    email: Mapped[str]
    workspaces: Mapped[list[Workspace]] = relationship(secondary=MEMBERSHIPS, order_by=Workspace.gid)

    @property
    def workspace_ids(self) -> list[int]:
        return [workspace.gid for workspace in self.workspaces]

    @classmethod
    def visible_to(cls, user: User) -> ColumnElement[bool]:
        return cls.workspaces.any(Workspace.gid.in_(user.workspace_ids))


class Token(Base):
    """A bearer token, of which only the SHA-256 is kept."""

    __tablename__ = "tokens"

    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = key_of("users")
    user: Mapped[User] = relationship()


class Project(Object):
    __tablename__ = "projects"
    full: ClassVar = (
        *Object.compact, "notes", "archived", "public", "created_at", "modified_at", "owner", "workspace", "permalink_url"
    )  # fmt: skip

    gid: Mapped[int] = own_key()
    name: Mapped[str] = mapped_column(default="")
    notes: Mapped[str] = mapped_column(default="")
    archived: Mapped[bool] = mapped_column(default=False)
    public: Mapped[bool] = mapped_column(default=True)
    modified_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC), onupdate=lambda: datetime.now(UTC))
    owner_id: Mapped[int] = key_of("users")
    workspace_id: Mapped[int] = key_of("workspaces")
    owner: Mapped[User] = relationship(foreign_keys=owner_id)
    workspace: Mapped[Workspace] = relationship(foreign_keys=workspace_id)

    @classmethod
    def visible_to(cls, user: User) -> ColumnElement[bool]:
        return and_(cls.workspace_id.in_(user.workspace_ids), or_(cls.public, cls.owner_id == user.gid))


class Task(Object):
    """A task; one with a parent is a subtask, and in the parent's projects: who sees the one sees the other."""

    __tablename__ = "tasks"
    compact: ClassVar = (*Object.compact, "resource_subtype")
    full: ClassVar = (
        "gid", "resource_type", "created_at", "modified_at", "name", "notes", "actual_time_minutes", "completed", "completed_at",
        "due_on", "due_at", "start_on", "start_at", "resource_subtype", "num_hearts", "num_likes", "assignee", "assignee_status",
        "workspace", "parent", "hearted", "liked", "tags", "hearts", "likes", "permalink_url", "projects", "followers",
        "memberships",
    )  # fmt: skip
    # Of Asana's record, what nobody can change here.
    resource_subtype, assignee_status = "default_task", "upcoming"
    actual_time_minutes = due_at = start_on = start_at = None
    num_hearts, num_likes, hearted, liked, tags, hearts, likes = 0, 0, False, False, (), (), ()

    gid: Mapped[int] = own_key()
    name: Mapped[str] = mapped_column(default="")
    notes: Mapped[str] = mapped_column(default="")
    due_on: Mapped[date | None]
    completed_at: Mapped[datetime | None]
    modified_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC), onupdate=lambda: datetime.now(UTC))
    assignee_id: Mapped[int | None] = key_of("users")
    creator_id: Mapped[int] = key_of("users")
    workspace_id: Mapped[int] = key_of("workspaces")
    parent_id: Mapped[int | None] = key_of("tasks")
    assignee: Mapped[User | None] = relationship(foreign_keys=assignee_id)
    creator: Mapped[User] = relationship(foreign_keys=creator_id)
    workspace: Mapped[Workspace] = relationship(foreign_keys=workspace_id)
    parent: Mapped[Task | None] = relationship(foreign_keys=parent_id, remote_side=gid, back_populates="subtasks")
    projects: Mapped[list[Project]] = relationship(secondary=PROJECT_TASKS, order_by=Project.gid, passive_deletes=True)
    subtasks: Mapped[list[Task]] = relationship(foreign_keys=parent_id, back_populates="parent", cascade="all")
    stories: Mapped[list[Story]] = relationship(back_populates="target", cascade="all", foreign_keys="Story.target_id")
    attachments: Mapped[list[Attachment]] = relationship(
        back_populates="parent", cascade="all", foreign_keys="Attachment.parent_id"
    )

    @property
    def completed(self) -> bool:
        return self.completed_at is not None

    @completed.setter
    def completed(self, completed: bool) -> None:
        if completed != self.completed:
            self.completed_at = datetime.now(UTC) if completed else None

    @property
    def followers(self) -> list[User]:
        return [self.creator]

    @property
    def memberships(self) -> list[dict[str, Any]]:
        return [{"project": project, "section": None} for project in self.projects]

    @classmethod
    def visible_to(cls, user: User) -> ColumnElement[bool]:
        hidden = and_(cls.projects.any(), ~cls.projects.any(Project.visible_to(user)))
        return and_(cls.workspace_id.in_(user.workspace_ids), ~hidden)


class Story(Object):
    """A comment on a task."""

    __tablename__ = "stories"
    compact: ClassVar = ("gid", "resource_type", "resource_subtype", "type", "text", "created_at", "created_by")
    full: ClassVar = (*compact, "target")
    resource_subtype, type = "comment_added", "comment"

    gid: Mapped[int] = own_key()
    text: Mapped[str]
    created_by_id: Mapped[int] = key_of("users")
    target_id: Mapped[int] = key_of("tasks")
    created_by: Mapped[User] = relationship(foreign_keys=created_by_id)
    target: Mapped[Task] = relationship(foreign_keys=target_id, back_populates="stories")

    @classmethod
    def visible_to(cls, user: User) -> ColumnElement[bool]:
        return cls.target.has(Task.visible_to(user))


class Attachment(Object):
    """A file of a task, or a link to one elsewhere. ``file`` is the name under which it lies on the disk."""

    __tablename__ = "attachments"
    compact: ClassVar = (*Object.compact, "resource_subtype")
    full: ClassVar = (*compact, "created_at", "host", "parent", "size", "download_url", "view_url", "permalink_url")

    gid: Mapped[int] = own_key()
    name: Mapped[str]
    file: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(BigInteger)
    view_url: Mapped[str | None]
    parent_id: Mapped[int] = key_of("tasks")
    parent: Mapped[Task] = relationship(foreign_keys=parent_id, back_populates="attachments")

    @property
    def resource_subtype(self) -> str:
        return "asana" if self.file else "external"

    @property
    def host(self) -> str:
        return self.resource_subtype

    @property
    def download_url(self) -> Link | None:
        return Link(f"{self.permalink_url}/download") if self.file else None

    @classmethod
    def visible_to(cls, user: User) -> ColumnElement[bool]:
        return cls.parent.has(Task.visible_to(user))


class OrganizationExport(Object):
    """A request for all data of a workspace. Nobody ever fulfils it."""

    __tablename__ = "organization_exports"
    compact: ClassVar = ("gid", "resource_type", "created_at", "download_url", "state", "organization")
    full: ClassVar = compact
    download_url, state = None, "queued"

    gid: Mapped[int] = own_key()
    organization_id: Mapped[int] = key_of("workspaces")
    organization: Mapped[Workspace] = relationship(foreign_keys=organization_id)

    @classmethod
    def visible_to(cls, user: User) -> ColumnElement[bool]:
        return cls.organization_id.in_(user.workspace_ids)
