"""Another ASGI server than ours: `uvicorn msgcore.asgi:app`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from servers.api_client import ApiClient
from servers.command import Msgcore
from servers.patience import PATIENCE


def serve(msgcore: Msgcore, **environ: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "uvicorn", "msgcore.asgi:app", "--port", str(msgcore.port)]
    return subprocess.Popen(command, env=msgcore.environ | environ, stderr=subprocess.PIPE, text=True)


def wait_until_up(client: ApiClient, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.ask("GET", "health").status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"it ended with {process.returncode}: {process.communicate()[1]}")


def test_a_message_goes_through_and_it_stops_in_order(msgcore: Msgcore) -> None:
    process = serve(msgcore)
    nobody = ApiClient(msgcore.url, {})
    try:
        wait_until_up(nobody, process)
        login = {"email": "ann@example.com", "password": "Passw0rd1"}
        admin = nobody.as_user(nobody.ask("POST", "auth/signup", login).body["accessToken"])
        admin.ask("POST", "projects", {"id": "shop", "name": "Shop"})
        sandbox = admin.ask(
            "POST", "projects/shop/platforms", {"platform": "sandbox", "name": "box", "credentials": {}}
        ).body["id"]
        body = {"targets": [{"platformId": sandbox, "type": "user", "id": "ann"}], "content": {"text": "hi"}}
        job = admin.ask("POST", "projects/shop/messages/send", body).body["jobId"]
        deadline = time.monotonic() + PATIENCE
        while admin.ask("GET", f"projects/shop/messages/status/{job}").body["status"] != "completed":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode in {0, -signal.SIGTERM}  # uvicorn ends itself by the signal that it was sent
    finally:
        process.kill()
        process.communicate()


def test_what_keeps_it_from_starting_is_said(msgcore: Msgcore) -> None:
    process = serve(msgcore, MSGCORE_ENCRYPTION_KEY="short")
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "msgcore: MSGCORE_ENCRYPTION_KEY" in log
