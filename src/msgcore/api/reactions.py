"""Reactions of the project's own to messages."""

from __future__ import annotations

from litestar import Controller, post
from litestar.params import FromPath

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.core.actions import Emoji, MessageId, React, Unreact
from msgcore.core.clock import to_iso
from msgcore.core.content import ShortText, Wire
from msgcore.core.scopes import ApiScope
from msgcore.services.actions import ActionService
from msgcore.store.ledger.accept import Accepted


class SendReaction(Wire):
    """An emoji, and the message that it is for: `messageId` is the platform's own (`providerMessageId`)."""

    platform_id: ShortText
    message_id: MessageId
    emoji: Emoji


class ReactionAnswer(Answer):
    """The reaction is durable and queued; `jobId` asks for its status."""

    success: bool
    platform_id: str
    message_id: str
    emoji: str
    timestamp: Timestamp
    job_id: str
    status: str


class ReactionsController(Controller):
    """Reacting to what was received or sent."""

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
        return _answer(data, await actions.accept(request.user, project, data.platform_id, action))

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
        return _answer(data, await actions.accept(request.user, project, data.platform_id, action))


def _answer(data: SendReaction, accepted: Accepted) -> ReactionAnswer:
    return ReactionAnswer(
        success=True,
        platform_id=data.platform_id,
        message_id=data.message_id,
        emoji=data.emoji,
        timestamp=to_iso(accepted.created_at),
        job_id=accepted.message_id,
        status="queued",
    )
