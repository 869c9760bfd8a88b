"""How servers' certificates are checked, for SMTP and IMAP."""

from __future__ import annotations

import ssl
from functools import cached_property


class TlsContexts:
    """Made on first use, and once: loading the system's certificates takes a while."""

    @cached_property
    def verified(self) -> ssl.SSLContext:
        """Checks the server's certificate and name."""
        return ssl.create_default_context()

    @cached_property
    def unverified(self) -> ssl.SSLContext:
        """Encrypts to whoever answers (opportunistic security, RFC 7435)."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
