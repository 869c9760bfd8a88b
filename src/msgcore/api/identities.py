"""Identities: people across platforms."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath, QueryParameter

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, MessageAnswer, Timestamp
from msgcore.api.identity_bodies import LONGEST_USER_ID, CreateIdentity, LinkAlias, QuickLink, UpdateIdentity
from msgcore.api.identity_history import (
    ReceivedMessageAnswer,
    ReceivedReactionAnswer,
    received_message,
    received_reaction,
)
from msgcore.api.parameters import Offset, PageSize
from msgcore.core.clock import to_iso
from msgcore.core.scopes import ApiScope
from msgcore.services.identities import IdentityService, IdentityView

SearchText: TypeAlias = Annotated[
    str,
    QueryParameter(
        min_length=2,
        max_length=200,
        description="Part of a display name or e-mail address, or a whole id on a platform",
    ),
]
OnPlatform: TypeAlias = Annotated[str, QueryParameter(name="platformId", min_length=1, max_length=64)]
OfUser: TypeAlias = Annotated[str, QueryParameter(name="providerUserId", min_length=1, max_length=LONGEST_USER_ID)]

_READS_MESSAGES = requires(ApiScope.IDENTITIES_READ, ApiScope.MESSAGES_READ)


class LinkedPlatform(Answer):
    """The configured platform that an alias is on."""

    id: str
    name: str
    platform: str


class AliasAnswer(Answer):
    """An account on a platform, linked to an identity. It is linked to no other.

    `optedOutAt` is since when nothing is sent to it.
    """

    id: str
    identity_id: str
    project_id: str
    platform_id: str
    platform: str
    provider_user_id: str
    provider_user_display: str | None
    link_method: str
    linked_at: Timestamp
    opted_out_at: Timestamp | None
    platform_config: LinkedPlatform


class IdentityCounts(Answer):
    """How many accounts are linked."""

    aliases: int


class IdentityAnswer(Answer):
    """A person, with their accounts on the project's platforms, oldest link first."""

    id: str
    project_id: str
    display_name: str | None
    email: str | None
    metadata: dict[str, Any] | None
    preferred_platform_id: str | None
    created_at: Timestamp
    updated_at: Timestamp
    aliases: list[AliasAnswer]
    counts: IdentityCounts = msgspec.field(name="_count")


class DoneAnswer(MessageAnswer):
    """Says what was done, for programs too."""

    success: bool


class IdentitiesController(Controller):
    """People, and which accounts on the platforms are theirs."""

    path = "/api/v1/projects/{project:str}/identities"
    tags = ("Identities",)

    @post(opt=requires(ApiScope.IDENTITIES_WRITE), summary="Create an identity")
    async def create(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[CreateIdentity],
        identities: Injected[IdentityService],
    ) -> IdentityAnswer:
        """With all its aliases, or not at all: an account that is linked already is answered with 409."""
        return _answer(await identities.create(request.user, project, data.identity()))

    @post("/quick-link", opt=requires(ApiScope.IDENTITIES_WRITE), summary="Get or create an account's identity")
    async def quick_link(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[QuickLink],
        identities: Injected[IdentityService],
    ) -> IdentityAnswer:
        """The identity that the account is linked to, unchanged, or a new one for it. Repeating it changes nothing."""
        return _answer(await identities.quick_link(request.user, project, data.identity()))

    @get(opt=requires(ApiScope.IDENTITIES_READ), summary="List identities")
    async def list_all(
        self,
        project: FromPath[str],
        identities: Injected[IdentityService],
        limit: PageSize = 100,
        offset: Offset = 0,
    ) -> list[IdentityAnswer]:
        """Newest first."""
        return [_answer(view) for view in await identities.list(project, limit=limit, offset=offset)]

    @get("/lookup", opt=requires(ApiScope.IDENTITIES_READ), summary="Find the identity of an account")
    async def look_up(
        self,
        project: FromPath[str],
        identities: Injected[IdentityService],
        platform_id: OnPlatform,
        provider_user_id: OfUser,
    ) -> IdentityAnswer:
        """By the platform's id of the user."""
        return _answer(await identities.look_up(project, platform_id, provider_user_id))

    @get("/search", opt=requires(ApiScope.IDENTITIES_READ), summary="Search identities")
    async def search(
        self,
        project: FromPath[str],
        identities: Injected[IdentityService],
        q: SearchText,
        limit: PageSize = 100,
        offset: Offset = 0,
    ) -> list[IdentityAnswer]:
        """By name, also the one shown on a platform, by e-mail address, or by the id on a platform; newest first."""
        return [_answer(view) for view in await identities.search(project, q, limit=limit, offset=offset)]

    @get("/{identity_id:str}", opt=requires(ApiScope.IDENTITIES_READ), summary="Get an identity")
    async def show(
        self, project: FromPath[str], identity_id: FromPath[str], identities: Injected[IdentityService]
    ) -> IdentityAnswer:
        """With its aliases."""
        return _answer(await identities.get(project, identity_id))

    @patch("/{identity_id:str}", opt=requires(ApiScope.IDENTITIES_WRITE), summary="Change an identity")
    async def update(
        self,
        request: ApiRequest,
        project: FromPath[str],
        identity_id: FromPath[str],
        data: JsonBody[UpdateIdentity],
        identities: Injected[IdentityService],
    ) -> IdentityAnswer:
        """What is left out stays as it is."""
        return _answer(await identities.update(request.user, project, identity_id, data.changes()))

    @delete(
        "/{identity_id:str}",
        opt=requires(ApiScope.IDENTITIES_WRITE),
        status_code=200,
        summary="Delete an identity",
    )
    async def remove(
        self,
        request: ApiRequest,
        project: FromPath[str],
        identity_id: FromPath[str],
        identities: Injected[IdentityService],
    ) -> DoneAnswer:
        """With its aliases. What was received from its accounts stays."""
        await identities.delete(request.user, project, identity_id)
        return DoneAnswer(success=True, message="Identity deleted successfully")

    @post("/{identity_id:str}/aliases", opt=requires(ApiScope.IDENTITIES_WRITE), summary="Link an account")
    async def add_alias(
        self,
        request: ApiRequest,
        project: FromPath[str],
        identity_id: FromPath[str],
        data: JsonBody[LinkAlias],
        identities: Injected[IdentityService],
    ) -> AliasAnswer:
        """An account that is linked already, to this identity or another, is answered with 409."""
        return _alias(await identities.add_alias(request.user, project, identity_id, data.alias()))

    @delete(
        "/{identity_id:str}/aliases/{alias_id:str}",
        opt=requires(ApiScope.IDENTITIES_WRITE),
        status_code=200,
        summary="Unlink an account",
    )
    async def remove_alias(
        self,
        request: ApiRequest,
        project: FromPath[str],
        identity_id: FromPath[str],
        alias_id: FromPath[str],
        identities: Injected[IdentityService],
    ) -> DoneAnswer:
        """The last one cannot be: delete the identity instead."""
        await identities.remove_alias(request.user, project, identity_id, alias_id)
        return DoneAnswer(success=True, message="Alias removed successfully")

    @get("/{identity_id:str}/messages", opt=_READS_MESSAGES, summary="List what an identity wrote")
    async def messages(
        self,
        project: FromPath[str],
        identity_id: FromPath[str],
        identities: Injected[IdentityService],
        limit: PageSize = 100,
        offset: Offset = 0,
    ) -> list[ReceivedMessageAnswer]:
        """Received from any of its accounts, also before they were linked; newest first."""
        rows = await identities.messages(project, identity_id, limit=limit, offset=offset)
        return [received_message(row) for row in rows]

    @get("/{identity_id:str}/reactions", opt=_READS_MESSAGES, summary="List an identity's reactions")
    async def reactions(
        self,
        project: FromPath[str],
        identity_id: FromPath[str],
        identities: Injected[IdentityService],
        limit: PageSize = 100,
        offset: Offset = 0,
    ) -> list[ReceivedReactionAnswer]:
        """Received from any of its accounts, also before they were linked; newest first."""
        rows = await identities.reactions(project, identity_id, limit=limit, offset=offset)
        return [received_reaction(row) for row in rows]


def _answer(view: IdentityView) -> IdentityAnswer:
    row = view.row
    return IdentityAnswer(
        id=row.id,
        project_id=row.project_id,
        display_name=row.display_name,
        email=row.email,
        metadata=row.metadata,
        preferred_platform_id=row.preferred_platform_id,
        created_at=to_iso(row.created_at),
        updated_at=to_iso(row.updated_at),
        aliases=[_alias(alias) for alias in view.aliases],
        counts=IdentityCounts(aliases=len(view.aliases)),
    )


def _alias(row: Any) -> AliasAnswer:
    return AliasAnswer(
        id=row.id,
        identity_id=row.identity_id,
        project_id=row.project_id,
        platform_id=row.platform_id,
        platform=row.platform,
        provider_user_id=row.provider_user_id,
        provider_user_display=row.provider_user_display,
        link_method=row.link_method,
        linked_at=to_iso(row.linked_at),
        opted_out_at=None if row.opted_out_at is None else to_iso(row.opted_out_at),
        platform_config=LinkedPlatform(id=row.platform_id, name=row.platform_name, platform=row.platform),
    )
