"""One running gateway for the tests of a module, on each database in turn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from msgcore.core.scopes import ApiScope
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess
from servers.postgres import PostgresServer
from servers.processes import MEASURED

EMAIL, PASSWORD = "ann@example.com", "Passw0rd1"
ALL_SCOPES = [scope.value for scope in ApiScope]


@dataclass(frozen=True)
class Running:
    """A gateway with its administrator, a project, and a key that may do everything in it."""

    gateway: GatewayProcess
    nobody: ApiClient
    admin: ApiClient
    key: ApiClient
    project: str = "shop"

    def make_key(self, *scopes: str, project: str = "shop") -> ApiClient:
        """A key with these scopes."""
        made = self.admin.ask("POST", f"projects/{project}/keys", {"name": "k", "scopes": list(scopes)})
        assert made.status == 201, made
        return self.nobody.as_key(made.body["key"])

    def add_sandbox(self, name: str = "box") -> str:
        """A sandbox platform; its id."""
        made = self.key.ask("POST", "projects/shop/platforms", {"platform": "sandbox", "name": name, "credentials": {}})
        assert made.status == 201, made
        return str(made.body["id"])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    database_url = None
    folder = tmp_path_factory.mktemp("gateway")
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name = f"api_{request.module.__name__.rpartition('.')[2]}"
        database_url = server.create_database(name, template=request.getfixturevalue("migrated_postgres"))
    else:
        shutil.copy(request.getfixturevalue("migrated_sqlite"), folder / "msgcore.db")
    settings = {"MSGCORE_SHUTDOWN_SECONDS": "0.5", **MEASURED} | getattr(request.module, "SETTINGS", {})
    with GatewayProcess(data_dir=folder, database_url=database_url, **settings) as gateway:
        nobody = ApiClient(gateway.url, {})
        signed_up = nobody.ask("POST", "auth/signup", {"email": EMAIL, "password": PASSWORD, "name": "Ann"})
        assert signed_up.status == 201, signed_up
        admin = nobody.as_user(signed_up.body["accessToken"])
        for project in ("shop", "other"):
            assert admin.ask("POST", "projects", {"id": project, "name": project}).status == 201
        made = admin.ask("POST", "projects/shop/keys", {"name": "all", "scopes": ALL_SCOPES})
        yield Running(gateway, nobody, admin, nobody.as_key(made.body["key"]))
