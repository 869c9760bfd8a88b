"""Messages in: whatever whoever knows the sandbox's address posts to it, for trying out receiving."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from msgcore.platforms.receiving import Inbound, InboundRequest, read_report

if TYPE_CHECKING:
    from msgcore.core.envelope import Envelope
    from msgcore.platforms.base import Account


class SandboxInbound(Inbound):
    """One report a request; the same body again is the same event."""

    signature = "none: nobody stands behind a sandbox, and its address is known to its project alone"

    def verify(self, account: Account, request: InboundRequest) -> None:
        """Anybody may."""
        del account, request

    def check(self, account: Account, request: InboundRequest) -> None:
        """Refuses what is no report, so that trying out tells."""
        del account
        read_report(request.body)

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """The report of the request."""
        del account
        return [read_report(request.body).envelope(sha256(request.body).hexdigest())]
