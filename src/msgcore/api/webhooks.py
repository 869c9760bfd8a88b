"""Webhooks of a project: where its events are posted."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from litestar import Controller, delete, get, patch, post
from litestar.params import FromPath
from msgspec import UNSET, UnsetType

from msgcore.api.access import ApiRequest, Injected, JsonBody, requires
from msgcore.api.answers import Answer, MessageAnswer, Timestamp
from msgcore.api.parameters import each_one_of
from msgcore.core.clock import to_iso
from msgcore.core.content import Wire
from msgcore.core.events import EventType
from msgcore.core.private import private_repr
from msgcore.core.scopes import ApiScope
from msgcore.services.webhook_rules import EVERY_EVENT, LONGEST_URL
from msgcore.services.webhooks import NewWebhook, WebhookService, WebhookStats, WebhookView

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Address = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_URL)]
Events = Annotated[
    list[Annotated[str, msgspec.Meta(max_length=64)]],
    msgspec.Meta(min_length=1, max_length=100, extra_json_schema=each_one_of((EVERY_EVENT, *EventType))),
]
Secret = Annotated[str, msgspec.Meta(min_length=16, max_length=128)]
OverlapHours = Annotated[int, msgspec.Meta(ge=0, le=168)]


class CreateWebhook(Wire):
    """A new webhook. `events` are names, or `*` alone for all of them; without a `secret`, one is made.

    A secret is `whsec_` and 24 to 64 bytes in base64 (Standard Webhooks), or another text of yours.
    """

    __repr__ = private_repr

    name: Name
    url: Address
    events: Events
    secret: Secret | None = None
    is_ordered: bool = False


class UpdateWebhook(Wire):
    """What is left out stays. The secret is changed by `rotate-secret`."""

    name: Name | UnsetType = UNSET
    url: Address | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    is_ordered: bool | UnsetType = UNSET


class RotateSecret(Wire):
    """The new secret, made where none is given, and for how long the old one stays valid."""

    __repr__ = private_repr

    secret: Secret | None = None
    overlap_hours: OverlapHours = 24


class WebhookAnswer(Answer):
    """A webhook, its `secret` masked.

    `failingSince` is since when nothing got through, `disabledReason` why it was switched off for that.
    Until `previousSecretUntil` the secret before the present one is valid as well.
    """

    __repr__ = private_repr

    id: str
    project_id: str
    name: str
    url: str
    events: list[str]
    secret: str
    is_active: bool
    is_ordered: bool
    failing_since: Timestamp | None
    disabled_reason: str | None
    previous_secret_until: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class IssuedWebhookAnswer(WebhookAnswer):
    """A webhook with its new `secret`, which is shown this once only."""

    message: str


class DeliveryStats(Answer):
    """How deliveries went, of the newest 10,000. `successRate` is a percentage of them all, such as `99.50%`."""

    total: int
    successful: int
    failed: int
    pending: int
    success_rate: str


class WebhookDetails(WebhookAnswer):
    """A webhook, and how its deliveries went."""

    stats: DeliveryStats


class WebhookDeleted(MessageAnswer):
    """What was done, and to which one."""

    id: str


class WebhooksController(Controller):
    """Webhooks that the events of a project are posted to."""

    path = "/api/v1/projects/{project:str}/webhooks"
    tags = ("Webhooks",)

    @post(opt=requires(ApiScope.WEBHOOKS_WRITE), summary="Create a webhook")
    async def create(
        self,
        request: ApiRequest,
        project: FromPath[str],
        data: JsonBody[CreateWebhook],
        webhooks: Injected[WebhookService],
    ) -> IssuedWebhookAnswer:
        """The secret is in the answer, and nowhere else. A project has at most 100 webhooks."""
        new = NewWebhook(data.name, data.url, data.events, data.secret, data.is_ordered)
        view = await webhooks.create(request.user, project, new)
        return IssuedWebhookAnswer(**_fields(view), message="Webhook created: keep its secret, it is shown this once")

    @get(opt=requires(ApiScope.WEBHOOKS_READ), summary="List webhooks")
    async def list_all(self, project: FromPath[str], webhooks: Injected[WebhookService]) -> list[WebhookAnswer]:
        """Newest first."""
        return [WebhookAnswer(**_fields(view)) for view in await webhooks.list(project)]

    @get("/{webhook_id:str}", opt=requires(ApiScope.WEBHOOKS_READ), summary="Get a webhook")
    async def show(
        self, project: FromPath[str], webhook_id: FromPath[str], webhooks: Injected[WebhookService]
    ) -> WebhookDetails:
        """With how its deliveries went."""
        view, stats = await webhooks.get(project, webhook_id)
        return WebhookDetails(**_fields(view), stats=_stats(stats))

    @patch("/{webhook_id:str}", opt=requires(ApiScope.WEBHOOKS_WRITE), summary="Change a webhook")
    async def update(
        self,
        request: ApiRequest,
        project: FromPath[str],
        webhook_id: FromPath[str],
        data: JsonBody[UpdateWebhook],
        webhooks: Injected[WebhookService],
    ) -> WebhookAnswer:
        """Switching it on (`isActive`) also clears `failingSince` and `disabledReason`."""
        changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
        return WebhookAnswer(**_fields(await webhooks.update(request.user, project, webhook_id, changes)))

    @post(
        "/{webhook_id:str}/rotate-secret",
        opt=requires(ApiScope.WEBHOOKS_WRITE),
        status_code=200,
        summary="Give a webhook a new secret",
    )
    async def rotate_secret(
        self,
        request: ApiRequest,
        project: FromPath[str],
        webhook_id: FromPath[str],
        webhooks: Injected[WebhookService],
        data: JsonBody[RotateSecret | None] = None,
    ) -> IssuedWebhookAnswer:
        """The new secret is in the answer, and nowhere else. The old one stays valid for the overlap, no older one."""
        asked = data or RotateSecret()
        view = await webhooks.rotate_secret(
            request.user, project, webhook_id, secret=asked.secret, overlap=timedelta(hours=asked.overlap_hours)
        )
        return IssuedWebhookAnswer(**_fields(view), message="Secret changed: keep the new one, it is shown this once")

    @delete("/{webhook_id:str}", opt=requires(ApiScope.WEBHOOKS_WRITE), status_code=200, summary="Delete a webhook")
    async def remove(
        self,
        request: ApiRequest,
        project: FromPath[str],
        webhook_id: FromPath[str],
        webhooks: Injected[WebhookService],
    ) -> WebhookDeleted:
        """With the record of its deliveries."""
        deleted_id = await webhooks.delete(request.user, project, webhook_id)
        return WebhookDeleted(message="Webhook deleted successfully", id=deleted_id)


def _stats(stats: WebhookStats) -> DeliveryStats:
    percent = 100 * stats.successful / stats.total if stats.total else 0
    return DeliveryStats(
        total=stats.total,
        successful=stats.successful,
        failed=stats.failed,
        pending=stats.pending,
        success_rate=f"{percent:.2f}%",
    )


def _fields(view: WebhookView) -> dict[str, Any]:
    row = view.row
    return {
        "id": row.id,
        "project_id": row.project_id,
        "name": row.name,
        "url": row.url,
        "events": row.events,
        "secret": view.secret,
        "is_active": row.is_active,
        "is_ordered": row.is_ordered,
        "failing_since": row.failing_since and to_iso(row.failing_since),
        "disabled_reason": row.disabled_reason,
        "previous_secret_until": view.previous_secret_until and to_iso(view.previous_secret_until),
        "created_at": to_iso(row.created_at),
        "updated_at": to_iso(row.updated_at),
    }
