"""What mail servers tell about mails that were sent: delivery status notifications (RFC 3464, RFC 6533)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from msgcore.platforms.email.mime import Part, content, header, message_ids, parse, subparts
from msgcore.platforms.receiving import UnreadableError

MOST_RECIPIENTS = 100

_STATUS = ("message/delivery-status", "message/global-delivery-status")
_ORIGINAL = ("message/rfc822", "message/global", "message/global-headers", "text/rfc822-headers")
_LARGEST_HEADERS = 256 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mail for one recipient, whose address is in lower case; `error` is None where it arrived."""

    recipient: str | None
    status: Literal["delivered", "failed"]
    error: str | None


def reported_id(root: Part) -> str | None:
    """The Message-ID, without <>, of the mail that a notification is about; None for what is no notification."""
    if root.get_content_type() != "multipart/report" or _find(root, _STATUS) is None:
        return None
    original = _find(root, _ORIGINAL)
    if original is None:
        return None
    if subparts(original):
        original = subparts(original)[0]
    elif original.get_content_type() == "text/rfc822-headers":
        try:
            original = parse(content(original, _LARGEST_HEADERS))
        except UnreadableError:
            return None
    return next(iter(message_ids(original, "message-id")), None)


def outcomes(root: Part) -> list[Outcome]:
    """For each recipient what became of the mail; those for whom it is not decided are left out."""
    status = _find(root, _STATUS)
    found: list[Outcome] = []
    for fields in _blocks(status) if status is not None else ():
        action = (header(fields, "action") or "").lower()
        if action in ("failed", "delivered") and len(found) < MOST_RECIPIENTS:
            # The original one is whom the mail was sent to; the final one is where that address led.
            recipient = _value(fields, "original-recipient") or _value(fields, "final-recipient")
            error = _value(fields, "diagnostic-code") or header(fields, "status") or "no reason was given"
            found.append(
                Outcome(
                    recipient=recipient and recipient.lower(),
                    status="failed" if action == "failed" else "delivered",
                    error=error[:1024] if action == "failed" else None,
                )
            )
    return found


def _find(root: Part, kinds: tuple[str, ...]) -> Part | None:
    return next((part for part in subparts(root) if part.get_content_type() in kinds), None)


def _blocks(status: Part) -> Iterator[Part]:
    """The blocks of fields: the parser makes parts of them, but of RFC 6533's only of the first."""
    for part in subparts(status):
        yield part
        for block in content(part, _LARGEST_HEADERS).replace(b"\r\n", b"\n").split(b"\n\n", MOST_RECIPIENTS):
            if block.strip():
                yield parse(b"From: x\n" + block.lstrip(b"\n"))


def _value(fields: Part, name: str) -> str | None:
    """What is behind the type in a field such as `rfc822; ann@example.com`."""
    kind, semicolon, value = (header(fields, name) or "").partition(";")
    return (value if semicolon else kind).strip() or None
