"""The contract of a live connection: how a platform that does not call us is listened to.

A mailbox, a gateway over a WebSocket or a long poll: one process at a time holds the connection of an account,
and gives what comes to its sink, which stores it as if it had been posted to the account's webhook. From there on
both ways are one: the platform's `Inbound` reads it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from msgcore.outbound.services import AdapterServices
    from msgcore.platforms.base import Account

State: TypeAlias = dict[str, Any]
"""How far an account's connection is, as JSON: a UID, an offset, a session. Small, and without secrets."""


class LeaseLostError(Exception):
    """Another process holds the account's connection by now, or nobody is to: nothing was stored."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Something as the platform sent it; `headers` are what `Inbound.read` needs beside the body."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def fitting(bodies: Iterable[bytes], largest: int) -> tuple[list[Payload], list[str]]:
    """Payloads of those that a sink takes, and a note for each one that is larger."""
    payloads: list[Payload] = []
    notes: list[str] = []
    for body in bodies:
        if len(body) <= largest:
            payloads.append(Payload(body))
        else:
            notes.append(f"An event of {len(body)} bytes was left out: at most {largest} are taken")
    return payloads, notes


class Sink(Protocol):
    """Where a connection puts what it gets, and its state. Made for one run of one account."""

    @property
    def largest(self) -> int:
        """Bytes that one payload may have; what is larger is left out, with a note."""
        ...

    async def store(self, payloads: Sequence[Payload], state: State, notes: Sequence[str] = ()) -> None:
        """Store payloads, the state that they lead to, and notes for the account's log: all of it, or nothing.

        Returns when it is safe: only then may the platform be told that they were taken. Raises LeaseLostError,
        and whatever the database raises.
        """
        ...

    def connected(self) -> None:
        """The connection is up: logged in, and listening."""
        ...


class Live(ABC):
    """Holds a platform's connections in one process. Keeps nothing of an account: that is the state's part.

    `way` is what the connection is, where `supports_polling` and `supports_websocket` do not tell.
    """

    way: ClassVar[Literal["imap"] | None] = None

    def __init__(self, services: AdapterServices) -> None:
        self.services = services

    @classmethod
    @abstractmethod
    def wanted(cls, account: Account) -> bool:
        """Whether this account's configuration asks for a connection. Quick, and touches nothing else."""

    @abstractmethod
    async def run(self, account: Account, sink: Sink, state: State | None) -> None:
        """Hold the connection until it is lost; `state` is what was stored last, None the first time.

        It is cancelled when the account changes, the process stops, or another process has taken over: then it
        hangs up at once. Raises a `DeliveryError` child as sending does: a temporary one is tried again soon, one
        that asks to wait after that time, and a permanent or authentication one, which only a person can mend,
        seldom. The message goes to the account's log: no secrets in it.
        """

    async def close(self) -> None:
        """Release what all connections share, once none is left."""
        return
