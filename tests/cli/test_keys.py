"""Keys that a key manager unwraps, from the first start to the end of a rotation, by the script of the documentation."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest

from msgcore.security.keyring import key_id
from servers.command import Msgcore

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "operations.md"
OLD, NEW = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The script, a folder of wrapped keys (here they are as they are), and an `aws` that unwraps them."""
    (tmp_path / "keys.d").mkdir()
    [script] = re.findall(
        r"^(#!/bin/sh\n# /etc/msgcore/keys\n.*?)```", DOCUMENTATION.read_text(), re.MULTILINE | re.DOTALL
    )
    aws = '#!/bin/sh\ntest "$1 $2" = "kms decrypt" || exit 2\nbase64 -w0 "${4#fileb://}"; echo\n'
    for name, text in (("keys", script.replace("/etc/msgcore", str(tmp_path))), ("aws", aws)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)
    return tmp_path


def test_a_key_manager_gives_the_key_and_the_next_one(msgcore: Msgcore, folder: Path) -> None:
    msgcore.environ |= {
        "MSGCORE_ENV": "production",
        "MSGCORE_JWT_SECRET": "s" * 32,
        "MSGCORE_ENCRYPTION_KEY_COMMAND": str(folder / "keys"),
        "PATH": f"{folder}:{msgcore.environ['PATH']}",
    }
    keys, told = folder / "keys.d", list[str]()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = msgcore.run(*arguments)
        told.extend((done.stdout, done.stderr))
        return done

    (keys / "50").write_bytes(OLD)
    code, log = msgcore.end(msgcore.start("serve")[0])
    told.append(log)
    assert (code, (msgcore.data_dir / "secrets.json").exists()) == (0, False)
    (keys / "40").write_bytes(NEW)
    assert run("keys", "rotate").stdout == f"1 row encrypted anew; all is under key {key_id(NEW)}\n"
    (keys / "40").unlink()
    refused = run("serve").stderr
    assert refused.startswith("msgcore: MSGCORE_ENCRYPTION_KEY (or what its command prints) is not the key that this")
    (folder / "aws").write_text("#!/bin/sh\nexit 9\n")
    failed = run("keys", "status")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "keys ended with status 9; run it by hand" in failed.stderr
    for key in (OLD, NEW):
        for secret in (key.hex(), base64.b64encode(key).decode()):
            assert all(secret not in text for text in told)
