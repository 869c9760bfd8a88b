"""From what the ledger has to what an adapter is given."""

from __future__ import annotations

from msgcore.core.content import Content, Target, TargetType
from msgcore.core.errors import PermanentError
from msgcore.dispatch.messages import MessageBody
from msgcore.platforms.base import Account, OutgoingAction, OutgoingDelivery, PlatformAdapter, SentReceipt
from msgcore.store.ledger.beginning import WorkItem

Outgoing = OutgoingDelivery | OutgoingAction


def outgoing_of(item: WorkItem, body: MessageBody) -> Outgoing:
    """A message, or an action on one."""
    target = Target(platform_id=item.platform_id, type=TargetType(item.target_type), id=item.target_id)
    if isinstance(body.content, Content):
        return OutgoingDelivery(
            id=item.id,
            message_id=item.message_id,
            target=target,
            content=body.content,
            options=body.options,
            attempt=item.attempt,
            throttles=item.throttles,
            created_at=item.created_at,
            part_ids=item.part_ids,
        )
    return OutgoingAction(
        id=item.id,
        message_id=item.message_id,
        target=target,
        action=body.content,
        attempt=item.attempt,
        throttles=item.throttles,
        created_at=item.created_at,
    )


async def find_sent(adapter: PlatformAdapter, account: Account, outgoing: Outgoing) -> SentReceipt | None:
    """Whether an earlier attempt reached the platform; an action that is done again is as good as one done once.

    A platform that refuses to tell is as one that cannot be asked: that says nothing about the message.
    """
    if not isinstance(outgoing, OutgoingDelivery):
        return None
    try:
        return await adapter.find_sent(account, outgoing)
    except PermanentError:
        return None


async def hand_over(adapter: PlatformAdapter, account: Account, outgoing: Outgoing) -> SentReceipt:
    """Let the adapter deliver it once."""
    if isinstance(outgoing, OutgoingDelivery):
        return await adapter.send(account, outgoing)
    return await adapter.act(account, outgoing)
