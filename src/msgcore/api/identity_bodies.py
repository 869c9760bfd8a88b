"""What is sent to make, change and link identities."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from msgcore.api.body import decode_body
from msgcore.api.parameters import read_object
from msgcore.core.content import Wire
from msgcore.core.errors import FieldError, InvalidInputError
from msgcore.services.identities import NewAlias, NewIdentity
from msgcore.store.linking import MOST_ALIASES

LONGEST_USER_ID = 255

DisplayName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Email = Annotated[
    str,
    msgspec.Meta(
        max_length=320,
        pattern=r"^[^@\s]{1,64}@[^@\s]{1,255}$(?!\n)",
        description="an e-mail address such as ann@example.com",
    ),
]
PlatformId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
ProviderUserId = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_USER_ID)]
ProviderUserDisplay = Annotated[str, msgspec.Meta(max_length=200)]
Metadata = dict[str, Any] | str | None


class LinkAlias(Wire):
    """An account on a platform: `providerUserId` is the platform's id of the user."""

    platform_id: PlatformId
    provider_user_id: ProviderUserId
    provider_user_display: ProviderUserDisplay | None = None

    def alias(self, index: int | None = None) -> NewAlias:
        """The same for the service; `index` is its place in the list."""
        return NewAlias(self.platform_id, self.provider_user_id, self.provider_user_display, index)


AliasList = Annotated[list[LinkAlias], msgspec.Meta(max_length=MOST_ALIASES)]


class CreateIdentity(Wire):
    """A person and their accounts. Compatible clients send `metadata` and `aliases` as JSON in a string."""

    display_name: DisplayName | None = None
    email: Email | None = None
    metadata: Metadata = None
    preferred_platform_id: PlatformId | None = None
    aliases: AliasList | str = msgspec.field(default_factory=list[LinkAlias])

    def identity(self) -> NewIdentity:
        """The same for the service. Raises InvalidInputError for texts that hold no such JSON."""
        return NewIdentity(
            display_name=self.display_name,
            email=_lowered(self.email),
            metadata=read_object("metadata", self.metadata),
            preferred_platform_id=self.preferred_platform_id,
            aliases=[alias.alias(index) for index, alias in enumerate(_aliases(self.aliases))],
        )


class QuickLink(Wire):
    """An account, and what an identity is called that is made for it."""

    platform_id: PlatformId
    provider_user_id: ProviderUserId
    provider_user_display: ProviderUserDisplay | None = None
    display_name: DisplayName | None = None
    email: Email | None = None

    def identity(self) -> NewIdentity:
        """The same for the service."""
        return NewIdentity(
            display_name=self.display_name or self.provider_user_display or None,
            email=_lowered(self.email),
            aliases=[NewAlias(self.platform_id, self.provider_user_id, self.provider_user_display)],
        )


class UpdateIdentity(Wire):
    """What is left out stays as it is; null empties. `metadata` is replaced as a whole."""

    display_name: DisplayName | UnsetType | None = UNSET
    email: Email | UnsetType | None = UNSET
    metadata: Metadata | UnsetType = UNSET
    preferred_platform_id: PlatformId | UnsetType | None = UNSET

    def changes(self) -> dict[str, Any]:
        """The columns to change. Raises InvalidInputError for metadata that is none."""
        given: dict[str, Any] = {}
        if self.display_name is not UNSET:
            given["display_name"] = self.display_name
        if self.email is not UNSET:
            given["email"] = _lowered(self.email)
        if self.metadata is not UNSET:
            given["metadata"] = read_object("metadata", self.metadata)
        if self.preferred_platform_id is not UNSET:
            given["preferred_platform_id"] = self.preferred_platform_id
        return given


class _Aliases(Wire):
    """Wraps a list that came as text, so that what is wrong in it is named as if it had not."""

    aliases: AliasList


def _aliases(given: list[LinkAlias] | str) -> list[LinkAlias]:
    if not isinstance(given, str):
        return given
    try:
        decoded: Any = msgspec.json.decode(given)
    except (msgspec.DecodeError, RecursionError):
        error = FieldError("/aliases", "aliases must be a list, or one as JSON text")
        raise InvalidInputError.of([error]) from None
    return decode_body(msgspec.json.encode({"aliases": decoded}), _Aliases).aliases


def _lowered(email: str | None) -> str | None:
    """Mail servers do not tell capitals from small letters, so neither do searches."""
    return None if email is None else email.lower()
