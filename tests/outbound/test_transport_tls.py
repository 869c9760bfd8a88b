"""The transport and TLS: the name is verified, at the address that was checked."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from msgcore.core.errors import TemporaryError
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.security.egress import EgressGuard
from servers.dns import FakeDns
from servers.http_sink import http_sink
from servers.raw_http import serving
from servers.smtp import Certificate, make_certificate


@dataclass
class TlsServer:
    port: int
    names: list[str | None]
    hosts: list[str]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "right.example")


@pytest.fixture
async def tls_server(certificate: Certificate) -> AsyncIterator[TlsServer]:
    server = TlsServer(0, [], [])

    def on_name(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        server.names.append(name)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        server.hosts.append(request.headers["Host"])
        return web.Response(body=b"secret kept")

    certificate.context.sni_callback = on_name
    async with serving(handle, certificate.context) as server.port:
        yield server


def guard_for_tls() -> EgressGuard:
    return EgressGuard(["127.0.0.1"], resolve=FakeDns(["127.0.0.1"]))


def trusting(path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(path))


async def test_the_name_is_verified_at_the_checked_address(tls_server: TlsServer, certificate: Certificate) -> None:
    async with open_transport(guard_for_tls(), limit=10, tls=trusting(certificate.path)) as transport:
        answer = await transport.request("POST", f"https://right.example:{tls_server.port}/")
    assert (answer.status, answer.body) == (200, b"secret kept")
    assert (tls_server.names, tls_server.hosts) == (["right.example"], [f"right.example:{tls_server.port}"])


@pytest.mark.parametrize("host", ["wrong.example", "127.0.0.1"])
async def test_a_certificate_for_another_name_is_refused(
    host: str, tls_server: TlsServer, certificate: Certificate
) -> None:
    async with open_transport(guard_for_tls(), limit=10, tls=trusting(certificate.path)) as transport:
        with pytest.raises(TemporaryError) as raised:
            await transport.request("POST", f"https://{host}:{tls_server.port}/", body=b"secret")
    assert (raised.value.code, raised.value.reached) == ("connection_failed", "no")
    assert "certificate" in raised.value.message
    assert tls_server.hosts == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_server: TlsServer) -> None:
    async with open_transport(guard_for_tls(), limit=10) as transport:
        with pytest.raises(TemporaryError) as raised:
            await transport.request("POST", f"https://right.example:{tls_server.port}/", body=b"secret")
    assert (raised.value.code, raised.value.reached) == ("connection_failed", "no")
    assert tls_server.hosts == []


async def test_a_server_without_tls_is_a_failed_connection() -> None:
    async with http_sink() as sink, open_transport(guard_for_tls(), limit=10) as transport:
        with pytest.raises(TemporaryError) as raised:
            await transport.request("POST", f"https://127.0.0.1:{sink.port}/", body=b"secret")
    assert (raised.value.code, raised.value.reached) == ("connection_failed", "no")
    assert sink.requests == []
