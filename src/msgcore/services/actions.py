"""Actions on messages that are on their platform already: from a request to a durable delivery."""

from __future__ import annotations

from typing import Any

import msgspec

from msgcore.core.actions import Action, word_of
from msgcore.core.clock import Clock
from msgcore.core.deliveries import DeliveryState, Rank, Ticket
from msgcore.core.errors import FieldError, InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.platforms.base import CAPABILITY_OF
from msgcore.platforms.registry import PlatformRegistry
from msgcore.services.send import SendService
from msgcore.store.database import Database
from msgcore.store.ledger.accept import Accepted, NewMessage
from msgcore.store.said import Said, find_said


class ActionService:
    """Accepts actions; they go out in the order of the messages to the same chat."""

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

    async def accept(self, principal: Principal, project_id: str, platform_id: str, action: Action) -> Accepted:
        """Accept an action; returns when it is durable and queued.

        Raises NotFoundError for a platform or a message that the project does not have, InvalidInputError for a
        platform that cannot do it or is switched off, and what `SendService.accept` raises.
        """
        record = await self._find_account(project_id, platform_id)
        self._check(record, action)
        async with self._database.read() as connection:
            said = await find_said(connection, record.id, action.message_id)
        if said is None:
            raise NotFoundError(
                f"Message {action.message_id[:64]!r} not found on platform {platform_id}: "
                "messageId is the providerMessageId of a message that was received or sent there"
            )
        meant = msgspec.structs.replace(action, from_me=said.from_me)
        return await self._sending.accept(self._compose(principal, record, meant, said))

    async def _find_account(self, project_id: str, platform_id: str) -> AccountRecord:
        canonical = canonical_id(platform_id)
        record = None if canonical is None else await self._accounts.get(canonical)
        if record is None or record.project_id != project_id:
            raise NotFoundError(f"Platform with id '{platform_id[:64]}' not found")
        return record

    def _check(self, record: AccountRecord, action: Action) -> None:
        needed = CAPABILITY_OF[type(action)]
        declaration = self._registry.declaration(record.platform)
        if needed not in {info.capability for info in declaration.capabilities}:
            text = f"platform {record.platform} cannot do this: it has no capability {needed.value!r}"
            raise InvalidInputError.of([FieldError("/platformId", text)])
        if not record.is_active:
            text = f"platform {record.name!r} is switched off; set isActive to true first"
            raise InvalidInputError.of([FieldError("/platformId", text)])

    def _compose(self, principal: Principal, record: AccountRecord, action: Action, said: Said) -> NewMessage:
        now, message_id, delivery_id = self._clock.now(), new_id(), new_id()
        declaration = self._registry.declaration(record.platform)
        lane = f"{said.target_type}:{said.target_id}" if declaration.ordered else None
        message: dict[str, Any] = {
            "id": message_id,
            "project_id": record.project_id,
            "content": action,
            "options": None,
            "metadata": None,
            "created_by": principal.id,
            "created_at": now,
            "batch_id": None,
        }
        delivery: dict[str, Any] = {
            "id": delivery_id,
            "message_id": message_id,
            "batch_id": None,
            "project_id": record.project_id,
            "platform_id": record.id,
            "platform": record.platform,
            "target_type": said.target_type,
            "target_id": said.target_id,
            "action": word_of(action),
            "lane": lane,
            "rank": Rank.NORMAL.value,
            "state": DeliveryState.QUEUED.value,
            "attempts": 0,
            "throttles": 0,
            "uncertain": False,
            "on_uncertain": "resend",
            "due_at": now,
            "first_due_at": now,
            "expires_at": None,
            "created_at": now,
        }
        return NewMessage(
            message, [delivery], [Ticket(delivery_id, record.id, lane, limits=declaration.limits.of_lane(lane))]
        )
