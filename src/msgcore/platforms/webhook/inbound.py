"""Messages in: envelopes that the user's own application posts, signed as ours to it are.

Source of the signature: Standard Webhooks specification, "Signature scheme" and "Verifying webhook
authenticity" (symmetric signatures; five minutes of tolerance, which the library checks).
"""

from __future__ import annotations

from collections.abc import Sequence
from json import JSONDecodeError
from typing import TYPE_CHECKING

from standardwebhooks import Webhook, WebhookVerificationError

from msgcore.platforms.receiving import Inbound, InboundRequest, SignatureError, UnreadableError, read_report
from msgcore.security.webhook_secrets import read_secret

if TYPE_CHECKING:
    from msgcore.core.envelope import Envelope
    from msgcore.platforms.base import Account

ID_HEADER = "webhook-id"


class WebhookInbound(Inbound):
    """One report a request; its `webhook-id` is what makes it the same when it comes again."""

    signature = "Standard Webhooks: webhook-id, webhook-timestamp and webhook-signature, with the account's secret"
    keeps = (ID_HEADER,)

    def verify(self, account: Account, request: InboundRequest) -> None:
        """Also raises UnreadableError for a body that is not JSON."""
        secret = read_secret(account.credentials["secret"])
        if secret is None:
            raise SignatureError("credentials.secret is not a Standard Webhooks secret")
        try:
            Webhook(secret).verify(request.body, dict(request.headers))
        except WebhookVerificationError as error:
            raise SignatureError(str(error)) from None
        except (JSONDecodeError, RecursionError):  # the library reads it once the signature is found right
            raise UnreadableError("the body is not JSON") from None
        except (ValueError, TypeError):
            raise SignatureError("the headers of the signature are malformed") from None

    def check(self, account: Account, request: InboundRequest) -> None:
        """Refuses what is no report: whoever signed it can mend it."""
        del account
        read_report(request.body)

    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """The report of the request."""
        del account
        return [read_report(request.body).envelope(request.headers[ID_HEADER])]
