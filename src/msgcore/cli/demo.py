"""`msgcore demo`: the whole way of a message, on a gateway that is thrown away afterwards.

The gateway is a real one: a process of its own, started as a user would start it, and spoken to
over HTTP. The mail server beside it keeps what it receives.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from rich.console import Console
from rich.text import Text

from msgcore.cli.mailbox import Mailbox
from msgcore.cli.welcome import ready_line
from msgcore.config import known_variables
from msgcore.core.errors import StartupError

T = TypeVar("T")

_STEP_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.01
_PASSWORD = "Passw0rd-of-the-demo"  # noqa: S105 - of an account that lives for seconds
_SCOPES = ["messages:read", "messages:write", "platforms:read", "platforms:write"]
_TEXT = {"text": "Hello, Ann!"}
_MAIL = {"subject": "Grüße aus MsgCore", "text": "It works.", "html": "<p>It <b>works</b>.</p>"}


async def run_demo(console: Console | None = None) -> None:
    """Run all steps, printing each with the time it took.

    Raises StartupError when a step fails; what was started is stopped and removed all the same.
    """
    demo = _Demo(console or Console(highlight=False))
    with tempfile.TemporaryDirectory(prefix="msgcore-demo-") as folder:
        await demo.run(Path(folder))


class _Demo:
    """The steps, and the printing of each when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def run(self, folder: Path) -> None:
        self._console.print("[bold]MsgCore demo[/bold]: a throw-away gateway, its data in", Text(str(folder)))
        mailbox, port = Mailbox(), free_port()
        async with mailbox.listening() as mail_port, _process(folder, port) as gateway:
            await self._step("started the gateway", _until_ready(gateway, folder, port))
            async with aiohttp.ClientSession(raise_for_status=_explain_refusal) as http:
                await self._send(Client(http, f"http://127.0.0.1:{port}/api/v1"), mailbox, mail_port)
            await self._step("stopped the gateway", _stop(gateway))
        self._console.print("\nAll of it is gone again. To keep one: [bold]msgcore serve[/bold]")

    async def _send(self, client: Client, mailbox: Mailbox, mail_port: int) -> None:
        await self._step("signed up", client.sign_up())
        await self._step("made a project and an API key", client.make_project())
        sandbox = await self._step("added the sandbox platform", client.add_platform("sandbox", {}))
        await self._step("sent a message through the sandbox", client.deliver(sandbox, "ann", _TEXT))
        account = {"smtpHost": "127.0.0.1", "smtpPort": mail_port, "smtpSecure": False, "fromEmail": "demo@example.com"}
        mail = await self._step("added an e-mail platform", client.add_platform("email", account))
        await self._step("sent an e-mail", client.deliver(mail, "bob@example.com", _MAIL))
        received = await self._step("the mail server received it", mailbox.next_mail())
        self._console.print("          ", Text(f"{received['from']} -> {received['to']}: {received['subject']}"))

    async def _step(self, title: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_STEP_SECONDS):
                result = await work
        except (TimeoutError, aiohttp.ClientError) as error:
            raise StartupError(f"demo: this did not work: {title} ({error or 'too slow'})") from None
        self._console.print(f"[dim]{(time.perf_counter() - started) * 1000:7.0f} ms[/dim]  {title}")
        return result


class Client:
    """The few calls of the API that lead to a first message."""

    def __init__(self, http: aiohttp.ClientSession, api: str) -> None:
        self._http = http
        self._api = api
        self._headers: dict[str, str] = {}

    async def sign_up(self) -> None:
        """Make the first account and act as it."""
        account = {"email": "demo@example.com", "password": _PASSWORD, "name": "Demo"}
        answer = await self._post("auth/signup", account)
        self._headers = {"Authorization": f"Bearer {answer['accessToken']}"}

    async def make_project(self) -> None:
        """Make a project and an API key, and act with that key."""
        await self._post("projects", {"id": "demo", "name": "Demo"})
        answer = await self._post("projects/demo/keys", {"name": "demo", "scopes": _SCOPES})
        self._headers = {"X-API-Key": answer["key"]}

    async def add_platform(self, platform: str, credentials: Mapping[str, Any]) -> str:
        """Configure a platform; returns its id."""
        body = {"platform": platform, "name": platform, "credentials": credentials}
        return (await self._post("projects/demo/platforms", body))["id"]

    async def deliver(self, platform_id: str, user: str, content: Mapping[str, Any]) -> None:
        """Send one message and wait until it is delivered; raises StartupError when it fails."""
        target = {"platformId": platform_id, "type": "user", "id": user}
        job = (await self._post("projects/demo/messages/send", {"targets": [target], "content": content}))["jobId"]
        while True:
            async with self._http.get(
                f"{self._api}/projects/demo/messages/status/{job}", headers=self._headers
            ) as answer:
                status = await answer.json()
            if status["state"] == "completed":
                return
            if status["state"] == "failed":
                raise StartupError(f"demo: the delivery failed: {status['delivery']['errors']}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        async with self._http.post(f"{self._api}/{path}", json=body, headers=self._headers) as answer:
            return await answer.json()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def _process(folder: Path, port: int) -> AsyncGenerator[Process]:
    """A gateway with settings of its own, whatever the caller's environment holds."""
    known = known_variables()
    environ = {name: value for name, value in os.environ.items() if name not in known}
    environ |= {
        "MSGCORE_PORT": str(port),
        "MSGCORE_DATA_DIR": str(folder / "data"),
        "MSGCORE_EGRESS_ALLOW": "127.0.0.0/8",
        "MSGCORE_LOG_FORMAT": "json",
    }
    with (folder / "gateway.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "msgcore", "serve", env=environ, stdout=PIPE, stderr=log
        )
        try:
            yield process
        finally:
            await _stop(process)


async def _until_ready(process: Process, folder: Path, port: int) -> None:
    ready = ready_line(f"http://127.0.0.1:{port}").encode()
    assert process.stdout is not None  # noqa: S101 - started with a pipe
    async for line in process.stdout:
        if line.strip() == ready:
            return
    log = (folder / "gateway.log").read_text()[-2000:]
    raise StartupError(f"demo: the gateway did not start\n{log}")


async def _stop(process: Process) -> None:
    """End the process, by force when it does not end by itself."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _explain_refusal(answer: aiohttp.ClientResponse) -> None:
    """Turn an answer that is no success into an error with the API's own words."""
    if not answer.ok:
        raise StartupError(f"demo: {answer.method} {answer.url.path} answered {answer.status}: {await answer.text()}")
