"""What platforms there are, whoever uses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Controller, get

from msgcore.api.access import PUBLIC, SIGNED_IN, Injected
from msgcore.api.answers import Answer
from msgcore.core.limits import Budget, RateLimits
from msgcore.outbound.layout import Shows
from msgcore.platforms.error_table import Ending
from msgcore.platforms.fact_sheet import FactSheet, Support, Way
from msgcore.services.platforms import PlatformService


class CapabilityAnswer(Answer, omit_defaults=True):
    """Something that a platform can do, and where that ends; what is `degraded` is shown in another form."""

    capability: str
    support: Support
    limitations: str | None = None


class Features(Answer):
    """How a platform can talk to the gateway."""

    supports_webhooks: bool
    supports_polling: bool
    supports_web_socket: bool


class CredentialFieldAnswer(Answer):
    """One field of a platform's credentials; `secret` ones are never shown again."""

    name: str
    description: str
    type: str
    required: bool
    secret: bool


class CredentialsAnswer(Answer):
    """Which credentials a platform takes; `schema` is their JSON Schema."""

    required: list[str]
    optional: list[str]
    example: dict[str, Any]
    fields: list[CredentialFieldAnswer]
    schema: dict[str, Any]


class ButtonLimits(Answer):
    """Buttons of one message: how many, in rows of how many, characters of their texts, bytes of their values."""

    most: int
    per_row: int
    text: int
    value: int
    values: bool
    urls: bool


class FileLimits(Answer):
    """Files: the largest in bytes by type (a type that is not named goes as a document), and how many together."""

    largest: dict[str, int]
    together: int
    by_url_only: bool


class PollLimits(Answer):
    """Polls: the longest question, how many answers, and the longest answer."""

    question: int
    options: int
    option: int


class RateAnswer(Answer):
    """`count` calls in each `seconds`."""

    count: int
    seconds: float


class RateLimitsAnswer(Answer):
    """How fast the platform is called: for an account, a conversation, a kind of call; how many calls at a time.

    `kinds` are conversations for which others hold, by what they are.
    """

    account: list[RateAnswer]
    conversation: list[RateAnswer]
    kinds: dict[str, list[RateAnswer]]
    route: list[RateAnswer]
    at_once: int | None


class LimitsAnswer(Answer):
    """Where a message ends: lengths in characters (as the platform counts them), null where there is none of it."""

    text: int
    caption: int | None
    embeds: int
    buttons: ButtonLimits | None
    files: FileLimits | None
    poll: PollLimits | None
    rates: RateLimitsAnswer


class InboundWays(Answer):
    """How what happens comes in, and how requests of the platform are verified."""

    ways: list[Way]
    signature: str | None


class ErrorAnswer(Answer):
    """An error of a delivery: its code, what becomes of it, the remedy; `answers` of the platform bring it about."""

    code: str
    kind: Ending
    remedy: str
    answers: list[str]


class SupportedPlatform(Answer):
    """A platform that can be configured.

    `dialect` is how it writes formatted text, `options` the JSON Schema of its `content.platformOptions`.
    """

    name: str
    display_name: str
    connection_type: str
    features: Features
    capabilities: list[CapabilityAnswer]
    credentials: CredentialsAnswer
    limits: LimitsAnswer
    dialect: str
    ordered: bool
    inbound: InboundWays
    options: dict[str, Any] | None
    errors: list[ErrorAnswer]


class SupportedPlatforms(Answer):
    """All platforms that can be configured."""

    platforms: list[SupportedPlatform]


class ConnectionStats(Answer):
    """Live connections of a platform; there are none where it is spoken to by HTTP alone."""

    connections: list[str]
    total_connections: int
    max_connections: int


class PlatformHealth(Answer):
    """A platform of this server."""

    name: str
    display_name: str
    connection_type: str
    is_healthy: bool
    stats: ConnectionStats
    capabilities: list[CapabilityAnswer]


class PlatformsHealth(Answer):
    """The platforms of this server."""

    status: str
    total_providers: int
    healthy_providers: int
    platforms: list[PlatformHealth]
    supported_platforms: list[str]


class WebhookRoute(Answer):
    """Where a platform's webhooks come in."""

    platform: str
    path: str
    method: str


class WebhookRoutes(Answer):
    """Where webhooks come in."""

    routes: list[WebhookRoute]


class PlatformCatalogController(Controller):
    """Platforms of this installation."""

    path = "/api/v1/platforms"
    tags = ("Platforms",)

    @get("/supported", opt=PUBLIC, summary="List supported platforms with their credentials")
    async def supported(self, platforms: Injected[PlatformService]) -> SupportedPlatforms:
        """From each platform's declaration: what it can do, its limits, credentials, options and errors."""
        return SupportedPlatforms(platforms=[supported(sheet) for sheet in platforms.fact_sheets()])

    @get("/health", opt=PUBLIC, summary="The platforms that this server can speak to")
    async def health(self, platforms: Injected[PlatformService]) -> PlatformsHealth:
        """Whether an account works is told by the account (`pausedReason`) and its logs."""
        shown = [_health(sheet) for sheet in platforms.fact_sheets()]
        return PlatformsHealth(
            status="ok",
            total_providers=len(shown),
            healthy_providers=sum(platform.is_healthy for platform in shown),
            platforms=shown,
            supported_platforms=[platform.name for platform in shown],
        )

    @get("/webhook-routes", opt=SIGNED_IN, summary="Where platforms send their webhooks")
    async def webhook_routes(self, platforms: Injected[PlatformService]) -> WebhookRoutes:
        """The token in the path is that of a configured platform."""
        return WebhookRoutes(
            routes=[
                WebhookRoute(platform=name, path=f"/api/v1/webhooks/{name}/:webhookToken", method="POST")
                for name in (sheet.declaration.name for sheet in platforms.fact_sheets() if "webhook" in sheet.ways)
            ]
        )


def supported(sheet: FactSheet) -> SupportedPlatform:
    """A platform as it is listed."""
    declared = sheet.declaration
    return SupportedPlatform(
        name=declared.name,
        display_name=declared.display_name,
        connection_type=declared.connection_type,
        features=Features(
            supports_webhooks=declared.supports_webhooks,
            supports_polling=declared.supports_polling,
            supports_web_socket=declared.supports_websocket,
        ),
        capabilities=_capabilities(sheet),
        credentials=_credentials(sheet),
        limits=_limits(sheet.shows, declared.limits),
        dialect=sheet.shows.dialect.name,
        ordered=declared.ordered,
        inbound=InboundWays(ways=list(sheet.ways), signature=sheet.signature),
        options=sheet.options_schema,
        errors=[
            ErrorAnswer(code=fact.code, kind=fact.ending, remedy=fact.remedy, answers=list(fact.answers))
            for fact in sheet.errors
        ],
    )


def _credentials(sheet: FactSheet) -> CredentialsAnswer:
    fields = sheet.declaration.credentials
    return CredentialsAnswer(
        required=[field.name for field in fields if field.required],
        optional=[field.name for field in fields if not field.required],
        example={field.name: field.example for field in fields if field.example is not None},
        fields=[
            CredentialFieldAnswer(
                name=field.name,
                description=field.description,
                type=field.kind,
                required=field.required,
                secret=field.secret,
            )
            for field in fields
        ],
        schema=sheet.credentials_schema,
    )


def _limits(shows: Shows, limits: RateLimits) -> LimitsAnswer:
    buttons, files, poll = shows.buttons, shows.files, shows.poll
    return LimitsAnswer(
        text=shows.text,
        caption=shows.caption,
        embeds=shows.embeds,
        buttons=buttons
        and ButtonLimits(
            most=buttons.most,
            per_row=buttons.per_row,
            text=buttons.text,
            value=buttons.value,
            values=buttons.values,
            urls=buttons.urls,
        ),
        files=files and FileLimits(largest=files.largest, together=files.per_call, by_url_only=files.fetched),
        poll=poll and PollLimits(question=poll.question, options=poll.options, option=poll.option),
        rates=RateLimitsAnswer(
            account=_rates(limits.account),
            conversation=_rates(limits.lane),
            kinds={kind.name: _rates(kind.limits.lane) for kind in limits.kinds},
            route=_rates(limits.route),
            at_once=limits.in_flight or None,
        ),
    )


def _rates(budgets: Sequence[Budget]) -> list[RateAnswer]:
    return [RateAnswer(count=budget.count, seconds=budget.period) for budget in budgets]


def _health(sheet: FactSheet) -> PlatformHealth:
    declared = sheet.declaration
    return PlatformHealth(
        name=declared.name,
        display_name=declared.display_name,
        connection_type=declared.connection_type,
        is_healthy=True,  # a platform that cannot be loaded keeps the server from starting
        stats=ConnectionStats(connections=[], total_connections=0, max_connections=0),
        capabilities=_capabilities(sheet),
    )


def _capabilities(sheet: FactSheet) -> list[CapabilityAnswer]:
    return [
        CapabilityAnswer(capability=each.capability.value, support=each.support, limitations=each.limitations)
        for each in sheet.abilities.values()
    ]
