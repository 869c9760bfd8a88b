"""Secrets of every platform, of webhooks, keys and URLs are planted; platforms echo what they get, parts of the gateway
break, and the process is crashed: the secrets are in no answer, log, metric, event, queue or file, but encrypted.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import signal
import string
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.scopes import ApiScope
from msgcore.platforms.base import Account, PlatformDeclaration
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store.database import Database
from servers.api_client import ApiClient, Reply
from servers.facts import facts_of, samples_of
from servers.gateway import GatewayProcess, free_port
from servers.patience import PATIENCE
from servers.postgres import PostgresServer
from servers.processes import execute
from servers.valkey import ValkeyServer

ALL_SCOPES = [scope.value for scope in ApiScope]
PASSWORD = "Planted" + secrets.token_hex(8) + "1"
USERINFO = "userinfo" + secrets.token_hex(12)
REDIS_PASSWORD = "redis" + secrets.token_hex(12)
METRICS_TOKEN = "metrics" + secrets.token_hex(12)
S3_SECRET = "s3" + secrets.token_hex(12)
_PROJECT = "/api/v1/projects/{project}"
ENDLESS = (f"{_PROJECT}/events/stream", f"{_PROJECT}/events/ws")
LISTS = {"chats": "chat_id", "messages": "message_id", "identities": "identity_id", "dead-letters": "delivery_id"}
SHOWING = {
    f"{_PROJECT}/platforms",
    f"{_PROJECT}/platforms/{{platform_id}}",
    f"{_PROJECT}/platforms/{{platform_id}}/logs",
    f"{_PROJECT}/platforms/{{platform_id}}/inbox",
    f"{_PROJECT}/platforms/logs",
    f"{_PROJECT}/webhooks",
    f"{_PROJECT}/webhooks/{{webhook_id}}",
    f"{_PROJECT}/webhooks/{{webhook_id}}/deliveries",
    f"{_PROJECT}/keys",
    f"{_PROJECT}/events",
    f"{_PROJECT}/dead-letters/{{delivery_id}}",
    f"{_PROJECT}/messages/status/{{job_id}}",
    f"{_PROJECT}/messages/{{message_id}}",
    "/api/v1/platforms/webhook-routes",
}
"""What shows platforms, webhooks, keys, and what platforms said: each must have shown something."""


def like(example: str) -> str:
    """Random characters of the same kinds, so that what checks the form takes them."""

    def other(character: str) -> str:
        if character.isdigit():
            return secrets.choice(string.digits)
        if re.fullmatch(r"[0-9a-fA-F]+", example):
            return secrets.choice("abcdef")
        kinds = (string.ascii_lowercase, string.ascii_uppercase)
        return next((secrets.choice(kind) for kind in kinds if character in kind), character)

    head = re.match(r"(?i)(whsec_|xoxb-|xapp-|syt_|tk_|EAA|MTk)?", example)
    kept = head[0] if head else ""
    return kept + "".join(map(other, example[len(kept) :]))


class Echo(BaseHTTPRequestHandler):
    """A platform that fails every call, and says back all that it was told, in all places where errors stand."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode(errors="replace")
        said = f"cannot {self.command} {self.path} {dict(self.headers)} {body[:300]}"
        status = 500 if self.server.calls % 2 == 0 else 400  # type: ignore[attr-defined]
        self.server.calls += 1  # type: ignore[attr-defined]
        told = dict.fromkeys(("description", "message", "error", "errmsg", "errcode", "detail", "error_title"), said)
        answer = json.dumps(told | {"ok": False, "error_code": status, "code": 1}).encode()
        self.send_response(status, "no")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


@pytest.fixture
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.calls = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Plot:
    """Everything that was planted, and the project that it was planted in."""

    def __init__(self, gateway: GatewayProcess, echo: str) -> None:
        self.gateway, self.echo = gateway, echo
        self.planted: dict[str, str] = {"password": PASSWORD, "userinfo": USERINFO, "redis": REDIS_PASSWORD}
        self.planted |= {"metrics": METRICS_TOKEN, "s3": S3_SECRET}
        self.addresses: dict[str, str] = {}
        self.ids: dict[str, list[str]] = {}
        self.made: dict[str, dict[str, Any]] = {}
        nobody = ApiClient(gateway.url, {})
        login = {"email": "ann@example.com", "password": PASSWORD}
        self.planted["jwt"] = nobody.ask("POST", "auth/signup", login).body["accessToken"]
        self.admin = nobody.as_user(self.planted["jwt"])
        opened = nobody.ask("POST", "auth/session", login)
        self.planted["session"] = opened.headers["set-cookie"].partition(";")[0].partition("=")[2]
        self.planted["csrf token"] = opened.body["csrfToken"]
        cookie = {"Cookie": f"msgcore_session={self.planted['session']}"}
        assert ApiClient(gateway.url, cookie).ask("POST", "projects", {"id": "no"}).status == 403
        assert self.admin.ask("POST", "projects", {"id": "shop", "name": "Shop"}).status == 201
        made = self.admin.ask("POST", "projects/shop/keys", {"name": "k", "scopes": ALL_SCOPES}).body
        self.planted["api key"] = made["key"]
        self.ids["key_id"] = [made["id"]]
        self.key = nobody.as_key(made["key"])

    def credentials(self, declaration: PlatformDeclaration) -> dict[str, Any]:
        """All fields with an example; the secret ones planted. Where the platform is, is the echo."""
        given: dict[str, Any] = {}
        for field in declaration.credentials:
            if field.secret:
                given[field.name] = like(str(field.example)) if field.example else "pw" + secrets.token_hex(8)
                self.planted[f"{declaration.name}.{field.name}"] = given[field.name]
            elif field.required and field.example is not None:
                given[field.name] = field.example
        if declaration.name == "ntfy":
            given |= {"serverUrl": self.echo}
            del given["password"]  # it takes a token or a password
        elif declaration.name == "email":
            given |= {"smtpHost": "127.0.0.1", "smtpPort": free_port(), "smtpUser": "shop"}
            del given["imapPassword"], given["inboundSecret"]
        elif declaration.name == "webhook":
            given |= {"url": f"{self.echo}/hook"}
        elif declaration.name == "vonage-sms":
            given |= {"signatureMethod": "sha256"}
        elif declaration.name == "twilio-sms":
            given |= {"from": "+15017122661"}
        return given | (facts_of(declaration.name).credentials(self.echo))

    def configure_everything(self) -> None:
        """A platform of each kind, and a message to it."""
        for declaration in PlatformRegistry().declarations():
            body = {
                "platform": declaration.name,
                "name": declaration.name,
                "credentials": self.credentials(declaration),
            }
            made = self.key.ask("POST", "projects/shop/platforms", body)
            assert made.status == 201, (declaration.name, made)
            self.require_hidden(f"POST {declaration.name}", str(made))
            self.ids.setdefault("platform_id", []).append(made.body["id"])
            self.made[declaration.name] = made.body | {"credentials": body["credentials"]}
            self._plant_ways_in(declaration.name, made.body)
            sent = self.send(declaration.name, text="hello", subject="s")
            assert sent.status == 201, (declaration.name, sent)
            self.ids.setdefault("job_id", []).append(sent.body["jobId"])

    def _plant_ways_in(self, name: str, made: dict[str, Any]) -> None:
        """What platforms are told so that they can post to us. Whoever may change a platform is shown its address."""
        self.addresses[f"{name}, address"] = made["webhookUrl"].rpartition("/")[2]
        account = Account(made["id"], "shop", name, self.made[name]["credentials"])
        inbound = PlatformRegistry().inbound(name)
        for secret in () if inbound is None else inbound.secrets(account):
            self.planted[f"{name}, secret of its webhook"] = secret

    def ask_for_posts(self) -> None:
        """Have the platforms told the addresses and secrets: they refuse, and repeat them."""
        for name in ("telegram", "whatsapp-evo"):
            for _ in range(2):  # the echo has two ways to fail
                path = f"projects/shop/platforms/{self.made[name]['id']}/register-webhook"
                refused = self.key.ask("POST", path)
                assert (refused.status, "cannot POST" in str(refused)) == (400, True), refused
                self.require_hidden(f"{name}'s refusal", str(refused), self.planted | self.addresses)

    def subscribe(self) -> None:
        """Webhooks for events: a secret that was given, one that was made, and addresses that hold a password."""
        hook = {"name": "hook", "url": f"{self.echo}/events", "events": ["*"]}
        self.planted["webhook"] = "whsec_" + secrets.token_hex(32)
        made = self.key.ask("POST", "projects/shop/webhooks", hook | {"secret": self.planted["webhook"]}).body
        self.ids["webhook_id"] = [made["id"]]
        rotated = self.key.ask("POST", f"projects/shop/webhooks/{made['id']}/rotate-secret").body
        self.planted["webhook, made"] = rotated["secret"]
        with_password = f"https://shop:{USERINFO}@example.com/"
        refused = self.key.ask("POST", "projects/shop/webhooks", hook | {"url": with_password})
        assert refused.status == 400, refused
        self.require_hidden("an error", str(refused))

    def send(self, platform: str, **content: Any) -> Reply:
        facts = facts_of(platform)
        target = {"platformId": self.made[platform]["id"], "type": facts.target_type, "id": facts.target}
        return self.key.ask("POST", "projects/shop/messages/send", {"targets": [target], "content": content})

    def tell(self) -> None:
        """A message comes in from a server that puts its key into every event, and posts with forged signatures."""
        made = self.made["whatsapp-evo"]
        account = Account(made["id"], "shop", "whatsapp-evo", made["credentials"])
        sample = next(each for each in samples_of("whatsapp-evo") if b"messages.upsert" in each.content)
        event = json.loads(sample.content) | {"apikey": made["credentials"]["evolutionApiKey"]}
        body = json.dumps(event).encode()
        for headers in (facts_of("whatsapp-evo").sign(account, body), {}):  # pyright: ignore[reportOptionalCall]
            path = urlsplit(made["webhookUrl"]).path
            ApiClient(self.gateway.url, headers).ask("POST", path, body)

    def walk(self) -> set[str]:
        """GET everything that the API documents, with ids that lists gave; the paths that showed something."""
        document = self.admin.ask("GET", "/docs/openapi.json").body
        gets = {template for template, operations in document["paths"].items() if "get" in operations}
        shown: set[str] = set()
        for template in sorted(gets - set(ENDLESS), key=lambda template: template.count("{")):
            for path in self._paths(template):
                for caller in (self.admin, self.key):
                    status, told, body = get(caller, path)
                    assert status < 500, (path, told)
                    shows_addresses = template in (f"{_PROJECT}/platforms", f"{_PROJECT}/platforms/{{platform_id}}")
                    self.require_hidden(path, told, self.planted | ({} if shows_addresses else self.addresses))
                    if status == 200:
                        shown.add(template)
                        self._learn(template, body)
        return shown

    def _learn(self, template: str, body: Any) -> None:
        """The ids in a list, for the parameters of paths that are named as its last part is."""
        name = LISTS.get(template.rpartition("/")[2])
        rows = (
            body
            if isinstance(body, list)
            else [row for each in body.values() if isinstance(each, list) for row in each]
        )
        found = [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row]
        if name is not None and found:
            self.ids.setdefault(name, found[:2])

    def require_hidden(self, where: str, text: str, planted: dict[str, str] | None = None) -> None:
        for name, secret in (planted or self.planted).items():
            assert secret not in text, f"{name} stands in {where}: {around(text, secret)}"

    def _paths(self, template: str) -> list[str]:
        paths = [template.replace("{project}", "shop")]
        for name in re.findall(r"\{(\w+)\}", paths[0]):
            values = self.ids.get(name) or ["01920000-0000-7000-8000-000000000000"]
            paths = [path.replace(f"{{{name}}}", value) for path in paths for value in values]
        return paths


def get(caller: ApiClient, path: str) -> tuple[int, str, Any]:
    """The status, headers and body as text, and the body decoded where it is JSON."""
    asked = urllib.request.Request(f"{caller.url}{path}", headers=caller.headers)
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
            body = answer.read().decode()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, f"{answer.headers} {body}", json.loads(body) if is_json else {}
    except urllib.error.HTTPError as error:
        return error.code, f"{error.headers} {error.read().decode()}", {}


def around(text: str, secret: str) -> str:
    place = text.find(secret)
    return text[max(0, place - 150) : place + 80]


def query(url: str, work: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        database = Database.open(url)
        try:
            async with database.write() as connection:
                return await work(connection)
        finally:
            await database.close()

    return asyncio.run(run())


def dump(url: str) -> str:
    """Everything that is stored, as text."""

    async def read(connection: AsyncConnection) -> str:
        tables = await connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        found = [
            (await connection.execute(text(f'SELECT t::text FROM "{name}" t'))).scalars() for (name,) in tables.all()
        ]
        return "\n".join(row for rows in found for row in rows)

    return query(url, read)


def wait_until_all_failed(url: str, number: int) -> None:
    """Until an attempt of each platform has failed, and so has one to post an event."""
    count = text(
        "SELECT count(DISTINCT d.platform) FROM attempts a JOIN deliveries d ON d.id = a.delivery_id "
        "WHERE a.error_code IS NOT NULL"
    )
    deadline = time.monotonic() + PATIENCE
    while (found := query(url, lambda connection: connection.scalar(count))) < number + 1:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def break_it(url: str) -> None:
    """Take tables away that sign-ins and new platforms need."""

    async def rename(connection: AsyncConnection) -> None:
        for table in ("users", "audit_logs"):
            await connection.execute(text(f"ALTER TABLE {table} RENAME TO {table}_gone"))

    query(url, rename)


class Gateway(GatewayProcess):
    """Started as users do: the handler of crashes is set up when Python starts."""

    start_process = staticmethod(execute)


def test_planted(tmp_path: Path, echo: str, postgres_server: PostgresServer) -> None:
    for folder in ("redis", "data"):
        (tmp_path / folder).mkdir()
    names = [declaration.name for declaration in PlatformRegistry().declarations()]
    settings = {
        **{f"MSGCORE_{name.upper().replace('-', '_')}_BASE_URL": echo for name in names},
        "MSGCORE_API_URL": "http://gateway.example.com",  # some platforms are told only what they can reach
        "MSGCORE_LOG_LEVEL": "debug",
        "MSGCORE_METRICS_TOKEN": METRICS_TOKEN,
        "MSGCORE_S3_ACCESS_KEY_ID": "id",
        "MSGCORE_S3_SECRET_ACCESS_KEY": S3_SECRET,
        "PYTHONFAULTHANDLER": "1",
    }
    kept = ("--appendonly", "yes", "--dir", str(tmp_path / "redis"))
    url = postgres_server.create_database("planted").replace("@", f":{USERINFO}@")
    with ValkeyServer(*kept, password=REDIS_PASSWORD) as valkey:
        settings["MSGCORE_REDIS_URL"] = valkey.url.replace("redis://", f"redis://:{REDIS_PASSWORD}@")
        with Gateway(data_dir=tmp_path / "data", database_url=url, **settings) as gateway:
            plot = Plot(gateway, echo)
            plot.configure_everything()
            plot.subscribe()
            plot.tell()
            plot.ask_for_posts()
            wait_until_all_failed(url, len(names) - 1)
            shown = plot.walk()
            assert shown >= SHOWING, SHOWING - shown
            status, metrics, _ = get(ApiClient(gateway.url, {"Authorization": f"Bearer {METRICS_TOKEN}"}), "/metrics")
            assert status == 200
            plot.require_hidden("the metrics", metrics)
            stored = dump(url)
            break_it(url)
            for reply in (
                plot.admin.ask("POST", "auth/login", {"email": "ann@example.com", "password": PASSWORD}),
                plot.key.ask(
                    "POST",
                    "projects/shop/platforms",
                    {"platform": "telegram", "name": "t", "credentials": plot.made["telegram"]["credentials"]},
                ),
            ):
                assert reply.status == 500, reply
            gateway.kill(signal.SIGABRT)
            log = gateway.log.read_text()
    assert "Fatal Python error: Aborted" in log
    assert "Traceback" in log
    plot.require_hidden("the log", log, plot.addresses)
    assert plot.made["email"]["id"] in stored
    plot.require_hidden("the database", stored)
    kept_files = {file: file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file()}
    assert any("HSET" in content for file, content in kept_files.items() if "aof" in file.name), (
        "the queue left nothing"
    )
    for file, content in kept_files.items():
        plot.require_hidden(file.name, content)
