"""What the project does to messages and chats beside sending: react, edit, delete, show typing, mark as read."""

from __future__ import annotations

from typing import Any

from litestar import Controller, post
from litestar.params import FromPath

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.core.actions import Delete, Edit, Emoji, MarkRead, MessageId, React, Unreact
from msgcore.core.clock import to_iso
from msgcore.core.content import Content, ShortText, TargetType, Wire
from msgcore.core.scopes import ApiScope
from msgcore.services.actions import ActionService
from msgcore.store.ledger.accept import Accepted


class OneMessage(Wire):
    """A message of a platform: `messageId` is the platform's own (`providerMessageId`)."""

    platform_id: ShortText
    message_id: MessageId


class SendReaction(OneMessage):
    """An emoji, and the message that it is for."""

    emoji: Emoji


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


class QueuedAnswer(Answer):
    """It is durable and queued; `jobId` asks for its status."""

    success: bool
    platform_id: str
    timestamp: Timestamp
    job_id: str
    status: str


class ActionAnswer(QueuedAnswer):
    """The message that it is done to."""

    message_id: str


class ReactionAnswer(ActionAnswer):
    """The emoji as well."""

    emoji: str


class TypingAnswer(QueuedAnswer):
    """The chat in which typing is shown."""

    target: TypingTarget


class ActionsController(Controller):
    """Doing something to messages that are on their platform already."""

    path = "/api/v1/projects/{project:str}/messages"
    tags = ("Messages",)

    @post("/react", opt=requires(ApiScope.MESSAGES_WRITE), summary="React to a message")
    async def react(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[SendReaction],
        actions: Injected[ActionService],
    ) -> ReactionAnswer:
        """Sent in the order of the messages to the same chat; 400 for platforms without the capability reactions."""
        action = React(message_id=data.message_id, emoji=data.emoji)
        accepted = await actions.accept(request.user, project, data.platform_id, action)
        return ReactionAnswer(emoji=data.emoji, **_about(data, accepted))

    @post("/unreact", opt=requires(ApiScope.MESSAGES_WRITE), summary="Take a reaction back")
    async def unreact(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[SendReaction],
        actions: Injected[ActionService],
    ) -> ReactionAnswer:
        """As for reacting."""
        action = Unreact(message_id=data.message_id, emoji=data.emoji)
        accepted = await actions.accept(request.user, project, data.platform_id, action)
        return ReactionAnswer(emoji=data.emoji, **_about(data, accepted))

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
        return ActionAnswer(**_about(data, await actions.accept(request.user, project, data.platform_id, action)))

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
        return ActionAnswer(**_about(data, await actions.accept(request.user, project, data.platform_id, action)))

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
        return TypingAnswer(target=data.target, **_queued(data.platform_id, accepted))

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
        return ActionAnswer(**_about(data, await actions.accept(request.user, project, data.platform_id, action)))


def _about(data: OneMessage, accepted: Accepted) -> dict[str, Any]:
    return {"message_id": data.message_id} | _queued(data.platform_id, accepted)


def _queued(platform_id: str, accepted: Accepted) -> dict[str, Any]:
    return {
        "success": True,
        "platform_id": platform_id,
        "timestamp": to_iso(accepted.created_at),
        "job_id": accepted.message_id,
        "status": "queued",
    }
