"""Sessions of browsers: what the cookie opens, what other sites cannot do with it, and how it ends."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError

from api.conftest import EMAIL, PASSWORD, Running
from api.test_event_socket import WS, connected
from servers.api_client import Reply
from servers.patience import PATIENCE

DASHBOARD, EVIL = "https://dashboard.example.com", "https://evil.example.com"
SETTINGS = {
    "MSGCORE_CORS_ORIGINS": f"{DASHBOARD},https://*.example.org",
    "MSGCORE_FRONTEND_URL": "https://app.example.net",
    "MSGCORE_LOG_LEVEL": "debug",
}
PLACE, PROFILE = "auth/session", "auth/profile"


@dataclass(frozen=True)
class Browser:
    """What keeps a session's cookie."""

    running: Running
    cookie: str
    csrf: str

    @classmethod
    def of(cls, running: Running, reply: Reply) -> Browser:
        assert reply.status == 201, reply
        return cls(running, reply.headers["set-cookie"].partition(";")[0], reply.body["csrfToken"])

    def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> Reply:
        """A request of a page of the gateway's own, but for what `headers` say otherwise; None leaves one out."""
        own = {"Cookie": self.cookie, "X_CSRF_Token": self.csrf, "Origin": self.running.nobody.url}
        sent = {name: value for name, value in (own | headers).items() if value is not None}
        return self.running.nobody.ask(method, path, body, **sent)

    @property
    def works(self) -> bool:
        return self.ask("GET", PLACE, Origin=None).status == 200


def sign_in(running: Running, **headers: str) -> Reply:
    return running.nobody.ask("POST", PLACE, {"email": EMAIL, "password": PASSWORD}, **headers)


def opened(running: Running) -> Browser:
    """A session, without the time that passwords take."""
    return Browser.of(running, running.admin.ask("POST", f"{PLACE}/exchange"))


@pytest.fixture(scope="module")
def shared(running: Running) -> Browser:
    """A session that no test ends."""
    return opened(running)


@pytest.fixture(scope="module")
def other(running: Running) -> Browser:
    return opened(running)


def test_signing_in_sets_a_cookie_that_scripts_cannot_read(running: Running) -> None:
    reply = sign_in(running, Origin=running.nobody.url)
    browser = Browser.of(running, reply)
    attributes = reply.headers["set-cookie"].partition("; ")[2].split("; ")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} < set(attributes)
    assert "Secure" not in attributes, "http: a browser would not keep it"
    token = browser.cookie.partition("=")[2]
    assert token not in str(reply.body)
    assert reply.body.keys() == {"user", "expiresAt", "csrfToken"}
    assert browser.ask("GET", PLACE, X_CSRF_Token=None).body == reply.body, "for a page that is loaded anew"
    who = browser.ask("GET", "auth/whoami").body
    assert (who["authType"], who["user"]["email"]) == ("jwt", EMAIL)
    assert running.gateway.log.read_text().count(token) == 0
    assert sign_in(running, Origin=EVIL).status == 403, "nobody is signed in to an account of somebody else's choice"
    wrong = running.nobody.ask("POST", PLACE, {"email": EMAIL, "password": "Wrong0000"})
    assert (wrong.status, "set-cookie" in wrong.headers) == (401, False)


FOREIGN = "MSGCORE_CORS_ORIGINS"
MISSING, WRONG = "X-CSRF-Token is missing", "X-CSRF-Token is not that of this session"
CHANGES: dict[str, tuple[dict[str, str | None], int, str]] = {
    "as it should be": ({}, 200, ""),
    "no browser": ({"Origin": None}, 200, ""),
    "a listed origin": ({"Origin": DASHBOARD, "Sec_Fetch_Site": "cross-site"}, 200, ""),
    "an own page of a browser": ({"Origin": None, "Sec_Fetch_Site": "same-origin"}, 200, ""),
    "no CSRF token": ({"X_CSRF_Token": None}, 403, MISSING),
    "an empty one": ({"X_CSRF_Token": ""}, 403, MISSING),
    "a wrong one": ({"X_CSRF_Token": "x" * 43}, 403, WRONG),
    "one beyond ASCII": ({"X_CSRF_Token": "\xff"}, 403, WRONG),
    "that of another session": ({"X_CSRF_Token": "$other"}, 403, WRONG),
    "a foreign origin": ({"Origin": EVIL}, 403, FOREIGN),
    "a foreign port": ({"Origin": "http://127.0.0.1:1"}, 403, FOREIGN),
    "a foreign scheme": ({"Origin": "https://$host"}, 403, FOREIGN),
    "an origin like a pattern of the list": ({"Origin": "https://a.example.org"}, 403, FOREIGN),
    "a hidden origin": ({"Origin": "null"}, 403, FOREIGN),
    "a foreign site without an origin": ({"Origin": None, "Sec_Fetch_Site": "cross-site"}, 403, FOREIGN),
    "a neighbour": ({"Origin": None, "Sec_Fetch_Site": "same-site"}, 403, FOREIGN),
    "two cookies": ({"Cookie": "$cookie; msgcore_session=msc_session_x"}, 401, ""),
    "a cookie of https": ({"Cookie": "__Host-$cookie"}, 401, ""),
    "another cookie": ({"Cookie": "session=1"}, 401, ""),
    "a forged cookie": ({"Cookie": "msgcore_session=msc_session_x"}, 401, "sign in again"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_only_own_pages_change_something(shared: Browser, other: Browser, name: str) -> None:
    changed, status, told = CHANGES[name]
    host = shared.running.nobody.url.removeprefix("http://")
    known = {"$cookie": shared.cookie, "$other": other.csrf, "$host": host}
    headers = dict(changed)
    for word, value in known.items():
        headers |= {key: text.replace(word, value) for key, text in headers.items() if text}
    reply = shared.ask("PATCH", PROFILE, {"name": "Ann"}, **headers)
    assert (reply.status, told in str(reply.body)) == (status, True), reply
    reads = headers | {"X_CSRF_Token": None}
    expected = 200 if told in (MISSING, WRONG) else status
    assert shared.ask("GET", "projects", **reads).status == expected, "reading needs no CSRF token"


def test_a_header_counts_and_the_cookie_beside_it_does_not(shared: Browser) -> None:
    running, without = shared.running, replace(shared, csrf="")
    message = {
        "targets": [{"platformId": running.add_sandbox(), "type": "user", "id": "bob"}],
        "content": {"text": "x"},
    }
    send, key, bearer = "projects/shop/messages/send", running.key.headers, running.admin.headers
    for headers, status in ((key, 201), (bearer, 201), ({}, 403), ({"X-API-Key": "msc_dev_x"}, 401)):
        for origin in (running.nobody.url, EVIL) if headers else (None, running.nobody.url):
            sent = {name.replace("-", "_"): value for name, value in headers.items()}
            reply = without.ask("POST", send, message, Origin=origin, **sent)
            assert reply.status == status, (headers, origin, reply)
    assert shared.ask("POST", send, message).status == 201
    assert without.ask("GET", "auth/whoami", X_API_Key=key["X-API-Key"]).body["authType"] == "api-key"
    tokens_only = without.ask("GET", PLACE, Authorization=bearer["Authorization"])
    assert (tokens_only.status, "exchange" in tokens_only.body["message"]) == (404, True)


def test_a_session_makes_no_other_one(shared: Browser) -> None:
    reply = shared.ask("POST", f"{PLACE}/exchange")
    assert (reply.status, "Authorization: Bearer" in reply.body["message"]) == (403, True)


# --- pages of others, where no credential is needed

JOIN, JOINING = "auth/accept-invite", {"token": "x", "name": "Eve", "password": "weakweak"}
SIGNING_UP = {"email": "eve@example.com", "password": PASSWORD}
PAGES: dict[str, tuple[dict[str, str], bool, bool]] = {
    "no browser": ({}, True, True),
    "an own page": ({"Origin": "$own", "Sec_Fetch_Site": "same-origin"}, True, True),
    "at another of its names": ({"Origin": "http://localhost:$port", "Host": "localhost:$port"}, True, True),
    "the public address": ({"Origin": "http://localhost:$port", "Host": "10.0.0.1"}, True, True),
    "the dashboard": ({"Origin": "https://app.example.net", "Sec_Fetch_Site": "same-site"}, True, True),
    "a listed origin": ({"Origin": DASHBOARD, "Sec_Fetch_Site": "cross-site"}, True, True),
    "an origin like a pattern of the list": ({"Origin": "https://a.example.org"}, True, True),
    "a rebound name": ({"Origin": "http://evil.example:$port", "Host": "evil.example:$port"}, False, True),
    "a name that is none": ({"Origin": "http://[evil", "Host": "[evil"}, False, True),
    "a foreign page": ({"Origin": EVIL, "Sec_Fetch_Site": "cross-site"}, False, False),
    "one that says it is none": ({"Origin": EVIL, "Sec_Fetch_Site": "same-origin"}, False, False),
    "a hidden origin": ({"Origin": "null"}, False, False),
    "almost a listed one": ({"Origin": f"{DASHBOARD}.evil.example"}, False, False),
    "a foreign site without an origin": ({"Sec_Fetch_Site": "cross-site"}, False, False),
    "a neighbour": ({"Sec_Fetch_Site": "same-site"}, False, False),
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_others_make_no_account_and_sign_nobody_in(running: Running, name: str) -> None:
    given, signs_up, joins = PAGES[name]
    own, port = running.nobody.url, str(running.gateway.port)
    headers = {key: text.replace("$own", own).replace("$port", port) for key, text in given.items()}
    replies = [
        running.nobody.ask("POST", *asked, **headers) for asked in (("auth/signup", SIGNING_UP), (JOIN, JOINING))
    ]
    assert [reply.status for reply in replies] == [409 if signs_up else 403, 400 if joins else 403], replies
    assert all("MSGCORE_API_URL" in reply.body["message"] for reply in replies if reply.status == 403)
    if not joins:
        assert running.nobody.ask("POST", "auth/login", {"email": EMAIL, "password": "x"}, **headers).status == 403


def test_a_body_without_a_type_is_json_unless_a_page_sends_it(running: Running) -> None:
    """A page may send it anywhere: the browser asks nobody for leave."""
    for origin, status in ((None, 409), (running.nobody.url, 400), (EVIL, 400)):
        connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
        headers = {} if origin is None else {"Origin": origin}
        connection.request("POST", "/api/v1/auth/signup", json.dumps(SIGNING_UP), headers)
        assert connection.getresponse().status == status
        connection.close()


# --- the end


def test_signing_out_ends_one_session_at_once(running: Running) -> None:
    here, there = opened(running), opened(running)
    assert replace(here, csrf=there.csrf).ask("DELETE", PLACE).status == 403
    reply = here.ask("DELETE", PLACE)
    assert (reply.status, reply.body) == (200, {"message": "Signed out"})
    assert {"Max-Age=0", "Path=/", "HttpOnly"} < set(reply.headers["set-cookie"].split("; "))
    assert (here.works, there.works) == (False, True)


# --- streams and sockets


async def test_pages_of_others_get_no_socket(shared: Browser) -> None:
    running = shared.running
    for origin in (EVIL, "null", None, "http://127.0.0.1:1", "https://a.example.org"):
        headers = {"Cookie": shared.cookie} | ({"Origin": origin} if origin else {})
        async with ClientSession() as session:
            with pytest.raises(WSServerHandshakeError) as caught:
                await session.ws_connect(running.nobody.url + WS, headers=headers)
            assert caught.value.status == 403, origin
            # With a subprotocol of ours it opens, to tell why it closes at once.
            async with session.ws_connect(running.nobody.url + WS, headers=headers, protocols=["msgcore"]) as socket:
                assert (await socket.receive(PATIENCE)).data == 4403


async def test_a_socket_ends_with_its_session(running: Running) -> None:
    browser = opened(running)
    async with connected(running.nobody, headers={"Cookie": browser.cookie, "Origin": DASHBOARD}) as talk:
        await talk.say("open", types=["webhook.test"])
        assert (await talk.hear())["type"] == "opened"
        assert browser.ask("DELETE", PLACE).status == 200
        await talk.say("send", requestId="1", message={})
        assert (await talk.end())[0] == 4401


def test_a_stream_is_for_own_pages(shared: Browser) -> None:
    stream = {"Cookie": shared.cookie, "Accept": "text/event-stream"}
    for origin, site, status in ((EVIL, "cross-site", 403), (None, "cross-site", 403), (None, "same-origin", 200)):
        headers = stream | {"Sec-Fetch-Site": site} | ({"Origin": origin} if origin else {})
        connection = http.client.HTTPConnection("127.0.0.1", shared.running.gateway.port, timeout=PATIENCE)
        connection.request("GET", "/api/v1/projects/shop/events", headers=headers)
        assert connection.getresponse().status == status
        connection.close()


def test_a_changed_password_spares_the_session_that_changed_it(running: Running) -> None:
    """The last test, as it ends all that others began with."""
    here, there = opened(running), opened(running)
    change = {"currentPassword": PASSWORD, "newPassword": "Passw0rd2"}
    assert here.ask("PATCH", "auth/password", change).status == 200
    assert (here.works, there.works) == (True, False)
    assert here.ask("POST", "auth/logout-all").status == 200
    assert not here.works
