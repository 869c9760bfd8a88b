"""API keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from litestar import Controller, delete, get, post
from litestar.params import FromPath

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, MessageAnswer, Timestamp
from msgcore.api.parameters import each_one_of
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.private import private_repr
from msgcore.core.scopes import ApiScope
from msgcore.security.api_keys import mask
from msgcore.services.api_keys import ApiKeyService, IssuedKey


class CreateApiKey(Wire):
    """A new key. A key cannot hand on scopes that it does not have."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    scopes: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=64)]],
        msgspec.Meta(min_length=1, max_length=100, extra_json_schema=each_one_of(ApiScope)),
    ]
    expires_in_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] | None = None


class IssuedKeyAnswer(Answer):
    """A new key. `key` is shown this once only."""

    __repr__ = private_repr

    id: str
    key: str
    name: str
    prefix: str
    scopes: list[str]
    expires_at: Timestamp | None
    created_at: Timestamp


class RolledKeyAnswer(IssuedKeyAnswer):
    """The successor of a key, and when the old one stops working."""

    old_key_revoked_at: Timestamp


class ListedKeyAnswer(Answer):
    """A key as lists show it. `revokedAt` is set for one that was rolled and still works until then."""

    id: str
    name: str
    masked_key: str
    scopes: list[str]
    last_used_at: Timestamp | None
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    created_at: Timestamp


class ApiKeysController(Controller):
    """API keys of a project."""

    path = "/api/v1/projects/{project:str}/keys"
    tags = ("API keys",)

    @post(opt=requires(ApiScope.KEYS_WRITE), summary="Create an API key")
    async def create(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[CreateApiKey],
        api_keys: Injected[ApiKeyService],
    ) -> IssuedKeyAnswer:
        """The secret is in the answer, and nowhere else. A key that a key makes ends with it, or before."""
        days = data.expires_in_days
        issued = await api_keys.create(
            request.user,
            project,
            name=data.name,
            scopes=data.scopes,
            expires_in=None if days is None else timedelta(days=days),
        )
        return IssuedKeyAnswer(**_fields(issued))

    @get(opt=requires(ApiScope.KEYS_READ), summary="List API keys")
    async def list_all(self, project: FromPath[str], api_keys: Injected[ApiKeyService]) -> list[ListedKeyAnswer]:
        """Those that are not revoked, masked."""
        return [listed_key(listed.row, listed.scopes) for listed in await api_keys.list(project)]

    @delete("/{key_id:str}", opt=requires(ApiScope.KEYS_WRITE), status_code=200, summary="Revoke an API key")
    async def revoke(
        self,
        request: ApiRequest,
        project: FromPath[str],
        key_id: FromPath[str],
        api_keys: Injected[ApiKeyService],
    ) -> MessageAnswer:
        """It stops working at once, also one that was rolled and still worked; the invitations that it made end."""
        revoked = await api_keys.revoke(request.user, project, key_id)
        return MessageAnswer(message="API key revoked successfully" if revoked else "API key already revoked")

    @post("/{key_id:str}/roll", opt=requires(ApiScope.KEYS_WRITE), status_code=200, summary="Roll an API key")
    async def roll(
        self,
        request: ApiRequest,
        project: FromPath[str],
        key_id: FromPath[str],
        api_keys: Injected[ApiKeyService],
    ) -> RolledKeyAnswer:
        """A successor with the same name, scopes and expiry; the old key works for another 24 hours."""
        issued, old_key_ends_at = await api_keys.roll(request.user, project, key_id)
        return RolledKeyAnswer(**_fields(issued), old_key_revoked_at=to_iso(old_key_ends_at))


def listed_key(row: Any, scopes: list[str]) -> ListedKeyAnswer:
    """A key's row as lists show it."""
    return ListedKeyAnswer(
        id=row.id,
        name=row.name,
        masked_key=mask(row.key_prefix, row.key_suffix),
        scopes=scopes,
        last_used_at=row.last_used_at and to_iso(row.last_used_at),
        expires_at=row.expires_at and to_iso(row.expires_at),
        revoked_at=row.revoked_at and to_iso(row.revoked_at),
        created_at=to_iso(row.created_at),
    )


def _fields(issued: IssuedKey) -> dict[str, Any]:
    return {
        "id": issued.id,
        "key": issued.secret,
        "name": issued.name,
        "prefix": issued.prefix,
        "scopes": issued.scopes,
        "expires_at": issued.expires_at and to_iso(issued.expires_at),
        "created_at": to_iso(issued.created_at),
    }
