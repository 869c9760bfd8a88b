"""What the answers of a receiver mean (`client.py`), for the documentation and whoever asks."""

from __future__ import annotations

from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable

ERRORS = ErrorTable(
    (
        ErrorRule("throttled", Ending.THROTTLED, "It was asked to wait: 429, or 503 with Retry-After"),
        ErrorRule("receiver_failed", Ending.TEMPORARY, "408, 425 or 5xx: the receiver has a problem of its own"),
        ErrorRule(
            "signature_refused",
            Ending.AUTHENTICATION,
            "The receiver refuses the signature: check that both sides have the same secret",
            status=401,
        ),
        ErrorRule("secret_invalid", Ending.AUTHENTICATION, "The secret is none of Standard Webhooks: make a new one"),
        ErrorRule(
            "receiver_redirects",
            Ending.PERMANENT,
            "Redirects are not followed: set url to the final address",
        ),
        ErrorRule("receiver_refused", Ending.PERMANENT, "The receiver refuses the message: any other 4xx"),
    )
)
