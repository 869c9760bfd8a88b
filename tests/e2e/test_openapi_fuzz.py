"""Schemathesis against the running server, as callers of every kind: whatever fits or breaks the document.

The quick form, in `make test`, takes the callers that get furthest and few requests. `make test-fuzz` takes all callers,
both databases and chains of operations, and prints a line for each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.access_world import JWT_SECRET, Caller, World
from api.conftest import EMAIL, PASSWORD, Running
from e2e.fuzz_run import Effort, fuzz
from msgcore.config import known_variables
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess
from servers.postgres import PostgresServer
from servers.processes import UNMEASURED
from servers.webhook_sink import WebhookSink

LONG = "MSGCORE_FUZZ_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("MSGCORE_FUZZ_EXAMPLES", "3"))
SEED = int(os.environ.get("MSGCORE_FUZZ_SEED", "1"))
RATES = [name for name in known_variables() if name.startswith("MSGCORE_RATE_") and "_LIMIT_" not in name]

FURTHEST = ["a key", "owner"]
CALLERS = [
    "nobody", *FURTHEST, "viewer", "member", "admin", "an administrator", "no member",
    "a key with one scope", "a key of another project", "a revoked key", "an expired key",
]  # fmt: skip
FAR = 0.8
"""The share of all operations with which the owner of a project has to succeed."""
LEAK = 48 * 1024
"""KiB that the gateway may grow by once it is warm: each connection to SQLite fills a cache of some MiB when its time comes.
Of the owner's requests, each would have to leave 5 KiB for more."""


@pytest.fixture(scope="function" if LONG else "module", params=["sqlite", "postgresql"] if LONG else ["sqlite"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For each caller of the long form a new one, so that a run of one alone finds the same."""
    folder = tmp_path_factory.mktemp("gateway")
    database_url = None
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        database_url = server.create_database(f"fuzz_{folder.name.replace('-', '_')}")
    settings = {"MSGCORE_JWT_SECRET": JWT_SECRET, "MSGCORE_LOG_LEVEL": "error", **UNMEASURED}
    settings |= {"MSGCORE_RATE_LIMIT_MAX": "1000000", **dict.fromkeys(RATES, "0")}
    with GatewayProcess(data_dir=folder, database_url=database_url, **settings) as gateway, WebhookSink() as sink:
        nobody = ApiClient(gateway.url, {})
        signed_up = nobody.ask("POST", "auth/signup", {"email": EMAIL, "password": PASSWORD, "name": "Ann"})
        admin = nobody.as_user(signed_up.body["accessToken"])
        yield World(Running(gateway, nobody, admin, admin), [], sink.url())


def find(world: World, name: str) -> Caller:
    match name:
        case "a key":
            return world.key_with(world.all_scopes)
        case "a key with one scope":
            return world.key_with(frozenset({"messages:read"}))
        case "a key of another project":
            return world.their_key
        case _:
            return next(caller for caller in (*world.unknown, *world.people) if caller.name == name)


@pytest.mark.parametrize("name", CALLERS if LONG else FURTHEST)
def test_whatever_is_asked_is_answered_as_documented(
    world: World, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # Only they try the values at the limits of each parameter, of which most requests are: others are let in to less.
    phases = "examples,fuzzing"
    if LONG:
        phases += ",coverage,stateful" if name in FURTHEST else ",stateful"
    found = fuzz(world, find(world, name), Effort(phases, EXAMPLES, SEED), tmp_path)
    print(f"\n{request.node.callspec.id}: {found}")
    again = f"MSGCORE_FUZZ_SEED={SEED} MSGCORE_FUZZ_EXAMPLES={EXAMPLES} pytest -s '{request.node.nodeid}'"
    assert not found.failure, f"again with: {again}\n{found.failure}"
    assert not found.unanswered, again
    assert found.growth < LEAK, f"the memory of the gateway, in KiB: {found.memory}; again with: {again}"
    if name == "owner":
        assert len(found.succeeded) >= FAR * len(found.answers), sorted(found.answers.keys() - found.succeeded)
    assert world.running.nobody.ask("GET", "health").status == 200
