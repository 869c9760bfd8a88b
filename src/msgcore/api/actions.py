"""What else the project does to messages and chats: edit, delete, show typing, mark as read."""

from __future__ import annotations

from litestar import Controller, post
from litestar.params import FromPath

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.core.actions import Delete, Edit, MarkRead, MessageId
from msgcore.core.clock import to_iso
from msgcore.core.content import Content, ShortText, TargetType, Wire
from msgcore.core.scopes import ApiScope
from msgcore.services.actions import ActionService
from msgcore.store.ledger.accept import Accepted


class OneMessage(Wire):
    """A message of a platform: `messageId` is the platform's own (`providerMessageId`)."""

    platform_id: ShortText
    message_id: MessageId


class EditedMessage(OneMessage):
    """A message, and what it is to say."""

    content: Content


class TypingTarget(Wire):
    """A chat, named as the targets of messages are; a `chat` also by the `id` that `GET chats` shows."""

    type: TargetType
    id: ShortText


class TypingPlace(Wire):
    """Where typing is shown."""

    platform_id: ShortText
    target: TypingTarget


class ActionAnswer(Answer):
    """It is durable and queued; `jobId` asks for its status."""

    success: bool
    platform_id: str
    message_id: str
    timestamp: Timestamp
    job_id: str
    status: str


class TypingAnswer(Answer):
    """The same for a chat."""

    success: bool
    platform_id: str
    target: TypingTarget
    timestamp: Timestamp
    job_id: str
    status: str


class ActionsController(Controller):
    """Doing something to messages that are on their platform already."""

    path = "/api/v1/projects/{project:str}/messages"
    tags = ("Messages",)

    @post("/edit", opt=requires(ApiScope.MESSAGES_WRITE), summary="Change a message that was sent")
    async def edit(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[EditedMessage],
        actions: Injected[ActionService],
    ) -> ActionAnswer:
        """Put another content in its place: one that is one message on the platform, without files."""
        action = Edit(message_id=data.message_id, content=data.content)
        return _answer(data, await actions.accept(request.user, project, data.platform_id, action))

    @post("/delete", opt=requires(ApiScope.MESSAGES_WRITE), summary="Delete a message that was sent")
    async def delete(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[OneMessage],
        actions: Injected[ActionService],
    ) -> ActionAnswer:
        """Take it away for everybody, with all its parts; one that is gone already counts as deleted."""
        action = Delete(message_id=data.message_id)
        return _answer(data, await actions.accept(request.user, project, data.platform_id, action))

    @post("/typing", opt=requires(ApiScope.MESSAGES_WRITE), summary="Show that an answer is being written")
    async def typing(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[TypingPlace],
        actions: Injected[ActionService],
    ) -> TypingAnswer:
        """Sent at once, or not at all: it expires after 10 seconds."""
        accepted = await actions.accept_typing(
            request.user, project, data.platform_id, data.target.type, data.target.id
        )
        return TypingAnswer(
            success=True,
            platform_id=data.platform_id,
            target=data.target,
            timestamp=to_iso(accepted.created_at),
            job_id=accepted.message_id,
            status="queued",
        )

    @post("/read", opt=requires(ApiScope.MESSAGES_WRITE), summary="Mark a received message as read")
    async def read(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[OneMessage],
        actions: Injected[ActionService],
    ) -> ActionAnswer:
        """Tell its sender that it, and mostly what came before it, was read; expires after an hour."""
        action = MarkRead(message_id=data.message_id)
        return _answer(data, await actions.accept(request.user, project, data.platform_id, action))


def _answer(data: OneMessage, accepted: Accepted) -> ActionAnswer:
    return ActionAnswer(
        success=True,
        platform_id=data.platform_id,
        message_id=data.message_id,
        timestamp=to_iso(accepted.created_at),
        job_id=accepted.message_id,
        status="queued",
    )
