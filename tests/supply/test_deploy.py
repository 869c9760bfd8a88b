"""What deploy/ starts has no privileges, can write to its data alone, and shows its secrets to nobody."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|_URL")


def instructions() -> list[tuple[str, str]]:
    """The last stage of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    last = max(number for number, (word, _, _) in enumerate(lines) if word == "FROM")
    return [(word, rest) for word, _, rest in lines[last:]]


def test_the_image_has_a_user_and_no_secret() -> None:
    image = instructions()
    [user] = [rest for word, rest in image if word == "USER"]
    assert int(user) > 0, "a number, or orchestrators cannot tell that it is not root"
    assert [word for word, _ in image].index("USER") < [word for word, _ in image].index("CMD")
    assert [rest for word, rest in image if word in ("ENV", "ARG") and SECRET.search(rest)] == []


def test_the_image_is_made_of_what_it_needs() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert "*" in ignored
    assert let_in == {name for line in copied for name in line.split()}


def test_the_container_is_shut_in(tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service: dict[str, Any] = compose["services"]["msgcore"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not {"environment", "env_file", "privileged", "cap_add", "user"} & service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert started_with(service["command"], tmp_path) == "key=a'b$c mode=production"


def started_with(command: list[str], folder: Path) -> str:
    """What the command sees of a file of secrets; another program stands where the gateway would."""
    secrets = folder / "msgcore.env"
    secrets.write_text("MSGCORE_ENV=production\nMSGCORE_ENCRYPTION_KEY='a'\\''b$c'\n")
    told = 'echo "key=$MSGCORE_ENCRYPTION_KEY mode=$MSGCORE_ENV"'
    program = folder / "msgcore"
    program.write_text(f"#!/bin/sh\n{told}\n")
    program.chmod(0o755)
    command = [part.replace("/run/secrets", str(folder)) for part in command]
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_the_unit_is_shut_in() -> None:
    unit = (DEPLOY / "msgcore.service").read_text()
    for line in (
        "DynamicUser=yes",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "UMask=0077",
        "SystemCallFilter=~@privileged",
        "StateDirectoryMode=0700",
    ):
        assert f"\n{line}\n" in unit
    assert [line for line in unit.splitlines() if line.startswith("Environment=") and SECRET.search(line)] == []
    assert "ReadWritePaths" not in unit
