"""Messages that were received: list, look at one, count, and delete old ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from litestar import Controller, delete, get
from litestar.params import FromPath, QueryParameter
from msgspec import UNSET, UnsetType

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Pagination, Timestamp
from msgcore.api.messages import TargetIdentity
from msgcore.api.parameters import Before, EndDate, OfAccount, Offset, PageSize, StartDate, read_moment
from msgcore.core.attachments import AttachmentState
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.errors import FieldError, InvalidInputError
from msgcore.core.scopes import ApiScope
from msgcore.services.received import ReceivedService, ReceivedView
from msgcore.store.received import ReceivedFilter

ChatId: TypeAlias = Annotated[
    str | None, QueryParameter(name="chatId", min_length=1, max_length=255, description="The platform's id of a chat")
]
UserId: TypeAlias = Annotated[
    str | None, QueryParameter(name="userId", min_length=1, max_length=255, description="The platform's id of a user")
]
WithRawData: TypeAlias = Annotated[bool, QueryParameter(description="With what the platform sent")]
WithReactions: TypeAlias = Annotated[bool, QueryParameter(description="With the reactions to each message")]
Days: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=36_500)]


class CleanupRequest(Wire):
    """Messages that were received more than so many days ago."""

    days_before: Days


class AttachmentAnswer(Answer):
    """A file that came with a message. `size` is in bytes.

    At `url`, valid for a while, is the file while `state` is `stored`. It is `pending` until it was fetched, and
    `refused`, `failed` or `expired` where it cannot be had; `reason` says why.
    """

    id: str
    message_id: str
    type: str
    url: str
    filename: str | None
    size: int | None
    mime_type: str | None
    state: AttachmentState
    reason: str | None


class ReactingUser(Answer):
    """Somebody who reacted: the platform's id and name of them, and who that is where it is known."""

    id: str
    name: str
    identity: TargetIdentity | None


class ReceivedMessage(Answer, tag_field="direction", tag="received"):
    """A message as it came. `timestamp` is `receivedAt` under the name that newer clients know.

    `rawData` (what the platform sent) and `reactions` (who reacts at present, by emoji) are there where they were
    asked for.
    """

    id: str
    project_id: str
    platform: str
    platform_id: str
    provider_message_id: str
    provider_chat_id: str
    provider_user_id: str
    user_display: str | None
    message_text: str | None
    message_type: str
    received_at: Timestamp
    timestamp: Timestamp
    source: Literal["live"]
    attachments: list[AttachmentAnswer]
    identity: TargetIdentity | None
    raw_data: Any = UNSET
    reactions: dict[str, list[ReactingUser]] | UnsetType = UNSET


class ReceivingPlatform(Answer):
    """The configured platform that a message came by."""

    id: str
    platform: str
    is_active: bool
    test_mode: bool


class ReceivedDetail(ReceivedMessage, kw_only=True):
    """With the platform, what it sent, and reactions."""

    platform_config: ReceivingPlatform


class ReceivedMessages(Answer):
    """A page of messages; `next` is the `before` of the next page, null on the last one.

    `pagination.total` stops counting at 10,000; `hasMore` is always right.
    """

    messages: list[ReceivedMessage]
    pagination: Pagination
    next: str | None


class PlatformNumber(Answer):
    """How many messages came by a platform."""

    platform: str
    count: int


class ReceivedStats(Answer):
    """Counts over the newest 10,000 messages; `limited` tells that it was so many. Recent is 24 hours."""

    total_messages: int
    recent_messages: int
    unique_users: int
    unique_chats: int
    by_platform: list[PlatformNumber]
    limited: bool


class StatusNumber(PlatformNumber):
    """How many deliveries of a platform are pending, sent or failed."""

    status: str


class SentStats(Answer):
    """Counts of all deliveries."""

    total_messages: int
    by_platform_and_status: list[StatusNumber]


class StatsAnswer(Answer):
    """What was received and what was sent."""

    received: ReceivedStats
    sent: SentStats


class CleanupAnswer(Answer):
    """How many messages were deleted. While `remaining` is true, repeat the request: there may be more."""

    message: str
    deleted_count: int
    remaining: bool


class ReceivedController(Controller):
    """What people wrote."""

    path = "/api/v1/projects/{project:str}/messages"
    tags = ("Received messages",)

    @get(opt=requires(ApiScope.MESSAGES_READ), summary="List received messages")
    async def list_all(
        self,
        project: FromPath[str],
        received: Injected[ReceivedService],
        *,
        platform: Annotated[str | None, QueryParameter(max_length=32, description="Only this platform")] = None,
        platform_id: OfAccount = None,
        chat_id: ChatId = None,
        user_id: UserId = None,
        start_date: StartDate = None,
        end_date: EndDate = None,
        direction: Annotated[
            Literal["received", "sent"] | None, QueryParameter(description="`received`; messages/sent has the others")
        ] = None,
        order: Annotated[Literal["asc", "desc"], QueryParameter(description="`desc` is newest first")] = "desc",
        raw: WithRawData = False,
        reactions: WithReactions = False,
        before: Before = None,
        limit: PageSize = 50,
        offset: Offset = 0,
    ) -> ReceivedMessages:
        """Newest first unless told otherwise. Page by `before`, or by `offset`."""
        if direction == "sent":
            error = FieldError("/query/direction", "direction must be received: GET messages/sent lists what was sent")
            raise InvalidInputError.of([error])
        chosen = ReceivedFilter(
            project,
            platform_id=None if platform_id is None else str(platform_id),
            platform=platform,
            chat_id=chat_id,
            user_id=user_id,
            since=read_moment("startDate", "/query/startDate", start_date),
            until=read_moment("endDate", "/query/endDate", end_date),
        )
        page = await received.list(
            chosen,
            limit=limit,
            offset=offset,
            order=order,
            before=None if before is None else str(before),
            raw=raw,
            reactions=reactions,
        )
        return ReceivedMessages(
            messages=[ReceivedMessage(**received_fields(view)) for view in page.messages],
            pagination=Pagination(total=page.total, limit=limit, offset=offset, has_more=page.has_more),
            next=page.messages[-1].row.id if page.has_more else None,
        )

    @get("/stats", opt=requires(ApiScope.MESSAGES_READ), summary="Count messages")
    async def stats(self, project: FromPath[str], received: Injected[ReceivedService]) -> StatsAnswer:
        """What was received, and what was sent by platform and status."""
        found = await received.stats(project)
        return StatsAnswer(
            received=ReceivedStats(
                total_messages=found.received.total,
                recent_messages=found.received.recent,
                unique_users=found.received.users,
                unique_chats=found.received.chats,
                by_platform=[PlatformNumber(platform=row.platform, count=row.number) for row in found.by_platform],
                limited=found.limited,
            ),
            sent=SentStats(
                total_messages=sum(count.number for count in found.sent),
                by_platform_and_status=[
                    StatusNumber(platform=count.platform, status=count.status, count=count.number)
                    for count in found.sent
                ],
            ),
        )

    @delete("/cleanup", opt=requires(ApiScope.MESSAGES_WRITE), status_code=200, summary="Delete old received messages")
    async def clean_up(
        self,
        request: ApiRequest,
        project: FromPath[str],
        received: Injected[ReceivedService],
        data: JsonBody[CleanupRequest | None] = None,
        days_before: Annotated[
            int | None, QueryParameter(name="daysBefore", ge=0, le=36_500, description="Instead of a body")
        ] = None,
    ) -> CleanupAnswer:
        """What was received more than `daysBefore` days ago, with attachments and reactions; 50,000 at once at most.

        For API keys, and for the project's owner and admins.
        """
        days = data.days_before if data is not None else days_before
        if days is None:
            error = FieldError("/daysBefore", "daysBefore is missing: give a number of days, in the body or the query")
            raise InvalidInputError.of([error])
        done = await received.clean_up(request.user, project, days)
        return CleanupAnswer(
            message=f"Deleted {done.deleted} messages older than {days} days",
            deleted_count=done.deleted,
            remaining=done.remaining,
        )

    @get("/{message_id:str}", opt=requires(ApiScope.MESSAGES_READ), summary="Get a received message")
    async def show(
        self, project: FromPath[str], message_id: FromPath[str], received: Injected[ReceivedService]
    ) -> ReceivedDetail:
        """With its attachments, the reactions to it, and what the platform sent."""
        view = await received.get(project, message_id)
        row = view.row
        config = ReceivingPlatform(
            id=row.platform_id, platform=row.platform, is_active=row.is_active, test_mode=row.test_mode
        )
        return ReceivedDetail(**received_fields(view), platform_config=config)


def received_fields(view: ReceivedView) -> dict[str, Any]:
    """A received message as its answers show it."""
    row = view.row
    received_at = to_iso(row.received_at)
    return {
        "id": row.id,
        "project_id": row.project_id,
        "platform": row.platform,
        "platform_id": row.platform_id,
        "provider_message_id": row.provider_message_id,
        "provider_chat_id": row.provider_chat_id,
        "provider_user_id": row.provider_user_id,
        "user_display": row.user_display,
        "message_text": row.message_text,
        "message_type": row.message_type,
        "received_at": received_at,
        "timestamp": received_at,
        "source": "live",
        "attachments": [attachment_answer(*found) for found in view.attachments],
        "identity": _identity(row),
        "raw_data": getattr(row, "raw_data", UNSET),
        "reactions": UNSET if view.reactions is None else _reactions(view.reactions),
    }


def attachment_answer(row: Any, url: str) -> AttachmentAnswer:
    """An attachment as it is shown."""
    return AttachmentAnswer(
        id=row.id,
        message_id=row.message_id,
        type=row.type,
        url=url,
        filename=row.filename,
        size=row.size,
        mime_type=row.mime_type,
        state=AttachmentState(row.state),
        reason=row.reason,
    )


def _reactions(by_emoji: dict[str, list[Any]]) -> dict[str, list[ReactingUser]]:
    return {
        emoji: [
            ReactingUser(
                id=row.provider_user_id, name=row.user_display or row.provider_user_id, identity=_identity(row)
            )
            for row in rows
        ]
        for emoji, rows in by_emoji.items()
    }


def _identity(row: Any) -> TargetIdentity | None:
    if row.identity_id is None:
        return None
    return TargetIdentity(id=row.identity_id, display_name=row.identity_name, email=row.identity_email)
