"""How a session gets in: its cookie, which browsers send by themselves, and what keeps other sites from using that.

* The cookie goes to no script (`HttpOnly`) and comes along from no other site (`SameSite=Strict`: a dashboard asks for
  everything from its own pages, so nothing needs it earlier). Where it is https, only https carries it, and its name
  begins with `__Host-`, which keeps neighbours in the domain from setting it.
* What comes from a page of another origin is refused, unless `MSGCORE_CORS_ORIGINS` names it: by `Origin`, which
  browsers send with whatever changes something and with each WebSocket, else by `Sec-Fetch-Site`. So is a sign-in from
  there, as it would let somebody work in the account of whoever made that page.
* What changes something needs `X-CSRF-Token`, which belongs to the session, and which only those know who may read our
  answers.

Sources: draft-ietf-httpbis-rfc6265bis, "Cookie Name Prefixes" and "Same-site and cross-site requests"; the Fetch
standard, "`Origin` header"; Fetch Metadata Request Headers, "The Sec-Fetch-Site HTTP Request Header".
"""

from __future__ import annotations

import hmac
from typing import Any, Final, cast

from litestar.datastructures import Cookie
from litestar.types import Scope

from msgcore.api.web_origin import OWN_SITES, header_of, is_called_at, is_secure, own_scheme, web_origin
from msgcore.config import Settings
from msgcore.core.errors import ForbiddenError
from msgcore.core.scopes import Principal
from msgcore.services.sessions import Session, SessionService

CSRF_HEADER: Final = "X-CSRF-Token"
SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
PLACE: Final = "/api/v1/auth/session"

_COOKIE: Final = "msgcore_session"
_CSRF: Final = CSRF_HEADER.lower().encode()
_SESSION: Final = "msgcore.session"


class SessionGuard:
    """Takes the session of a request, if it has one and may use it, and makes its cookie."""

    def __init__(self, sessions: SessionService, settings: Settings) -> None:
        self._sessions = sessions
        self._secure = is_secure(settings)
        self.cookie_name = f"__Host-{_COOKIE}" if self._secure else _COOKIE
        self._wanted = self.cookie_name.encode()
        self._scheme = own_scheme(settings)
        self._origins = listed_origins(settings) | {web_origin(settings.api_url)}

    def offered(self, scope: Scope) -> str | None:
        """The token in the cookie; none too if there are several, one of which somebody else must have set."""
        found: set[bytes] = set()
        for header, value in scope["headers"]:
            if header == b"cookie":
                for pair in value.split(b";"):
                    name, _, token = pair.strip().partition(b"=")
                    if name == self._wanted:
                        found.add(token)
        return found.pop().decode("latin-1") if len(found) == 1 else None

    async def enter(self, scope: Scope, token: str) -> Principal:
        """Whoever the session of this token belongs to, for this request.

        Raises UnauthenticatedError, and ForbiddenError for what another site may have asked for.
        """
        self.refuse_foreign(scope)
        session = await self._sessions.check(token)
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            _require_csrf(header_of(scope, _CSRF), session)
        await self._sessions.note_use(session)
        cast("dict[str, Any]", scope)[_SESSION] = session
        return session.principal

    async def ask_again(self, token: str) -> Principal:
        """Whoever it belongs to by now, for an answer without an end, which is no use of it."""
        return (await self._sessions.check(token)).principal

    def refuse_foreign(self, scope: Scope) -> None:
        """Raise ForbiddenError for what a page of another origin asks for."""
        origin = header_of(scope, b"origin")
        if origin:
            if origin in self._origins or is_called_at(scope, origin, self._scheme):
                return
            shown = origin[:100].decode("latin-1")
        elif scope["type"] == "http" and header_of(scope, b"sec-fetch-site") in OWN_SITES:
            return
        else:
            shown = "an origin that is not told"
        raise ForbiddenError(
            f"No session for pages of {shown}: let MSGCORE_API_URL be this server's public address, list further "
            "origins in MSGCORE_CORS_ORIGINS, or send Authorization: Bearer <token>"
        )

    def cookie(self, session: Session) -> Cookie:
        """What lets a browser keep a session."""
        return self._cookie(session.token, self._sessions.seconds_left(session))

    def no_cookie(self) -> Cookie:
        """What lets a browser forget it."""
        return self._cookie("", 0)

    def _cookie(self, token: str, seconds: int) -> Cookie:
        return Cookie(
            key=self.cookie_name,
            value=token,
            max_age=seconds,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="strict",
        )


def session_of(scope: Scope) -> Session | None:
    """The session that a request is by, if it is by one."""
    return cast("dict[str, Any]", scope).get(_SESSION)


def listed_origins(settings: Settings) -> frozenset[bytes]:
    """The origins whose pages may use sessions: those that are written out, so no `*`."""
    return frozenset(origin.encode() for origin in settings.cors_origins if "*" not in origin)


def _require_csrf(given: bytes, session: Session) -> None:
    if not hmac.compare_digest(given, session.csrf_token.encode()):
        wrong = f"{CSRF_HEADER} is not that of this session" if given else f"{CSRF_HEADER} is missing"
        raise ForbiddenError(f"{wrong}: send the csrfToken that GET {PLACE} answers, with whatever changes something")
