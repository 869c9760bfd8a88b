"""Every endpoint, asked by every kind of caller, answers as the table of docs/access.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler

from api.access_requests import NAMED, REQUESTS, Ask
from api.access_table import Row, read_table
from api.access_world import JWT_SECRET, MINE, OWN_ORIGIN, Caller, Line, World, verdict
from api.conftest import ALL_SCOPES, Running
from msgcore.api.app import CONTROLLERS, SIGNING_IN
from servers.webhook_sink import WebhookSink

SETTINGS = {
    "MSGCORE_JWT_SECRET": JWT_SECRET,
    "MSGCORE_CORS_ORIGINS": OWN_ORIGIN,
    "MSGCORE_RATE_LIMIT_MAX": "1000000",
    "MSGCORE_RATE_ADDRESS": "0",
    "MSGCORE_RATE_ADDRESS_FAILURES": "0",
}
TABLE = read_table()
SIGN_OUT = "DELETE /api/v1/auth/session"
SEND = next(row for row in TABLE if row.path.endswith("/send"))
UNKNOWN = "01920000-0000-7000-8000-0000000000ff"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


@pytest.fixture(scope="module")
def world(running: Running) -> Iterator[World]:
    with WebhookSink() as sink:
        yield World(running, {row.scopes for row in TABLE}, sink.url())


@pytest.fixture
def line(running: Running) -> Iterator[Line]:
    opened = Line(running.gateway.port)
    yield opened
    opened.close()


def callers(row: Row, world: World) -> list[Caller]:
    """Who asks: with keys that just have what is needed, and that just have not."""
    needed = row.scopes or frozenset(ALL_SCOPES)
    lacking = [world.key_with(world.all_scopes - {scope}) for scope in sorted(row.scopes)]
    return [*world.unknown, *world.people, *world.sessions, world.their_key, world.key_with(needed), *lacking]


def put(line: Line, row: Row, caller: Caller, things: dict[str, str]) -> tuple[int, str]:
    """A plausible request for these things; the answer's status and body."""
    ids, query, body = REQUESTS.get(str(row), Ask()).about(row.path, things)
    path = row.path.format_map(ids) + (f"?{query}" if query else "")
    return line.ask(row.method, path, body and body.encode(), caller.headers)


def without_names(text: str, *names: str) -> str:
    """An answer without what differs between two that say the same."""
    for name in names:
        text = text.replace(name, "it")
    answer: Any = json.loads(text) if text else {}
    if isinstance(answer, dict):
        answer.pop("requestId", None)
    return TIME.sub("then", UUID.sub("it", json.dumps(answer)))


def test_the_table_has_all_endpoints_and_no_others(running: Running) -> None:
    document = running.nobody.ask("GET", "/docs/openapi.json").body
    operations = {f"{method.upper()} {path}" for path, found in document["paths"].items() for method in found}
    assert {str(row) for row in TABLE if row.in_document} == operations
    assert REQUESTS.keys() <= {str(row) for row in TABLE}


def test_the_table_has_the_sockets_and_nothing_is_kept_from_the_document() -> None:
    sockets: set[str] = set()
    for controller in (*SIGNING_IN, *CONTROLLERS):
        for handler in vars(controller).values() if isinstance(controller, type) else [controller]:
            if isinstance(handler, WebsocketRouteHandler):
                sockets |= {re.sub(r":\w+", "", f"{controller.path}{path}").rstrip("/") for path in handler.paths}
            elif isinstance(handler, HTTPRouteHandler):
                assert handler.resolve_include_in_schema(), handler
    assert sockets == {row.path for row in TABLE if row.method == "WebSocket"}


class Findings:
    """What was asked, and what was answered otherwise than it should be."""

    def __init__(self) -> None:
        self.asked = 0
        self._wrong: list[str] = []

    def check(self, holds: bool, row: Row, caller: Caller, *told: object) -> None:
        self.asked += 1
        if not holds:
            self._wrong.append(f"{row} by {caller.name}: {told}"[:400])

    def report(self, what: str) -> None:
        assert not self._wrong, "\n".join([f"{len(self._wrong)} wrong", *self._wrong])
        print(f"{what}: {self.asked} answers compared")


def test_who_is_refused_is_told_so_and_changes_nothing(world: World, line: Line) -> None:
    for caller in world.known:  # whose keys are remembered from then on, as what answers the short way asks for
        assert line.ask("GET", "/api/v1/auth/whoami", None, caller.headers)[0] == 200, caller
    cells = sum(len(callers(row, world)) for row in TABLE)
    print(f"{len(TABLE)} endpoints by {len(callers(SEND, world))} kinds of caller: {cells} pairs")
    before, found = world.settled(), Findings()
    nowhere = world.mine.things | {"project": "nowhere"}
    for row in TABLE:
        for caller in callers(row, world):
            expected = verdict(row, caller)
            if expected == 200:
                continue
            status, text = put(line, row, caller, world.mine.things)
            found.check(status == expected, row, caller, expected, status, text)
            if expected == 404:
                missing = put(line, row, caller, nowhere)
                told = (status, without_names(text, MINE)), (missing[0], without_names(missing[1], "nowhere"))
                found.check(told[0] == told[1], row, caller, "not as for a project that does not exist", *told)
    found.report("refusals")
    assert world.contents() == before


def test_a_key_grants_no_scope_that_it_does_not_have(world: World, line: Line) -> None:
    strong = next(key["id"] for key in world.mine.ask("GET", "/keys") if len(key["scopes"]) == len(ALL_SCOPES))
    before, keys = world.settled(), f"/api/v1/projects/{MINE}/keys"
    for scope in sorted(world.all_scopes - {"keys:write"}):
        lacking = world.key_with(world.all_scopes - {scope}).headers
        for path, body in ((keys, {"name": "k", "scopes": ["keys:write", scope]}), (f"{keys}/{strong}/roll", None)):
            status, text = line.ask("POST", path, body and json.dumps(body).encode(), lacking)
            assert status == 403, text
            assert scope in text
    assert world.contents() == before


def test_whoever_may_does_and_gets_nothing_of_others(world: World, line: Line) -> None:
    found = Findings()
    theirs = names_of_theirs(world)
    for row in TABLE:
        ask = REQUESTS.get(str(row), Ask())
        for caller in callers(row, world):
            if verdict(row, caller) != 200:
                continue
            things = world.mine.things | ({ask.fresh: world.mine.make(ask.fresh)} if ask.fresh else {})
            status, text = put(line, row, caller, things)
            ends = ask.by_session if caller.is_session and ask.by_session is not None else ask.ends
            found.check(ends in (status, status // 100), row, caller, status, text)
            if str(row) == SIGN_OUT and caller.is_session:
                world.open_session()
            if caller.project == MINE:
                found.check(theirs.search(text) is None, row, caller, "things of others", text)
    found.report("grants")


def test_things_of_others_are_answered_for_like_things_that_do_not_exist(world: World, line: Line) -> None:
    before, found = of_theirs(world), Findings()
    insiders = [world.key_with(world.all_scopes), *world.people[3:5]]
    for row in TABLE:
        if not row.is_of_a_project:
            continue
        ask = REQUESTS.get(str(row), Ask())
        in_path = {ask.ids.get(name, name) for name in re.findall(r"\{(\w+)\}", row.path)} - {"project"}
        for thing in in_path | set(NAMED.findall(json.dumps(ask.body) + ask.query)) - {"new"}:
            theirs = world.mine.things | {thing: world.theirs.things[thing]}
            missing = world.mine.things | {thing: UNKNOWN}
            for caller in insiders:
                told = [put(line, row, caller, things) for things in (theirs, missing)]
                names = world.theirs.things[thing], UNKNOWN
                same = told[0][0] == told[1][0] and len({without_names(text, *names) for _, text in told}) == 1
                expected = (404,) if thing in in_path else (200, 201, 400, 404)
                found.check(same and told[0][0] in expected, row, caller, thing, *told)
    found.report("things of others")
    assert of_theirs(world) == before


def of_theirs(world: World) -> list[str]:
    """All rows in which something of the other project is."""
    # A chat's id that is unknown is taken for the platform's own, as which it may be written down.
    names = names_of_theirs(world, "chat_id")
    return [row for rows in world.contents().values() for row in rows if names.search(row)]


def names_of_theirs(world: World, *apart_from: str) -> re.Pattern[str]:
    told = {name: value for name, value in world.theirs.things.items() if name not in ("platform", *apart_from)}
    return re.compile("|".join(map(re.escape, told.values())))


def test_a_project_shows_keys_and_members_to_those_who_may_list_them(world: World, line: Line) -> None:
    few, all_ = world.key_with(frozenset({"projects:read"})), world.key_with(world.all_scopes)
    viewer, member, admin, owner, administrator, _ = world.people
    for caller, sees_keys, sees_members in (
        (viewer, False, True),
        (member, False, True),
        (admin, True, True),
        (owner, True, True),
        (administrator, True, True),
        (few, False, False),
        (all_, True, True),
    ):
        shown = json.loads(line.ask("GET", f"/api/v1/projects/{MINE}", None, caller.headers)[1])
        assert bool(shown["apiKeys"]) is sees_keys, caller
        listed = json.loads(line.ask("GET", "/api/v1/projects", None, caller.headers)[1])
        assert [bool(each["members"]) for each in listed if each["id"] == MINE] == [sees_members], caller
