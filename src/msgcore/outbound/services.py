"""What adapters are given: the shared HTTP session, guarded sockets, attachments, the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

    from msgcore.core.clock import Clock
    from msgcore.outbound.attachments import AttachmentLoader
    from msgcore.security.egress import EgressGuard
    from msgcore.store.database import Database


@dataclass(frozen=True, slots=True)
class AdapterServices:
    """Shared by all adapters of a process.

    `http` is one aiohttp session whose connector refuses addresses that `egress` does not allow.
    `base_urls` holds the operator's `MSGCORE_<PLATFORM>_BASE_URL` settings by platform name.
    """

    http: aiohttp.ClientSession
    egress: EgressGuard
    attachments: AttachmentLoader
    database: Database
    clock: Clock
    base_urls: dict[str, str]
