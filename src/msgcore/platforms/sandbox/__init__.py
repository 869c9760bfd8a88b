"""Sandbox: a platform inside the gateway, for trying it out and for testing against it offline.

It accepts everything, keeps what it got in an inbox that the API shows, and misbehaves on request:
see `behaviours` for how a recipient's id tells it to.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from msgcore.core.envelope import Message, Person, Place, Report
from msgcore.core.errors import FieldError
from msgcore.core.stop_words import SHORT_MESSAGES
from msgcore.outbound.layout import AS_GIVEN
from msgcore.platforms.base import (
    ALL_TOLD,
    Account,
    Capability,
    CapabilityInfo,
    OutgoingAction,
    OutgoingDelivery,
    PlatformAdapter,
    PlatformDeclaration,
    SentReceipt,
)
from msgcore.platforms.sandbox.behaviours import Behaviour, behaviour_of
from msgcore.platforms.sandbox.errors import ERRORS
from msgcore.platforms.sandbox.inbound import SandboxInbound
from msgcore.platforms.sandbox.inbox import InboxEntry, InboxWriter, Row
from msgcore.store.inbound import RawRequest

if TYPE_CHECKING:
    from msgcore.core.content import Content, Target
    from msgcore.outbound.services import AdapterServices

LONGEST_TARGET = 255
"""Characters: a recipient who answers is stored as the sender of the answer."""

DECLARATION = PlatformDeclaration(
    name="sandbox",
    display_name="Sandbox",
    capabilities=(
        CapabilityInfo(Capability.SEND_MESSAGE, "Kept in the sandbox's inbox; nothing leaves the gateway"),
        CapabilityInfo(Capability.RECEIVE_MESSAGE, "Recipients named reply answer; reports may be posted to it"),
        CapabilityInfo(Capability.ATTACHMENTS, "Kept as they were given; URLs are not fetched"),
        CapabilityInfo(Capability.EDIT_MESSAGE, "Kept in the sandbox's inbox, as messages are"),
        CapabilityInfo(Capability.DELETE_MESSAGE, "Kept in the sandbox's inbox; what it deletes stays there"),
        CapabilityInfo(Capability.REACTIONS, "Kept in the sandbox's inbox, as messages are"),
        CapabilityInfo(Capability.TYPING, "Kept in the sandbox's inbox, as messages are"),
        CapabilityInfo(Capability.MARK_READ, "Kept in the sandbox's inbox, as messages are"),
    ),
    tells=ALL_TOLD,
    credentials=(),
    stop_words=SHORT_MESSAGES,
    supports_webhooks=True,
)


class SandboxAdapter(PlatformAdapter):
    """Puts messages into the inbox, unless the recipient's id asks for something else."""

    declaration = DECLARATION
    shows = replace(AS_GIVEN, silent=False, threads=False)
    errors = ERRORS
    inbound = SandboxInbound()

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._inbox = InboxWriter(services.database)

    @classmethod
    def check_target(cls, target: Target) -> list[FieldError]:
        """Recipients are short enough to be stored."""
        if len(target.id) > LONGEST_TARGET:
            return [FieldError("/target/id", f"target.id must have at most {LONGEST_TARGET} characters on the sandbox")]
        return []

    async def send(self, account: Account, delivery: OutgoingDelivery) -> SentReceipt:
        """Behave as the recipient's id says; the delivery's id is the provider's id."""
        behaviour = await _behave(delivery)
        reply = self._reply(account, delivery) if behaviour.replies else None
        row = self._row(account, delivery, delivery.content, delivery.options.reply_to)
        await self._inbox.write(InboxEntry(row, reply))
        if reply is not None:
            self.services.on_stored(account.id)
        return SentReceipt(delivery.id)

    async def act(self, account: Account, outgoing: OutgoingAction) -> SentReceipt:
        """The same for what is done to a message."""
        await _behave(outgoing)
        row = self._row(account, outgoing, outgoing.action, outgoing.action.message_id)
        await self._inbox.write(InboxEntry(row))
        return SentReceipt()

    async def register_webhook(self, account: Account, url: str) -> dict[str, Any]:
        """There is nobody to be told: whoever knows the address may post to it."""
        del account, url
        return {}

    async def close(self) -> None:
        """Finish what is being written."""
        await self._inbox.drain()

    def _row(
        self, account: Account, delivery: OutgoingDelivery | OutgoingAction, content: Any, reply_to: str | None
    ) -> Row:
        return {
            "id": delivery.id,
            "project_id": account.project_id,
            "platform_id": account.id,
            "message_id": delivery.message_id,
            "target_type": delivery.target.type.value,
            "target_id": delivery.target.id,
            "content": content,
            "reply_to": reply_to,
            "received_at": self.services.clock.now(),
        }

    def _reply(self, account: Account, delivery: OutgoingDelivery) -> RawRequest:
        """What the person answers, as if it had been posted to the sandbox's webhook."""
        person = delivery.target.id
        content = Message(id=f"reply-{delivery.id}", text=f"You wrote: {_gist(delivery.content)}", reply_to=delivery.id)
        report = Report(
            chat=Place(id=person), author=Person(id=person, name=person), content=content, event_id=content.id
        )
        return RawRequest(
            id=delivery.id,  # so that a redelivery is not answered twice
            project_id=account.project_id,
            platform_id=account.id,
            platform=DECLARATION.name,
            headers={},
            query="",
            body=msgspec.json.encode(report),
            received_at=self.services.clock.now(),
        )


async def _behave(delivery: OutgoingDelivery | OutgoingAction) -> Behaviour:
    """Wait and fail as the recipient's id asks; how it goes on."""
    behaviour = behaviour_of(delivery.target.id)
    if behaviour.answers_after:
        await asyncio.sleep(behaviour.answers_after)
    refusal = behaviour.refusal(attempt=delivery.attempt, throttles=delivery.throttles)
    if refusal is not None:
        raise refusal
    return behaviour


def _gist(content: Content) -> str:
    return content.text or content.markdown or content.html or content.subject or "(no text)"


ADAPTER = SandboxAdapter
