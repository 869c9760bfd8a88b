"""What platforms there are, whoever uses them."""

from __future__ import annotations

from typing import Any

from litestar import Controller, get

from msgcore.api.access import PUBLIC, SIGNED_IN, Injected
from msgcore.api.answers import Answer
from msgcore.platforms.base import PlatformDeclaration
from msgcore.services.platforms import PlatformService


class CapabilityAnswer(Answer, omit_defaults=True):
    """Something that a platform can do, and where that ends."""

    capability: str
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
    """Which credentials a platform takes."""

    required: list[str]
    optional: list[str]
    example: dict[str, Any]
    fields: list[CredentialFieldAnswer]


class SupportedPlatform(Answer):
    """A platform that can be configured."""

    name: str
    display_name: str
    connection_type: str
    features: Features
    capabilities: list[CapabilityAnswer]
    credentials: CredentialsAnswer


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
        """From each platform's declaration."""
        return SupportedPlatforms(platforms=[_supported(declared) for declared in platforms.declarations()])

    @get("/health", opt=PUBLIC, summary="The platforms that this server can speak to")
    async def health(self, platforms: Injected[PlatformService]) -> PlatformsHealth:
        """Whether an account works is told by the account (`pausedReason`) and its logs."""
        shown = [_health(declared) for declared in platforms.declarations()]
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
                WebhookRoute(
                    platform=declared.name, path=f"/api/v1/webhooks/{declared.name}/:webhookToken", method="POST"
                )
                for declared in platforms.declarations()
                if declared.supports_webhooks
            ]
        )


def _supported(declared: PlatformDeclaration) -> SupportedPlatform:
    fields = declared.credentials
    return SupportedPlatform(
        name=declared.name,
        display_name=declared.display_name,
        connection_type=declared.connection_type,
        features=Features(
            supports_webhooks=declared.supports_webhooks,
            supports_polling=declared.supports_polling,
            supports_web_socket=declared.supports_websocket,
        ),
        capabilities=_capabilities(declared),
        credentials=CredentialsAnswer(
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
        ),
    )


def _health(declared: PlatformDeclaration) -> PlatformHealth:
    return PlatformHealth(
        name=declared.name,
        display_name=declared.display_name,
        connection_type=declared.connection_type,
        is_healthy=True,  # a platform that cannot be loaded keeps the server from starting
        stats=ConnectionStats(connections=[], total_connections=0, max_connections=0),
        capabilities=_capabilities(declared),
    )


def _capabilities(declared: PlatformDeclaration) -> list[CapabilityAnswer]:
    return [
        CapabilityAnswer(capability=info.capability.value, limitations=info.limitations)
        for info in declared.capabilities
    ]
