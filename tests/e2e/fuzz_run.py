"""One run of Schemathesis against a running gateway, as one caller: prepared, started, and read."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from api.access_requests import REQUESTS, Ask
from api.access_table import Row, read_table
from api.access_world import MINE, THEIRS, Caller, World, verdict
from e2e.fuzz_plan import FOUND, NEW, PLAN_VARIABLE
from servers.processes import UNMEASURED

TESTS = Path(__file__).parents[1]
LONGEST = 20
"""For so many seconds an answer is waited for; then there is none."""
CHAINS, STEPS = 5, 20
"""How many chains of operations are tried for each request to one of them, and how long they may be."""
SPARE = 3
"""How many there are of each thing that requests use up."""
CHECKS = (
    "not_a_server_error",
    "access_as_the_table_says",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "allow_header_conformance",
    "unsupported_method",
    "ignored_auth",
    "use_after_free",
    "ensure_resource_availability",
)
"""Not these: what fits the document may be refused (`positive_data_acceptance`: times, passwords and addresses are texts to
it) and what does not may be taken (`negative_data_rejection`: unknown parameters are ignored); no header is required
(`missing_required_header`); `object_level_authorization` needs two callers, which the table of access has.
"""
BOUND = {
    "platform_id": ("platformId", "preferredPlatformId", "targets[*].platformId", "aliases[*].platformId"),
    "chat_id": ("chatId",),
    "job_id": ("jobId",),
    "person": ("providerUserId",),
    "sent_message": ("messageId",),
    "dead": ("ids[*]",),
}
"""By thing: where it is named in queries and bodies, beside the parameter of a path of the same name."""


@dataclass(frozen=True)
class Effort:
    """How much is tried."""

    phases: str
    examples: int
    seed: int


@dataclass(frozen=True)
class Found:
    """What came of a run."""

    seconds: float
    answers: Mapping[str, Mapping[str, int]]
    slowest: tuple[float, str]
    memory: list[int]
    unanswered: list[str]
    failure: str

    @property
    def cases(self) -> int:
        """How many requests were answered."""
        return sum(sum(counts.values()) for counts in self.answers.values())

    @property
    def growth(self) -> int:
        """KiB that the gateway grew by in the last two thirds of the run, when all that it keeps is there."""
        return self.memory[-1] - self.memory[len(self.memory) // 3]

    @property
    def succeeded(self) -> set[str]:
        """The operations that were answered with a success."""
        return {label for label, counts in self.answers.items() if any(status[0] == "2" for status in counts)}

    def __str__(self) -> str:
        """A line of a report."""
        server_errors = sum(
            number for counts in self.answers.values() for status, number in counts.items() if status[0] == "5"
        )
        return (
            f"{self.cases} cases in {self.seconds:.0f} s, "
            f"{len(self.succeeded)} of {len(self.answers)} operations with 2xx, {server_errors} answers 5xx, "
            f"{len(self.unanswered)} without an answer, slowest {self.slowest[0]:.2f} s ({self.slowest[1]}), "
            f"memory {self.memory[0] / 1024:.0f} -> {self.memory[-1] / 1024:.0f} MiB "
            f"({self.growth / 1024:+.1f} after the first third)"
        )


def fuzz(world: World, caller: Caller, effort: Effort, folder: Path) -> Found:
    """Run it to the end; `folder` is for its files."""
    things = world.mine.things
    rows = [row for row in read_table() if row.in_document]
    allowed = [row for row in rows if verdict(row, caller) == 200]
    used_up = {ask.fresh for row in allowed if (ask := REQUESTS.get(str(row), Ask())).fresh}
    spares = {thing: [world.mine.make(thing) for _ in range(SPARE)] for thing in sorted(used_up)}
    plan = folder / "plan.json"
    plan.write_text(json.dumps(_plan(world, caller, rows, allowed, spares)))
    configuration = folder / "schemathesis.toml"
    configuration.write_text(_configuration(effort, allowed, things, spares))
    url = world.running.gateway.url
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "--config-file", str(configuration),
        "run", f"{url}/docs/openapi.json",
        "--url", url,
        "--phases", effort.phases,
        "--checks", ",".join(CHECKS),
        "--seed", str(effort.seed),
        "--continue-on-failure",
        "--suppress-health-check", "all",
        "--no-color",
        "--generation-with-security-parameters", "false",
        *(part for name, value in caller.headers.items() for part in ("--header", f"{name}: {value}")),
    ]  # fmt: skip
    environment = os.environ | UNMEASURED | {
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS, *sys.path))),
        "SCHEMATHESIS_HOOKS": "e2e.fuzz_hooks",
        PLAN_VARIABLE: str(plan),
    }  # fmt: skip
    began = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, env=environment)
    seconds = time.monotonic() - began
    (folder / "output.txt").write_text(run.stdout + run.stderr)
    found = json.loads((folder / FOUND).read_text()) if (folder / FOUND).exists() else _nothing()
    failure = f"{shlex.join(command)}\n{run.stdout[-20000:]}{run.stderr[-2000:]}" if run.returncode else ""
    return Found(seconds, failure=failure, **found)


def _plan(
    world: World, caller: Caller, rows: list[Row], allowed: list[Row], spares: Mapping[str, list[str]]
) -> dict[str, Any]:
    """What the hooks have to know."""
    process, things, others = world.running.gateway.process, world.mine.things, world.theirs.things
    assert process is not None
    sees_others = caller.is_admin or caller.project == THEIRS
    return {
        "caller": caller.name,
        "is_key": caller.scopes is not None,
        "project": MINE,
        "pid": process.pid,
        "kept": sorted(things.values()),
        "hidden": [] if sees_others else [others[name] for name in ("platform_id", "job_id", "message_id", "person")],
        "refused": [str(row) for row in rows if row not in allowed],
        "requests": {str(row): _request(row, things, spares) for row in rows},
    }


def _nothing() -> dict[str, Any]:
    return {"answers": {}, "slowest": (0.0, ""), "memory": [0], "unanswered": []}


def _request(row: Row, things: Mapping[str, str], spares: Mapping[str, list[str]]) -> dict[str, Any]:
    """A plausible request, for a thing that it may use up; `$new` stands for a new name each time."""
    ask = REQUESTS.get(str(row), Ask())
    spare = {ask.fresh: spares[ask.fresh][0]} if ask.fresh in spares else {}
    ids, query, body = ask.about(row.path, {**things, **spare, "new": NEW})
    return {"path_parameters": ids, "query": dict(parse_qsl(query)), "body": body}


def _configuration(
    effort: Effort, allowed: list[Row], things: Mapping[str, str], spares: Mapping[str, list[str]]
) -> str:
    """The file `schemathesis.toml`: limits, and which values parameters often have."""
    lines = [
        f"request-timeout = {LONGEST}",
        "[auth]",
        "auto-signup = false",
        "[generation]",
        'database = "none"',
        f"max-examples = {effort.examples}",
        "[phases.stateful]",
        f"max-steps = {STEPS}",
        "[phases.stateful.generation]",
        f"max-examples = {effort.examples * CHAINS}",
        "[dictionaries]",
        *(f"{name} = {{ values = {json.dumps([value])} }}" for name, value in things.items()),
        *(f"spare_{name} = {{ values = {json.dumps(values[1:])} }}" for name, values in spares.items()),
        "[parameters]",
        *(f'"path.{name}" = {{ dictionary = "{name}", probability = 0.8 }}' for name in things),
    ]
    for thing, names in BOUND.items():
        for name in names:
            if "[" not in name:
                lines.append(f'"query.{name}" = {{ dictionary = "{thing}", probability = 0.2 }}')
            bodies = (f"body.{name}", f"body.[*].{name}")
            lines += [f'"{body}" = {{ dictionary = "{thing}", probability = 0.8 }}' for body in bodies]
    for row in allowed:
        ask = REQUESTS.get(str(row), Ask())
        if ask.fresh:
            parameter = row.path.rpartition("{")[2].partition("}")[0]
            lines += [
                "[[operations]]",
                f"include-name = {json.dumps(str(row))}",
                "[operations.parameters]",
                f'"path.{parameter}" = {{ dictionary = "spare_{ask.fresh}", probability = 0.5 }}',
            ]
    return "\n".join(lines)
