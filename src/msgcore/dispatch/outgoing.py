"""From what the ledger has to what an adapter is given."""

from __future__ import annotations

import msgspec

from msgcore.core.actions import Action, Delete
from msgcore.core.content import Content, Target, TargetType
from msgcore.core.errors import PermanentError
from msgcore.dispatch.messages import MessageBody
from msgcore.platforms.base import Account, OutgoingAction, OutgoingDelivery, PlatformAdapter, SentReceipt
from msgcore.platforms.discretion import discreet
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
        action=_part(body.content, len(item.part_ids)),
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
        with discreet(account):
            return await adapter.find_sent(account, outgoing)
    except PermanentError:
        return None


async def hand_over(adapter: PlatformAdapter, account: Account, outgoing: Outgoing) -> SentReceipt:
    """Let the adapter deliver it once."""
    with discreet(account):
        if isinstance(outgoing, OutgoingDelivery):
            return await adapter.send(account, outgoing)
        receipt = await adapter.act(account, outgoing)
    more = isinstance(outgoing.action, Delete) and bool(outgoing.action.other_parts)
    return msgspec.structs.replace(receipt, more=more)


def _part(action: Action, done: int) -> Action:
    """What is left of an action of which so many parts are done: a message in several parts is deleted part by part."""
    if not isinstance(action, Delete) or not done:
        return action
    # Another version may have counted otherwise: the last part again is as good as done.
    *_, last = parts = (action.message_id, *action.other_parts)
    left = parts[done:] or (last,)
    return Delete(message_id=left[0], other_parts=left[1:])
