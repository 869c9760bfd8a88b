"""The operators' commands on the database of a gateway that runs, and without one."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from api.conftest import EMAIL, PASSWORD, Running
from servers.command import Msgcore
from servers.patience import PATIENCE
from servers.processes import run

NO_ID = "01920000-0000-7000-8000-000000000000"


@dataclass(frozen=True)
class Desk:
    """A running gateway with a project of its own, and the command line beside it."""

    running: Running
    project: str
    platform_id: str

    def run(self, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        return run([*arguments], self.running.gateway.environment, answer)

    def read(self, *arguments: str) -> list[Any]:
        """What a command prints with --json."""
        done = self.run(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        reply = self.running.admin.ask(method, f"projects/{self.project}/{path}", body)
        assert reply.status in {200, 201}, reply
        return reply.body

    def send(self, *targets: str) -> str:
        addressed = [{"platformId": self.platform_id, "type": "user", "id": target} for target in targets]
        return str(self.ask("POST", "messages/send", {"targets": addressed, "content": {"text": "hi"}})["jobId"])

    def status(self, job: str) -> str:
        return str(self.ask("GET", f"messages/status/{job}")["status"])

    def counts(self) -> dict[str, int]:
        return {word: number for word, number in self.ask("GET", "messages/queue/metrics").items() if number}

    def bury(self, *names: str) -> str:
        before = self.counts().get("failed", 0)
        job = self.send(*(f"fail-permanent:{name}" for name in names))
        wait_until(lambda: self.counts().get("failed", 0) == before + len(names), self.counts)
        return job

    def letters(self, *arguments: str) -> list[Any]:
        return self.read("dead-letters", "list", "--project", self.project, *arguments)


def wait_until(is_so: Callable[[], bool], show: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, show()
        time.sleep(0.05)


# The store and the services are tested on both kinds of database; here are the commands, on one.
ON_ONE_DATABASE = pytest.mark.parametrize("running", ["sqlite"], indirect=True)


@pytest.fixture
def desk(running: Running) -> Desk:
    project = f"c{time.monotonic_ns()}"
    assert running.admin.ask("POST", "projects", {"id": project, "name": "C"}).status == 201
    made = running.admin.ask(
        "POST", f"projects/{project}/platforms", {"platform": "sandbox", "name": "b", "credentials": {}}
    )
    return Desk(running, project, made.body["id"])


class TestDeadLetters:
    @ON_ONE_DATABASE
    def test_listed_and_shown(self, desk: Desk) -> None:
        job = desk.bury("a", "b\x1b[31m[red]")
        newest, oldest = desk.letters("--message", job, "--platform", "sandbox", "--since", "1h")
        assert newest == {"projectId": desk.project} | desk.ask("GET", "dead-letters")["deadLetters"][0]
        table = desk.run("dead-letters", "list", "--project", desk.project).stdout
        assert "\x1b" not in table, "what others wrote does not steer the terminal"
        assert "b [31m[red]" in table
        assert table.index(newest["id"]) < table.index(oldest["id"])
        (shown,) = desk.read("dead-letters", "show", oldest["id"])
        assert shown == {"projectId": desk.project} | desk.ask("GET", f"dead-letters/{oldest['id']}")
        assert "sandbox_refused" in desk.run("dead-letters", "show", oldest["id"]).stdout
        for nothing in (
            ["--error", "x"],
            ["--until", "2020-01-01"],
            ["--since", "2090-01-01T00:00Z"],
            ["--message", NO_ID],
        ):
            assert desk.letters(*nothing) == []
        assert [letter["id"] for letter in desk.letters("--limit", "1")] == [newest["id"]]

    @ON_ONE_DATABASE
    def test_of_all_projects_newest_first(self, desk: Desk) -> None:
        desk.bury("a")
        other = Desk(desk.running, "shop", desk.running.add_sandbox())
        other.bury("b")
        newest, older = desk.read("dead-letters", "list", "--limit", "2")
        assert [newest["projectId"], older["projectId"]] == ["shop", desk.project]

    def test_a_running_gateway_finds_what_was_requeued(self, desk: Desk) -> None:
        desk.bury("a", "b")
        first = desk.letters()[0]["id"]
        done = desk.run("dead-letters", "requeue", first, "--yes")
        assert (done.returncode, done.stdout) == (0, "1 dead letter queued again\n")
        timeline = lambda: desk.read("dead-letters", "show", first)[0]["timeline"]  # noqa: E731
        wait_until(lambda: desk.counts() == {"failed": 2}, desk.counts)
        assert len(timeline()) == 2
        (told,) = desk.read("dead-letters", "requeue", "--project", desk.project, "--yes")
        assert told == {"count": 2, "remaining": 0}
        wait_until(lambda: desk.counts() == {"failed": 2}, desk.counts)
        assert len(timeline()) == 3

    @ON_ONE_DATABASE
    def test_purged_after_a_yes_only(self, desk: Desk) -> None:
        desk.bury("a", "b", "c")
        command = ("dead-letters", "purge", "--project", desk.project, "--limit", "2")
        for answer, words in (("n\n", "nothing was done"), ("", "add --yes")):
            refused = desk.run(*command, answer=answer)
            assert refused.returncode == 1
            assert "Delete 2 of 3 dead letters? This cannot be undone." in refused.stderr
            assert words in refused.stderr.splitlines()[-1]
        assert len(desk.letters()) == 3
        done = desk.run(*command, answer="y\n")
        assert (done.returncode, done.stdout) == (0, "2 dead letters deleted\n")
        assert [letter["targetId"] for letter in desk.letters()] == ["fail-permanent:c"], "the oldest go first"
        assert desk.counts() == {"failed": 1}

    @ON_ONE_DATABASE
    @pytest.mark.parametrize(
        ("arguments", "status", "words"),
        [
            (["purge"], 2, "or --all"),
            (["requeue", "--limit", "5"], 2, "or --all"),
            (["requeue", "x", "--yes"], 2, "'x' is not an id"),
            (["list", "--since", "yesterday"], 2, "'yesterday' is neither a time"),
            (["list", "--platform", "emial"], 2, "(discord, email,"),
            (["list", "--project", "none"], 1, "msgcore projects list"),
            (["show", NO_ID], 1, f"no dead letter {NO_ID}"),
            (["purge", NO_ID, "--yes"], 1, f"no dead letter {NO_ID}"),
        ],
    )
    def test_a_mistake_is_named(self, desk: Desk, arguments: list[str], status: int, words: str) -> None:
        done = desk.run("dead-letters", *arguments)
        assert done.returncode == status, done
        assert words in " ".join(done.stderr.replace("│", " ").split())
        assert done.stdout == ""

    @ON_ONE_DATABASE
    def test_one_wrong_id_spoils_the_whole_request(self, desk: Desk) -> None:
        desk.bury("a")
        refused = desk.run("dead-letters", "purge", desk.letters()[0]["id"], NO_ID, "--yes")
        assert (refused.returncode, refused.stderr) == (1, f"msgcore: no dead letter {NO_ID} to be found\n")
        assert len(desk.letters()) == 1


@ON_ONE_DATABASE
class TestPauses:
    def test_a_platform_is_held_and_goes_on(self, desk: Desk) -> None:
        done = desk.run("platforms", "pause", desk.platform_id, "--reason", "moving")
        assert (done.returncode, done.stdout) == (0, "paused; messages to it wait\n")
        assert desk.run("platforms", "pause", desk.platform_id).stdout == "it was paused before\n"
        (row,) = desk.read("platforms", "list", "--project", desk.project)
        assert (row["id"], row["paused"], row["pausedBy"], row["pausedReason"]) == (
            desk.platform_id,
            True,
            "user",
            "moving",
        )
        shown = desk.ask("GET", f"platforms/{desk.platform_id}")
        assert shown["pausedAt"] == row["pausedAt"]
        self.send_until_held(desk)
        assert desk.run("platforms", "resume", desk.platform_id).stdout == "resumed\n"
        wait_until(lambda: "paused" not in desk.counts() and "total" not in desk.counts(), desk.counts)
        assert desk.run("platforms", "resume", desk.platform_id).stdout == "it was not paused\n"
        assert desk.platform_id in desk.run("platforms", "list").stdout

    def test_a_project_is_held_and_goes_on(self, desk: Desk) -> None:
        assert desk.run("projects", "pause", desk.project, "--reason", "closed").returncode == 0
        (row,) = [row for row in desk.read("projects", "list") if row["id"] == desk.project]
        assert (row["paused"], row["pausedReason"], row["platforms"]) == (True, "closed", 1)
        assert desk.read("platforms", "list", "--project", desk.project)[0]["pausedBy"] == "project"
        self.send_until_held(desk)
        assert desk.run("projects", "resume", desk.project).stdout == "resumed\n"
        wait_until(lambda: "paused" not in desk.counts() and "total" not in desk.counts(), desk.counts)
        assert desk.project in desk.run("projects", "list").stdout

    def send_until_held(self, desk: Desk) -> None:
        """The gateway takes a moment to learn of a pause; then a message is overtaken by one of another project."""
        witness = Desk(desk.running, "shop", desk.running.add_sandbox())

        def is_overtaken() -> bool:
            job, later = desk.send("ann"), witness.send("ann")
            wait_until(lambda: witness.status(later) == "completed", witness.counts)
            return desk.status(job) == "queued"

        wait_until(is_overtaken, desk.counts)

    @pytest.mark.parametrize(
        ("arguments", "status", "words"),
        [
            (["platforms", "pause", NO_ID], 1, "msgcore platforms list"),
            (["platforms", "resume", "x"], 2, "'x' is not an id"),
            (["platforms", "list", "--project", "none"], 1, "msgcore projects list"),
            (["projects", "pause", "none"], 1, "msgcore projects list"),
            (["projects", "pause", "shop", "--reason", ""], 2, "1 to 500 characters"),
        ],
    )
    def test_a_mistake_is_named(self, desk: Desk, arguments: list[str], status: int, words: str) -> None:
        done = desk.run(*arguments)
        assert (done.returncode, done.stdout) == (status, "")
        assert words in " ".join(done.stderr.replace("│", " ").split())


@ON_ONE_DATABASE
class TestPeople:
    def test_an_address_is_free_again(self, desk: Desk) -> None:
        nobody, new = desk.running.nobody, {"email": "squatted@example.com", "role": "viewer"}
        link = desk.ask("POST", "members/invite", new)["inviteLink"]
        accepting = {"token": link.rpartition("/")[2], "name": "Mallory", "password": PASSWORD}
        squatter = nobody.ask("POST", "auth/accept-invite", accepting).body
        desk.ask("DELETE", f"members/{squatter['user']['id']}")
        change = ("users", "change-address", "Squatted@example.com")
        assert desk.run(*change, EMAIL).stderr.endswith(f"account with the address '{EMAIL}' already\n")
        assert "NEW must have plain ASCII" in desk.run(*change, "exаmple@example.com").stderr
        assert desk.run(*change, "mallory@example.com").stdout == "changed\n"
        assert "there is no account" in desk.run(*change, "mallory@example.com").stderr
        whoami = nobody.as_user(squatter["accessToken"]).ask("GET", "auth/whoami").body
        assert whoami["user"]["email"] == "mallory@example.com"
        again = desk.ask("POST", "members/invite", new | {"email": "mallory@example.com"})
        assert again["inviteLink"] is not None, "nobody is known by an address that they did not have"
        accepting["token"] = desk.ask("POST", "members/invite", new)["inviteLink"].rpartition("/")[2]
        assert nobody.ask("POST", "auth/accept-invite", accepting).status == 201


@pytest.mark.parametrize("group", ["dead-letters", "platforms", "projects"])
def test_help_shows_the_commands_and_their_examples(msgcore: Msgcore, group: str) -> None:
    shown = msgcore.run(group, "--help").stdout
    commands = ("list", "show", "requeue", "purge") if group == "dead-letters" else ("list", "pause", "resume")
    for command in commands:
        assert f" {command} " in shown
        assert f"msgcore {group} {command}" in msgcore.run(group, command, "--help").stdout


@pytest.mark.parametrize("arguments", [("dead-letters", "list"), ("platforms", "list"), ("projects", "list")])
def test_without_a_database_nothing_is_made(msgcore: Msgcore, arguments: tuple[str, ...]) -> None:
    done = msgcore.run(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"msgcore: there is no database at {msgcore.data_dir}")
    assert not msgcore.data_dir.exists()
    away = msgcore.run(*arguments, DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{msgcore.port}/x")
    assert (away.returncode, away.stderr.count("\n"), "hunter2" in away.stderr) == (1, 1, False)


@ON_ONE_DATABASE
def test_what_is_done_with_keys_is_in_the_audit_log(desk: Desk) -> None:
    file = desk.running.gateway.data_dir / "secrets.json"
    old = file.read_text()
    told = json.loads(desk.run("keys", "rotate", "--new", "--json").stdout)
    entries = desk.running.admin.ask("GET", "audit?limit=2").body["entries"]
    assert [(entry["action"], entry["subject"]["id"]) for entry in entries] == [
        ("encryption_key.rotated", told["key"]),
        ("encryption_key.created", told["key"]),
    ]
    assert {(entry["actor"]["kind"], entry["projectId"]) for entry in entries} == {("operator", None)}
    replaced = entries[1]["after"]["replaces"]
    assert entries[0]["before"] == {"rows": {replaced: told["count"]}}
    assert entries[0]["after"] == {"rows": {told["key"]: told["count"]}, "count": told["count"]}
    shown = json.dumps(entries)
    for secrets in (old, file.read_text()):
        assert json.loads(secrets)["encryptionKey"] not in shown
    long_ago = {"key": json.loads(old)["encryptionKey"], "retiredAt": "2020-01-01T00:00:00Z"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"retiredKeys": [long_ago]}))
    assert json.loads(desk.run("keys", "rotate", "--prune", "--json").stdout)["removed"] == [replaced]
    newest = desk.running.admin.ask("GET", "audit?limit=1").body["entries"][0]
    assert (newest["action"], newest["subject"]) == (
        "encryption_key.removed",
        {"type": "encryption_key", "id": replaced},
    )
