"""Targets that name a person or a chat of ours: which account or conversation on a platform they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from msgcore.core.content import SendRequest, Target, TargetType
from msgcore.core.ids import canonical_id
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store import addressing as store
from msgcore.store.addressing import Account, ChatPlace, Rules, Standing
from msgcore.store.database import Database

NAMING = frozenset({TargetType.IDENTITY, TargetType.CHAT})
"""Types of targets that may stand for others."""
MOST_EXPLAINED = 100
"""Identities that cannot be reached: of so many it is found out why."""

_Name = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Addresses:
    """What names of targets stand for, and why others stand for nothing."""

    found: Mapping[_Name, Target] = field(default_factory=dict[_Name, Target])
    standings: Mapping[str, Standing] = field(default_factory=dict[str, Standing])

    def apply(self, request: SendRequest) -> SendRequest:
        """The request with what its targets stand for; those that stand for nothing stay as they are."""
        if not self.found:
            return request
        options = request.options
        if options is not None and options.fallback is not None:
            fallback = msgspec.structs.replace(options.fallback, targets=self._named(options.fallback.targets))
            options = msgspec.structs.replace(options, fallback=fallback)
        return msgspec.structs.replace(request, targets=self._named(request.targets), options=options)

    def meant(self, target: Target) -> Target:
        """What a target stands for; itself where that is nothing else."""
        return self.found.get(_name(target), target)

    def _named(self, targets: Iterable[Target]) -> list[Target]:
        return [self.meant(target) for target in targets]

    def problem(self, target: Target) -> str:
        """Why an identity cannot be reached."""
        standing = self.standings.get(canonical_id(target.id) or "")
        if standing is None:
            return f"{target.id[:64]!r} is not an identity of this project; list them with GET identities"
        if not standing.accounts:
            return f"identity {target.id!r} has no account on a platform: link one with POST identities/:id/aliases"
        where = f" on platform {target.platform_id!r}" if target.platform_id else ""
        return (
            f"identity {target.id!r} has no account{where} that can be sent to; of its accounts ({standing.accounts}) "
            f"{standing.opted_out} opted out and {standing.switched_off} are on a platform that is switched off"
        )


class AddressBook:
    """Looks up what targets stand for, with a query or two for all of them."""

    def __init__(self, database: Database, registry: PlatformRegistry) -> None:
        self._database = database
        self._registry = registry
        self._rules = Rules(registry.sending(), registry.ignoring_case())

    async def look_up(self, project_id: str, targets: Iterable[Target]) -> Addresses:
        """What those of the targets that are names stand for. Costs nothing where none is."""
        naming = [target for target in targets if target.type in NAMING]
        if not naming:
            return Addresses()
        people = [target for target in naming if target.type is TargetType.IDENTITY]
        found = await self._chats(project_id, [target for target in naming if target.type is TargetType.CHAT])
        found |= await self._anywhere(project_id, [target for target in people if not target.platform_id])
        found |= await self._on_platforms(project_id, [target for target in people if target.platform_id])
        lost = _ids(each for each in people if _name(each) not in found)
        if not lost:
            return Addresses(found)
        some = sorted(lost)[:MOST_EXPLAINED]
        why = await store.standing(self._database, project_id, some, self._rules)
        return Addresses(found, why)

    async def _anywhere(self, project_id: str, targets: Sequence[Target]) -> dict[_Name, Target]:
        ids = _ids(targets)
        accounts = await store.reachable_accounts(self._database, project_id, ids, self._rules) if ids else ()
        best = {each.identity_id: each for each in accounts}
        named = ((target, best.get(canonical_id(target.id) or "")) for target in targets)
        return {_name(target): _user(account) for target, account in named if account is not None}

    async def _on_platforms(self, project_id: str, targets: Sequence[Target]) -> dict[_Name, Target]:
        ids = _ids(targets)
        accounts = await store.reachable_on_platforms(self._database, project_id, ids, self._rules) if ids else ()
        best = {(each.identity_id, each.platform_id): each for each in accounts}
        named = ((target, best.get(_identity_and_platform(target))) for target in targets)
        return {_name(target): _user(account) for target, account in named if account is not None}

    async def _chats(self, project_id: str, targets: Sequence[Target]) -> dict[_Name, Target]:
        """Chats by our ids. An id that is none of ours is the platform's own, and stays as it is."""
        ids = _ids(targets)
        if not ids:
            return {}
        chats = await store.find_chats(self._database, project_id, ids)
        found: dict[_Name, Target] = {}
        for target in targets:
            chat = chats.get(canonical_id(target.id) or "")
            if chat is not None and target.platform_id in ("", chat.platform_id):
                found[_name(target)] = self._place(chat)
        return found

    def _place(self, chat: ChatPlace) -> Target:
        """A group or a channel as such; a direct chat as a chat where the platform takes that, else as the user."""
        if chat.chat_type != TargetType.USER:
            return Target(platform_id=chat.platform_id, type=TargetType(chat.chat_type), id=chat.provider_chat_id)
        target = Target(platform_id=chat.platform_id, type=TargetType.CHAT, id=chat.provider_chat_id)
        if self._registry.check_target(chat.platform, target):
            target = msgspec.structs.replace(target, type=TargetType.USER)
        return target


def _name(target: Target) -> _Name:
    return target.type, target.id, target.platform_id


def _ids(targets: Iterable[Target]) -> set[str]:
    """The ids of targets that may be some of ours."""
    return {id_ for target in targets if (id_ := canonical_id(target.id)) is not None}


def _identity_and_platform(target: Target) -> tuple[str, str]:
    return canonical_id(target.id) or "", canonical_id(target.platform_id) or ""


def _user(account: Account) -> Target:
    return Target(platform_id=account.platform_id, type=TargetType.USER, id=account.provider_user_id)
