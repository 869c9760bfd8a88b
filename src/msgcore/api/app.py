"""The HTTP application: controllers, access control, error answers and the OpenAPI document."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.routes import BaseRoute, HTTPRoute, WebSocketRoute

from msgcore.api.access import access_control, declared_access, is_preflight
from msgcore.api.actions import ActionsController
from msgcore.api.api_keys import ApiKeysController
from msgcore.api.attachments import AttachmentsController
from msgcore.api.audit import AuditController, WholeAuditController
from msgcore.api.auth import AuthController
from msgcore.api.batches import BatchesController
from msgcore.api.body import BodyDto
from msgcore.api.chats import ChatsController
from msgcore.api.dead_letters import DeadLettersController
from msgcore.api.errors import handle_error
from msgcore.api.event_socket import EventSocketController, EventSockets
from msgcore.api.events import EventsController
from msgcore.api.health import HealthController
from msgcore.api.identities import IdentitiesController
from msgcore.api.members import MembersController
from msgcore.api.messages import MessagesController
from msgcore.api.methods import send_allowed
from msgcore.api.metrics import MetricsAccess, MetricsController
from msgcore.api.openapi import complete_operations, openapi_config
from msgcore.api.opt_outs import OptOutsController
from msgcore.api.page_guard import PageGuard
from msgcore.api.platform_catalog import PlatformCatalogController
from msgcore.api.platform_logs import PlatformLogsController
from msgcore.api.platforms import PlatformsController
from msgcore.api.previews import PreviewsController
from msgcore.api.projects import ProjectsController
from msgcore.api.rate_limit import HEADERS, RateGate, send_allowance
from msgcore.api.received import ReceivedController
from msgcore.api.request_id import send_request_id
from msgcore.api.schedules import SchedulesController
from msgcore.api.session_guard import SessionGuard
from msgcore.api.sessions import SessionController
from msgcore.api.usage import UsageController
from msgcore.api.webhook_deliveries import WebhookDeliveriesController
from msgcore.api.webhooks import WebhooksController
from msgcore.api.webhooks_in import InboundWebhooksController, envelope_schema
from msgcore.config import Settings
from msgcore.services.container import Services
from msgcore.services.health import HealthService
from msgcore.services.monitoring import Monitoring
from msgcore.services.request_limits import RequestLimits

SIGNING_IN: Final = (AuthController, SessionController)
CONTROLLERS: Final = (
    HealthController,
    ProjectsController,
    ApiKeysController,
    MembersController,
    PlatformCatalogController,
    PlatformLogsController,
    PlatformsController,
    IdentitiesController,
    OptOutsController,
    MessagesController,
    ActionsController,
    BatchesController,
    PreviewsController,
    SchedulesController,
    ReceivedController,
    AttachmentsController,
    ChatsController,
    DeadLettersController,
    EventsController,
    EventSocketController,
    InboundWebhooksController,
    envelope_schema,
    WebhooksController,
    WebhookDeliveriesController,
    UsageController,
    AuditController,
    WholeAuditController,
)

_READABLE_HEADERS: Final = ["X-Request-ID", "Retry-After", *HEADERS]
"""What scripts of other origins may read besides the body."""

_LARGEST_OF_STRANGERS: Final = 64 * 1024
"""Bytes of a body that is read before anybody knows who sends it, apart from those of platforms."""


def create_api(services: Services, settings: Settings, limits: RequestLimits) -> Litestar:
    """The application over these services. Raises RuntimeError for a handler that declares no access."""
    injected: dict[str, Any] = {field.name: getattr(services, field.name) for field in fields(services)}
    injected["metrics_access"] = MetricsAccess(settings)
    gate = injected["rate_gate"] = RateGate(limits)
    sessions = injected["session_guard"] = SessionGuard(services.sessions, settings)
    injected["page_guard"] = PageGuard(settings)
    injected["event_sockets"] = EventSockets(services, limits, largest=settings.max_body_bytes)
    own_port = settings.metrics_port is not None
    signing_in = Router(
        path="/",
        route_handlers=SIGNING_IN,
        request_max_body_size=min(_LARGEST_OF_STRANGERS, settings.max_body_bytes),
    )
    handlers = [signing_in, *CONTROLLERS]
    app = Litestar(
        route_handlers=handlers if own_port else (*handlers, MetricsController),
        middleware=[access_control(services.authenticator, sessions, gate)],
        dependencies={name: _provide(part) for name, part in injected.items()},
        dto=BodyDto,
        return_dto=None,
        exception_handlers={Exception: handle_error},
        before_send=[send_request_id, send_allowance, send_allowed],
        cors_config=_cors(settings),
        openapi_config=_document(services, sessions) if settings.docs == "on" else None,
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
    )
    for route in app.routes:
        require_declared_access(route)
    complete_operations(app)
    return app


def create_monitoring_api(health: HealthService, monitoring: Monitoring, settings: Settings) -> Litestar:
    """The application of the metrics port: metrics and health, nothing else."""
    injected = {"health": health, "monitoring": monitoring, "metrics_access": MetricsAccess(settings)}
    return Litestar(
        route_handlers=(HealthController, MetricsController),
        dependencies={name: _provide(part) for name, part in injected.items()},
        exception_handlers={Exception: handle_error},
        before_send=[send_request_id],
        openapi_config=None,
        logging_config=None,
    )


def _document(services: Services, sessions: SessionGuard) -> OpenAPIConfig:
    return openapi_config(services.platforms.fact_sheets(), cookie_name=sessions.cookie_name)


def _provide(part: object) -> Provide:
    return Provide(lambda: part, sync_to_thread=False)


def _cors(settings: Settings) -> CORSConfig | None:
    if not settings.cors_origins:
        return None
    return CORSConfig(allow_origins=list(settings.cors_origins), expose_headers=_READABLE_HEADERS)


def require_declared_access(route: BaseRoute) -> None:
    """Forgetting to say who may call an endpoint must not open it, nor be found out by its first caller."""
    handlers: list[HTTPRouteHandler | WebsocketRouteHandler] = []
    if isinstance(route, HTTPRoute):
        handlers += route.route_handlers
    elif isinstance(route, WebSocketRoute):
        handlers.append(route.route_handler)
    for handler in handlers:
        if declared_access(handler) is None and not is_preflight(handler):
            raise RuntimeError(f"{handler} declares no access: give it opt=requires(...) or the like")
