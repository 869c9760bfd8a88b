"""How messages and topics are named, and how an account logs in.

ntfy does not tell who wrote something, and gives back to its writer what it wrote. So what an account publishes carries
the account's mark in its sequence id, which also makes a repeated publication one message
(https://docs.ntfy.sh/publish/#updating-deleting-notifications).
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from msgcore.platforms.base import Account

DEFAULT_SERVER = "https://ntfy.sh"
MOST_TOPICS = 50
TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
"""Of topics and of sequence ids alike: server/server.go of github.com/binwiederhier/ntfy, topicRegex."""

_MARK_DIGITS = 16


def server_of(account: Account) -> str:
    """The address of the account's server, without a slash at the end."""
    return (account.credentials.get("serverUrl") or DEFAULT_SERVER).rstrip("/")


def login(account: Account) -> dict[str, str]:
    """The headers of a request (https://docs.ntfy.sh/publish/#authentication)."""
    token, user = account.credentials.get("token"), account.credentials.get("username")
    if token:
        return {"Authorization": f"Bearer {token}"}
    if user:
        pair = f"{user}:{account.credentials.get('password') or ''}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
    return {}


def topics_of(text: str | None) -> list[str]:
    """The topics of a list with commas, each once."""
    return list(dict.fromkeys(filter(None, (each.strip() for each in (text or "").split(",")))))


def listened(account: Account) -> list[str]:
    """The topics that an account listens to."""
    named = f"{account.credentials.get('topics') or ''},{account.credentials.get('answerTopic') or ''}"
    return topics_of(named)


def sequence_of(account: Account, key: str) -> str:
    """The sequence id of a call; the same whenever it is repeated."""
    delivery, _, part = key.partition(".")
    return f"{_mark(account)}-{delivery.replace('-', '')}-{part}"


def press_of(sequence: str, index: int) -> str:
    """The sequence id under which a pressed button is published."""
    return f"{sequence}-b{index}"


class Names:
    """Tells an account's own sequence ids from others."""

    def __init__(self, account: Account) -> None:
        self._start = f"{_mark(account)}-"
        self._sent = re.compile(rf"({self._start}\w+-\d+)(-b\d+)?")

    def tells(self, event: str, sequence: str) -> bool:
        """Whether this tells something: what others did, a button of ours, or what was done to a message of ours."""
        match event:
            case "message":
                return self.pressed(sequence) is not None or not sequence.startswith(self._start)
            case "message_delete":
                return not sequence.startswith(self._start)
            case "message_clear":
                match = self._sent.fullmatch(sequence)
                return match is not None and match[2] is None
            case _:
                return False

    def pressed(self, sequence: str) -> str | None:
        """The sequence id of the message whose button was pressed; None for anything else."""
        match = self._sent.fullmatch(sequence)
        return None if match is None or match[2] is None else match[1]


def message_id(topic: str, sequence: str) -> str:
    """The id of a message. Sequence ids, which anybody may choose, are unique in their topic only."""
    return f"{topic}:{sequence}"


def message_path(topic: str, id_: str) -> str:
    """The path of a message, by its id with or without the topic."""
    return f"/{quote(topic, safe='')}/{quote(id_.rpartition(':')[2], safe='')}"


def _mark(account: Account) -> str:
    return sha256(f"ntfy {account.id}".encode()).hexdigest()[:_MARK_DIGITS]
