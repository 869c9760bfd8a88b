"""Who may do what: API key scopes, member roles, and the one table that joins them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Literal


class ApiScope(StrEnum):
    """What an API key may do (names of the compatible API)."""

    IDENTITIES_READ = "identities:read"
    IDENTITIES_WRITE = "identities:write"
    PROJECTS_READ = "projects:read"
    PROJECTS_WRITE = "projects:write"
    PLATFORMS_READ = "platforms:read"
    PLATFORMS_WRITE = "platforms:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"


class Role(IntEnum):
    """A member's standing in a project; a higher one may do all that a lower one may."""

    VIEWER = 1
    MEMBER = 2
    ADMIN = 3
    OWNER = 4

    @classmethod
    def parse(cls, name: str) -> Role:
        """The role with this lower-case name."""
        return cls[name.upper()]

    @property
    def label(self) -> str:
        """The lower-case name that the API and the database use."""
        return self.name.lower()

    @property
    def scopes(self) -> frozenset[ApiScope]:
        """What somebody with this role may do."""
        return frozenset(scope for scope, needed in MINIMUM_ROLE.items() if needed <= self)


MINIMUM_ROLE: dict[ApiScope, Role] = {
    ApiScope.IDENTITIES_READ: Role.VIEWER,
    ApiScope.IDENTITIES_WRITE: Role.MEMBER,
    ApiScope.PROJECTS_READ: Role.VIEWER,
    ApiScope.PROJECTS_WRITE: Role.ADMIN,
    ApiScope.PLATFORMS_READ: Role.VIEWER,
    ApiScope.PLATFORMS_WRITE: Role.ADMIN,
    ApiScope.MESSAGES_READ: Role.VIEWER,
    ApiScope.MESSAGES_WRITE: Role.MEMBER,
    ApiScope.WEBHOOKS_READ: Role.VIEWER,
    ApiScope.WEBHOOKS_WRITE: Role.ADMIN,
    ApiScope.KEYS_READ: Role.ADMIN,
    ApiScope.KEYS_WRITE: Role.ADMIN,
    ApiScope.MEMBERS_READ: Role.VIEWER,
    ApiScope.MEMBERS_WRITE: Role.ADMIN,
}
"""The role that a person needs for what a key needs the scope for."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: an API key of one project, or a signed-in user.

    `id` is the key's or the user's id. `project_id`, `scopes` and `ends_at` (until when it works; None: until it is
    revoked) are a key's; `email`, `name` and `is_admin` (administrator of the whole installation) are a user's.
    """

    kind: Literal["api-key", "jwt"]
    id: str
    name: str | None = None
    project_id: str | None = None
    scopes: frozenset[str] = frozenset()
    ends_at: datetime | None = None
    email: str | None = None
    is_admin: bool = False

    @property
    def reads_messages(self) -> bool:
        """Whether they may see the texts of messages in a project where they may see anything: every role may."""
        return self.kind == "jwt" or ApiScope.MESSAGES_READ in self.scopes
