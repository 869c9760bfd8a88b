"""Schemathesis against the running server: whatever fits or breaks the document, never a 5xx."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from msgcore.config import known_variables
from msgcore.core.scopes import ApiScope
from servers.gateway import PASSWORD, GatewayProcess
from servers.processes import UNMEASURED

RATES = [name for name in known_variables() if name.startswith("MSGCORE_RATE_") and "_LIMIT_" not in name]
EXAMPLES = os.environ.get("MSGCORE_FUZZ_EXAMPLES")
QUICK_EXAMPLES = "3"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(
        data_dir=tmp_path_factory.mktemp("gateway"),
        MSGCORE_RATE_LIMIT_MAX="1000000",
        **dict.fromkeys(RATES, "0"),
        MSGCORE_LOG_LEVEL="error",
    ) as running:
        running.set_up()
        yield running


def credentials(gateway: GatewayProcess, principal: str) -> str:
    """The header of a principal that may do everything it can."""
    login = {"email": "bench@example.com", "password": PASSWORD}
    token = gateway.call("POST", "/api/v1/auth/login", login)["accessToken"]
    if principal == "user":
        return f"Authorization: Bearer {token}"
    made = gateway.call(
        "POST",
        "/api/v1/projects/bench/keys",
        {"name": "fuzz", "scopes": [scope.value for scope in ApiScope]},
        authorization=f"Bearer {token}",
    )
    return f"X-API-Key: {made['key']}"


@pytest.mark.parametrize("principal", ["user", "key", "nobody"])
def test_no_request_is_answered_with_a_5xx(gateway: GatewayProcess, principal: str, tmp_path: Path) -> None:
    # The quick form tries every combination of values for the one who gets furthest only.
    phases = "examples,coverage,fuzzing" if EXAMPLES else "examples,fuzzing"
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run", f"{gateway.url}/docs/openapi.json",
        "--url", gateway.url,
        "--checks", "not_a_server_error",
        "--phases", phases,
        "--max-examples", EXAMPLES or QUICK_EXAMPLES,
        "--generation-database", "none",
        "--suppress-health-check", "all",
        "--no-color",
        "--exclude-path", "/api/v1/auth/logout-all",  # it would be the end of the token
    ]  # fmt: skip
    if principal != "nobody":
        command += ["--header", credentials(gateway, principal)]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300, env=os.environ | UNMEASURED
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert "Tested" in found.stdout or "passed" in found.stdout, found.stdout[-2000:]
    gateway.call("GET", "/api/v1/health")
