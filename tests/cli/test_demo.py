"""The demo and the README's commands, run as a reader would run them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import textwrap
from pathlib import Path

from msgcore.cli.mailbox import Mailbox
from servers.command import Msgcore
from servers.patience import PATIENCE

README = Path(__file__).parents[2] / "README.md"


def test_the_demo_shows_each_step_and_leaves_nothing(msgcore: Msgcore, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = msgcore.run("demo", TMPDIR=str(scratch), PORT="1", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^ *\d+ ms  (.+)$", done.stdout, re.MULTILINE)
    assert steps == [
        "started the gateway",
        "signed up",
        "made a project and an API key",
        "added the sandbox platform",
        "sent a message through the sandbox",
        "added an e-mail platform",
        "sent an e-mail",
        "the mail server received it",
        "stopped the gateway",
    ]
    assert "demo@example.com -> bob@example.com: Grüße aus MsgCore" in done.stdout
    assert list(scratch.iterdir()) == []


async def test_the_readmes_commands_send_a_message_and_an_email(msgcore: Msgcore) -> None:
    msgcore.start("serve")
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```", README.read_text(), re.MULTILINE | re.DOTALL)
    commands = [textwrap.dedent(text) for _, text in blocks if "curl" in text or "API=" in text]
    mailbox = Mailbox()
    async with mailbox.listening() as port:
        script = "".join(commands).replace("http://127.0.0.1:7890", msgcore.url).replace("8025", str(port))
        shell = await asyncio.create_subprocess_exec("/bin/sh", "-e", "-c", script, stdout=subprocess.PIPE)
        async with asyncio.timeout(PATIENCE):
            printed, _ = await shell.communicate()
        assert shell.returncode == 0, printed
        answers = re.findall(rb'\{"success":true', printed)
        assert len(answers) == 1, (
            f"the sandbox's job id goes into a variable, the e-mail's answer is printed: {printed!r}"
        )
        assert b'"state":' in printed
        async with asyncio.timeout(PATIENCE):
            mail = await mailbox.next_mail()
    assert (mail["to"], mail["subject"]) == ("ann@example.com", "Grüße")
    body = mail.get_body(("plain",))
    assert body is not None
    assert body.get_content().strip() == "Hello"
