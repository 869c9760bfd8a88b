"""What one process takes away, another one no longer gives; they share a PostgreSQL database, and no Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.conftest import ALL_SCOPES, EMAIL, PASSWORD
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess
from servers.patience import PATIENCE
from servers.postgres import PostgresServer


@dataclass
class Two:
    """The administrator at one process, and where the other one is."""

    here: ApiClient
    there: str


@pytest.fixture(scope="module")
def two(
    postgres_server: PostgresServer, migrated_postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    url = postgres_server.create_database("api_two", template=migrated_postgres)
    folder: Path = tmp_path_factory.mktemp("gateway")
    settings = {"MSGCORE_SHUTDOWN_SECONDS": "0.5"}
    with (
        GatewayProcess("api", data_dir=folder, database_url=url, **settings) as one,
        GatewayProcess("api", data_dir=folder, database_url=url, **settings) as other,
    ):
        nobody = ApiClient(one.url, {})
        made = nobody.ask("POST", "auth/signup", {"email": EMAIL, "password": PASSWORD}).body
        here = nobody.as_user(made["accessToken"])
        assert here.ask("POST", "projects", {"id": "shop", "name": "Shop"}).status == 201
        yield Two(here, other.url)


def test_a_role_a_member_and_a_token_end(two: Two) -> None:
    invited = two.here.ask("POST", "projects/shop/members/invite", {"email": "bob@x.org", "role": "admin"}).body
    accepting = {"token": invited["inviteLink"].rpartition("/")[2], "name": "Bob", "password": PASSWORD}
    bob = ApiClient(two.there, {}).ask("POST", "auth/accept-invite", accepting).body
    there = ApiClient(two.there, {}).as_user(bob["accessToken"])
    member = f"projects/shop/members/{bob['user']['id']}"
    assert there.ask("GET", "projects/shop/keys").status == 200
    two.here.ask("PATCH", member, {"role": "viewer"})
    assert there.ask("GET", "projects/shop/keys").status == 403
    two.here.ask("DELETE", member)
    assert there.ask("GET", "projects/shop").status == 404
    here = ApiClient(two.here.url, there.headers)
    assert here.ask("POST", "auth/logout-all").status == 200
    assert there.ask("GET", "auth/whoami").status == 401


def test_a_revoked_key_ends(two: Two) -> None:
    made = two.here.ask("POST", "projects/shop/keys", {"name": "k", "scopes": ALL_SCOPES}).body
    there = ApiClient(two.there, {}).as_key(made["key"])
    assert [there.ask("GET", "projects/shop").status for _ in range(3)] == [200] * 3
    assert two.here.ask("DELETE", f"projects/shop/keys/{made['id']}").status == 200
    deadline = time.monotonic() + PATIENCE
    while there.ask("GET", "projects/shop").status != 401:
        assert time.monotonic() < deadline
        time.sleep(0.01)
