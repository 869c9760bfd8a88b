"""Opt-outs: who wants nothing more to be sent to them, shown, and entered or lifted by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock, to_iso
from msgcore.core.errors import FieldError, InvalidInputError, NotFoundError
from msgcore.core.events import EventType
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store import opt_outs as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append
from msgcore.store.identities import hold_platforms
from msgcore.store.opt_outs import OptOut, OptOutFilter
from msgcore.store.projects import keep_project


class OptOutService:
    """Lists, adds and removes opt-outs; those of stop words come by what is received."""

    def __init__(
        self, *, database: Database, registry: PlatformRegistry, clock: Clock, on_opt_out: Callable[[str], None]
    ) -> None:
        """`on_opt_out` is called with the id of a platform on which somebody opted out."""
        self._database = database
        self._registry = registry
        self._clock = clock
        self._on_opt_out = on_opt_out

    async def list(self, chosen: OptOutFilter, *, limit: int, before: str | None) -> Sequence[OptOut]:
        """A page, newest first."""
        async with self._database.read() as connection:
            return await store.list_opt_outs(connection, chosen, limit=limit, before=before)

    async def add(self, principal: Principal, project_id: str, platform_id: str, provider_user_id: str) -> OptOut:
        """Enter that somebody wants nothing more; who opted out already stays as they are.

        Raises InvalidInputError for a platform that is not the project's.
        """
        canonical, now = canonical_id(platform_id), self._clock.now()
        async with self._database.write() as connection:
            held = await hold_platforms(connection, project_id, filter(None, [canonical]))
            if canonical is None or canonical not in held:
                problem = f"platformId {platform_id[:64]!r} is not a platform of this project"
                raise InvalidInputError.of([FieldError("/platformId", problem)])
            user = self._registry.user_key(held[canonical], provider_user_id)
            new = OptOut(new_id(), project_id, canonical, held[canonical], user, None, now)
            found, is_new = await store.add(connection, new)
            if is_new:
                await self._record(connection, principal, "added", found)
        self._on_opt_out(canonical)
        return found

    async def remove(self, principal: Principal, project_id: str, opt_out_id: str) -> None:
        """Lift an opt-out. Raises NotFoundError."""
        canonical = canonical_id(opt_out_id)
        async with self._database.write() as connection:
            await keep_project(connection, project_id)
            found = None if canonical is None else await store.remove(connection, project_id, canonical)
            if found is None:
                raise NotFoundError(f"Opt-out '{opt_out_id[:64]}' not found")
            await self._record(connection, principal, "removed", found)

    async def _record(self, connection: AsyncConnection, principal: Principal, verb: str, about: OptOut) -> None:
        """The audit, without personal data, and the event: last, since others who append wait."""
        now, project_id = self._clock.now(), about.project_id
        await record_audit(
            connection,
            principal,
            f"opt_out.{verb}",
            about.id,
            project_id=project_id,
            now=now,
            after={"platform_id": about.platform_id},
        )
        moment, kind = (
            ("opted_out_at", EventType.CONTACT_OPTED_OUT)
            if verb == "added"
            else ("opted_in_at", EventType.CONTACT_OPTED_IN)
        )
        data = {
            "platform": about.platform,
            "platform_id": about.platform_id,
            "chat_id": about.provider_chat_id,
            "user_id": about.provider_user_id,
            "word": None,
            moment: to_iso(now),
        }
        event = NewEvent(project_id, kind, data, now, about.platform_id)
        await connection.run_sync(append, [event])
