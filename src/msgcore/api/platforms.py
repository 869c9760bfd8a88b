"""Configured platforms of a project."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.datastructures import CacheControlHeader
from litestar.params import FromPath, QueryParameter
from msgspec import UNSET, UnsetType

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, MessageAnswer, Timestamp
from msgcore.api.parameters import Limit, PauseRequest
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.private import private_repr
from msgcore.core.scopes import ApiScope, Principal
from msgcore.services.authenticator import Authenticator
from msgcore.services.pausing import PauseService, pause_of
from msgcore.services.platforms import NewPlatform, PlatformService, PlatformView

PlatformLabel = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=20,
        pattern=r"^[a-zA-Z0-9.\s-]+$",
        description="1 to 20 letters, digits, spaces, hyphens and dots",
    ),
]
Description = Annotated[str, msgspec.Meta(max_length=10_000)]


class CreatePlatform(Wire):
    """A platform to configure; `GET /api/v1/platforms/supported` lists names and credentials."""

    __repr__ = private_repr

    platform: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    name: PlatformLabel
    credentials: dict[str, Any]
    description: Description | None = None
    is_active: bool = True
    test_mode: bool = False


class UpdatePlatform(Wire):
    """What is left out stays. `credentials` are replaced as a whole; a value of `*****` keeps the stored one."""

    __repr__ = private_repr

    name: PlatformLabel | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    credentials: dict[str, Any] | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    test_mode: bool | UnsetType = UNSET


class PlatformAnswer(Answer):
    """A configured platform.

    While it is `paused`, messages to it are accepted and wait. `pausedBy` tells what ends that: `user` (resume it),
    `credentials` (the platform refused them: change them, or resume it), `project` (resume the project).

    `webhookUrl` is where the platform posts. Whoever has it may post there too, so it ends in `*****` for callers who
    may not change platforms.
    """

    id: str
    platform: str
    name: str
    description: str | None
    is_active: bool
    test_mode: bool
    paused: bool
    paused_at: Timestamp | None
    paused_by: Literal["user", "credentials", "project"] | None
    paused_reason: str | None
    webhook_url: str
    created_at: Timestamp
    updated_at: Timestamp


class PlatformDetails(PlatformAnswer):
    """A configured platform with its credentials, every value masked."""

    credentials: dict[str, str]


class RegisteredWebhook(Answer):
    """The platform posts what happens to `webhookUrl`; `webhookInfo` is what it says about that."""

    message: str
    webhook_url: str
    webhook_info: dict[str, Any]


class QrCodeAnswer(Answer):
    """What links a device: `qrCode` is a picture as a data: URL, while `status` is `ready`."""

    message: str
    qr_code: str | None
    status: Literal["ready", "pending", "linked"]


class InboxAnswer(Answer):
    """What arrived at a sandbox platform, newest first."""

    messages: list[dict[str, Any]]


class PlatformsController(Controller):
    """Platforms that a project is connected to."""

    path = "/api/v1/projects/{project:str}/platforms"
    tags = ("Platforms",)

    @post(opt=requires(ApiScope.PLATFORMS_WRITE), summary="Configure a platform")
    async def create(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[CreatePlatform],
        platforms: Injected[PlatformService],
    ) -> PlatformAnswer:
        """Credentials are checked against the platform's declaration and stored encrypted."""
        new = NewPlatform(
            platform=data.platform,
            name=data.name,
            credentials=data.credentials,
            description=data.description,
            is_active=data.is_active,
            test_mode=data.test_mode,
        )
        return PlatformAnswer(**_fields(request.user, await platforms.create(request.user, project, new)))

    @get(opt=requires(ApiScope.PLATFORMS_READ), summary="List configured platforms")
    async def list_all(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platforms: Injected[PlatformService],
        authenticator: Injected[Authenticator],
    ) -> list[PlatformAnswer]:
        """Oldest first, without credentials."""
        views = await platforms.list(project)
        may_post = await authenticator.allows(request.user, project_id=project, scope=ApiScope.PLATFORMS_WRITE)
        return [PlatformAnswer(**_fields(request.user, view if may_post else view.masked())) for view in views]

    @get("/{platform_id:str}", opt=requires(ApiScope.PLATFORMS_READ), summary="Get a configured platform")
    async def show(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_id: FromPath[str],
        platforms: Injected[PlatformService],
        authenticator: Injected[Authenticator],
    ) -> PlatformDetails:
        """With masked credentials."""
        view = await platforms.get(project, platform_id)
        may_post = await authenticator.allows(request.user, project_id=project, scope=ApiScope.PLATFORMS_WRITE)
        return PlatformDetails(
            **_fields(request.user, view if may_post else view.masked()), credentials=view.credentials
        )

    @patch("/{platform_id:str}", opt=requires(ApiScope.PLATFORMS_WRITE), summary="Change a configured platform")
    async def update(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_id: FromPath[str],
        data: JsonBody[UpdatePlatform],
        platforms: Injected[PlatformService],
    ) -> PlatformAnswer:
        """New credentials, or switching it on, also resume a platform whose credentials were refused."""
        changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
        return PlatformAnswer(
            **_fields(request.user, await platforms.update(request.user, project, platform_id, changes))
        )

    @delete(
        "/{platform_id:str}",
        opt=requires(ApiScope.PLATFORMS_WRITE),
        status_code=200,
        summary="Remove a configured platform",
    )
    async def remove(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_id: FromPath[str],
        platforms: Injected[PlatformService],
    ) -> MessageAnswer:
        """What is still queued for it will fail."""
        await platforms.delete(request.user, project, platform_id)
        return MessageAnswer(message="Platform removed successfully")

    @post(
        "/{platform_id:str}/pause",
        opt=requires(ApiScope.PLATFORMS_WRITE),
        status_code=200,
        summary="Pause a configured platform",
    )
    async def pause(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_id: FromPath[str],
        platforms: Injected[PlatformService],
        pausing: Injected[PauseService],
        data: JsonBody[PauseRequest | None] = None,
    ) -> PlatformAnswer:
        """Messages to it are accepted and wait until it is resumed; what is being sent at this moment is finished."""
        await pausing.pause_platform(request.user, project, platform_id, data and data.reason)
        return PlatformAnswer(**_fields(request.user, await platforms.get(project, platform_id)))

    @post(
        "/{platform_id:str}/resume",
        opt=requires(ApiScope.PLATFORMS_WRITE),
        status_code=200,
        summary="Resume a paused platform",
    )
    async def resume(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_id: FromPath[str],
        platforms: Injected[PlatformService],
        pausing: Injected[PauseService],
    ) -> PlatformAnswer:
        """Whoever paused it; what waited is sent. One in a paused project goes on when the project does."""
        await pausing.resume_platform(request.user, project, platform_id)
        return PlatformAnswer(**_fields(request.user, await platforms.get(project, platform_id)))

    @post(
        "/{platform_id:str}/register-webhook",
        opt=requires(ApiScope.PLATFORMS_WRITE),
        summary="Register the webhook with the platform",
    )
    async def register_webhook(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_id: FromPath[str],
        platforms: Injected[PlatformService],
    ) -> RegisteredWebhook:
        """400 for platforms that have no webhook to register. An account that was polled for is so no longer."""
        url, info = await platforms.register_webhook(request.user, project, platform_id)
        return RegisteredWebhook(message="Webhook registered successfully", webhook_url=url, webhook_info=info)

    @get(
        "/{platform_id:str}/qr-code",
        opt=requires(ApiScope.PLATFORMS_WRITE),
        cache_control=CacheControlHeader(no_store=True),
        summary="Get the QR code that links a device",
    )
    async def qr_code(
        self, project: FromPath[str], platform_id: FromPath[str], platforms: Injected[PlatformService]
    ) -> QrCodeAnswer:
        """Made by the platform just now, and valid for a minute at most; 400 for platforms that link no device.

        It asks for `platforms:write`: whoever scans it may read and write as the account.
        """
        found = await platforms.qr_code(project, platform_id)
        if found.image is not None:
            return QrCodeAnswer(message="QR code retrieved successfully", qr_code=found.image, status="ready")
        if found.linked:
            return QrCodeAnswer(message="A device is linked already", qr_code=None, status="linked")
        return QrCodeAnswer(message="There is no QR code yet: ask again in a moment", qr_code=None, status="pending")

    @get(
        "/{platform_id:str}/inbox",
        opt=requires(ApiScope.PLATFORMS_READ, ApiScope.MESSAGES_READ),
        summary="Read a sandbox's inbox",
    )
    async def read_inbox(
        self,
        project: FromPath[str],
        platform_id: FromPath[str],
        platforms: Injected[PlatformService],
        limit: Limit = 50,
        before: Annotated[UUID | None, QueryParameter(description="`id` of the last entry of the page before")] = None,
    ) -> InboxAnswer:
        """What was sent to a sandbox platform, newest first; 400 for other platforms."""
        start = None if before is None else str(before)
        return InboxAnswer(messages=await platforms.read_inbox(project, platform_id, limit=limit, before=start))

    @delete(
        "/{platform_id:str}/inbox",
        opt=requires(ApiScope.PLATFORMS_WRITE),
        status_code=200,
        summary="Empty a sandbox's inbox",
    )
    async def clear_inbox(
        self,
        request: ApiRequest,
        project: FromPath[str],
        platform_id: FromPath[str],
        platforms: Injected[PlatformService],
    ) -> MessageAnswer:
        """400 for other platforms."""
        removed = await platforms.clear_inbox(request.user, project, platform_id)
        return MessageAnswer(message=f"{removed} messages removed")


def _fields(reader: Principal, view: PlatformView) -> dict[str, Any]:
    row, pause = view.row, pause_of(view.row)
    reason = None if pause is None else pause.reason
    if pause is not None and pause.by == "credentials" and not reader.reads_messages:
        reason = "the platform refused the credentials"  # its own words may repeat what was sent
    return {
        "id": row.id,
        "platform": row.platform,
        "name": row.name,
        "description": row.description,
        "is_active": row.is_active,
        "test_mode": row.test_mode,
        "paused": pause is not None,
        "paused_at": None if pause is None else to_iso(pause.at),
        "paused_by": None if pause is None else pause.by,
        "paused_reason": reason,
        "webhook_url": view.webhook_url,
        "created_at": to_iso(row.created_at),
        "updated_at": to_iso(row.updated_at),
    }
