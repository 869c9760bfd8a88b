"""Opt-outs: who wants nothing more to be sent to them."""

from __future__ import annotations

from typing import Annotated, TypeAlias
from uuid import UUID

from litestar import Controller, delete, get, post
from litestar.params import FromPath, QueryParameter

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, Timestamp
from msgcore.api.identities import DoneAnswer
from msgcore.api.identity_bodies import LONGEST_USER_ID, PlatformId, ProviderUserId
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.scopes import ApiScope
from msgcore.services.opt_outs import OptOutService
from msgcore.store.opt_outs import OptOut, OptOutFilter

PageSize: TypeAlias = Annotated[int, QueryParameter(ge=1, le=100, description="Entries of a page")]
OnPlatform: TypeAlias = Annotated[UUID | None, QueryParameter(name="platformId")]
OfUser: TypeAlias = Annotated[
    str | None, QueryParameter(name="providerUserId", min_length=1, max_length=LONGEST_USER_ID)
]
Before: TypeAlias = Annotated[UUID | None, QueryParameter(description="`next` of the page before")]


class AddOptOut(Wire):
    """Who opted out: `providerUserId` is the platform's id of the user."""

    platform_id: PlatformId
    provider_user_id: ProviderUserId


class OptOutAnswer(Answer):
    """Nothing is sent to this user of a platform. `word` is what they wrote; null where it was entered here."""

    id: str
    project_id: str
    platform_id: str
    platform: str
    provider_user_id: str
    provider_chat_id: str | None
    opted_out_at: Timestamp
    word: str | None


class OptOutPage(Answer):
    """Newest first; `next` is the `before` of the next page, null on the last one."""

    opt_outs: list[OptOutAnswer]
    next: str | None


class OptOutsController(Controller):
    """Look at who opted out, and enter or lift it by hand."""

    path = "/api/v1/projects/{project:str}/opt-outs"
    tags = ("Opt-outs",)

    @get(opt=requires(ApiScope.IDENTITIES_READ), summary="List opt-outs")
    async def list_all(
        self,
        project: FromPath[str],
        opt_outs: Injected[OptOutService],
        platform_id: OnPlatform = None,
        provider_user_id: OfUser = None,
        limit: PageSize = 50,
        before: Before = None,
    ) -> OptOutPage:
        """By stop words and by hand; newest first."""
        chosen = OptOutFilter(project, None if platform_id is None else str(platform_id), provider_user_id)
        found = await opt_outs.list(chosen, limit=limit + 1, before=None if before is None else str(before))
        page = found[:limit]
        return OptOutPage(opt_outs=[_answer(each) for each in page], next=page[-1].id if len(found) > limit else None)

    @post(opt=requires(ApiScope.IDENTITIES_WRITE), summary="Opt somebody out")
    async def add(
        self, request: ApiRequest, project: FromPath[str], data: JsonBody[AddOptOut], opt_outs: Injected[OptOutService]
    ) -> OptOutAnswer:
        """Nothing more is sent to them on this platform. Repeating it changes nothing."""
        return _answer(await opt_outs.add(request.user, project, data.platform_id, data.provider_user_id))

    @delete("/{opt_out_id:str}", opt=requires(ApiScope.IDENTITIES_WRITE), status_code=200, summary="Lift an opt-out")
    async def remove(
        self,
        request: ApiRequest,
        project: FromPath[str],
        opt_out_id: FromPath[str],
        opt_outs: Injected[OptOutService],
    ) -> DoneAnswer:
        """They are sent to again: for whoever asked for it in another way than by a message."""
        await opt_outs.remove(request.user, project, opt_out_id)
        return DoneAnswer(success=True, message="Opt-out removed successfully")


def _answer(found: OptOut) -> OptOutAnswer:
    return OptOutAnswer(
        id=found.id,
        project_id=found.project_id,
        platform_id=found.platform_id,
        platform=found.platform,
        provider_user_id=found.provider_user_id,
        provider_chat_id=found.provider_chat_id,
        opted_out_at=to_iso(found.opted_out_at),
        word=found.word,
    )
