"""What Discord's gateway says (https://docs.discord.com/developers/events/gateway), for the fuzz runs."""

from __future__ import annotations

from fuzz.live_targets import Talk
from servers.facts import samples_of

_LIMIT = {"total": 1000, "remaining": 999, "reset_after": 14400000, "max_concurrency": 1}
_READY = {"v": 10, "session_id": "b48f0b7e", "resume_gateway_url": "wss://gateway-us-east1.discord.gg"}

TALK = Talk(
    credentials={"token": "MTIzNDU2Nzg5MDEyMzQ1Njc4.GaTeWa.of-tests"},
    answers=(("/gateway/bot", {"url": "wss://gateway.discord.gg", "shards": 1, "session_start_limit": _LIMIT}),),
    told=(
        {"op": 10, "d": {"heartbeat_interval": 41250}, "s": None, "t": None},
        {"op": 0, "t": "READY", "s": 1, "d": _READY},
        {"op": 11},
        *(
            sample.body | {"s": 2 + number}
            for number, sample in enumerate(samples_of("discord"))
            if "op" in (sample.body or {})
        ),
        {"op": 1, "d": None},
        {"op": 0, "t": "INTERACTION_CREATE", "s": 99, "d": {"id": "846462639134605312", "type": 2, "token": "t"}},
        {"op": 9, "d": True},
    ),
)
