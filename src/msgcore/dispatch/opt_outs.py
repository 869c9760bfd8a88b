"""Who opted out, as dispatch asks for each batch that it begins, and how such a delivery fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cachetools import TTLCache

from msgcore.core.clock import to_iso
from msgcore.core.errors import PermanentError
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.store import opt_outs as store
from msgcore.store.database import Database
from msgcore.store.ledger.beginning import WorkItem
from msgcore.store.opt_outs import OptOut

KEPT = 10_000
SECONDS_WITHOUT = 1.0
"""How long a platform on which nobody opted out is taken for such, where another process may have learnt of one."""
SECONDS_WITH = 60.0
CODE = "recipient_opted_out"

UserKey = Callable[[str, str], str]
"""A platform's name and an id of a user there, to the form by which ids are compared."""


class OptOutDirectory:
    """Looks opt-outs up, one query a batch, and none for platforms on which nobody opted out."""

    def __init__(self, database: Database, user_key: UserKey) -> None:
        self._database = database
        self._user_key = user_key
        self._without = TTLCache[str, bool](KEPT, SECONDS_WITHOUT)
        self._with = TTLCache[str, bool](KEPT, SECONDS_WITH)

    def noted(self, platform_id: str) -> None:
        """Somebody opted out on a platform."""
        self._with[platform_id] = True
        self._without.pop(platform_id, None)

    async def find(self, items: Sequence[WorkItem]) -> dict[str, OptOut]:
        """Which of these deliveries are to somebody who opted out, by their ids."""
        concerned = await self._with_any({item.platform_id for item in items if item.platform != EVENT_WEBHOOK})
        if not concerned:
            return {}
        some = [item for item in items if item.platform_id in concerned]
        keys = {item.id: self._user_key(item.platform, item.target_id) for item in some}
        targets = {text for item in some for text in (keys[item.id], item.target_id)}
        found: dict[tuple[str, str], OptOut] = {}
        for each in await store.find_targets(self._database, concerned, targets):
            found[each.platform_id, each.provider_user_id] = each
            if each.provider_chat_id is not None:
                found.setdefault((each.platform_id, each.provider_chat_id), each)
        named = {item.id: ((item.platform_id, keys[item.id]), (item.platform_id, item.target_id)) for item in some}
        return {id_: found[name] for id_, names in named.items() for name in names if name in found}

    async def _with_any(self, platform_ids: set[str]) -> set[str]:
        unknown = {id_ for id_ in platform_ids if id_ not in self._with and id_ not in self._without}
        if unknown:
            having = await store.platforms_with_any(self._database, unknown)
            self._with.update(dict.fromkeys(having, True))
            # Not over what was noted meanwhile.
            self._without.update((id_, True) for id_ in unknown - having if id_ not in self._with)
        return {id_ for id_ in platform_ids if id_ in self._with}


def refusal(item: WorkItem, opt_out: OptOut) -> PermanentError:
    """Why a delivery is not made."""
    how = "an entry through the API" if opt_out.word is None else f"writing {opt_out.word!r}"
    more = "more " if item.part_ids else ""
    return PermanentError(
        CODE,
        f"{item.target_id[:255]!r} opted out on {to_iso(opt_out.opted_out_at)} by {how}: nothing {more}was sent. It "
        f"ends when they write START, or with DELETE /api/v1/projects/{item.project_id}/opt-outs/{opt_out.id}",
        reached="maybe" if item.uncertain else "no",
    )
