"""Configured platforms: the accounts of a project on messaging platforms."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeAlias, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import DeliveryError, FieldError, InvalidInputError, NotFoundError, UnavailableError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal
from msgcore.platforms.base import Account, PlatformAdapter, QrCode
from msgcore.platforms.discretion import discreet
from msgcore.platforms.fact_sheet import FactSheet
from msgcore.platforms.receiving import webhook_url
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.sandbox import inbox
from msgcore.security.keyring import DecryptionError, Keyring
from msgcore.services.most import refuse_another
from msgcore.store import pauses
from msgcore.store import platforms as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.pauses import PausedBy
from msgcore.store.projects import hold_project

MASK = "*****"
_TOLD = ("platform", "name", "is_active", "test_mode")
"""What the audit log keeps of a platform that comes or goes."""
SANDBOX = "sandbox"
ANSWER_SECONDS = 15.0
"""How long a platform may take to answer while a caller waits: it holds a connection that messages want too."""

Answered = TypeVar("Answered")
Look: TypeAlias = Callable[[AsyncConnection, str, str], Awaitable[Any]]
"""Finds a platform by its project and id."""


@dataclass(frozen=True, slots=True)
class NewPlatform:
    """What a platform is configured from."""

    platform: str
    name: str
    credentials: dict[str, Any] = field(repr=False)
    description: str | None = None
    is_active: bool = True
    test_mode: bool = False


@dataclass(frozen=True, slots=True)
class PlatformView:
    """A configured platform as it is shown; `credentials` have every value masked."""

    row: Any
    webhook_url: str
    credentials: dict[str, str]

    def masked(self) -> PlatformView:
        """The same, without what lets one post as the platform."""
        return replace(self, webhook_url=f"{self.webhook_url.rpartition('/')[0]}/{MASK}")


class PlatformService:
    """Makes, shows, changes and deletes configured platforms."""

    def __init__(
        self,
        *,
        database: Database,
        registry: PlatformRegistry,
        adapters: Mapping[str, PlatformAdapter],
        keyring: Keyring,
        clock: Clock,
        api_url: str,
        on_change: Callable[[str], Awaitable[None]],
    ) -> None:
        self._database = database
        self._registry = registry
        self._adapters = adapters
        self._keyring = keyring
        self._clock = clock
        self._api_url = api_url
        self._on_change = on_change

    def fact_sheets(self) -> list[FactSheet]:
        """What is known of all platforms that can be configured."""
        return self._registry.fact_sheets()

    async def create(self, principal: Principal, project_id: str, new: NewPlatform) -> PlatformView:
        """Configure a platform. Raises InvalidInputError with every wrong credential; ConflictError for too many."""
        platform_id, now = new_id(), self._clock.now()
        row = {
            "id": platform_id,
            "project_id": project_id,
            "platform": new.platform,
            "name": new.name,
            "description": new.description,
            "credentials_encrypted": self._seal(new.platform, platform_id, new.credentials),
            # Random through and through: it is all that protects the public webhook address.
            "webhook_token": str(uuid.uuid4()),
            "is_active": new.is_active,
            "test_mode": new.test_mode,
            "created_at": now,
            "updated_at": now,
        }
        told = {name: row[name] for name in _TOLD} | {"credentials": sorted(new.credentials)}
        async with self._database.write() as connection:
            if await hold_project(connection, project_id) is None:
                raise NotFoundError(f"Project '{project_id}' not found")
            refuse_another("platforms", await store.count_platforms(connection, project_id))
            await store.insert_platform(connection, row)
            await self._record(connection, principal, "platform.created", platform_id, project_id, after=told)
        await self._on_change(platform_id)
        return await self.get(project_id, platform_id)

    async def list(self, project_id: str) -> list[PlatformView]:
        """The platforms of a project, oldest first, without credentials."""
        async with self._database.read() as connection:
            rows = await store.list_platforms(connection, project_id)
        return [PlatformView(row, self._webhook_url(row), {}) for row in rows]

    async def get(self, project_id: str, platform_id: str) -> PlatformView:
        """One platform with masked credentials. Raises NotFoundError."""
        async with self._database.read() as connection:
            row = await self._find(connection, project_id, platform_id)
        return PlatformView(row, self._webhook_url(row), dict.fromkeys(self._open(row), MASK))

    async def update(
        self, principal: Principal, project_id: str, platform_id: str, changes: dict[str, Any]
    ) -> PlatformView:
        """Change columns; `credentials` are replaced as a whole, except for values that are still masked.

        New credentials, and switching it on, also end a pause after an authentication failure, but none
        that a user asked for.
        Raises NotFoundError and InvalidInputError.
        """
        now = self._clock.now()
        credentials: dict[str, Any] | None = changes.pop("credentials", None)
        async with self._database.write() as connection:
            row = await self._find(connection, project_id, platform_id, pauses.lock_platform)
            values = changes | {"updated_at": now}
            told = dict(changes)
            if credentials is not None:
                meant = self._unmask(row, credentials)
                values["credentials_encrypted"] = self._seal(row.platform, row.id, meant)
                told["credentials"] = self._changed(row, meant)
            await store.update_platform(connection, row.id, values)
            if row.paused_by == PausedBy.CREDENTIALS and (credentials is not None or changes.get("is_active")):
                await pauses.resume_platform(connection, row, now)
            before = {name: getattr(row, name) for name in changes}
            await self._record(connection, principal, "platform.updated", row.id, project_id, before=before, after=told)
        await self._on_change(row.id)
        return await self.get(project_id, row.id)

    async def delete(self, principal: Principal, project_id: str, platform_id: str) -> None:
        """Remove a platform. Raises NotFoundError."""
        async with self._database.write() as connection:
            row = await self._find(connection, project_id, platform_id, pauses.lock_platform)
            await store.delete_platform(connection, row.id)
            told = {name: getattr(row, name) for name in _TOLD}
            await self._record(connection, principal, "platform.deleted", row.id, project_id, before=told)
        await self._on_change(row.id)

    async def read_inbox(
        self, project_id: str, platform_id: str, *, limit: int, before: str | None
    ) -> list[dict[str, Any]]:
        """What arrived at a sandbox platform, newest first (see `platforms.sandbox.inbox.read_inbox`)."""
        sandbox_id = await self._sandbox_id(project_id, platform_id)
        return await inbox.read_inbox(self._database, sandbox_id, limit=limit, before=before)

    async def clear_inbox(self, principal: Principal, project_id: str, platform_id: str) -> int:
        """Empty a sandbox platform's inbox; returns how many messages were in it."""
        sandbox_id = await self._sandbox_id(project_id, platform_id)
        async with self._database.write() as connection:
            removed = await inbox.clear_inbox(connection, sandbox_id)
            told = {"count": removed}
            await self._record(connection, principal, "platform.inbox_cleared", sandbox_id, project_id, before=told)
        return removed

    async def register_webhook(
        self, principal: Principal, project_id: str, platform_id: str
    ) -> tuple[str, dict[str, Any]]:
        """Have a platform post what happens to its webhook; its address, and what the platform says about it.

        Whatever else the account received by ends with that.

        Raises NotFoundError, and InvalidInputError where it is switched off, does not support that, refuses it, or does
        not answer in time.
        """
        adapter, account = await self._ask(project_id, platform_id, "register its webhook")
        registering = adapter.register_webhook(account, account.webhook_url)
        info = await _answered(account, registering, "Failed to register the webhook")
        fields = adapter.declaration.credentials
        over = [field.name for field in fields if field.until_webhook and account.credentials.get(field.name)]
        if over:
            credentials = dict.fromkeys(account.credentials, MASK) | dict.fromkeys(over, False)
            await self.update(principal, project_id, platform_id, {"credentials": credentials})
        async with self._database.write() as connection:
            await self._find(connection, project_id, account.id, pauses.lock_platform)  # it may be gone by now
            await self._record(connection, principal, "platform.webhook_registered", account.id, project_id)
        return account.webhook_url, info

    async def qr_code(self, project_id: str, platform_id: str) -> QrCode:
        """The QR code that links a device with a platform.

        Raises NotFoundError, and InvalidInputError where it is switched off, links no device, or cannot be asked.
        """
        adapter, account = await self._ask(project_id, platform_id, "link a device")
        return await _answered(account, adapter.qr_code(account), "Failed to get the QR code")

    async def _ask(self, project_id: str, platform_id: str, why: str) -> tuple[PlatformAdapter, Account]:
        """An active platform of a project and the adapter that can ask it something."""
        async with self._database.read() as connection:
            row = await self._find(connection, project_id, platform_id)
        if not row.is_active:
            raise InvalidInputError(f"The platform must be active to {why}: set isActive to true first")
        adapter = self._adapters.get(row.platform)
        if adapter is None:
            raise InvalidInputError(f"This server has no platform {row.platform!r}")
        url, version = self._webhook_url(row), row.updated_at.isoformat()
        account = Account(row.id, row.project_id, row.platform, self._open(row), version=version, webhook_url=url)
        return adapter, account

    async def refuse(self, project_id: str, platform_id: str, what: str) -> NoReturn:
        """Say that this platform cannot do something: InvalidInputError, or NotFoundError if there is no such one."""
        async with self._database.read() as connection:
            row = await self._find(connection, project_id, platform_id)
        raise InvalidInputError(f"{what} is not supported by {row.platform}")

    async def _sandbox_id(self, project_id: str, platform_id: str) -> str:
        async with self._database.read() as connection:
            row = await self._find(connection, project_id, platform_id)
        if row.platform != SANDBOX:
            raise InvalidInputError(f"An inbox is not supported by {row.platform}: only sandbox platforms have one")
        return row.id

    async def _find(
        self, connection: AsyncConnection, project_id: str, platform_id: str, look: Look = store.find_platform
    ) -> Any:
        canonical = canonical_id(platform_id)
        row = None if canonical is None else await look(connection, project_id, canonical)
        if row is None:
            raise NotFoundError(f"Platform with id '{platform_id[:64]}' not found")
        return row

    async def _record(
        self,
        connection: AsyncConnection,
        principal: Principal,
        action: str,
        platform_id: str,
        project_id: str,
        **told: dict[str, Any],
    ) -> None:
        now = self._clock.now()
        await record_audit(connection, principal, action, platform_id, project_id=project_id, now=now, **told)

    def _webhook_url(self, row: Any) -> str:
        return webhook_url(self._api_url, row.platform, row.webhook_token)

    # --- credentials

    def _seal(self, platform: str, platform_id: str, credentials: Mapping[str, Any]) -> str:
        errors = self._registry.check_credentials(platform, credentials)
        if errors:
            raise InvalidInputError.of(errors)
        complete = self._registry.apply_defaults(platform, credentials)
        return self._keyring.encrypt(msgspec.json.encode(complete), context=platform_id)

    def _open(self, row: Any) -> dict[str, Any]:
        try:
            return msgspec.json.decode(self._keyring.decrypt(row.credentials_encrypted, context=row.id))
        except DecryptionError as error:
            raise UnavailableError(
                f"The credentials of platform {row.name!r} cannot be decrypted ({error}): set them again"
            ) from None

    def _changed(self, row: Any, credentials: Mapping[str, Any]) -> list[str]:
        """The names of those that are not as they were stored; of all, where that cannot be read any more."""
        try:
            stored = self._open(row)
        except UnavailableError:
            return sorted(credentials)
        complete = self._registry.apply_defaults(row.platform, credentials)
        absent = object()
        names = stored.keys() | complete.keys()
        return sorted(name for name in names if stored.get(name, absent) != complete.get(name, absent))

    def _unmask(self, row: Any, credentials: dict[str, Any]) -> dict[str, Any]:
        """Put stored values where the caller sent back what `get` had shown.

        But not a secret when it would go elsewhere than before: a server of the caller's would get to know it.
        """
        if MASK not in credentials.values():
            return credentials
        stored = self._open(row)
        meant = {name: stored.get(name, value) if value == MASK else value for name, value in credentials.items()}
        fields = self._registry.declaration(row.platform).credentials
        moved = [
            field.name for field in fields if field.destination and meant.get(field.name) != stored.get(field.name)
        ]
        errors = [
            FieldError(
                f"/credentials/{field.name}",
                f"credentials.{field.name} must be given anew, not masked, because {moved[0]} changes",
            )
            for field in fields
            if moved and field.secret and credentials.get(field.name) == MASK
        ]
        if errors:
            raise InvalidInputError.of(errors)
        return meant


async def _answered(account: Account, asking: Awaitable[Answered], failed: str) -> Answered:
    """What a platform says, in time. Raises InvalidInputError, which begins with `failed`."""
    try:
        with discreet(account):
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asking
    except DeliveryError as error:
        raise InvalidInputError(f"{failed}: {error.message}") from error
    except TimeoutError:
        raise InvalidInputError(
            f"{failed}: the platform did not answer within {ANSWER_SECONDS:g} seconds; try again later"
        ) from None
