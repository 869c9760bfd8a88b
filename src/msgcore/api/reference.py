"""The pages at `/docs`, and what they load: all of it from here, since a script from elsewhere may be another tomorrow.

The package `offapi` brings the bundles; it is not imported, which would read all of them into memory.
"""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromPath
from litestar.response import File

from msgcore.api.access import PUBLIC

_ASSETS: Final = {
    "scalar.js": "text/javascript; charset=utf-8",
    "swagger_bundle.js": "text/javascript; charset=utf-8",
    "swagger_style.css": "text/css; charset=utf-8",
}
_SWAGGER_START: Final = b"""SwaggerUIBundle({
  url: "/docs/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_VERSION: Final = distribution("offapi").version
_KEPT: Final = {"Cache-Control": "public, max-age=86400"}
_PAGE_HEADERS: Final = {
    # Both pages make style elements of their own, and Scalar pictures from data.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
}
_SCALAR: Final = json.dumps(
    {
        "withDefaultFonts": False,
        "telemetry": False,
        "showDeveloperTools": "never",
        "hideClientButton": True,
        "agent": {"disabled": True},
        "mcp": {"disabled": True},
    }
)


class ReferencePage(OpenAPIRenderPlugin):
    """One page, which loads the document by itself."""

    def __init__(self, *, path: str, body: str, style: str = "") -> None:
        super().__init__(path=path)
        self._page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>MsgCore</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
            f"{style}</head><body>{body}</body></html>"
        ).encode()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page."""
        del request, openapi_schema
        return self._page


def reference_pages() -> tuple[ReferencePage, ReferencePage]:
    """Scalar at `/docs`, and Swagger at `/docs/swagger`."""
    scalar = (
        f'<script id="api-reference" data-url="/docs/openapi.json" data-configuration=\'{_SCALAR}\'></script>'
        f'<script src="{_address("scalar.js")}"></script>'
    )
    swagger = (
        f'<div id="page"></div><script src="{_address("swagger_bundle.js")}"></script>'
        '<script src="/docs/assets/start.js"></script>'
    )
    style = f'<link rel="stylesheet" href="{_address("swagger_style.css")}">'
    return ReferencePage(path="/", body=scalar), ReferencePage(path="/swagger", body=swagger, style=style)


def reference_router() -> Router:
    """What Litestar adds the pages and the document to."""
    return Router(
        "/docs",
        route_handlers=[_asset, _start],
        include_in_schema=False,
        opt=PUBLIC,
        dto=None,
        response_headers=_PAGE_HEADERS,
    )


@get("/assets/{name:str}")
async def _asset(name: FromPath[str]) -> File:
    if name not in _ASSETS:
        raise NotFoundException
    path = Path(str(distribution("offapi").locate_file(f"offapi/{name}")))
    return File(path, media_type=_ASSETS[name], content_disposition_type="inline", headers=_KEPT)


@get("/assets/start.js")
async def _start() -> Response[bytes]:
    return Response(_SWAGGER_START, media_type=_ASSETS["scalar.js"])


def _address(name: str) -> str:
    # With its version, as browsers keep it for a day.
    return f"/docs/assets/{name}?{_VERSION}"
