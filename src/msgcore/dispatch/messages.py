"""The content of messages on their way: kept in memory while it is hot, read from the ledger else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec
import structlog

from msgcore.core.actions import Action, Delete, Edit, MarkRead, is_action
from msgcore.core.content import Content, SendOptions
from msgcore.store.ledger.work import StoredMessage, WorkLog

log = structlog.stdlib.get_logger(__name__)

LARGEST = 64 * 1024 * 1024
"""Bytes of content kept; the least recently used goes first."""


SILENT = SendOptions(ignore_opt_out=True)
"""Of actions that show nobody anything: who wants no messages may have one taken away, or marked as read."""


class MessageBody(msgspec.Struct, frozen=True):
    """What a message says and how it is to be sent; or what is to be done to one that is there already."""

    content: Content | Action
    options: SendOptions

    @property
    def text(self) -> str | None:
        """What it says, as far as that is one text."""
        content = self.content.content if isinstance(self.content, Edit) else self.content
        if not isinstance(content, Content):
            return None
        return content.text or content.markdown or content.subject


class MessageCache:
    """Contents by message id, bounded by their size in bytes."""

    def __init__(self, work: WorkLog, *, largest: int = LARGEST) -> None:
        self._work = work
        self._largest = largest
        self._bodies: OrderedDict[str, tuple[MessageBody, int]] = OrderedDict()
        self._size = 0

    def put(self, message_id: str, body: MessageBody, size: int) -> None:
        """Remember a body of about `size` bytes."""
        if message_id in self._bodies:
            return
        self._bodies[message_id] = (body, size)
        self._size += size
        while self._size > self._largest:
            _, (_, freed) = self._bodies.popitem(last=False)
            self._size -= freed

    def __contains__(self, message_id: str) -> bool:
        """Whether a body is in memory."""
        return message_id in self._bodies

    async def get(self, message_ids: Sequence[str]) -> dict[str, MessageBody]:
        """The bodies of messages that exist and can be read; one query for all that are not in memory."""
        found: dict[str, MessageBody] = {}
        missing: list[str] = []
        for message_id in dict.fromkeys(message_ids):
            known = self._bodies.get(message_id)
            if known is None:
                missing.append(message_id)
            else:
                self._bodies.move_to_end(message_id)
                found[message_id] = known[0]
        if missing:
            for message_id, stored in (await self._work.load_messages(missing)).items():
                try:
                    body = _decode(stored)
                except msgspec.DecodeError:  # of another version, or damaged: it must not stop the others
                    log.exception("message_unreadable", message_id=message_id)
                    continue
                found[message_id] = body
                self.put(message_id, body, len(stored.content))
        return found


def _decode(stored: StoredMessage) -> MessageBody:
    if is_action(stored.content):
        action = msgspec.json.decode(stored.content, type=Action)
        return MessageBody(action, SILENT if isinstance(action, Delete | MarkRead) else SendOptions())
    return MessageBody(
        msgspec.json.decode(stored.content, type=Content), msgspec.json.decode(stored.options or "{}", type=SendOptions)
    )
