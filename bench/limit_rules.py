"""The published rate limits of four platforms, and how each refuses what goes beyond them.

Where a platform says "N per period" and no more, the strictest reading is taken: at most N calls in
any period, wherever it begins. What a platform only hints at ("short bursts may be allowed",
"several hundred a minute for a workspace") is neither granted nor enforced.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

from bench.http_server import Request, answer

NEVER = -math.inf


class Window(Protocol):
    """How many calls may come, and when the next one may. Times are seconds of one clock."""

    def wait(self, now: float) -> float:
        """Seconds until one more call is allowed; 0 when it is."""
        ...

    def add(self, now: float) -> float:
        """Count an allowed call; gives how late it came after the first moment at which it was allowed."""
        ...


class SlidingWindow:
    """At most `count` calls in any `period` seconds."""

    def __init__(self, count: int, period: float) -> None:
        self._period = period
        self._calls = deque[float]([NEVER] * count, count)

    def wait(self, now: float) -> float:
        """Until the oldest of the last `count` calls is a period ago."""
        return max(0.0, self._calls[0] + self._period - now)

    def add(self, now: float) -> float:
        """See `Window`."""
        margin = now - self._calls[0] - self._period
        self._calls.append(now)
        return margin


class FixedWindow:
    """A bucket of `count` calls that opens with the first of them and is full again `period` seconds later."""

    def __init__(self, count: int, period: float) -> None:
        self.count = count
        self._period = period
        self._resets_at = NEVER
        self._used = 0

    @property
    def remaining(self) -> int:
        """Calls that are left until the reset."""
        return self.count - self._used

    def reset_after(self, now: float) -> float:
        """Seconds until the bucket is full again."""
        return max(0.0, self._resets_at - now)

    def wait(self, now: float) -> float:
        """Until the reset, when nothing is left."""
        return 0.0 if self._used < self.count else self.reset_after(now)

    def add(self, now: float) -> float:
        """See `Window`; only the first call of a bucket had to wait for anything."""
        margin = math.inf
        if now >= self._resets_at:
            margin = now - self._resets_at
            self._resets_at = now + self._period
            self._used = 0
        self._used += 1
        return margin


class Refusal(NamedTuple):
    """Why a call is over a limit: `scope` is `account` or `lane`."""

    scope: str
    wait: float


@dataclass
class Record:
    """What one platform saw. `margin` is the closest call by scope, in seconds; below 0 it was refused."""

    requests: int = 0
    refused: int = 0
    accepted: list[float] = field(default_factory=list[float])
    kinds: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    margin: dict[str, float] = field(default_factory=dict[str, float])

    def note_margin(self, scope: str, margin: float) -> None:
        """Keep the smallest."""
        self.margin[scope] = min(margin, self.margin.get(scope, math.inf))

    def report(self, seconds: float) -> dict[str, object]:
        """The figures of the first `seconds` after the first request, as JSON."""
        end = self.accepted[0] + seconds if self.accepted else 0.0
        return {
            "requests": self.requests,
            "refused": self.refused,
            "age": time.monotonic() - self.accepted[0] if self.accepted else 0.0,
            "used": sum(moment < end for moment in self.accepted),
            "kinds": {kind: sum(moment < end for moment in moments) for kind, moments in self.kinds.items()},
            "margin_ms": {scope: 1000 * margin for scope, margin in self.margin.items() if math.isfinite(margin)},
        }


class PlatformRules(Protocol):
    """One account of a platform: takes each request or refuses it, as the platform does."""

    record: Record

    def answer(self, request: Request, now: float) -> bytes:
        """The whole HTTP answer."""
        ...


class Limits:
    """The windows of an account and of each of its lanes."""

    def __init__(self, account: list[Window], lane: Callable[[str], list[Window]]) -> None:
        self.record = Record()
        self._account = account
        self._make_lane = lane
        self._lanes: dict[str, list[Window]] = {}

    def lane(self, key: str) -> list[Window]:
        """The windows of a lane."""
        if key not in self._lanes:
            self._lanes[key] = self._make_lane(key)
        return self._lanes[key]

    def take(self, key: str, kind: str, now: float) -> Refusal | None:
        """Count a call; the refusal if it is over a limit. Refused calls use nothing up."""
        scopes = {"account": self._account, "lane": self.lane(key)}
        self.record.requests += 1
        for scope, windows in scopes.items():
            wait = max((window.wait(now) for window in windows), default=0.0)
            if wait > 0:
                self.record.refused += 1
                self.record.note_margin(scope, -wait)
                return Refusal(scope, wait)
        for scope, windows in scopes.items():
            for window in windows:
                self.record.note_margin(scope, window.add(now))
        self.record.accepted.append(now)
        self.record.kinds.setdefault(kind, []).append(now)
        return None


class Telegram:
    """Telegram Bot API: 30 messages a second in all, 1 a second to a chat, 20 a minute to a group.

    Source: Bots FAQ, "My bot is hitting limits, how do I avoid this?"
    (https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this). The refusal is
    that of Bot API, "Making requests" and "ResponseParameters"
    (https://core.telegram.org/bots/api#responseparameters): `parameters.retry_after` in whole seconds.
    Groups have negative ids. The limit of a chat holds for groups as well.
    """

    def __init__(self) -> None:
        self._limits = Limits([SlidingWindow(30, 1.0)], self._lane)
        self.record = self._limits.record

    @staticmethod
    def _lane(chat: str) -> list[Window]:
        per_second = SlidingWindow(1, 1.0)
        return [per_second, SlidingWindow(20, 60.0)] if chat.startswith("-") else [per_second]

    def answer(self, request: Request, now: float) -> bytes:
        """`POST /bot<token>/sendMessage`."""
        chat = str(json.loads(request.body)["chat_id"])
        refusal = self._limits.take(chat, "group" if chat.startswith("-") else "private chat", now)
        if refusal is None:
            result = {"message_id": self.record.requests, "date": int(time.time()), "chat": {"id": int(chat)}}
            return answer(200, json.dumps({"ok": True, "result": result}).encode())
        seconds = math.ceil(refusal.wait)
        body = {
            "ok": False,
            "error_code": 429,
            "description": f"Too Many Requests: retry after {seconds}",
            "parameters": {"retry_after": seconds},
        }
        return answer(429, json.dumps(body).encode())


class Discord:
    """Discord: 50 requests a second of a bot; to a channel 5 messages in 5 seconds.

    Source: "Rate Limits" (https://docs.discord.com/developers/topics/rate-limits), sections "Global Rate
    Limit", "Header Format" and "Exceeding A Rate Limit". The bucket of a channel is a fixed window, as
    its headers tell: so many requests remain until it resets. Its size is not published ("should not
    be hard coded"); 5 in 5 seconds is an assumption of this bench. The 50 a second are read as a
    sliding window.
    """

    BUCKET: ClassVar[str] = "80c17d2f203122d936070c88c8d10f33"

    def __init__(self) -> None:
        self._limits = Limits([SlidingWindow(50, 1.0)], lambda _: [FixedWindow(5, 5.0)])
        self.record = self._limits.record

    def answer(self, request: Request, now: float) -> bytes:
        """`POST /api/v10/channels/<id>/messages`."""
        channel = request.path.split("/")[-2]
        refusal = self._limits.take(channel, "channel", now)
        headers = self._headers(channel, now)
        if refusal is None:
            body = {"id": str(self.record.requests), "channel_id": channel}
            return answer(200, json.dumps(body).encode(), headers)
        is_global = refusal.scope == "account"
        headers |= {"Retry-After": str(math.ceil(refusal.wait)), "X-RateLimit-Scope": "global" if is_global else "user"}
        if is_global:
            headers["X-RateLimit-Global"] = "true"
        body = {
            "message": "You are being rate limited.",
            "retry_after": round(refusal.wait + 0.0005, 3),
            "global": is_global,
        }
        return answer(429, json.dumps(body).encode(), headers)

    def _headers(self, channel: str, now: float) -> dict[str, str]:
        bucket = self._limits.lane(channel)[0]
        assert isinstance(bucket, FixedWindow)
        after = bucket.reset_after(now)
        return {
            "X-RateLimit-Limit": str(bucket.count),
            "X-RateLimit-Remaining": str(bucket.remaining),
            "X-RateLimit-Reset": f"{time.time() + after:.3f}",
            "X-RateLimit-Reset-After": f"{after:.3f}",
            "X-RateLimit-Bucket": self.BUCKET,
        }


class Slack:
    """Slack chat.postMessage: 1 message a second to a channel.

    Source: "Rate limits" (https://docs.slack.dev/apis/web-api/rate-limits), sections "Overview" (posting
    messages) and "Responding to rate limiting conditions": 429 with Retry-After in whole seconds. The
    limit of the whole workspace has no number there, so none is enforced.
    """

    def __init__(self) -> None:
        self._limits = Limits([], lambda _: [SlidingWindow(1, 1.0)])
        self.record = self._limits.record

    def answer(self, request: Request, now: float) -> bytes:
        """`POST /api/chat.postMessage`."""
        channel: str = json.loads(request.body)["channel"]
        refusal = self._limits.take(channel, "channel", now)
        if refusal is None:
            body = {"ok": True, "channel": channel, "ts": f"{time.time():.6f}"}
            return answer(200, json.dumps(body).encode())
        headers = {"Retry-After": str(math.ceil(refusal.wait))}
        return answer(429, b'{"ok":false,"error":"ratelimited"}', headers)


class WhatsApp:
    """WhatsApp Cloud API: 80 messages a second of a number, and one in 6 seconds to the same recipient.

    Sources: "Throughput" (https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput)
    and "Error codes" (.../whatsapp/support/error-codes), which tells clients to go by `code`: 130429 for the number,
    131056 for a pair. "Throughput" names the pair rate without a number; 6 seconds, the status 400 and the missing
    Retry-After are what callers report.
    """

    def __init__(self) -> None:
        self._limits = Limits([SlidingWindow(80, 1.0)], lambda _: [SlidingWindow(1, 6.0)])
        self.record = self._limits.record

    def answer(self, request: Request, now: float) -> bytes:
        """`POST /<version>/<phone number id>/messages`."""
        recipient: str = json.loads(request.body)["to"]
        refusal = self._limits.take(recipient, "recipient", now)
        if refusal is None:
            body = {"messaging_product": "whatsapp", "messages": [{"id": f"wamid.{self.record.requests}"}]}
            return answer(200, json.dumps(body).encode())
        code, title = (130429, "Rate limit hit") if refusal.scope == "account" else (131056, "Pair rate limit hit")
        error = {"message": f"(#{code}) {title}", "type": "OAuthException", "code": code, "fbtrace_id": "bench"}
        return answer(400, json.dumps({"error": error}).encode())


PLATFORMS: dict[str, Callable[[], PlatformRules]] = {
    "telegram": Telegram,
    "discord": Discord,
    "slack": Slack,
    "whatsapp-cloud": WhatsApp,
}
