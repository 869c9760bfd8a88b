"""Settings about who calls: who says so, what stands between, and how often they may."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from msgcore.setting_kinds import Networks, OidcAlgorithms, OidcAudience, OidcIssuer


def _setting(variable: str, default: Any, meaning: str, *originals: str) -> Any:
    """`originals` are the original's names for it."""
    return Field(default=default, description=meaning, json_schema_extra={"variables": [variable, *originals]})


def _per_minute(variable: str, most: int, meaning: str) -> Any:
    return Field(default=most, description=meaning, json_schema_extra={"variables": [variable]}, ge=0)


class CallerSettings(BaseModel):
    """The part of `config.Settings` about callers."""

    oidc_issuer: OidcIssuer = _setting(
        "MSGCORE_OIDC_ISSUER",
        None,
        "OpenID Connect issuer whose tokens are taken beside our own logins",
        "AUTH0_DOMAIN",
    )
    oidc_audience: OidcAudience = _setting(
        "MSGCORE_OIDC_AUDIENCE", None, "What these tokens have to be for (aud)", "AUTH0_AUDIENCE"
    )
    oidc_algorithms: OidcAlgorithms = _setting(
        "MSGCORE_OIDC_ALGORITHMS", ("RS256", "ES256"), "How these tokens may be signed"
    )
    project_creation: Literal["everybody", "administrators"] = _setting(
        "MSGCORE_PROJECT_CREATION", "everybody", "Who may make projects, and with them accounts for people"
    )
    trusted_proxies: Networks = _setting(
        "MSGCORE_TRUSTED_PROXIES",
        (),
        "Networks (CIDR, comma-separated) of the proxies whose word about a caller's address is taken",
    )
    proxy_header: Literal["x-forwarded-for", "forwarded"] = _setting(
        "MSGCORE_PROXY_HEADER",
        "x-forwarded-for",
        "Where these write it; the other header is never looked at, since callers could send it through",
    )
    max_connections: int = Field(
        default=8192,
        description="HTTP connections at the same time; further ones wait. As far as the system lets this process open "
        "files. Half as many may follow events",
        json_schema_extra={"variables": ["MSGCORE_MAX_CONNECTIONS"]},
        ge=16,
        le=1_000_000,
    )
    idle_seconds: float = Field(
        default=30.0,
        description="How long a connection may go without a request that has its line and headers, seconds",
        json_schema_extra={"variables": ["MSGCORE_IDLE_SECONDS"]},
        gt=0,
    )
    body_seconds: float = Field(
        default=60.0,
        description="How long the body of a request may take to come, seconds",
        json_schema_extra={"variables": ["MSGCORE_BODY_SECONDS"]},
        gt=0,
    )
    project_streams: int = Field(
        default=1000,
        description="Streams, WebSockets and long polls of a project at the same time, in each process",
        json_schema_extra={"variables": ["MSGCORE_PROJECT_STREAMS"]},
        ge=1,
    )
    rate_key_sending: int = _per_minute(
        "MSGCORE_RATE_KEY_SENDING", 60_000, "Requests to send, a minute, of one API key or person. 0: any number"
    )
    rate_key_reading: int = _per_minute(
        "MSGCORE_RATE_KEY_READING", 12_000, "The same for requests that only read. 0: any number"
    )
    rate_key_changing: int = _per_minute("MSGCORE_RATE_KEY_CHANGING", 6_000, "The same for all others. 0: any number")
    rate_project_sending: int = _per_minute(
        "MSGCORE_RATE_PROJECT_SENDING",
        120_000,
        "Requests to send, a minute, of all callers of a project. 0: any number",
    )
    rate_project_reading: int = _per_minute(
        "MSGCORE_RATE_PROJECT_READING", 24_000, "The same for requests that only read. 0: any number"
    )
    rate_project_changing: int = _per_minute(
        "MSGCORE_RATE_PROJECT_CHANGING", 12_000, "The same for all others. 0: any number"
    )
    rate_project_batched: int = _per_minute(
        "MSGCORE_RATE_PROJECT_BATCHED", 600_000, "Messages in batches, a minute, of a project. 0: any number"
    )
    rate_webhook: int = _per_minute(
        "MSGCORE_RATE_WEBHOOK", 60_000, "Requests of a platform to one webhook address, a minute. 0: any number"
    )
    rate_address: int = _per_minute(
        "MSGCORE_RATE_ADDRESS", 6_000, "Requests without a login, a minute, from one address. 0: any number"
    )
    rate_address_failures: int = _per_minute(
        "MSGCORE_RATE_ADDRESS_FAILURES",
        6_000,
        "Failed authentications, a minute, from one address; then only callers that are known get in. 0: any number",
    )
