"""Answers by number: where buttons were shown as a numbered list, an answer of `2` presses the second one."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from msgcore.core.content import Content
from msgcore.core.envelope import Click, Envelope, Message
from msgcore.inbound.translation import Occurrence
from msgcore.platforms.base import PlatformAdapter
from msgcore.platforms.receiving import Inbound
from msgcore.store.ledger.last_sent import Sent, last_sent

_NUMBER = re.compile(r"\s*([1-9][0-9]?)\s*[.)]?\s*")
"""As people write the number of an item; a list has at most 99."""


def number_of(inbound: Inbound, envelope: Envelope) -> int | None:
    """The number that a message is, as a whole."""
    said = inbound.said(envelope) if isinstance(envelope.content, Message) else ()
    match = _NUMBER.fullmatch(said[0]) if said else None
    return None if match is None else int(match[1])


def presses(connection: Connection, adapter: type[PlatformAdapter], found: Sequence[Occurrence]) -> dict[str, Click]:
    """The buttons that messages press, by the ids of their occurrences.

    A number is an answer to the message that was sent last to its chat, and to no other: what was asked after the
    buttons were shown may want a number too.
    """
    answering = [(each, each.number) for each in found if each.number is not None]
    if not answering:
        return {}
    chats = sorted({each.envelope.chat.id for each, _ in answering})
    shown = last_sent(connection, answering[0][0].request.platform_id, chats)
    return {
        each.id: click
        for each, number in answering
        if (click := _press(adapter, shown.get(each.envelope.chat.id), number)) is not None
    }


def _press(adapter: type[PlatformAdapter], sent: Sent | None, number: int) -> Click | None:
    if sent is None:
        return None
    choices = adapter.numbered(msgspec.convert(sent.content, Content))
    if number > len(choices):
        return None
    button = choices[number - 1]
    return Click(value=button.value or button.text, message_id=sent.provider_message_id, label=button.text)
