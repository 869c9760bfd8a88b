"""Chats: list them, read what was said, name them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from litestar import Controller, get, patch, post
from litestar.params import FromPath, QueryParameter
from msgspec import UNSET, UnsetType

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Pagination, Timestamp
from msgcore.api.parameters import Before, OfAccount, Offset, PageSize, read_moment, require_small
from msgcore.api.received import ReceivedMessage, received_fields
from msgcore.core.clock import to_iso
from msgcore.core.content import Url, Wire
from msgcore.core.scopes import ApiScope
from msgcore.services.chats import ChatService, SentEntry
from msgcore.services.jobs import compatible_status
from msgcore.services.received import ReceivedView
from msgcore.store.chats import ChatFilter

ChatType: TypeAlias = Literal["user", "group", "channel"]
Moment: TypeAlias = Annotated[str, msgspec.Meta(max_length=64, description="an ISO 8601 time")]


class UpdateChat(Wire):
    """What is left out stays as it is; null empties. `metadata` is replaced as a whole."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)] | UnsetType | None = UNSET
    avatar_url: Url | UnsetType | None = UNSET
    metadata: Any = UNSET


class SyncHistory(Wire):
    """What to fetch from platforms."""

    platform_id: UUID | None = None
    start_date: Moment | None = None
    end_date: Moment | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class ChatAnswer(Answer):
    """A chat. `providerChatId` is the platform's own id of it."""

    id: str
    project_id: str
    platform_id: str
    platform: str
    provider_chat_id: str
    chat_type: str
    name: str | None
    avatar_url: str | None
    metadata: Any
    last_message_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class Chats(Answer):
    """A page of chats. `pagination.total` stops counting at 10,000; `hasMore` is always right."""

    chats: list[ChatAnswer]
    pagination: Pagination


class ChatMessageSent(Answer, tag_field="direction", tag="sent"):
    """A message to a chat. `status` is pending, sent or failed; `state` is the exact one.

    `timestamp` is when it was sent, or accepted while it was not.
    """

    id: str
    project_id: str
    job_id: str
    platform: str
    platform_id: str
    provider_message_id: str | None
    provider_chat_id: str
    provider_user_id: None
    user_display: None
    message_text: str | None
    message_content: Any
    message_type: Literal["text"]
    status: str
    state: str
    error_message: str | None
    sent_at: Timestamp | None
    created_at: Timestamp
    timestamp: Timestamp
    source: Literal["live"]


class ChatMessages(Answer):
    """What was said, newest first; `next` is the `before` of the next page, null on the last one."""

    messages: list[ReceivedMessage | ChatMessageSent]
    next: str | None


class SyncAnswer(Answer):
    """How many chats and messages were fetched."""

    success: bool
    message: str
    synced_chats: int
    synced_messages: int


NOTHING_SYNCED = SyncAnswer(
    success=True,
    message="Nothing was synced: none of the platforms lets its earlier chats and messages be fetched",
    synced_chats=0,
    synced_messages=0,
)


class ChatsController(Controller):
    """Where people talk with a project."""

    path = "/api/v1/projects/{project:str}/chats"
    tags = ("Chats",)

    @get(opt=requires(ApiScope.MESSAGES_READ), summary="List chats")
    async def list_all(
        self,
        project: FromPath[str],
        chats: Injected[ChatService],
        platform_id: OfAccount = None,
        chat_type: Annotated[ChatType | None, QueryParameter(name="chatType", description="Only of this type")] = None,
        search: Annotated[
            str | None, QueryParameter(max_length=255, description="A part of the name, or the platform's whole id")
        ] = None,
        limit: PageSize = 50,
        offset: Offset = 0,
    ) -> Chats:
        """Newest activity first."""
        chosen = ChatFilter(
            project,
            platform_id=None if platform_id is None else str(platform_id),
            chat_type=chat_type,
            search=search or None,
        )
        page = await chats.list(chosen, limit=limit, offset=offset)
        return Chats(
            chats=[_chat(row) for row in page.rows],
            pagination=Pagination(total=page.total, limit=limit, offset=offset, has_more=page.has_more),
        )

    @get("/{chat_id:str}", opt=requires(ApiScope.MESSAGES_READ), summary="Get a chat")
    async def show(self, project: FromPath[str], chat_id: FromPath[str], chats: Injected[ChatService]) -> ChatAnswer:
        """One chat."""
        return _chat(await chats.get(project, chat_id))

    @get("/{chat_id:str}/messages", opt=requires(ApiScope.MESSAGES_READ), summary="Read a chat")
    async def messages(
        self,
        project: FromPath[str],
        chat_id: FromPath[str],
        chats: Injected[ChatService],
        before: Before = None,
        limit: PageSize = 50,
    ) -> ChatMessages:
        """What was sent and received in it, newest first."""
        page = await chats.history(project, chat_id, limit=limit, before=None if before is None else str(before))
        return ChatMessages(
            messages=[_entry(entry) for entry in page.entries],
            next=page.entries[-1].row.id if page.has_more else None,
        )

    @patch("/{chat_id:str}", opt=requires(ApiScope.MESSAGES_WRITE), summary="Change a chat")
    async def update(
        self,
        request: ApiRequest,
        project: FromPath[str],
        chat_id: FromPath[str],
        data: JsonBody[UpdateChat],
        chats: Injected[ChatService],
    ) -> ChatAnswer:
        """Its name, picture and metadata, as this project shows them; the platform learns nothing of it."""
        changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
        require_small("metadata", changes.get("metadata"))
        return _chat(await chats.update(request.user, project, chat_id, changes))

    @post(
        "/sync-all", opt=requires(ApiScope.MESSAGES_WRITE), status_code=200, summary="Fetch earlier chats of platforms"
    )
    async def sync_all(
        self, project: FromPath[str], chats: Injected[ChatService], data: JsonBody[SyncHistory | None] = None
    ) -> SyncAnswer:
        """No platform here can be asked for its chats yet, so nothing is fetched; the answer says so."""
        await _check(chats, project, data)
        return NOTHING_SYNCED

    @post(
        "/{chat_id:str}/sync",
        opt=requires(ApiScope.MESSAGES_WRITE),
        status_code=200,
        summary="Fetch a chat's earlier messages",
    )
    async def sync(
        self,
        project: FromPath[str],
        chat_id: FromPath[str],
        chats: Injected[ChatService],
        data: JsonBody[SyncHistory | None] = None,
    ) -> SyncAnswer:
        """No platform here can be asked for its messages yet, so nothing is fetched; the answer says so."""
        await chats.get(project, chat_id)
        await _check(chats, project, data)
        return NOTHING_SYNCED


async def _check(chats: ChatService, project: str, data: SyncHistory | None) -> None:
    if data is None:
        return
    read_moment("startDate", "/startDate", data.start_date)
    read_moment("endDate", "/endDate", data.end_date)
    if data.platform_id is not None:
        await chats.check_platform(project, str(data.platform_id))


def _chat(row: Any) -> ChatAnswer:
    return ChatAnswer(
        id=row.id,
        project_id=row.project_id,
        platform_id=row.platform_id,
        platform=row.platform,
        provider_chat_id=row.provider_chat_id,
        chat_type=row.chat_type,
        name=row.name,
        avatar_url=row.avatar_url,
        metadata=row.metadata,
        last_message_at=None if row.last_message_at is None else to_iso(row.last_message_at),
        created_at=to_iso(row.created_at),
        updated_at=to_iso(row.updated_at),
    )


def _entry(entry: ReceivedView | SentEntry) -> ReceivedMessage | ChatMessageSent:
    if isinstance(entry, ReceivedView):
        return ReceivedMessage(**received_fields(entry))
    row = entry.row
    sent_at = None if row.sent_at is None else to_iso(row.sent_at)
    created_at = to_iso(row.created_at)
    return ChatMessageSent(
        id=row.id,
        project_id=row.project_id,
        job_id=row.message_id,
        platform=row.platform,
        platform_id=row.platform_id,
        provider_message_id=row.provider_message_id,
        provider_chat_id=row.target_id,
        provider_user_id=None,
        user_display=None,
        message_text=row.content.get("text") or row.content.get("markdown") or row.content.get("subject"),
        message_content=row.content,
        message_type="text",
        status=compatible_status(row.state),
        state=row.state,
        error_message=row.error_message if sent_at is None else None,
        sent_at=sent_at,
        created_at=created_at,
        timestamp=sent_at or created_at,
        source="live",
    )
