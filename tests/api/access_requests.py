"""A plausible request to each endpoint. `$name` stands for the tenant's thing of that name, `$new` for a new name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from api.conftest import PASSWORD

OF = "/api/v1/projects/{project}"
HOOK = "/api/v1/webhooks/{platform}/{webhook_token}"
TO_BOB = {"targets": [{"platformId": "$platform_id", "type": "user", "id": "bob"}], "content": {"text": "hi"}}
ACCOUNT = {"platformId": "$platform_id", "providerUserId": "$new"}
SENT = {"platformId": "$platform_id", "messageId": "$sent_message"}
GOT = {"platformId": "$platform_id", "messageId": "$provider_message"}
REPORT = {"chat": {"id": "room", "type": "group"}, "author": {"id": "ann"}, "content": {"kind": "typing"}}
NAMED = re.compile(r"\$(\w+)")
LATER = (datetime.now(UTC) + timedelta(days=1000)).isoformat()


@dataclass(frozen=True)
class Ask:
    """What is sent beside the path, and what makes the endpoint special."""

    body: Any = None
    query: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    """Which thing a parameter of the path stands for, where the names differ."""
    fresh: str = ""
    """The thing that is used up, so that each request needs a new one."""
    ends: int = 2
    """What whoever may gets: the hundreds of a success, or one other status."""
    by_session: int | None = None
    """What a session gets, where it is something else."""

    def about(self, path: str, things: Mapping[str, str]) -> tuple[dict[str, str], str, str | None]:
        """The request for these things: the parameters of its path, its query, and its body as JSON."""

        def name(match: re.Match[str]) -> str:
            return things.get("new", f"n{uuid4().hex[:12]}") if match[1] == "new" else things[match[1]]

        ids = {parameter: things[self.ids.get(parameter, parameter)] for parameter in re.findall(r"\{(\w+)\}", path)}
        body = None if self.body is None else NAMED.sub(name, json.dumps(self.body))
        return ids, NAMED.sub(name, self.query), body


REQUESTS: dict[str, Ask] = {
    "POST /api/v1/auth/signup": Ask({"email": "eve@example.com", "password": PASSWORD}, ends=409),
    "POST /api/v1/auth/login": Ask({"email": "eve@example.com"}, ends=400),
    "POST /api/v1/auth/accept-invite": Ask({"token": "x", "name": "Eve", "password": PASSWORD}, ends=401),
    "POST /api/v1/auth/join": Ask({"token": "x"}, ends=401),
    "POST /api/v1/auth/session": Ask({"email": "eve@example.com"}, ends=400),
    "POST /api/v1/auth/session/exchange": Ask(by_session=403),
    "GET /api/v1/auth/session": Ask(ends=404, by_session=200),
    "DELETE /api/v1/auth/session": Ask(ends=404, by_session=200),
    "PATCH /api/v1/auth/profile": Ask({"name": "Sam"}),
    "PATCH /api/v1/auth/password": Ask({"currentPassword": PASSWORD, "newPassword": PASSWORD}, ends=400),
    "GET /api/v1/attachments/{attachment_id}": Ask(query="$signed"),
    f"GET {HOOK}": Ask(ends=405),
    f"POST {HOOK}": Ask(REPORT),
    f"PUT {HOOK}": Ask(REPORT, ends=405),
    f"PATCH {HOOK}": Ask(REPORT, ends=405),
    f"DELETE {HOOK}": Ask(ends=405),
    "POST /api/v1/projects": Ask({"id": "$new", "name": "New"}),
    f"PATCH {OF}": Ask({"description": "$new"}),
    f"DELETE {OF}": Ask(ends=409),
    f"POST {OF}/keys": Ask({"name": "k", "scopes": ["keys:write"]}),
    f"POST {OF}/keys/{{key_id}}/roll": Ask(fresh="key_id"),
    f"DELETE {OF}/keys/{{key_id}}": Ask(fresh="key_id"),
    f"POST {OF}/members": Ask({"email": "$new@example.com", "role": "viewer"}, ends=404),
    f"PATCH {OF}/members/{{user_id}}": Ask({"role": "viewer"}),
    f"DELETE {OF}/members/{{user_id}}": Ask(fresh="user_id"),
    f"POST {OF}/members/invite": Ask({"email": "$new@example.com", "role": "viewer"}),
    f"DELETE {OF}/members/invites/{{invite_id}}": Ask(fresh="invite_id"),
    f"POST {OF}/platforms": Ask({"platform": "sandbox", "name": "b", "credentials": {}}),
    f"PATCH {OF}/platforms/{{platform_id}}": Ask({"description": "$new"}),
    f"GET {OF}/platforms/{{platform_id}}/qr-code": Ask(ends=400),
    f"DELETE {OF}/platforms/{{platform_id}}": Ask(fresh="platform_id"),
    f"POST {OF}/messages/send": Ask(TO_BOB),
    f"POST {OF}/messages/send with `ignoreOptOut`": Ask(TO_BOB | {"options": {"ignoreOptOut": True}}),
    f"POST {OF}/messages/preview": Ask(TO_BOB),
    f"POST {OF}/messages/batch": Ask([TO_BOB]),
    f"POST {OF}/messages/batches/{{batch_id}}/cancel": Ask(fresh="batch_id"),
    f"POST {OF}/messages/retry/{{job_id}}": Ask(ids={"job_id": "failed_job"}, fresh="failed_job"),
    f"POST {OF}/messages/{{job_id}}/reschedule": Ask({"scheduled": LATER}),
    f"POST {OF}/messages/{{job_id}}/cancel": Ask(fresh="job_id"),
    f"GET {OF}/messages/sent": Ask(query="platform=sandbox"),
    f"POST {OF}/messages/react": Ask(GOT | {"emoji": "👍"}),
    f"POST {OF}/messages/unreact": Ask(GOT | {"emoji": "👍"}),
    f"POST {OF}/messages/edit": Ask(SENT | {"content": {"text": "better"}}),
    f"POST {OF}/messages/delete": Ask(SENT),
    f"POST {OF}/messages/read": Ask(GOT),
    f"POST {OF}/messages/typing": Ask(
        {"platformId": "$platform_id", "target": {"type": "chat", "id": "$chat_id"}},
    ),
    f"GET {OF}/messages": Ask(query="platformId=$platform_id"),
    f"DELETE {OF}/messages/cleanup": Ask(query="daysBefore=3000"),
    f"GET {OF}/chats": Ask(query="platformId=$platform_id"),
    f"PATCH {OF}/chats/{{chat_id}}": Ask({"name": "$new"}),
    f"POST {OF}/chats/sync-all": Ask({"platformId": "$platform_id"}),
    f"GET {OF}/dead-letters": Ask(query="platformId=$platform_id&jobId=$failed_job"),
    f"GET {OF}/dead-letters/{{delivery_id}}": Ask(ids={"delivery_id": "dead"}),
    f"POST {OF}/dead-letters/requeue": Ask({"ids": ["$dead"]}),
    f"POST {OF}/dead-letters/purge": Ask({"ids": ["$dead"], "jobId": "$failed_job", "platformId": "$platform_id"}),
    f"GET {OF}/events": Ask(query="platformId=$platform_id&chatId=$chat_id"),
    f"POST {OF}/webhooks": Ask({"name": "w", "url": "https://example.com/w", "events": ["webhook.test"]}),
    f"PATCH {OF}/webhooks/{{webhook_id}}": Ask({"name": "$new"}),
    f"POST {OF}/webhooks/{{webhook_id}}/replay": Ask({"after": 0}),
    f"DELETE {OF}/webhooks/{{webhook_id}}": Ask(fresh="webhook_id"),
    f"POST {OF}/identities": Ask({"displayName": "N", "aliases": [ACCOUNT], "preferredPlatformId": "$platform_id"}),
    f"POST {OF}/identities/quick-link": Ask(ACCOUNT),
    f"GET {OF}/identities/lookup": Ask(query="platformId=$platform_id&providerUserId=$person"),
    f"GET {OF}/identities/search": Ask(query="q=ann"),
    f"PATCH {OF}/identities/{{identity_id}}": Ask({"displayName": "$new", "preferredPlatformId": "$platform_id"}),
    f"POST {OF}/identities/{{identity_id}}/aliases": Ask(ACCOUNT),
    f"DELETE {OF}/identities/{{identity_id}}/aliases/{{alias_id}}": Ask(fresh="alias_id"),
    f"DELETE {OF}/identities/{{identity_id}}": Ask(fresh="identity_id"),
    f"POST {OF}/opt-outs": Ask(ACCOUNT),
    f"DELETE {OF}/opt-outs/{{opt_out_id}}": Ask(fresh="opt_out_id"),
}
"""Endpoints that take nothing are left out."""
