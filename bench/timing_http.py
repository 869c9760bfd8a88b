"""The same refusals by a gateway, over a loopback connection."""

from __future__ import annotations

import http.client
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from bench.places import Place
from bench.timing_cases import ALMOST, UNKNOWN, Call, Group, urlsafe
from msgcore.core.errors import UnauthenticatedError
from msgcore.platforms.slack.inbound import SIGNATURE_HEADER, TIME_HEADER, sign
from msgcore.security.api_keys import make_api_key

SHARE = 0.4
SECRET = "0123456789abcdef0123456789abcdef"
BODY = b'{"type":"event_callback"}'


@contextmanager
def over_http(place: Place) -> Generator[Sequence[Group]]:
    """A gateway with a key and an account of Slack's, and what is measured of it."""
    with place.gateway() as gateway:
        key = gateway.set_up()
        credentials = {"botToken": "xoxb-1-1-example", "signingSecret": SECRET}
        made = gateway.add_platform(key, "slack", credentials)
        shown = gateway.call("GET", f"/api/v1/projects/bench/platforms/{made}", x_api_key=key)
        path = urlsplit(shown["webhookUrl"]).path
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
        try:
            yield [_keys(connection, key), _signatures(connection, path)]
        finally:
            connection.close()


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> Call:
    async def call() -> None:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        answer.read()
        if answer.status == http.client.UNAUTHORIZED:
            raise UnauthenticatedError("refused")

    return call


def _keys(connection: http.client.HTTPConnection, key: str) -> Group:
    def ask(near: str) -> Call:
        return _ask(connection, "GET", "/api/v1/projects/bench/keys", b"", {"X-API-Key": near[:-4] + urlsafe(4)})

    other = make_api_key("development").secret
    return Group("HTTP: API key", {UNKNOWN: lambda: ask(other), ALMOST: lambda: ask(key)}, share=SHARE)


def _signatures(connection: http.client.HTTPConnection, path: str) -> Group:
    def ask(secret: str) -> Call:
        at = str(int(time.time()))
        right = sign(secret, at, BODY)
        headers = {SIGNATURE_HEADER: right[:-1] + ("0" if right[-1] != "0" else "4"), TIME_HEADER: at}
        return _ask(connection, "POST", path, BODY, headers | {"content-type": "application/json"})

    ways = {"wrong everywhere": lambda: ask(SECRET[::-1]), "right but for its end": lambda: ask(SECRET)}
    return Group("HTTP: webhook of slack", ways, share=SHARE)
