"""The OpenAPI document: what every operation has in common is added here, from what handlers declare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, License, OpenAPI, SecurityScheme
from litestar.routes import HTTPRoute

from msgcore import __version__
from msgcore.api.access import Access, declared_access
from msgcore.api.batch_body import BatchOperation
from msgcore.api.documented import add_second_types, close_bodies, problems
from msgcore.api.links import add_links
from msgcore.api.platform_schemas import add_platforms
from msgcore.api.reference import reference_pages, reference_router
from msgcore.api.session_guard import CSRF_HEADER, SAFE_METHODS
from msgcore.platforms.fact_sheet import FactSheet

SESSION, CSRF = "session", "csrf-token"
_SCHEMES = {
    "api-key": SecurityScheme(
        type="apiKey", name="X-API-Key", security_scheme_in="header", description="A project's key: `msc_...`"
    ),
    "jwt": SecurityScheme(
        type="http", scheme="bearer", bearer_format="JWT", description="The `accessToken` of a sign-in"
    ),
    CSRF: SecurityScheme(
        type="apiKey", name=CSRF_HEADER, security_scheme_in="header", description="The `csrfToken` of the session"
    ),
}
"""By kind of principal, and what goes with a session."""


@dataclass
class _Document(OpenAPI):
    """The document, with what platforms add to it."""

    sheets: Sequence[FactSheet] = ()

    @property
    def _exclude_fields(self) -> set[str]:
        return {"sheets"}

    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        add_platforms(document["components"]["schemas"], self.sheets)
        add_second_types(document["paths"])
        add_links(document["paths"])
        close_bodies(document)
        return document


@dataclass
class _Config(OpenAPIConfig):
    sheets: Sequence[FactSheet] = ()

    def to_openapi_schema(self) -> OpenAPI:
        made = super().to_openapi_schema()
        return _Document(**{each.name: getattr(made, each.name) for each in fields(made)}, sheets=self.sheets)


def openapi_config(sheets: Sequence[FactSheet], *, cookie_name: str) -> OpenAPIConfig:
    """The document at `/docs/openapi.json` and `.yaml`, and the pages at `/docs` and `/docs/swagger`."""
    cookie = SecurityScheme(
        type="apiKey", name=cookie_name, security_scheme_in="cookie", description="What `auth/session` sets"
    )
    return _Config(
        sheets=sheets,
        title="MsgCore",
        version=__version__,
        description="One API that sends on messaging platforms, and tells what happens there.",
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        components=Components(security_schemes={**_SCHEMES, SESSION: cookie}),
        use_handler_docstrings=True,
        render_plugins=(
            *reference_pages(),
            JsonRenderPlugin(path="/openapi.json"),
            YamlRenderPlugin(path=["/openapi.yaml", "/openapi.yml"]),
        ),
        openapi_router=reference_router(),
    )


def complete_operations(app: Litestar) -> None:
    """Add to each operation how its caller is known and which errors it can answer.

    Call it once, before the document is asked for.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                access = declared_access(handler)
                if access is not None and handler.resolve_include_in_schema():
                    handler.security = _security(handler, access)
                    handler.responses = _errors(handler, access) | dict(handler.responses or {})


def _security(handler: HTTPRouteHandler, access: Access) -> list[dict[str, list[str]]]:
    """Any of these: people have a token, or a session, which needs another header for what changes something."""
    ways: list[dict[str, list[str]]] = [{kind: []} for kind in sorted(access.callers)]
    if "jwt" in access.callers:
        ways.append({SESSION: []} if handler.http_methods <= SAFE_METHODS else {SESSION: [], CSRF: []})
    return ways


def _errors(handler: HTTPRouteHandler, access: Access) -> dict[int, ResponseSpec]:
    possible = [HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS]
    if "data" in handler.parsed_fn_signature.parameters or handler.operation_class is BatchOperation:
        possible += [HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE]
    if handler.http_methods != {"GET"}:
        possible.append(HTTPStatus.CONFLICT)
    if "idempotency_key" in handler.parsed_fn_signature.parameters:
        possible.append(HTTPStatus.UNPROCESSABLE_ENTITY)
    if access.callers:
        possible += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND]
    return problems(*sorted(possible))
