"""How Discord ends a connection of the gateway, and what that means for it.

Source: https://docs.discord.com/developers/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes
"""

from __future__ import annotations

from typing import Final

from msgcore.core.errors import AuthenticationError, PermanentError

RESUMABLE = 4000
"""What we close with: after 1000 and 1001 Discord forgets the session."""

_INTENTS_REFUSED: Final = (
    "Discord does not allow this bot one of its privileged intents ({}): switch them on under Privileged Gateway "
    "Intents on the Bot page of the application, in https://discord.com/developers/applications, or leave them out of "
    "credentials.intents"
)


class HungUpError(Exception):
    """The connection is over. `ended` says that the session is so too, and cannot be resumed."""

    def __init__(self, reason: str, *, ended: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ended = ended


class WrongShardsError(Exception):
    """Discord wants the bot's servers to be spread over another number of shards."""


def token_refused() -> AuthenticationError:
    """The token is wrong, or was reset."""
    return AuthenticationError(
        "credentials_refused",
        "Discord refuses the bot's token: set credentials.token to the one on the Bot page of the application, in "
        "https://discord.com/developers/applications (Reset Token shows a new one)",
    )


def read_close(code: int | None, reason: str, privileged: str) -> Exception:  # noqa: PLR0911 - one return a code
    """What a connection that was closed by Discord ends with; `privileged` names the intents that were asked for.

    A `DeliveryError` is what only a person can mend. All else is worth another try, mostly of the same session.
    """
    match code:
        case 4004:
            return token_refused()
        case 4010 | 4011:
            return WrongShardsError()
        case 4012:
            return PermanentError("gateway_version", "Discord refuses the version of its gateway: MsgCore is too old")
        case 4013:
            return PermanentError("gateway_intents_invalid", "Discord does not know one of credentials.intents")
        case 4014:
            return PermanentError("gateway_intents_refused", _INTENTS_REFUSED.format(privileged))
        case 4003 | 4007:
            return HungUpError(f"Discord does not take the session any more ({code} {reason.strip('.')})", ended=True)
        case None:
            return HungUpError("The connection broke")
        case _:
            return HungUpError(f"Discord closed the connection ({code} {reason.strip('.')})")
