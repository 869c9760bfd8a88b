"""One client of the WebSocket for events, from its first frame to the close.

Three tasks: one listens to the client, one gives it events, one watches whether it may and can go on. Events
are read only when the client has room for them, so one that is slow holds nothing here but its place.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from random import uniform
from time import monotonic
from typing import Any, Final

from litestar.exceptions import WebSocketDisconnect

from msgcore.api.body import decode_body
from msgcore.api.errors import explain
from msgcore.api.messages import send_answer
from msgcore.api.socket_entry import close_message
from msgcore.api.socket_frames import (
    PING,
    PONG,
    Ack,
    ClientFrame,
    Open,
    Ping,
    Pong,
    Send,
    error_frame,
    event_frame,
    opened_frame,
    read_frame,
    sent_frame,
)
from msgcore.core.content import SendRequest
from msgcore.core.errors import InvalidInputError, ProblemError, UnauthenticatedError, UnavailableError
from msgcore.core.ids import canonical_id
from msgcore.core.scopes import ApiScope, Principal
from msgcore.services.authenticator import Authenticator
from msgcore.services.event_streams import EventFilter, EventStreamService, Start
from msgcore.services.request_limits import CallerLimits
from msgcore.services.send import SendService
from msgcore.store.faults import is_away, is_passing

LARGEST_FRAME: Final = 1024 * 1024
"""Bytes of a client's frame; larger messages are sent with a request."""

UNSUPPORTED, TOO_BIG = 1003, 1009
FAILED, RESTART, TRY_LATER = 1011, 1012, 1013
"""Registered in the WebSocket Close Code Number Registry of IANA."""
MALFORMED, SILENT, TOO_SLOW = 4400, 4408, 4429
"""Ours, beside 4401, 4403 and 4404: 4000 and the HTTP status that comes nearest."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How long a session waits for what, in seconds."""

    largest_frame: int = LARGEST_FRAME
    open_within: float = 10.0
    """For the first frame."""
    take_within: float = 30.0
    """For a frame to be taken off our hands, and, where the client is held back, for an acknowledgement."""
    ping_after: float = 20.0
    """Of silence."""
    dead_after: float = 50.0
    """Of silence."""
    check_every: float = 2.0
    """Access and silence, at the latest."""
    close_within: float = 2.0


class _CloseError(Exception):
    """Ends the session with a close of this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _GoneError(Exception):
    """The client is no longer there."""


class Window:
    """Which events were sent and are not acknowledged; knows when there is room for another one."""

    def __init__(self, most: int, start: int) -> None:
        self._most = most
        self._last = start
        self._waiting: deque[int] = deque()
        self._room = asyncio.Event()

    async def take(self, place: int, seconds: float) -> None:
        """Wait until there is room for the next event. Raises TimeoutError when there is none in time."""
        while len(self._waiting) >= self._most:
            self._room.clear()
            async with asyncio.timeout(seconds):
                await self._room.wait()
        self._waiting.append(place)
        self._last = place

    def acknowledge(self, place: int) -> None:
        """All up to this one. Raises ValueError for one that was not sent yet."""
        if place > self._last:
            raise ValueError(place)
        while self._waiting and self._waiting[0] <= place:
            self._waiting.popleft()
            self._room.set()


class SocketSession:
    """What is said over one WebSocket, which is accepted already."""

    def __init__(
        self,
        *,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        project: str,
        ask_access: Callable[[], Awaitable[Principal]],
        event_streams: EventStreamService,
        sending: SendService,
        authenticator: Authenticator,
        limits: CallerLimits,
        identifier: str,
        rules: Rules,
    ) -> None:
        """`receive` and `send` are those of ASGI; `ask_access` raises when the client may no longer be here."""
        self._receive = receive
        self._send = send
        self._project = project
        self._ask_access = ask_access
        self._streams = event_streams
        self._sending = sending
        self._authenticator = authenticator
        self._limits = limits
        self._identifier = identifier
        self._rules = rules
        self._writing = asyncio.Lock()
        self._heard = monotonic()
        self._window = Window(1, 0)

    async def run(self) -> None:
        """To the end; raises nothing."""
        with self._streams.attending():
            await self._run()

    async def _run(self) -> None:
        try:
            with self._streams.counted("websocket", self._project):
                await _together(self._talk(), self._watch())
        except _GoneError:
            return
        except Exception as error:  # noqa: BLE001 - the client is told, and the log what is ours
            await self._close(self._reason_for(error))

    # --- the three tasks, and what is before two of them

    async def _talk(self) -> None:
        wanted, start = await self._open()
        await _together(self._listen(), self._give(wanted, start))

    async def _open(self) -> tuple[EventFilter, Start]:
        """The first frame: which events, and after which place."""
        seconds = self._rules.open_within
        try:
            async with asyncio.timeout(seconds):
                frame = await self._next()
        except TimeoutError:
            raise _CloseError(SILENT, f'no frame within {seconds:g} seconds: begin with {{"type":"open"}}') from None
        if not isinstance(frame, Open):
            raise _CloseError(MALFORMED, 'the first frame must be {"type":"open"}')
        wanted = EventFilter(
            self._project,
            types=tuple(frame.types or ()),
            platform_id=(canonical_id(frame.platform_id) or frame.platform_id) if frame.platform_id else "",
            chat_id=frame.chat_id or "",
        )
        start = await self._streams.start_of(wanted, frame.after)
        self._window = Window(frame.window, start.after)
        await self._write(opened_frame(start.after, frame.window))
        return wanted, start

    async def _listen(self) -> None:
        while True:
            match await self._next():
                case Ack() as frame:
                    self._acknowledge(frame.id)
                case Send() as frame:
                    await self._accept(frame)
                case Ping():
                    await self._write(PONG)
                case Pong():
                    continue
                case Open():
                    raise _CloseError(MALFORMED, "the first frame only may be of the type open")

    async def _give(self, wanted: EventFilter, start: Start) -> None:
        seconds = self._rules.take_within
        async for page in self._streams.follow(wanted, start, idle=math.inf):
            for event in page.events:
                try:
                    await self._window.take(event.sequence, seconds)
                except TimeoutError:
                    raise _CloseError(
                        TOO_SLOW, f"nothing was acknowledged for {seconds:g} seconds: resume after what you dealt with"
                    ) from None
                await self._write(event_frame(event))

    async def _watch(self) -> None:
        pinged = 0.0
        # Not all at once, though they may all have connected at once.
        while not await self._streams.ends_within(uniform(0.5, 1.0) * self._rules.check_every):
            await self._check_access()
            now = monotonic()
            silent = now - self._heard
            if silent > self._rules.dead_after:
                raise _CloseError(SILENT, f"nothing was heard for {self._rules.dead_after:g} seconds: answer pings")
            if min(silent, now - pinged) > self._rules.ping_after and not self._writing.locked():
                pinged = now
                await self._write(PING)
        raise _CloseError(RESTART, "the server stops: connect again, and resume after what you dealt with")

    # --- frames

    async def _next(self) -> ClientFrame:
        """The client's next frame. Raises _CloseError for a malformed one, and _GoneError."""
        self._heard = monotonic()
        message = await self._receive()
        self._heard = math.inf  # for as long as what it said is dealt with
        if message["type"] != "websocket.receive":
            raise _GoneError
        text: str | None = message.get("text")
        if text is None:
            raise _CloseError(UNSUPPORTED, "frames must be texts (JSON), not binary")
        largest = self._rules.largest_frame
        if len(text) > largest or len(text.encode()) > largest:
            raise _CloseError(TOO_BIG, f"a frame may have {largest} bytes: send larger messages with messages/send")
        try:
            return read_frame(text)
        except InvalidInputError as error:
            raise _CloseError(MALFORMED, error.message) from None

    async def _write(self, frame: str) -> None:
        """Send a frame; returns when the connection has taken it."""
        seconds = self._rules.take_within
        try:
            async with asyncio.timeout(seconds), self._writing:
                await self._send({"type": "websocket.send", "text": frame})
        except TimeoutError:
            raise _CloseError(TOO_SLOW, f"nothing was read for {seconds:g} seconds") from None
        except (RuntimeError, OSError, WebSocketDisconnect):  # servers differ in how they say that it is closed
            raise _GoneError from None

    def _acknowledge(self, place: int) -> None:
        try:
            self._window.acknowledge(place)
        except ValueError:
            raise _CloseError(MALFORMED, f"event {place} cannot be acknowledged: it was not sent yet") from None

    async def _accept(self, frame: Send) -> None:
        """Accept a message as `messages/send` does; the answer says what became of it."""
        try:
            principal = await self._ask_access()
            self._limits.admit(principal)
            await self._authenticator.authorize(principal, project_id=self._project, scope=ApiScope.MESSAGES_WRITE)
            if principal.project_id is None:
                self._limits.admit_person(self._project)
            request = decode_body(bytes(frame.message), SendRequest)
            accepted = await self._sending.send(
                principal, self._project, request, idempotency_key=frame.idempotency_key
            )
        except UnauthenticatedError:
            raise
        except Exception as error:  # noqa: BLE001 - it is explained, or logged
            problem = explain(error, frame.request_id, socket=self._identifier)
            await self._write(error_frame(frame.request_id, problem))
        else:
            await self._write(sent_frame(frame.request_id, send_answer(accepted, request)))

    # --- the end

    async def _check_access(self) -> None:
        try:
            await self._ask_access()
        except Exception as error:
            if not (is_away(error) or is_passing(error)):  # else nobody can tell; the next time, perhaps
                raise

    def _reason_for(self, error: Exception) -> _CloseError:
        match error:
            case _CloseError():
                return error
            case ProblemError():
                return _CloseError(4000 + error.status, error.message)
            case _:
                problem = explain(error, self._identifier)
                code = TRY_LATER if isinstance(problem, UnavailableError) else FAILED
                return _CloseError(code, problem.message)

    async def _close(self, closing: _CloseError) -> None:
        """Say why, for as long as a client that reads nothing is waited for."""
        try:
            async with asyncio.timeout(self._rules.close_within):
                await self._send(close_message(closing.code, closing.reason))
        except (TimeoutError, RuntimeError, OSError, WebSocketDisconnect):
            return  # it is gone, and nobody is there to be told


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one raises, end the others, and raise that."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
