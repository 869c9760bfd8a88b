"""The parts of messages that go out in several calls: the platform's ids of those that it took, one a line."""

from __future__ import annotations

from collections.abc import Iterable

UNNAMED = "-"
"""Stands for the id of a part that the platform gave none."""


def split_parts(column: str | None) -> tuple[str, ...]:
    """The ids of the column `part_ids`."""
    return tuple(column.split("\n")) if column else ()


def first_named(parts: Iterable[str]) -> str | None:
    """The id by which the platform tells of the message: that of the first part that has one."""
    return next((part for part in parts if part != UNNAMED), None)


def sent_so_far(number: int) -> str:
    """What is added to the reason of an end, where it is one between parts: somebody has the message's beginning."""
    if not number:
        return ""
    return f"; {number} {'part' if number == 1 else 'parts'} of it had been sent"
