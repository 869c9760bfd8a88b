"""What adapters are given: HTTP, guarded sockets, attachments, the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgcore.outbound.long_texts import LongTexts

if TYPE_CHECKING:
    from msgcore.core.clock import Clock
    from msgcore.outbound.attachments import AttachmentLoader
    from msgcore.outbound.transport import Transport
    from msgcore.security.egress import EgressGuard
    from msgcore.store.database import Database


@dataclass(frozen=True, slots=True)
class AdapterServices:
    """Shared by all adapters of a process.

    `http` connects only to addresses that `egress` allows; `egress` itself is for other protocols. `held_http` is
    the same for what is held open (`live.py`): however many those are, they take no connection from messages.
    `base_urls` holds the operator's `MSGCORE_<PLATFORM>_BASE_URL` settings by platform name.
    """

    http: Transport
    held_http: Transport
    egress: EgressGuard
    attachments: AttachmentLoader
    database: Database
    clock: Clock
    base_urls: dict[str, str]
    long_texts: LongTexts = field(default_factory=LongTexts)
    on_stored: Callable[[str], None] = lambda _: None
    """Told the id of an account for which an adapter has stored something that was received."""
    refresh_event: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    """Gives an event, as subscribers get it, with addresses of files that are valid from now on."""
