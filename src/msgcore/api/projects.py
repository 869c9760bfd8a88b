"""Projects."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath
from msgspec import UNSET, UnsetType

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, MessageAnswer, Timestamp
from msgcore.api.api_keys import ListedKeyAnswer, listed_key
from msgcore.api.parameters import PauseRequest, read_object
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.scopes import ApiScope
from msgcore.services.pausing import PauseService
from msgcore.services.projects import PROJECT_ID, NewProject, ProjectService, ProjectView

Environment = Literal["development", "staging", "production"]
ProjectName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Description = Annotated[str, msgspec.Meta(max_length=10_000)]
ProjectSettings = dict[str, Any] | str | None


class CreateProject(Wire):
    """A new project; without `id`, one is made from the name."""

    name: ProjectName
    id: (
        Annotated[
            str,
            msgspec.Meta(
                pattern=PROJECT_ID,
                description="1 to 64 lower-case letters, digits, hyphens, underscores; first a letter or digit",
            ),
        ]
        | None
    ) = None
    description: Description | None = None
    environment: Environment = "development"
    is_default: bool = False
    settings: ProjectSettings = None


class UpdateProject(Wire):
    """What is left out stays as it is. `id` is there for compatible clients and must be the present one."""

    name: ProjectName | UnsetType = UNSET
    id: str | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    environment: Environment | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET
    settings: ProjectSettings | UnsetType = UNSET


class Person(Answer):
    """Somebody in a project."""

    id: str
    email: str
    name: str | None


class MemberAnswer(Answer):
    """A member of a project."""

    id: str
    project_id: str
    user_id: str
    role: str
    created_at: Timestamp
    updated_at: Timestamp
    user: Person


class ProjectCounts(Answer):
    """How many keys work, platforms are configured and members there are."""

    api_keys: int
    project_platforms: int
    members: int


class ProjectAnswer(Answer):
    """A project. While it is `paused`, messages to all its platforms are accepted and wait."""

    id: str
    name: str
    description: str | None
    environment: str
    is_default: bool
    settings: dict[str, Any] | None
    owner_id: str
    paused: bool
    paused_at: Timestamp | None
    paused_reason: str | None
    created_at: Timestamp
    updated_at: Timestamp
    owner: Person
    counts: ProjectCounts = msgspec.field(name="_count")


class ListedProject(ProjectAnswer):
    """A project with its members."""

    members: list[MemberAnswer]


class ProjectDetails(ProjectAnswer):
    """A project with the keys that work."""

    api_keys: list[ListedKeyAnswer]


class ProjectsController(Controller):
    """Projects: the tenants of an installation."""

    path = "/api/v1/projects"
    tags = ("Projects",)

    @post(opt=requires(ApiScope.PROJECTS_WRITE), summary="Create a project")
    async def create(
        self, request: ApiRequest, data: JsonBody[CreateProject], projects: Injected[ProjectService]
    ) -> ProjectAnswer:
        """The caller becomes its owner; with an API key, the owner of the key's project does."""
        new = NewProject(
            name=data.name,
            id=data.id,
            description=data.description,
            environment=data.environment,
            is_default=data.is_default,
            settings=read_object("settings", data.settings),
        )
        return ProjectAnswer(**_fields(await projects.create(request.user, new)))

    @get(opt=requires(ApiScope.PROJECTS_READ), summary="List the caller's projects")
    async def list_all(self, request: ApiRequest, projects: Injected[ProjectService]) -> list[ListedProject]:
        """An API key sees its own project, and the members with the scope for it; an administrator sees all."""
        views = await projects.list(request.user)
        return [ListedProject(**_fields(view), members=[member_answer(row) for row in view.members]) for view in views]

    @get("/{project:str}", opt=requires(ApiScope.PROJECTS_READ), summary="Get a project")
    async def show(
        self, request: ApiRequest, project: FromPath[str], projects: Injected[ProjectService]
    ) -> ProjectDetails:
        """With the keys that work, for those who may list these: none for others."""
        view = await projects.show(request.user, project)
        return ProjectDetails(**_fields(view), api_keys=[listed_key(row, []) for row in view.keys])

    @patch("/{project:str}", opt=requires(ApiScope.PROJECTS_WRITE), summary="Change a project")
    async def update(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[UpdateProject],
        projects: Injected[ProjectService],
    ) -> ProjectAnswer:
        """What is left out stays as it is."""
        changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
        if "settings" in changes:
            changes["settings"] = read_object("settings", changes["settings"])
        return ProjectAnswer(**_fields(await projects.update(request.user, project, changes)))

    @post("/{project:str}/pause", opt=requires(ApiScope.PROJECTS_WRITE), status_code=200, summary="Pause a project")
    async def pause(
        self,
        request: ApiRequest,
        project: FromPath[str],
        projects: Injected[ProjectService],
        pausing: Injected[PauseService],
        data: JsonBody[PauseRequest | None] = None,
    ) -> ProjectAnswer:
        """Messages to any of its platforms, later ones too, are accepted and wait until it is resumed."""
        await pausing.pause_project(request.user, project, data and data.reason)
        return ProjectAnswer(**_fields(await projects.get(project)))

    @post(
        "/{project:str}/resume",
        opt=requires(ApiScope.PROJECTS_WRITE),
        status_code=200,
        summary="Resume a paused project",
    )
    async def resume(
        self,
        request: ApiRequest,
        project: FromPath[str],
        projects: Injected[ProjectService],
        pausing: Injected[PauseService],
    ) -> ProjectAnswer:
        """What waited is sent; platforms that are themselves paused stay so."""
        await pausing.resume_project(request.user, project)
        return ProjectAnswer(**_fields(await projects.get(project)))

    @delete("/{project:str}", opt=requires(ApiScope.PROJECTS_WRITE), status_code=200, summary="Delete a project")
    async def remove(
        self, request: ApiRequest, project: FromPath[str], projects: Injected[ProjectService]
    ) -> MessageAnswer:
        """With everything in it; its keys must be revoked first. Owners and administrators only."""
        await projects.delete(request.user, project)
        return MessageAnswer(message=f"Project '{project}' deleted successfully")


def _fields(view: ProjectView) -> dict[str, Any]:
    row = view.row
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "environment": row.environment,
        "is_default": row.is_default,
        "settings": row.settings,
        "owner_id": row.owner_id,
        "paused": row.paused_at is not None,
        "paused_at": row.paused_at and to_iso(row.paused_at),
        "paused_reason": row.paused_reason,
        "created_at": to_iso(row.created_at),
        "updated_at": to_iso(row.updated_at),
        "owner": Person(id=row.owner_id, email=row.owner_email, name=row.owner_name),
        "counts": ProjectCounts(
            api_keys=row.api_key_count, project_platforms=row.platform_count, members=row.member_count
        ),
    }


def member_answer(row: Any) -> MemberAnswer:
    """A member's row as lists show it."""
    return MemberAnswer(
        id=row.id,
        project_id=row.project_id,
        user_id=row.user_id,
        role=row.role,
        created_at=to_iso(row.created_at),
        updated_at=to_iso(row.updated_at),
        user=Person(id=row.user_id, email=row.user_email, name=row.user_name),
    )
