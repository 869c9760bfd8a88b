"""Nothing in MsgCore connects anywhere but through the egress guard, apart from where the operator says where to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import msgcore

SOURCE = Path(msgcore.__file__).parent

LIBRARIES = {
    *("aiohappyeyeballs", "aiohttp", "aioftp", "aioimaplib", "aiosmtplib", "asyncpg", "asyncssh", "dns", "ftplib"),
    *("grpc", "http.client", "httpcore", "httpx", "imaplib", "niquests", "nntplib", "obstore", "paramiko", "poplib"),
    *("pycurl", "redis", "requests", "smtplib", "socket", "telnetlib", "urllib.request", "urllib3", "websockets"),
    *("websocket", "xmlrpc", "psycopg", "pycares", "aiodns"),
}
"""Whatever opens connections, or is what they are opened with."""

CALLS = {
    *("open_connection", "open_unix_connection", "create_connection", "create_unix_connection", "sock_connect"),
    *("create_datagram_endpoint", "getaddrinfo", "gethostbyname", "gethostbyname_ex", "start_connection", "urlopen"),
    *("urlretrieve", "PyJWKClient", "start_tls", "trust_env"),
}
"""What connects or resolves without an import of its own."""

ALLOWED = {
    # The guard, and the transport that it stands in.
    "security/egress.py": {"socket", "aiohappyeyeballs", "getaddrinfo", "start_connection"},
    "outbound/aiohttp_transport.py": {"aiohttp", "socket", "sock_connect", "trust_env"},
    "outbound/payloads.py": {"aiohttp"},  # forms
    # Mail, over sockets that the guard has connected.
    "platforms/email/client.py": {"aiosmtplib", "start_tls"},
    "platforms/email/errors.py": {"aiosmtplib"},
    "platforms/email/imap.py": {"imaplib", "socket"},
    "platforms/email/imap_errors.py": {"imaplib"},
    # Where the operator's settings say: Redis, PostgreSQL, the bucket.
    "dispatch/redis/connection.py": {"redis"},
    "dispatch/redis/address.py": {"redis"},
    "store/database.py": {"socket"},  # options of one that is open
    "store/faults.py": {"asyncpg"},
    "blobs/store.py": {"obstore"},
    # This machine: the address to listen on, and whether something does.
    "cli/http_server.py": {"socket", "getaddrinfo", "open_connection"},
    "cli/demo.py": {"socket", "aiohttp"},
    "cli/doctor.py": {"socket", "aiohttp", "getaddrinfo"},
}


def test_only_these_modules_open_connections() -> None:
    found = {str(path.relative_to(SOURCE).as_posix()): set(ways_out(path)) for path in SOURCE.rglob("*.py")}
    assert {name: ways for name, ways in found.items() if ways} == ALLOWED


def test_a_way_out_is_seen_however_it_is_written(tmp_path: Path) -> None:
    for source in (
        "import httpx",
        "import urllib.request as u",
        "from urllib import request",
        "from urllib.request import urlopen",
        "def f():\n    from aiohttp import ClientSession",
        "import importlib\nimportlib.import_module('requests')",
        "async def f(loop):\n    await loop.create_connection(None, 'x', 1)",
        "from asyncio import open_connection",
        "f(trust_env=True)",
    ):
        (tmp_path / "m.py").write_text(source)
        assert list(ways_out(tmp_path / "m.py")), source


def ways_out(path: Path) -> Iterator[str]:
    """Libraries and calls of a module that could lead outside."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (library for name in names for library in libraries(name.name))
            case ast.ImportFrom(module=str(module), level=0, names=names):
                for name in names:
                    yield from libraries(f"{module}.{name.name}")
                    yield from CALLS & {name.name}
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.keyword(arg=str(name)):
                yield from CALLS & {name}
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield from libraries(name)
            case _:
                pass


def libraries(name: str) -> set[str]:
    """Those of `LIBRARIES` that a dotted name is, or is a part of."""
    parts = name.split(".")
    return LIBRARIES & {".".join(parts[:number]) for number in range(1, len(parts) + 1)}
