"""Whether what was read fits into the tables and the events, on PostgreSQL as well: it takes no NUL, and no halves of characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Boolean, Integer, String, Table

from msgcore.core.envelope import Command, Deletion, Edit, Message, Reaction, Receipt
from msgcore.inbound.translation import (
    Occurrence,
    chat_rows,
    deletion_row,
    edit_row,
    event_of,
    file_lines,
    file_rows,
    message_row,
    reaction_row,
    receipt_of,
)
from msgcore.store.tables import (
    chats,
    message_attachments,
    pending_receipts,
    platform_logs,
    received_messages,
    received_reactions,
)
from msgcore.store.tables.base import Id, Json, UtcDateTime

LONGEST_TEXT = 1_000_000


def check_text(text: str, longest: int = LONGEST_TEXT) -> None:
    """A text as both databases take it."""
    assert isinstance(text, str), repr(text)[:100]
    assert "\0" not in text, "NUL"
    text.encode()
    assert len(text) <= longest, f"{len(text)} characters"


def check_all(occurrences: Iterable[Occurrence]) -> None:
    """Everything that is written of what happened."""
    found = list(occurrences)
    for row in chat_rows(found):
        check_row(chats, row)
    for each in found:
        _check_one(each)
        event = event_of(each, {}, {})
        check_text(event.type, 64)
        assert b"\0" not in msgspec.json.encode(event.data)


def _check_one(found: Occurrence) -> None:
    content = found.envelope.content
    match content:
        case Message() | Command():
            check_row(received_messages, message_row(found))
            for row in file_rows(found):
                check_row(message_attachments, row)
            for row in file_lines(found, found.request.received_at):
                check_row(platform_logs, row)
        case Reaction():
            check_row(received_reactions, reaction_row(found, content))
        case Receipt():
            check_row(pending_receipts, msgspec.structs.asdict(receipt_of(found, content, {})))
        case Edit():
            row = edit_row(found, content, found.id)
            if row["b_text"] is not None:
                check_text(row["b_text"])
            _check_moment(row["b_at"])
        case Deletion():
            _check_moment(deletion_row(found, found.id)["b_at"])
        case _:
            pass


def check_row(table: Table, row: Mapping[str, Any]) -> None:
    """Each value of a row by the type of its column."""
    for name, value in row.items():
        column = table.c[name]
        if value is None:
            assert column.nullable, f"{table.name}.{name} is missing"
            continue
        try:
            _check_value(column.type, value)
        except (AssertionError, ValueError, TypeError) as error:
            raise AssertionError(f"{table.name}.{name}: {error}") from error


def _check_value(kind: Any, value: Any) -> None:
    match kind:
        case Id():
            UUID(value)
        case UtcDateTime():
            _check_moment(value)
        case Json():
            assert b"\0" not in msgspec.json.encode(value)
        case String():
            check_text(value, kind.length or LONGEST_TEXT)
        case Boolean():
            assert isinstance(value, bool)
        case Integer():
            assert isinstance(value, int)
            assert -(2**31) <= value < 2**31 or (isinstance(kind, BigInteger) and -(2**63) <= value < 2**63)
        case _:
            raise AssertionError(f"{kind} is not known here")


def _check_moment(moment: datetime) -> None:
    assert moment.tzinfo is not None
    moment.astimezone(UTC)
