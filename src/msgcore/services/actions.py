"""Actions on messages that are on their platform already: from a request to a durable delivery."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_never

import msgspec

from msgcore.core.actions import Action, Delete, Edit, MarkRead, React, Type, Unreact, word_of
from msgcore.core.clock import Clock
from msgcore.core.content import Target, TargetType
from msgcore.core.deliveries import DeliveryState, Rank, Ticket
from msgcore.core.errors import FieldError, InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.platforms.base import CAPABILITY_OF
from msgcore.platforms.registry import PlatformRegistry
from msgcore.services.send import SendService, emptiness
from msgcore.store.database import Database
from msgcore.store.ledger.accept import Accepted, NewMessage, new_delivery
from msgcore.store.said import Said, find_said, newest_received

OnMessage = React | Unreact | Edit | Delete | MarkRead
"""What is done to one message."""

LIFETIMES: dict[type[Action], timedelta] = {Type: timedelta(seconds=10), MarkRead: timedelta(hours=1)}
"""Actions that tell how things are just now: nobody wants them later, so they expire. They stand in no lane: neither do
they wait for the messages to the chat, which say more than they do, nor does any message wait for them."""


class ActionService:
    """Accepts actions; what changes messages goes out in the order of the messages to the same chat."""

    def __init__(
        self,
        *,
        database: Database,
        accounts: AccountDirectory,
        registry: PlatformRegistry,
        sending: SendService,
        clock: Clock,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._registry = registry
        self._sending = sending
        self._clock = clock

    async def accept(self, principal: Principal, project_id: str, platform_id: str, action: OnMessage) -> Accepted:
        """Accept an action on a message; returns when it is durable and queued.

        Raises NotFoundError for a platform or a message that the project does not have, InvalidInputError for a
        platform that cannot do it or is switched off, for what cannot be done to this message and for a content that
        cannot take its place, and what `SendService.accept` raises.
        """
        record = await self._find_account(project_id, platform_id)
        self._require(record, type(action))
        async with self._database.read() as connection:
            said = await find_said(connection, record.id, action.message_id)
        if said is None:
            raise NotFoundError(
                f"Message {action.message_id[:64]!r} not found on platform {platform_id}: "
                "messageId is the providerMessageId of a message that was received or sent there"
            )
        meant = _as_of(action, said)
        await self._check(record, meant)
        return await self._sending.accept(
            self._compose(principal, record, meant, said.target_type, said.target_id),
        )

    async def accept_typing(
        self, principal: Principal, project_id: str, platform_id: str, target_type: TargetType, target_id: str
    ) -> Accepted:
        """Accept that typing is shown in a chat, which is named as targets of messages are. Raises as `accept` does."""
        record = await self._find_account(project_id, platform_id)
        self._require(record, Type)
        target = await self._look_up(record, Target(platform_id=record.id, type=target_type, id=target_id))
        async with self._database.read() as connection:
            newest = await newest_received(connection, record.id, target.id)
        action = Type(message_id=newest)
        await self._check(record, action)
        return await self._sending.accept(self._compose(principal, record, action, target.type.value, target.id))

    async def _find_account(self, project_id: str, platform_id: str) -> AccountRecord:
        canonical = canonical_id(platform_id)
        record = None if canonical is None else await self._accounts.get(canonical)
        if record is None or record.project_id != project_id:
            raise NotFoundError(f"Platform with id '{platform_id[:64]}' not found")
        return record

    async def _look_up(self, record: AccountRecord, named: Target) -> Target:
        """The chat on the platform that a target stands for."""
        addresses = await self._sending.look_up(record.project_id, [named])
        target = addresses.meant(named)
        if target.type is TargetType.IDENTITY:
            raise InvalidInputError.of([FieldError("/target/id", f"target.id: {addresses.problem(target)}")])
        errors = self._registry.check_target(record.platform, target)
        if errors:
            raise InvalidInputError.of(errors)
        return msgspec.structs.replace(target, id=self._registry.address(record.platform, target.id))

    def _require(self, record: AccountRecord, kind: type[Action]) -> None:
        needed = CAPABILITY_OF[kind]
        declaration = self._registry.declaration(record.platform)
        if needed not in {info.capability for info in declaration.capabilities}:
            text = f"platform {record.platform} cannot do this: it has no capability {needed.value!r}"
            raise InvalidInputError.of([FieldError("/platformId", text)])
        if not record.is_active:
            text = f"platform {record.name!r} is switched off; set isActive to true first"
            raise InvalidInputError.of([FieldError("/platformId", text)])

    async def _check(self, record: AccountRecord, action: Action) -> None:
        """The platform's own rules."""
        check = self._registry.check_action
        if isinstance(action, Edit):
            run = self._sending.long_texts.run
            errors = await run(record.project_id, action.content, check, record.platform, action)
            empty = emptiness(action.content)
            errors = errors if empty is None else [*errors, empty]
        else:
            errors = check(record.platform, action)
        if errors:
            raise InvalidInputError.of(errors)

    def _compose(
        self, principal: Principal, record: AccountRecord, action: Action, target_type: str, target_id: str
    ) -> NewMessage:
        now, content = self._clock.now(), msgspec.json.encode(action)
        declaration, lifetime = self._registry.declaration(record.platform), LIFETIMES.get(type(action))
        message: dict[str, Any] = {
            "id": new_id(),
            "project_id": record.project_id,
            "content": msgspec.Raw(content),
            "options": None,
            "metadata": None,
            "created_by": principal.id,
            "created_at": now,
            "batch_id": None,
        }
        delivery = new_delivery(
            message,
            due_at=now,
            platform_id=record.id,
            platform=record.platform,
            target_type=target_type,
            target_id=target_id,
            action=word_of(action),
            lane=f"{target_type}:{target_id}" if declaration.ordered and lifetime is None else None,
            rank=Rank.NORMAL.value,
            state=DeliveryState.QUEUED.value,
            expires_at=None if lifetime is None else now + lifetime,
        )
        limits = declaration.limits.of_lane(delivery["lane"])
        ticket = Ticket(delivery["id"], record.id, delivery["lane"], limits=limits, tenant=record.project_id)
        return NewMessage(message, [delivery], [ticket], size=len(content))


def _as_of(action: OnMessage, said: Said) -> OnMessage:
    """The action with what is known of its message. Raises InvalidInputError where it cannot be done to such a one."""
    match action:
        case React() | Unreact():
            return msgspec.structs.replace(action, from_me=said.from_me)
        case Edit() | Delete():
            if not said.from_me:
                raise _not_to_this("was received: only messages that were sent from here can be changed or deleted")
            return action if isinstance(action, Edit) else msgspec.structs.replace(action, other_parts=said.other_parts)
        case MarkRead():
            if said.from_me:
                raise _not_to_this("was sent from here: only messages that were received can be marked as read")
            return action
        case _:
            assert_never(action)


def _not_to_this(reason: str) -> InvalidInputError:
    return InvalidInputError.of([FieldError("/messageId", f"messageId: this message {reason}")])
