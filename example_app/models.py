"""The objects of the task manager as they lie in the database, and the fields that a client sees of them."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar

from sqlalchemy import BigInteger, Column, DateTime, Dialect, ForeignKey, Identity, Integer, Table
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column, relationship
from sqlalchemy.types import TypeDecorator
from starlette.authentication import BaseUser


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
    """Anything with a gid: all kinds are in one table, so that no two have the same. The tables of kinds are named as paths are.

    ``full`` are the fields of its record, ``compact`` those in lists and in other records.
    """

    __tablename__ = "objects"
    __table_args__ = ({"sqlite_autoincrement": True},)  # no gid is given twice
    compact: ClassVar[tuple[str, ...]] = ("gid", "resource_type", "name")
    full: ClassVar[tuple[str, ...]] = compact

    # PostgreSQL leaves the gids below to the demo data; SQLite counts on from the highest, if it is called INTEGER.
    gid: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), Identity(start=2001), primary_key=True)
    resource_type: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        kind = re.sub("(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        # A comment may be deleted by itself while its task is: that is no mistake.
        common = {"polymorphic_identity": kind, "confirm_deleted_rows": False}
        return common | {"polymorphic_on": "resource_type"} if kind == "object" else common

    @property
    def permalink_url(self) -> Link:
        return Link(f"/{self.__tablename__}/{self.gid}")


OwnGid = Annotated[int, mapped_column(ForeignKey(Object.gid), primary_key=True)]
UserGid = Annotated[int, mapped_column(ForeignKey("users.gid"), index=True)]
WorkspaceGid = Annotated[int, mapped_column(ForeignKey("workspaces.gid"), index=True)]
TaskGid = Annotated[int, mapped_column(ForeignKey("tasks.gid"), index=True)]
Text = Annotated[str, mapped_column(default="")]
Modified = Annotated[datetime, mapped_column(default=lambda: datetime.now(UTC), onupdate=lambda: datetime.now(UTC))]


def pairs(name: str, one: str, other: str) -> Table:
    """Which objects of two tables belong together, as long as both are there."""
    keys = {table: ForeignKey(f"{table}.gid", ondelete="CASCADE") for table in (one, other)}
    return Table(name, Base.metadata, *(Column[int](table, key, primary_key=True, index=True) for table, key in keys.items()))


MEMBERS = pairs("members", "workspaces", "users")
MEMBERSHIPS = pairs("memberships", "projects", "tasks")


class Workspace(Object):
    __tablename__ = "workspaces"
    gid: Mapped[OwnGid]
    name: Mapped[str]


class User(Object, BaseUser):
    __tablename__ = "users"
    full = (*Object.compact, "email", "photo", "workspaces")
    photo = None
    gid: Mapped[OwnGid]
    name: Mapped[str]
    email: Mapped[str]
    workspaces: Mapped[list[Workspace]] = relationship(secondary=MEMBERS, order_by=Workspace.gid)


class Token(Base):
    """A bearer token, of which only the SHA-256 is kept."""

    __tablename__ = "tokens"
    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UserGid]
    user: Mapped[User] = relationship()


class Project(Object):
    """A project: public in its workspace, or private to its owner."""

    __tablename__ = "projects"
    full = (*Object.compact, "notes", "archived", "public", "created_at", "modified_at", "owner", "workspace", "permalink_url")
    gid: Mapped[OwnGid]
    name: Mapped[Text]
    notes: Mapped[Text]
    archived: Mapped[bool] = mapped_column(default=False)
    public: Mapped[bool] = mapped_column(default=True)
    modified_at: Mapped[Modified]
    owner_id: Mapped[UserGid]
    owner: Mapped[User] = relationship(foreign_keys="Project.owner_id")
    workspace_id: Mapped[WorkspaceGid]
    workspace: Mapped[Workspace] = relationship(foreign_keys="Project.workspace_id")


class Task(Object):
    """A task; one with a parent is a subtask, and in the parent's projects: who sees the one sees the other."""

    __tablename__ = "tasks"
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

    gid: Mapped[OwnGid]
    name: Mapped[Text]
    notes: Mapped[Text]
    due_on: Mapped[date | None]
    completed_at: Mapped[datetime | None]
    modified_at: Mapped[Modified]
    workspace_id: Mapped[WorkspaceGid]
    workspace: Mapped[Workspace] = relationship(foreign_keys="Task.workspace_id")
    creator_id: Mapped[UserGid]
    creator: Mapped[User] = relationship(foreign_keys="Task.creator_id")
    assignee_id: Mapped[UserGid | None]
    assignee: Mapped[User | None] = relationship(foreign_keys="Task.assignee_id")
    parent_id: Mapped[TaskGid | None]
    parent: Mapped["Task | None"] = relationship(foreign_keys="Task.parent_id", remote_side="Task.gid", back_populates="subtasks")
    projects: Mapped[list[Project]] = relationship(secondary=MEMBERSHIPS, order_by=Project.gid, passive_deletes=True)
    subtasks: Mapped[list["Task"]] = relationship(foreign_keys="Task.parent_id", back_populates="parent", cascade="all")
    stories: Mapped[list["Story"]] = relationship(foreign_keys="Story.target_id", back_populates="target", cascade="all")
    attachments: Mapped[list["Attachment"]] = relationship(
        foreign_keys="Attachment.parent_id", back_populates="parent", cascade="all"
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


class Story(Object):
    """A comment on a task."""

    __tablename__ = "stories"
    compact = ("gid", "resource_type", "resource_subtype", "type", "text", "created_at", "created_by")
    full = (*compact, "target")
    resource_subtype, type = "comment_added", "comment"
    gid: Mapped[OwnGid]
    text: Mapped[str]
    created_by_id: Mapped[UserGid]
    created_by: Mapped[User] = relationship(foreign_keys="Story.created_by_id")
    target_id: Mapped[TaskGid]
    target: Mapped[Task] = relationship(foreign_keys="Story.target_id", back_populates="stories")


class Attachment(Object):
    """A file of a task, called ``file`` on the disk, or a link to one elsewhere."""

    __tablename__ = "attachments"
    compact = (*Object.compact, "resource_subtype")
    full = (*compact, "created_at", "parent", "size", "download_url", "view_url", "permalink_url")
    gid: Mapped[OwnGid]
    name: Mapped[str]
    resource_subtype: Mapped[str]
    file: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(BigInteger)
    view_url: Mapped[str | None]
    parent_id: Mapped[TaskGid]
    parent: Mapped[Task] = relationship(foreign_keys="Attachment.parent_id", back_populates="attachments")

    @property
    def download_url(self) -> Link | None:
        return Link(f"{self.permalink_url}/download") if self.file else None


class OrganizationExport(Object):
    """A request for all data of a workspace. Nobody ever fulfils it."""

    __tablename__ = "organization_exports"
    compact = full = ("gid", "resource_type", "created_at", "download_url", "state", "organization")
    download_url, state = None, "queued"
    gid: Mapped[OwnGid]
    organization_id: Mapped[WorkspaceGid]
    organization: Mapped[Workspace] = relationship(foreign_keys="OrganizationExport.organization_id")
