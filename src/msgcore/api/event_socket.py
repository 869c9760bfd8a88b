"""A project's events over a WebSocket: events down; acknowledgements, and messages to send, up."""

from __future__ import annotations

from litestar import Controller, websocket
from litestar.params import FromPath

from msgcore.api.access import ApiSocket, Injected, requires
from msgcore.api.request_id import request_id
from msgcore.api.socket_entry import agreed_protocol
from msgcore.api.socket_session import LARGEST_FRAME, Rules, SocketSession
from msgcore.core.scopes import ApiScope
from msgcore.services.container import Services
from msgcore.services.request_limits import Kind, RequestLimits


class EventSockets:
    """What the sessions of all sockets share."""

    def __init__(self, services: Services, limits: RequestLimits, *, largest: int) -> None:
        """`largest` is how many bytes the body of a request may have."""
        self._services = services
        self._limits = limits.callers[Kind.SENDING]
        self._rules = Rules(largest_frame=min(largest, LARGEST_FRAME))

    async def serve(self, socket: ApiSocket, project: str) -> None:
        """Talk with one client until either side ends it."""
        session = SocketSession(
            receive=socket.receive,
            send=socket.send,
            project=project,
            ask_access=socket.auth,
            event_streams=self._services.event_streams,
            sending=self._services.sending,
            authenticator=self._services.authenticator,
            limits=self._limits,
            identifier=request_id(socket.scope),
            rules=self._rules,
        )
        await session.run()


class EventSocketController(Controller):
    """Events over a WebSocket; docs/events.md has the frames."""

    path = "/api/v1/projects/{project:str}/ws"

    @websocket("/", opt=requires(ApiScope.MESSAGES_READ))
    async def talk(self, socket: ApiSocket, project: FromPath[str], event_sockets: Injected[EventSockets]) -> None:
        """Open it, and serve it to its end."""
        await socket.accept(agreed_protocol(socket.scope["subprotocols"]))
        await event_sockets.serve(socket, project)
