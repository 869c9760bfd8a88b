"""How people get off a list: the headers List-Unsubscribe (RFC 2369) and List-Unsubscribe-Post (RFC 8058)."""

from __future__ import annotations

import re
from urllib.parse import quote

from msgcore.core.errors import FieldError

RECIPIENT = "{recipient}"
"""Stands for the address of whoever a mail is for."""
EXAMPLE = "https://example.com/unsubscribe?who={recipient}, mailto:list@example.com?subject=unsubscribe"
LONGEST = 2000

# Visible ASCII without what delimits addresses in the header.
_ADDRESS = re.compile(r"(?:https://[^/?#]|mailto:[^@]+@)[!-~]*", re.ASCII | re.IGNORECASE)
_DELIMITER = re.compile(r"[<>,\s]")


def check_unsubscribe(pointer: str, value: str) -> list[FieldError]:
    """What is wrong with a list of addresses."""
    if all(_ADDRESS.fullmatch(each) and not _DELIMITER.search(each) for each in _addresses(value)):
        return []
    message = (
        f"{pointer[1:].replace('/', '.')} must be https: and mailto: addresses with commas between, such as {EXAMPLE}"
    )
    return [FieldError(pointer, message)]


def unsubscribe_headers(addresses: str, recipient: str, *, own: bool) -> dict[str, str]:
    """The headers of a mail; none without addresses.

    One click is enough where an https: address tells who clicks: it was given for this message (`own`), or is made
    of the recipient.
    """
    found = _addresses(addresses)
    who = quote(recipient, safe="")
    headers = {"List-Unsubscribe": ", ".join(f"<{each.replace(RECIPIENT, who)}>" for each in found)} if found else {}
    if any(each[:6].lower() == "https:" and (own or RECIPIENT in each) for each in found):
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    return headers


def _addresses(value: str) -> list[str]:
    return [each.strip() for each in value.split(",")] if value.strip() else []
