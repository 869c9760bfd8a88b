"""Subscribers of events that leave the processor to the server: streams and WebSockets on raw connections."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import time
from dataclasses import dataclass, field
from typing import Literal, cast

Kind = Literal["stream", "websocket"]

EVENT = re.compile(rb'"id":(\d+),"event":"message\.received".*?"text":"mark(\d{8})')
ACKNOWLEDGE_EVERY = 100
LONGEST_REST = 64 * 1024
OPENED: dict[Kind, bytes] = {"stream": b"retry: 2000\n\n", "websocket": b'{"type":"opened"'}


def marked(number: int, size: int = 100) -> str:
    """The text of a message that subscribers recognize."""
    return f"mark{number:08d}".ljust(size, ".")


@dataclass
class Arrivals:
    """When each message was posted, and how many seconds later each subscriber had it."""

    posted: dict[int, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    """Connections that the server ended."""

    def note(self, number: int) -> None:
        """A message came, now; one that was posted earlier counts for nothing."""
        if number in self.posted:
            self.seconds.append(time.perf_counter() - self.posted[number])


def subscription(kind: Kind, key: str, after: int | None = None) -> bytes:
    """The request that a subscriber begins with."""
    place = "" if after is None or kind == "websocket" else f"?after={after}"
    path = "ws" if kind == "websocket" else f"events{place}"
    lines = [f"GET /api/v1/projects/bench/{path} HTTP/1.1", "host: bench", f"x-api-key: {key}"]
    if kind == "websocket":
        nonce = base64.b64encode(os.urandom(16)).decode()
        lines += ["connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
        lines.append(f"sec-websocket-key: {nonce}")
    else:
        lines.append("accept: text/event-stream")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def text_frame(text: str) -> bytes:
    """A masked frame (RFC 6455, section 5.2), with a mask of zeros; for less than 126 bytes."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode()


class Subscriber(asyncio.Protocol):
    """One client: notes what arrives, acknowledges it and answers pings."""

    def __init__(self, kind: Kind, key: str, arrivals: Arrivals) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kind: Kind = kind
        self._key = key
        self._arrivals = arrivals
        self._rest = b""
        self._number = 0
        self._closing = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Subscribe."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(subscription(self._kind, self._key))
        if self._kind == "websocket":  # before the answer: a server keeps it until it is ready
            self._transport.write(text_frame('{"type":"open"}'))

    def data_received(self, data: bytes) -> None:
        """Find the events in it."""
        self._rest += data
        if not self.opened.done() and OPENED[self._kind] in self._rest:
            self.opened.set_result(None)
        end = 0
        for found in EVENT.finditer(self._rest):
            self._arrivals.note(int(found[2]))
            self._acknowledge(int(found[1]))
            end = found.end()
        if b'{"type":"ping"}' in self._rest[end:]:
            self._say('{"type":"pong"}')
            end = len(self._rest)
        self._rest = self._rest[end:][-LONGEST_REST:]

    def connection_lost(self, error: Exception | None) -> None:
        """Count it, unless we closed it."""
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError(self._rest.decode(errors="replace")))
        self._arrivals.lost += not self._closing

    def close(self) -> None:
        """End it."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _acknowledge(self, place: int) -> None:
        self._number += 1
        if self._kind == "websocket" and self._number % ACKNOWLEDGE_EVERY == 0:
            self._say(f'{{"type":"ack","id":{place}}}')

    def _say(self, frame: str) -> None:
        assert self._transport is not None
        self._transport.write(text_frame(frame))


def stalled(kind: Kind, host: str, port: int, key: str) -> socket.socket:
    """A client that asks for all events and reads none of them."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, port))
    client.sendall(subscription(kind, key, after=0))
    if kind == "websocket":
        client.sendall(text_frame('{"type":"open","after":0}'))
    return client
