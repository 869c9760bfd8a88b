"""Sending: from a request to a durable message with its deliveries queued."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import structlog

from msgcore.core.clock import Clock
from msgcore.core.content import Content, Priority, SendOptions, SendRequest, Target, TargetType
from msgcore.core.deliveries import DeliveryState, Rank, Ticket
from msgcore.core.errors import FieldError, ForbiddenError, InvalidInputError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import ApiScope, Principal
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.dispatch.messages import MessageBody, MessageCache
from msgcore.outbound.long_texts import LongTexts
from msgcore.platforms.registry import PlatformRegistry
from msgcore.services.addressing import AddressBook, Addresses
from msgcore.store.ledger.accept import Accepted, AcceptLog, IdempotencyClaim, New, NewMessage, new_delivery
from msgcore.store.ledger.quota import QueueQuota

log = structlog.stdlib.get_logger(__name__)
levels = logging.getLogger(__name__)

MAX_ERRORS = 100
FARTHEST = timedelta(days=3650)
RANKS = {Priority.HIGH: Rank.HIGH, Priority.NORMAL: Rank.NORMAL, Priority.LOW: Rank.LOW}
NO_OPTIONS = SendOptions()

_Place = tuple[str, int]
"""A list in the body, and which of its targets."""

_Seen = dict[tuple[str, str, str], _Place]
"""Where each target stands first."""


@dataclass(frozen=True, slots=True)
class _Times:
    """When a message came, when it is to go out, and until when."""

    now: datetime
    due_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Checked:
    """A request that may be accepted, with the account of each target, and of each fallback."""

    project_id: str
    request: SendRequest
    records: list[AccountRecord]
    fallbacks: list[AccountRecord]
    times: _Times


class SendService:
    """Validates a request as a whole, then commits it as a whole."""

    def __init__(
        self,
        *,
        accounts: AccountDirectory,
        registry: PlatformRegistry,
        accept_log: AcceptLog,
        quota: QueueQuota,
        messages: MessageCache,
        addresses: AddressBook,
        long_texts: LongTexts,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._registry = registry
        self._accept_log = accept_log
        self._quota = quota
        self._messages = messages
        self._addresses = addresses
        self.long_texts = long_texts
        self._clock = clock

    async def send(
        self, principal: Principal, project_id: str, request: SendRequest, *, idempotency_key: str | None = None
    ) -> Accepted:
        """Accept a message; returns when it is durable and queued.

        Raises ForbiddenError for options that the caller may not use, InvalidInputError with every wrong field,
        IdempotencyMismatchError when the key came with another body in the last 24 hours, QueueFullError when the
        project's queue is full, and UnavailableError when more comes than can be stored.
        """
        claim = make_claim(principal, idempotency_key, request)
        require_right(principal, request)
        try:
            checked = await self.check(project_id, request)
        except InvalidInputError:
            # What was right when it came first may be wrong by now: expired, or its platform switched off.
            earlier = await self.replay(project_id, claim)
            if earlier is None:
                raise
            return earlier
        return await self.accept(self.compose(principal, checked, claim=claim))

    async def prepare(
        self, principal: Principal, project_id: str, request: SendRequest, *, idempotency_key: str | None = None
    ) -> NewMessage:
        """The first half of `send`: check a message; nothing is stored. Raises as `send` does."""
        claim = make_claim(principal, idempotency_key, request)
        require_right(principal, request)
        checked = await self.check(project_id, request)
        return self.compose(principal, checked, claim=claim)

    async def accept(self, new: New) -> Accepted:
        """The second half of `send`: commit it. After an error nobody knows whether it was; never do it twice."""
        number = sum(len(message.deliveries) for message in new.messages)
        with await self._quota.reserve(new.row["project_id"], number):
            accepted = await self._accept_log.accept(new)
        if levels.isEnabledFor(logging.DEBUG):
            word = "message_id" if isinstance(new, NewMessage) else "batch_id"
            about = {word: accepted.message_id, "project_id": new.row["project_id"], "deliveries": number}
            log.debug("message_accepted", **about, replayed=accepted.replayed)
        return accepted

    async def replay(self, project_id: str, claim: IdempotencyClaim | None) -> Accepted | None:
        """The answer that an identical request with this idempotency key got, if there was one."""
        return None if claim is None else await self._accept_log.find(project_id, claim, self._clock.now())

    async def look_up(self, project_id: str, targets: Iterable[Target]) -> Addresses:
        """What targets that name identities and chats stand for; for many requests at once."""
        return await self._addresses.look_up(project_id, targets)

    async def check(self, project_id: str, request: SendRequest, addresses: Addresses | None = None) -> Checked:
        """The request with what sending it needs. Raises InvalidInputError with every field that breaks a rule.

        `addresses` are those of its targets, where they were looked up before.
        """
        errors: list[FieldError] = []
        if addresses is None:
            addresses = await self.look_up(project_id, request.every_target())
        request = addresses.apply(request)
        options = request.options or NO_OPTIONS
        times = _read_times(options, self._clock.now(), errors)
        seen: _Seen = {}
        check = partial(self._check_targets, project_id, seen=seen, addresses=addresses, errors=errors)
        records = await check("targets", request.targets)
        fallbacks: list[AccountRecord] = []
        if options.fallback is not None:
            if len(request.targets) != 1:
                errors.append(_too_many_primaries(len(request.targets)))
            fallbacks = await check("options.fallback.targets", options.fallback.targets)
        platforms = dict.fromkeys(record.platform for record in (*records, *fallbacks))
        found = {name: await self._check_content(project_id, name, request.content, options) for name in platforms}
        errors.extend(_named(found))
        if (empty := emptiness(request.content)) is not None:
            errors.append(empty)
        if errors:
            raise InvalidInputError.of(list(dict.fromkeys(errors))[:MAX_ERRORS])
        return Checked(project_id, request, records, fallbacks, times)

    def compose(
        self,
        principal: Principal,
        checked: Checked,
        *,
        claim: IdempotencyClaim | None = None,
        batch_id: str | None = None,
    ) -> NewMessage:
        """What is to be stored of a checked request, whose content is kept at hand for sending it."""
        request = checked.request
        content = msgspec.json.encode(request.content)
        message: dict[str, Any] = {
            "id": new_id(),
            "project_id": checked.project_id,
            "content": msgspec.Raw(content),
            "options": request.options,
            "metadata": request.metadata,
            "created_by": principal.id,
            "created_at": checked.times.now,
            "batch_id": batch_id,
        }
        rows, tickets = _deliveries(message, checked, self._registry)
        standbys = _standbys(message, checked, rows[0], self._registry)
        self._messages.put(message["id"], MessageBody(request.content, request.options or NO_OPTIONS), len(content))
        return NewMessage(message, rows, tickets, claim, len(content), standbys)

    async def _check_targets(
        self,
        project_id: str,
        field: str,
        targets: list[Target],
        *,
        seen: _Seen,
        addresses: Addresses,
        errors: list[FieldError],
    ) -> list[AccountRecord]:
        """The accounts of a list of targets, which the body has in this field."""
        records: list[AccountRecord] = []
        for index, target in enumerate(targets):
            place = (field, index)
            first = seen.setdefault((target.platform_id, target.type, target.id), place)
            if first != place:
                repeated = f"{first[0]}[{first[1]}]"
                errors.append(FieldError(_pointer(place), f"{field}[{index}] repeats {repeated}: leave it out"))
            if target.type is TargetType.IDENTITY:
                errors.append(FieldError(f"{_pointer(place)}/id", f"{field}[{index}].id: {addresses.problem(target)}"))
                continue
            record = self._accounts.cached(target.platform_id) or await self._find(target.platform_id)
            if record is None or record.project_id != project_id or not record.is_active:
                errors.append(_unknown_account(place, target, record, project_id))
                continue
            records.append(record)
            for error in self._registry.check_target(record.platform, target):
                pointer = _pointer(place) + error.pointer.removeprefix("/target")
                errors.append(FieldError(pointer, f"{field}[{index}]: {error.message}"))
            if len(errors) >= MAX_ERRORS:
                break
        return records

    async def _check_content(self, project: str, name: str, content: Content, options: SendOptions) -> list[FieldError]:
        return await self.long_texts.run(project, content, self._registry.check_content, name, content, options)

    async def _find(self, platform_id: str) -> AccountRecord | None:
        account_id = canonical_id(platform_id)
        return None if account_id is None else await self._accounts.get(account_id)


def _named(found: Mapping[str, list[FieldError]]) -> list[FieldError]:
    """What platforms find wrong with a content; what only some of them do tells which."""
    everywhere = set[FieldError].intersection(*map(set, found.values())) if found else set[FieldError]()
    return [
        error
        if error in everywhere or platform in error.message
        else FieldError(error.pointer, f"{error.message} ({platform})")
        for platform, errors in found.items()
        for error in errors
    ]


def emptiness(content: Content) -> FieldError | None:
    """What is wrong with a content in which nothing is."""
    if content.has_body() or content.subject:
        return None
    return FieldError(
        "/content",
        "content is empty: give text, markdown, html, attachments, buttons, embeds, a location, a contact or a poll",
    )


def require_right(principal: Principal, request: SendRequest) -> None:
    """Raise ForbiddenError unless the caller may ignore opt-outs, where the request asks for it.

    Whoever may lift an opt-out may: a key with the scope for it; people who may send always have it.
    """
    ignores = request.options is not None and request.options.ignore_opt_out
    if ignores and principal.kind == "api-key" and ApiScope.IDENTITIES_WRITE not in principal.scopes:
        raise ForbiddenError(f"options.ignoreOptOut needs the scope {ApiScope.IDENTITIES_WRITE}")


def make_claim(principal: Principal, key: str | None, body: SendRequest | list[SendRequest]) -> IdempotencyClaim | None:
    """What a caller's Idempotency-Key stands for. Raises InvalidInputError for one that cannot be a key."""
    if key is None:
        return None
    body_hash = hashlib.sha256(msgspec.json.encode(body)).hexdigest()
    return IdempotencyClaim(principal.id, check_idempotency_key(key), body_hash)


def _deliveries(
    message: dict[str, Any], checked: Checked, registry: PlatformRegistry
) -> tuple[list[dict[str, Any]], list[Ticket]]:
    """The rows of the ledger and the tickets for the scheduler, one each a target."""
    request, times, metadata = checked.request, checked.times, checked.request.metadata
    rank = RANKS[metadata.priority] if metadata is not None and metadata.priority is not None else Rank.NORMAL
    delay = (times.due_at - times.now).total_seconds()
    rows: list[dict[str, Any]] = []
    tickets: list[Ticket] = []
    for target, record in zip(request.targets, checked.records, strict=True):
        declaration = registry.declaration(record.platform)
        target_id = registry.address(record.platform, target.id)
        row = _delivery_row(message, checked, target.type, target_id, record, ordered=declaration.ordered)
        row["rank"] = rank.value
        rows.append(row)
        limits = declaration.limits.of_lane(row["lane"])
        tickets.append(Ticket(row["id"], record.id, row["lane"], rank, delay, limits, tenant=record.project_id))
    return rows, tickets


def _standbys(
    message: dict[str, Any], checked: Checked, primary: dict[str, Any], registry: PlatformRegistry
) -> list[dict[str, Any]]:
    """The rows of the fallbacks, which take over one after the other; that of the target gets its place before them."""
    fallback = None if checked.request.options is None else checked.request.options.fallback
    if fallback is None:
        return []
    after = fallback.after_seconds
    primary |= {"fallback_rank": 0, "fallback_after": None, "fallback_at": None}
    rows: list[dict[str, Any]] = []
    for number, (target, record) in enumerate(zip(fallback.targets, checked.fallbacks, strict=True), 1):
        ordered = registry.declaration(record.platform).ordered
        target_id = registry.address(record.platform, target.id)
        row = _delivery_row(message, checked, target.type, target_id, record, ordered=ordered)
        row |= {"rank": primary["rank"], "state": DeliveryState.STANDBY.value}
        rows.append(row | {"fallback_rank": number, "fallback_after": after, "fallback_at": None})
    if after is not None:
        rows[0]["fallback_at"] = checked.times.due_at + timedelta(seconds=after)
    return rows


def _delivery_row(
    message: dict[str, Any], checked: Checked, kind: TargetType, target_id: str, record: AccountRecord, *, ordered: bool
) -> dict[str, Any]:
    options, times = checked.request.options or NO_OPTIONS, checked.times
    if options.ordering is not None:
        ordered = options.ordering == "strict"
    return new_delivery(
        message,
        due_at=times.due_at,
        platform_id=record.id,
        platform=record.platform,
        target_type=kind.value,
        target_id=target_id,
        lane=f"{kind.value}:{target_id}" if ordered else None,
        state=(DeliveryState.SCHEDULED if times.due_at > times.now else DeliveryState.QUEUED).value,
        on_uncertain=options.on_uncertain or "resend",
        expires_at=times.expires_at,
    )


def check_idempotency_key(key: str) -> str:
    """The key if it may be one: 1 to 255 printable ASCII characters."""
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():  # noqa: PLR2004
        raise InvalidInputError.of(
            [FieldError("/headers/Idempotency-Key", "Idempotency-Key must be 1 to 255 printable ASCII characters")]
        )
    return key


def _pointer(place: _Place) -> str:
    return f"/{place[0].replace('.', '/')}/{place[1]}"


def _too_many_primaries(number: int) -> FieldError:
    return FieldError(
        "/options/fallback",
        f"options.fallback is for a message with one target, and this one has {number}: which of them would fall back "
        "is unclear; send a message to each, for example with messages/batch",
    )


def _unknown_account(place: _Place, target: Target, record: AccountRecord | None, project_id: str) -> FieldError:
    pointer = f"{_pointer(place)}/platformId"
    field = f"{place[0]}[{place[1]}].platformId"
    if not target.platform_id:
        return FieldError(pointer, f"{field} is required: it must be a string")
    if record is not None and record.project_id == project_id:
        return FieldError(
            pointer,
            f"{field}: platform {record.name!r} is switched off; set isActive to true first",
        )
    return FieldError(
        pointer,
        f"{field} {target.platform_id!r} is not a platform of this project; "
        "list them with GET /api/v1/projects/{project}/platforms",
    )


def _read_times(options: SendOptions, now: datetime, errors: list[FieldError]) -> _Times:
    due_at = read_time("options.scheduled", options.scheduled, now, errors)
    expires_at = read_time("options.expiresAt", options.expires_at, now, errors)
    due_at = now if due_at is None else max(due_at, now)
    if expires_at is not None and expires_at <= due_at:
        errors.append(
            FieldError("/options/expiresAt", "options.expiresAt must be in the future, and after options.scheduled")
        )
    return _Times(now, due_at, expires_at)


def read_time(field: str, text: str | None, now: datetime, errors: list[FieldError]) -> datetime | None:
    """The moment that a field of a body names; what is wrong with it is added to `errors`."""
    if text is None:
        return None
    pointer = f"/{field.replace('.', '/')}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        errors.append(FieldError(pointer, f"{field} must be an ISO 8601 date and time such as 2030-01-31T12:00:00Z"))
        return None
    if moment.tzinfo is None:
        errors.append(FieldError(pointer, f"{field} needs an offset: end it with Z, or with +02:00"))
        return None
    if moment > now + FARTHEST:
        errors.append(FieldError(pointer, f"{field} must be within ten years"))
        return None
    return moment
