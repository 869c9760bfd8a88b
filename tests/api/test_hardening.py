"""What every answer tells browsers, who may call from where, and requests that are not as they should be."""

from __future__ import annotations

import http.client
import json
import re
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from msgcore.api.attachments import shown_type
from msgcore.api.body import decode_body
from msgcore.api.parameters import read_object
from msgcore.cli.http_server import LARGEST_HEAD
from msgcore.core.content import SendRequest
from msgcore.core.errors import InvalidInputError
from servers.api_client import ApiClient
from servers.gateway import PASSWORD, GatewayProcess
from servers.patience import PATIENCE

OURS = "https://app.example.com"
COMMON = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "strict-transport-security": "max-age=31536000",
}
LARGEST_BODY = 4096


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = {
        "MSGCORE_API_URL": "https://gateway.example.com",
        "MSGCORE_CORS_ORIGINS": OURS,
        "MSGCORE_MAX_BODY_BYTES": str(LARGEST_BODY),
    }
    with GatewayProcess(data_dir=tmp_path_factory.mktemp("gateway"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: GatewayProcess) -> str:
    return gateway.set_up("shop")


def ask(
    gateway: GatewayProcess, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        names = [name.lower() for name, _ in answer.getheaders()]
        assert len(names) == len(set(names)), "no header twice"
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


JSON = {"content_type": "application/json"}


def test_every_answer_tells_browsers_what_not_to_do(gateway: GatewayProcess, key: str) -> None:
    box = gateway.add_platform(key, "sandbox", {}, "shop")
    message = f'{{"targets":[{{"platformId":"{box}","type":"user","id":"ann"}}],"content":{{"text":"Hi"}}}}'.encode()
    send = "/api/v1/projects/shop/messages/send"
    asked = [
        (200, ask(gateway, "GET", "/api/v1/health")),
        (200, ask(gateway, "GET", "/api/v1/projects/shop/platforms", x_api_key=key)),
        (201, ask(gateway, "POST", send, message, x_api_key=key, **JSON)),
        (201, ask(gateway, "POST", send, message, x_api_key=key, origin=OURS, **JSON)),
        (400, ask(gateway, "POST", send, b"{", x_api_key=key, **JSON)),
        (401, ask(gateway, "GET", "/api/v1/projects")),
        (403, ask(gateway, "GET", "/metrics")),
        (403, ask(gateway, "GET", "/api/v1/attachments/x?expires=1&signature=x")),
        (404, ask(gateway, "GET", "/nothing")),
        (404, ask(gateway, "POST", "/api/v1/webhooks/sandbox/x", b"{}", **JSON)),
        (405, ask(gateway, "PUT", "/api/v1/health")),
        (413, ask(gateway, "POST", send, b" " * (LARGEST_BODY + 1), x_api_key=key, **JSON)),
        (415, ask(gateway, "POST", send, b"{}", x_api_key=key, content_encoding="gzip", **JSON)),
        (204, ask(gateway, "OPTIONS", send, origin=OURS, access_control_request_method="POST")),
    ]
    for status, (found, headers, body) in asked:
        assert found == status, body
        assert headers.items() >= COMMON.items()
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert not re.search(r"\d", headers["server"]), "no version for those who look for one"


# --- CORS

PREFLIGHT = {
    "access_control_request_method": "POST",
    "access_control_request_headers": "authorization,x-api-key,content-type,idempotency-key,x-csrf-token",
}
OTHERS = ["https://evil.example.com", "http://app.example.com", "https://app.example.com.evil.example", "null",
          "https://app.example.com:8443", "https://xapp.example.com", "HTTPS://APP.EXAMPLE.COM", "*", ""]  # fmt: skip


def test_scripts_of_our_origins_may_call(gateway: GatewayProcess) -> None:
    status, headers, _ = ask(gateway, "OPTIONS", "/api/v1/projects", origin=OURS, **PREFLIGHT)
    assert (status, headers["access-control-allow-origin"]) == (204, OURS)
    allowed = headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in PREFLIGHT["access_control_request_headers"].split(","))
    assert headers["access-control-allow-credentials"] == "true", "for sessions"
    _, headers, _ = ask(gateway, "GET", "/api/v1/projects", origin=OURS)
    assert (headers["access-control-allow-origin"], headers["vary"]) == (OURS, "Origin")
    assert headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("origin", OTHERS)
def test_scripts_of_others_may_not(origin: str, gateway: GatewayProcess) -> None:
    for method, path in (("OPTIONS", "/api/v1/projects"), ("GET", "/api/v1/projects"), ("GET", "/api/v1/health")):
        _, headers, _ = ask(gateway, method, path, origin=origin, **PREFLIGHT)
        assert "access-control-allow-origin" not in headers
        assert "access-control-allow-credentials" not in headers


# --- sessions over https

HOME = "https://gateway.example.com"


def test_the_cookie_of_a_session_is_for_https_and_this_host_alone(gateway: GatewayProcess, key: str) -> None:
    login = b'{"email":"bench@example.com","password":"%s"}' % PASSWORD.encode()
    place = "/api/v1/auth/session"
    for origin in (*OTHERS[:-1], "https://127.0.0.1"):
        status, headers, answer = ask(gateway, "POST", place, login, origin=origin, **JSON)
        assert (status, b"MSGCORE_CORS_ORIGINS" in answer, "set-cookie" in headers) == (403, True, False)
    status, headers, answer = ask(gateway, "POST", place, login, origin=HOME, **JSON)
    assert status == 201, answer
    cookie, *attributes = headers["set-cookie"].split("; ")
    told = dict(each.partition("=")[::2] for each in attributes)
    assert 600_000 < int(told.pop("Max-Age")) <= 604_800
    assert told == {"HttpOnly": "", "Path": "/", "SameSite": "strict", "Secure": ""}
    assert cookie.startswith("__Host-msgcore_session=msc_session_")
    assert ask(gateway, "GET", place, cookie=cookie)[0] == 200
    assert ask(gateway, "GET", place, cookie=cookie.removeprefix("__Host-"))[0] == 401, "a neighbour can set that"
    document = json.loads(ask(gateway, "GET", "/docs/openapi.json")[2])
    assert document["components"]["securitySchemes"]["session"]["name"] == "__Host-msgcore_session"
    ways = {method: told.get("security") for method, told in document["paths"][place].items()}
    assert ways == {"post": None, "get": [{"jwt": []}, {"session": []}],
                    "delete": [{"jwt": []}, {"session": [], "csrf-token": []}]}  # fmt: skip


# --- the pages


def test_the_pages_load_nothing_from_elsewhere(gateway: GatewayProcess) -> None:
    for path in ("/docs", "/docs/swagger"):
        status, headers, page = ask(gateway, "GET", path)
        assert status == 200
        assert headers.items() >= COMMON.items()
        policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert b"//" not in page, "no address of another server"
        assert re.findall(rb"<script[^>]*>([^<]+)", page) == [], "no script in the page itself"
        loaded = re.findall(r'(?:src|href)="(/[^"]+)"', page.decode())
        assert loaded
        for address in loaded:
            status, headers, asset = ask(gateway, "GET", address)
            assert status == 200
            assert headers["content-type"].startswith(("text/javascript", "text/css"))
            assert headers["x-content-type-options"] == "nosniff"
            assert len(asset) == int(headers["content-length"]) > 100
    for path in ("/docs/openapi.json", "/docs/openapi.yaml"):
        assert ask(gateway, "GET", path)[0] == 200
    for path in ("/docs/assets/redoc.js", "/docs/assets/..%2f__init__.py", "/docs/assets/%2e%2e/__init__.py"):
        assert ask(gateway, "GET", path)[0] == 404


def test_what_is_off_is_not_there(tmp_path: Path) -> None:
    """On http, for nobody's scripts, and without a word on how the API works."""
    with GatewayProcess(data_dir=tmp_path, MSGCORE_DOCS="off", MSGCORE_CORS_ORIGINS=f"*,{OURS}") as gateway:
        for path in ("/docs", "/docs/swagger", "/docs/openapi.json", "/docs/assets/scalar.js", "/schema"):
            status, headers, body = ask(gateway, "GET", path)
            assert (status, b"/docs lists" in body) == (404, False)
            assert "strict-transport-security" not in headers
        for cookie in ("", "a=b"):
            _, headers, _ = ask(gateway, "GET", "/api/v1/health", origin="https://anybody.example", cookie=cookie)
            assert headers["access-control-allow-origin"] in ("*", "https://anybody.example")
            assert "access-control-allow-credentials" not in headers, "never together"


# --- requests that are too much, or not HTTP

HEAD = b" HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /api/v1/auth/login" + HEAD + b"Content-Type: application/json\r\n"
DEEP = 200_000

REQUESTS: dict[str, tuple[bytes, set[int]]] = {
    "a long path": (b"GET /api/v1/" + b"a" * 30_000 + HEAD + b"\r\n", {404}),
    "a path that is too long": (b"GET /" + b"a" * (LARGEST_HEAD + 1) + HEAD + b"\r\n", {414, 431}),
    "a path without an end": (b"GET /" + b"a" * 1_000_000, {414, 431}),
    "a long query": (b"GET /api/v1/projects?" + b"a=1&" * 10_000 + HEAD + b"\r\n", {401}),
    "a header that is too long": (b"GET /" + HEAD + b"X: " + b"a" * 2 * LARGEST_HEAD + b"\r\n\r\n", {431}),
    "a header without an end": (b"GET /" + HEAD + b"X: " + b"a" * 1_000_000, {431}),
    "too many headers": (b"GET /" + HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(101)) + b"\r\n", {431}),
    "headers without an end": (b"GET /" + HEAD + b"X: a\r\n" * 50_000, {431}),
    "a folded header": (b"GET /" + HEAD + b"X: a\r\n b\r\n\r\n", {400}),
    "NUL in a header": (b"GET /" + HEAD + b"X: a\x00b\r\n\r\n", {400}),
    "a header without a name": (b"GET /" + HEAD + b": a\r\n\r\n", {400}),
    "a space before the colon": (b"GET /" + HEAD + b"X : a\r\n\r\n", {400}),
    "letters beyond ASCII": (b"GET /api/v1/projects" + HEAD + b"X-API-Key: \xff\xfe\r\n\r\n", {401}),
    "NUL in the path": (b"GET /api/v1/projects/%00" + HEAD + b"\r\n", {400, 401}),
    "no UTF-8 in the path": (b"GET /api/v1/%ff%zz" + HEAD + b"\r\n", {404}),
    "a length below zero": (POST + b"Content-Length: -1\r\n\r\n{}", {400}),
    "a length of words": (POST + b"Content-Length: two\r\n\r\n{}", {400}),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", {400}),
    "a length beyond numbers": (POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}", {400}),
    "a length that is too much": (POST + b"Content-Length: 99999999999\r\n\r\n{}", {413}),
    "a length and chunks": (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "chunks of no length": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", {400}),
    "chunks that are too much": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b" " * 4096 + b"\r\n1\r\n \r\n0\r\n\r\n", {413}),
    "an unknown coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /\r\n\r\n", {400}),
    "TLS": (b"\x16\x03\x01\x00\xa5\r\n\r\n", {400}),
    "an unknown method": (b"BREW /api/v1/health" + HEAD + b"\r\n", {405}),
    "CONNECT": (b"CONNECT evil.example:80" + HEAD + b"\r\n", {404}),
    "another host": (b"GET http://evil.example/nothing" + HEAD + b"\r\n", {404}),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_no_proper_request_is_refused_at_once(name: str, gateway: GatewayProcess) -> None:
    request, expected = REQUESTS[name]
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
        with suppress(ConnectionError):  # it need not read to the end
            client.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):
            while b"\r\n" not in answer and (piece := client.recv(65536)):
                answer += piece
    assert int(answer.split(b" ", 2)[1]) in expected


# --- what is slow, what is left unread, and what is too many at once


def say(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Send a request, and read the answer whole: its status and head."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(65536)
        assert piece, "the connection ended without an answer"
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    [length] = re.findall(rb"(?i)content-length: (\d+)", head) or [b"0"]
    while len(body) < int(length):
        body += connection.recv(65536)
    return int(head.split(b" ", 2)[1]), head.lower()


def test_a_body_that_nobody_wants_spoils_no_connection(gateway: GatewayProcess, key: str) -> None:
    send, known = b"POST /api/v1/projects/shop/messages/send", b"X-API-Key: %s\r\n" % key.encode()
    asked = [
        (200, b"GET /api/v1/health/live", b""), (404, b"POST /nothing", b""), (405, b"PUT /api/v1/health", b""),
        (401, send, b""), (404, b"POST /api/v1/projects/other/messages/send", known), (413, send, known),
        (404, b"POST /api/v1/webhooks/sandbox/x", b""), (405, b"DELETE /api/v1/webhooks/sandbox/x", b""),
        (204, b"OPTIONS /api/v1/projects", b""), (405, b"POST /metrics", b""),
    ]  # fmt: skip
    large = b" " * (100 * 1024)
    bodies = [
        (b"Content-Length: %d\r\n\r\n" % len(large), large),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)),
    ]
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
        for status, line, headers in asked:
            for length, body in bodies:
                found, head = say(client, line + HEAD + headers + length + body)
                assert (found, b"connection: close" in head) == (status, False), line
                assert b"x-content-type-options: nosniff" in head
    unread = [
        b"Content-Length: 9999999\r\n\r\n",  # too much to be read for nothing
        b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",  # and what need not be sent
    ]
    for length in unread:
        with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as client:
            found, head = say(client, b"POST /nothing" + HEAD + length)
            assert (found, b"connection: close" in head, client.recv(1)) == (404, True, b"")


def test_who_is_slow_or_takes_too_much_room_is_let_go(tmp_path: Path) -> None:
    settings = {"IDLE_SECONDS": "0.4", "BODY_SECONDS": "0.3", "PROJECT_STREAMS": "2", "MAX_CONNECTIONS": "64",
                "RATE_ADDRESS": "30"}  # fmt: skip
    with GatewayProcess(data_dir=tmp_path, **{f"MSGCORE_{name}": value for name, value in settings.items()}) as gateway:
        key = gateway.set_up("shop")

        def connect() -> socket.socket:
            return socket.create_connection(("127.0.0.1", gateway.port), PATIENCE)

        box = f"/api/v1/projects/shop/platforms/{gateway.add_platform(key, 'sandbox', {}, 'shop')}"
        address = json.loads(ask(gateway, "GET", box, x_api_key=key)[2])["webhookUrl"].partition("/api/")[2].encode()
        webhook, unknown = b"POST /api/" + address + HEAD, b"POST /api/v1/webhooks/sandbox/x" + HEAD
        late = [(408, POST, b"Content-Length: 100\r\n\r\n{"),
                (408, POST, b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"),
                (408, webhook, b"Content-Length: 100\r\n\r\n"),
                (408, webhook, b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"),
                (404, unknown, b"Content-Length: 100\r\n\r\n")]  # fmt: skip
        for status, head, rest in late:
            with connect() as client:
                found, answer = say(client, head + rest)
                assert (found, b"connection: close" in answer, client.recv(1)) == (status, True, b"")
        # More than there is room for, each of which would stay for ever: all go, and the next one is served.
        idle = [connect() for _ in range(100)]
        for number, client in enumerate(idle):
            client.sendall([b"", b"G", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /" + HEAD][number % 4])
        assert ask(gateway, "GET", "/api/v1/health/live")[0] == 200
        for client in idle:
            with client, suppress(ConnectionResetError):
                while client.recv(4096):
                    continue
        stream = b"GET /api/v1/projects/shop/events" + HEAD + b"X-API-Key: %s\r\n" % key.encode()
        with connect() as one, connect() as other:
            for client in (one, other):
                assert say(client, stream + b"Accept: text/event-stream\r\n\r\n")[0] == 200
            for more in (b"Accept: text/event-stream\r\n\r\n", b"\r\n"):
                with connect() as client:
                    assert say(client, stream + more)[0] == 429
            socket_path = stream.replace(b"/events", b"/ws").replace(b" HTTP", b"/ HTTP")
            upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            with connect() as client:
                client.sendall(socket_path + upgrade + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
                said = b""
                while piece := client.recv(4096):
                    said += piece
                assert b"MSGCORE_PROJECT_STREAMS" in said
        for path in ("login", "signup", "accept-invite"):  # strangers send little
            status, _, answer = ask(gateway, "POST", f"/api/v1/auth/{path}", b" " * (64 * 1024 + 1), **JSON)
            assert (status, b"65536 bytes" in answer, b"MSGCORE_MAX_BODY" in answer) == (413, True, False)
        # Counted by address: the refusal is the answer of a rate limit, with the body unread, on a connection that lives.
        with connect() as client:
            statuses = [say(client, POST + b"Content-Length: 2\r\n\r\n{}")[0] for _ in range(40)]
        assert set(statuses) == {400, 429}


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a":[', b'["\\u0000",'])
def test_bodies_nested_deeply_are_explained(opening: bytes, gateway: GatewayProcess, key: str) -> None:
    api = ApiClient(gateway.url, {"X-API-Key": key})
    body = opening * (LARGEST_BODY // len(opening))
    for path in (
        "auth/login",
        "projects/shop/messages/send",
        "projects/shop/messages/batch",
        "projects/shop/platforms",
    ):
        assert api.ask("POST", path, body).status == 400


def test_what_is_kept_with_a_project_is_small_and_can_be_stored(gateway: GatewayProcess, key: str) -> None:
    del key  # which is there when somebody has signed up
    nobody = ApiClient(gateway.url, {})
    login = nobody.ask("POST", "auth/login", {"email": "bench@example.com", "password": PASSWORD})
    for settings in ({"a": "\u0000"}, '{"a":"\\u0000"}', "[]", "{"):
        for method, path in (("PATCH", "projects/shop"), ("POST", "projects")):
            body = {"name": "new", "settings": settings}
            refused = nobody.as_user(login.body["accessToken"]).ask(method, path, body)
            assert refused.status == 400, refused
    with pytest.raises(InvalidInputError, match="16384 bytes"):
        read_object("settings", {"a": "x" * 16_384})


MIB = 1024 * 1024
CROWDED: dict[str, tuple[bytes, float]] = {
    "a name without an end": (b'{"' + b"a" * MIB + b'":1}', 3),
    "lists without an end": (b'{"content":{"platformOptions":{"ntfy":{"a":[' + b"[]," * 400_000 + b"[]]}}}}", 2),
    "values without an end": (b'{"targets":[' + b"1.5," * MIB + b"1]}", 2),
}


@pytest.mark.parametrize("name", CROWDED)
def test_what_is_wrong_with_a_body_is_not_looked_for_for_ever(name: str) -> None:
    """Counted in memory, which takes no clock: up to so many times the body."""
    body, times = CROWDED[name]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError):
            decode_body(body, SendRequest)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < times * len(body)


TYPES = [
    ("image/png", "image/png"), ("application/pdf", "application/pdf"), ("text/plain", "text/plain"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document",) * 2,
    *((each, "application/octet-stream") for each in (
        "text/html", "TEXT/HTML", "application/xhtml+xml", "image/svg+xml", "text/xml", "application/xml", "text/css",
        "text/javascript", "application/ecmascript", "text/x-vbscript", "application/wasm", "text/cache-manifest",
        "multipart/x-mixed-replace", "text/xsl", "", "text", "text/html; charset=utf-8", "text/plain\r\nX: y",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("said", "shown"), TYPES)
def test_files_are_given_out_as_nothing_that_browsers_run(said: str, shown: str) -> None:
    assert shown_type(said) == shown
