"""Settings about who calls: what stands between, and how often they may."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from msgcore.setting_kinds import Networks


def _setting(variable: str, default: Any, meaning: str) -> Any:
    return Field(default=default, description=meaning, json_schema_extra={"variables": [variable]})


class CallerSettings(BaseModel):
    """The part of `config.Settings` about callers."""

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
