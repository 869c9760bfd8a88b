"""Identities: people, the accounts that are theirs, and what they wrote."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import insert

from api.conftest import ALL_SCOPES, Running
from msgcore.core.ids import new_id
from msgcore.store.database import Database
from msgcore.store.tables import received_messages, received_reactions
from servers.api_client import ApiClient, Reply
from servers.patience import PATIENCE

MISSING = "01920000-0000-7000-8000-0000000000ff"


@dataclass(frozen=True)
class People:
    """The identities of a project of its own, with a sandbox platform."""

    running: Running
    project: str
    box: str

    def ask(self, method: str, path: str = "", body: Any = None, *, by: ApiClient | None = None) -> Reply:
        return (by or self.running.admin).ask(method, f"projects/{self.project}/identities{path}", body)

    def get(self, path: str = "") -> Any:
        reply = self.ask("GET", path)
        assert reply.status == 200, reply
        return reply.body

    def post(self, path: str, body: Any) -> Any:
        reply = self.ask("POST", path, body)
        assert reply.status == 201, reply
        return reply.body

    def alias(self, user: str, box: str = "", **more: Any) -> dict[str, Any]:
        return {"platformId": box or self.box, "providerUserId": user, **more}

    def create(self, *users: str, **fields: Any) -> Any:
        return self.post("", {"aliases": [self.alias(user) for user in users], **fields})

    def users(self, identity: Any) -> list[str]:
        return [alias["providerUserId"] for alias in self.get(f"/{identity['id']}")["aliases"]]


def add_box(running: Running, project: str) -> str:
    made = running.admin.ask(
        "POST", f"projects/{project}/platforms", {"platform": "sandbox", "name": "box", "credentials": {}}
    )
    assert made.status == 201, made
    return str(made.body["id"])


@pytest.fixture
def people(running: Running) -> People:
    project = f"p{time.monotonic_ns()}"
    assert running.admin.ask("POST", "projects", {"id": project, "name": "P"}).status == 201
    return People(running, project, add_box(running, project))


def pointers(reply: Reply) -> list[str]:
    return [error["pointer"] for error in reply.body["errors"]]


# --- making and finding


def test_an_identity_is_found_by_its_id_its_account_and_in_the_list(people: People) -> None:
    second = add_box(people.running, people.project)
    made = people.post(
        "",
        {
            "displayName": "Ann",
            "email": "Ann@Example.com",
            "metadata": {"tier": {"level": 3}},
            "aliases": [people.alias("ann", providerUserDisplay="Ann B."), people.alias("ann", second)],
        },
    )
    assert (made["projectId"], made["displayName"]) == (people.project, "Ann")
    assert (made["email"], made["metadata"]) == ("ann@example.com", {"tier": {"level": 3}})
    first = made["aliases"][0]
    assert [alias["platformId"] for alias in made["aliases"]] == [people.box, second]
    assert (first["identityId"], first["platform"], first["linkMethod"]) == (made["id"], "sandbox", "manual")
    assert (first["providerUserDisplay"], made["aliases"][1]["providerUserDisplay"]) == ("Ann B.", None)
    assert first["platformConfig"] == {"id": people.box, "name": "box", "platform": "sandbox"}
    assert made["_count"] == {"aliases": 2}

    assert people.get(f"/{made['id']}") == made
    assert people.get(f"/{made['id'].upper()}") == made
    assert people.get(f"/lookup?platformId={second}&providerUserId=ann") == made
    assert people.get() == [made]


def test_the_same_user_id_on_two_platforms_may_be_two_people(people: People) -> None:
    second = add_box(people.running, people.project)
    one = people.create("ann")
    other = people.post("", {"aliases": [people.alias("ann", second)]})
    assert people.get(f"/lookup?platformId={people.box}&providerUserId=ann")["id"] == one["id"]
    assert people.get(f"/lookup?platformId={second}&providerUserId=ann")["id"] == other["id"]


def test_the_list_comes_in_pages_newest_first(people: People) -> None:
    made = [people.create(f"user-{number}")["id"] for number in range(5)]
    pages = [[view["id"] for view in people.get(f"?limit=2&offset={offset}")] for offset in (0, 2, 4, 6)]
    assert pages == [made[:2:-1], made[2:0:-1], made[:1], []]
    assert [view["aliases"][0]["providerUserId"] for view in people.get("?limit=1")] == ["user-4"]


def test_an_identity_without_accounts_and_name_is_possible(people: People) -> None:
    made = people.post("", {})
    assert (made["displayName"], made["email"], made["metadata"], made["aliases"]) == (None, None, None, [])


def test_compatible_clients_send_aliases_and_metadata_as_text(people: People) -> None:
    made = people.post("", {"metadata": '{"a": 1}', "aliases": json.dumps([people.alias("ann")])})
    assert (made["metadata"], people.users(made)) == ({"a": 1}, ["ann"])
    changed = people.ask("PATCH", f"/{made['id']}", {"metadata": '{"b": 2}'})
    assert changed.body["metadata"] == {"b": 2}
    refused = people.ask("POST", "", {"aliases": json.dumps([people.alias("bob"), {"platformId": people.box}])})
    assert (refused.status, pointers(refused)) == (400, ["/aliases/1/providerUserId"])


@pytest.mark.parametrize(
    ("text", "found"),
    [("ANN", ["Ann Arbor"]), ("arbor", ["Ann Arbor"]), ("@shop.ex", ["Bob"]), ("Shop.Example", ["Bob"]),
     ("tg-77", ["Cat"]), ("tg-7", []), ("kitty", ["Cat"]), ("100%_", ["100%_"]), ("%%", []), ("__", []),
     ("an", ["Dan", "Ann Arbor"])],
)  # fmt: skip
def test_search_looks_at_names_addresses_and_accounts(people: People, text: str, found: list[str]) -> None:
    people.create("1", displayName="Ann Arbor")
    people.create("2", displayName="Bob", email="bob@shop.example")
    people.post("", {"displayName": "Cat", "aliases": [people.alias("tg-77", providerUserDisplay="Kitty")]})
    people.create("3", displayName="100%_")
    people.create("4", displayName="Dan")
    assert [view["displayName"] for view in people.get(f"/search?q={quote(text)}")] == found
    assert [view["displayName"] for view in people.get(f"/search?q={quote(text)}&limit=1&offset=1")] == found[1:2]


# --- changing


def test_a_change_touches_what_is_named_and_null_empties(people: People) -> None:
    made = people.create("ann", displayName="Ann", email="ann@example.com", metadata={"a": 1})
    changed = people.ask("PATCH", f"/{made['id']}", {"displayName": "Anna"})
    assert changed.status == 200
    assert changed.body == made | {"displayName": "Anna", "updatedAt": changed.body["updatedAt"]}
    assert changed.body["updatedAt"] >= made["updatedAt"]
    emptied = people.ask("PATCH", f"/{made['id']}", {"displayName": None, "email": None, "metadata": None}).body
    assert (emptied["displayName"], emptied["email"], emptied["metadata"]) == (None, None, None)
    assert people.ask("PATCH", f"/{made['id']}", {}).body == emptied
    assert people.get(f"/{made['id']}") == emptied


def test_deleting_an_identity_frees_its_accounts(people: People) -> None:
    made, other = people.create("ann", "anna"), people.create("bob")
    deleted = people.ask("DELETE", f"/{made['id']}")
    assert (deleted.status, deleted.body["success"]) == (200, True)
    assert people.ask("GET", f"/{made['id']}").status == 404
    assert people.ask("DELETE", f"/{made['id']}").status == 404
    assert people.get() == [other]
    assert people.users(people.create("ann")) == ["ann"]


def test_accounts_are_linked_and_unlinked_but_not_the_last(people: People) -> None:
    made, other = people.create("ann"), people.create("bob")
    added = people.post(f"/{made['id']}/aliases", people.alias("anna", providerUserDisplay="Anna"))
    assert (added["identityId"], added["providerUserId"], added["providerUserDisplay"]) == (made["id"], "anna", "Anna")
    assert added["platformConfig"]["name"] == "box"
    assert people.users(made) == ["ann", "anna"]

    assert people.ask("DELETE", f"/{other['id']}/aliases/{added['id']}").status == 404
    removed = people.ask("DELETE", f"/{made['id']}/aliases/{made['aliases'][0]['id']}")
    assert (removed.status, removed.body["success"]) == (200, True)
    refused = people.ask("DELETE", f"/{made['id']}/aliases/{added['id']}")
    assert (refused.status, "delete the identity" in refused.body["message"]) == (400, True)
    assert people.users(made) == ["anna"]
    assert people.users(people.create("ann")) == ["ann"], "what was unlinked can be linked anew"


def test_an_identity_has_a_bounded_number_of_accounts(people: People) -> None:
    made = people.create(*(f"user-{number}" for number in range(100)))
    assert made["_count"] == {"aliases": 100}
    refused = people.ask("POST", f"/{made['id']}/aliases", people.alias("one-more"))
    assert (refused.status, "100 aliases" in refused.body["message"]) == (409, True)
    refused = people.ask("POST", "", {"aliases": [people.alias(f"other-{number}") for number in range(101)]})
    assert (refused.status, pointers(refused)) == (400, ["/aliases"])


def test_an_account_goes_with_its_platform(people: People) -> None:
    second = add_box(people.running, people.project)
    made = people.create("ann")
    people.post(f"/{made['id']}/aliases", people.alias("anna", second))
    removed = people.running.admin.ask("DELETE", f"projects/{people.project}/platforms/{second}")
    assert removed.status == 200, removed
    assert people.users(made) == ["ann"]


# --- an account belongs to one identity


def test_linking_an_account_again_names_the_identity_that_has_it(people: People) -> None:
    made, other = people.create("ann"), people.create("bob")
    for identity in (made, other):
        refused = people.ask("POST", f"/{identity['id']}/aliases", people.alias("ann"))
        assert (refused.status, pointers(refused)) == (409, ["/providerUserId"])
        assert made["id"] in refused.body["detail"]
    refused = people.ask("POST", "", {"aliases": [people.alias(user) for user in ("new", "bob", "ann")]})
    assert (refused.status, pointers(refused)) == (409, ["/aliases/1/providerUserId", "/aliases/2/providerUserId"])
    assert other["id"] in refused.body["message"][0]
    assert made["id"] in refused.body["message"][1]
    assert people.get() == [other, made], "nothing of a refused identity is kept"
    assert people.ask("GET", f"/lookup?platformId={people.box}&providerUserId=new").status == 404


def test_one_of_many_that_link_an_account_at_once_gets_it(people: People) -> None:
    def create(number: int) -> Reply:
        # Opposite orders, so that those which wait for each other would be found out.
        users = ["ann", "bob"] if number % 2 else ["bob", "ann"]
        return people.ask("POST", "", {"displayName": str(number), "aliases": [people.alias(user) for user in users]})

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(create, range(12)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 11, replies
    [owner] = people.get()
    assert all(owner["id"] in reply.body["detail"] for reply in replies if reply.status == 409)


def test_of_the_last_two_accounts_one_stays_when_both_are_unlinked_at_once(people: People) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(20):  # they meet in some of them
            made = people.create(f"ann-{number}", f"anna-{number}")
            paths = [f"/{made['id']}/aliases/{alias['id']}" for alias in made["aliases"]]
            statuses = sorted(reply.status for reply in pool.map(lambda path: people.ask("DELETE", path), paths))
            assert statuses == [200, 400]
            assert len(people.users(made)) == 1


def test_an_account_named_twice_in_one_request_is_refused(people: People) -> None:
    aliases = [people.alias("ann"), people.alias("bob"), people.alias("ann", people.box.upper())]
    refused = people.ask("POST", "", {"aliases": aliases})
    assert (refused.status, pointers(refused)) == (400, ["/aliases/2/providerUserId"])
    assert people.get() == []


# --- quick-link


def test_quick_link_makes_an_identity_once(people: People) -> None:
    body = people.alias("ann", providerUserDisplay="Ann B.", displayName="Ann", email="ann@example.com")
    made = people.post("/quick-link", body)
    assert (made["displayName"], made["email"], made["aliases"][0]["providerUserDisplay"]) == (
        "Ann", "ann@example.com", "Ann B.",
    )  # fmt: skip
    assert people.post("/quick-link", people.alias("ann", displayName="Another")) == made
    people.post(f"/{made['id']}/aliases", people.alias("anna"))
    assert people.post("/quick-link", people.alias("anna"))["id"] == made["id"]
    assert people.post("/quick-link", people.alias("bob", providerUserDisplay="Bob"))["displayName"] == "Bob"
    assert len(people.get()) == 2


def test_quick_links_at_once_give_the_same_identity(people: People) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: people.ask("POST", "/quick-link", people.alias("ann")), range(8)))
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body["id"] for reply in replies}) == len(people.get()) == 1


# --- what they wrote


def test_messages_of_all_accounts_come_newest_first(people: People) -> None:
    targets = [{"platformId": people.box, "type": "user", "id": f"reply:{who}"} for who in ("ann", "anna", "bob")]
    url = f"projects/{people.project}/messages/send"
    assert people.running.admin.ask("POST", url, {"targets": targets, "content": {"text": "hi"}}).status == 201
    made, other = people.create("reply:ann", "reply:anna"), people.create("reply:bob")
    deadline = time.monotonic() + PATIENCE
    while len(people.get(f"/{made['id']}/messages")) < 2 or len(people.get(f"/{other['id']}/messages")) < 1:
        assert time.monotonic() < deadline, "the sandbox did not answer"
        time.sleep(0.02)

    found = people.get(f"/{made['id']}/messages")
    assert {message["providerUserId"] for message in found} == {"reply:ann", "reply:anna"}
    assert [m["receivedAt"] for m in found] == sorted((m["receivedAt"] for m in found), reverse=True)
    newest = found[0]
    assert (newest["projectId"], newest["platformId"], newest["platform"]) == (people.project, people.box, "sandbox")
    assert (newest["messageText"], newest["messageType"], newest["direction"]) == ("You wrote: hi", "text", "received")
    assert newest["timestamp"] == newest["receivedAt"]
    assert newest["rawData"]["content"]["text"] == "You wrote: hi"
    assert newest["platformConfig"] == {
        "id": people.box, "platform": "sandbox", "isActive": True, "testMode": False,
    }  # fmt: skip
    assert people.get(f"/{made['id']}/messages?limit=1&offset=1") == found[1:]
    [of_other] = people.get(f"/{other['id']}/messages")
    assert of_other["providerUserId"] == "reply:bob"


async def store_reactions(people: People, *users: str) -> None:
    """As a platform would: reactions one minute apart, the last one stored the newest."""
    gateway = people.running.gateway
    url = gateway.environment.get("MSGCORE_DATABASE_URL") or f"sqlite:///{gateway.data_dir / 'msgcore.db'}"
    database = Database.open(url)
    start = datetime(2030, 1, 31, 12, tzinfo=UTC)
    common = {
        "project_id": people.project, "platform_id": people.box, "platform": "sandbox",
        "provider_chat_id": "chat", "user_display": None, "raw_data": {"n": 1},
    }  # fmt: skip
    try:
        async with database.write() as connection:
            for number, user in enumerate(users):
                about = {"id": new_id(), "provider_message_id": f"m{number}", "provider_user_id": user}
                moment = {"received_at": start + timedelta(minutes=number)}
                reaction = {"emoji": "\N{THUMBS UP SIGN}", "reaction_type": "removed" if number else "added"}
                await connection.execute(insert(received_reactions).values(common | about | moment | reaction))
                message = {"id": new_id(), "message_text": None, "message_type": "image"}
                await connection.execute(insert(received_messages).values(common | about | moment | message))
    finally:
        await database.close()


def test_reactions_and_messages_without_text_are_listed(people: People) -> None:
    asyncio.run(store_reactions(people, "ann", "bob", "anna"))
    made = people.create("ann", "anna")
    found = people.get(f"/{made['id']}/reactions")
    assert [(r["providerUserId"], r["reactionType"], r["providerMessageId"]) for r in found] == [
        ("anna", "removed", "m2"), ("ann", "added", "m0"),
    ]  # fmt: skip
    assert (found[0]["emoji"], found[0]["rawData"]) == ("\N{THUMBS UP SIGN}", {"n": 1})
    assert found[1]["timestamp"] == found[1]["receivedAt"] == "2030-01-31T12:00:00.000Z"
    assert people.get(f"/{made['id']}/reactions?limit=1&offset=1") == found[1:]
    messages = people.get(f"/{made['id']}/messages")
    assert [(m["providerMessageId"], m["messageText"]) for m in messages] == [("m2", None), ("m0", None)]


# --- wrong input


BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"displayName": ""}, "/displayName"),
    ({"displayName": "x" * 201}, "/displayName"),
    ({"displayName": "a\0b"}, "/displayName"),
    ({"email": "nonsense"}, "/email"),
    ({"email": "a b@example.com"}, "/email"),
    ({"email": f"{'x' * 65}@example.com"}, "/email"),
    ({"email": 1}, "/email"),
    ({"metadata": []}, "/metadata"),
    ({"metadata": "nonsense"}, "/metadata"),
    ({"metadata": "[]"}, "/metadata"),
    ({"metadata": {"a": "x" * 16_384}}, "/metadata"),
    ({"metadata": '{"a": {"b\\u0000": 1}}'}, "/metadata"),
    ({"name": "Ann"}, "/name"),
]

BAD_ALIASES: list[tuple[Any, str]] = [
    ({"platformId": ...}, "platformId"),
    ({"platformId": "nonsense"}, "platformId"),
    ({"platformId": MISSING}, "platformId"),
    ({"platformId": "x" * 65}, "platformId"),
    ({"providerUserId": ...}, "providerUserId"),
    ({"providerUserId": ""}, "providerUserId"),
    ({"providerUserId": "x" * 256}, "providerUserId"),
    ({"providerUserId": 7}, "providerUserId"),
    ({"providerUserDisplay": "x" * 201}, "providerUserDisplay"),
    ({"linkMethod": "automatic"}, "linkMethod"),
]


@pytest.mark.parametrize(("body", "pointer"), BAD_BODIES)
def test_a_wrong_field_is_named_and_changes_nothing(people: People, body: dict[str, Any], pointer: str) -> None:
    made = people.create("ann", displayName="Ann")
    for refused in (people.ask("POST", "", body | {"aliases": []}), people.ask("PATCH", f"/{made['id']}", body)):
        assert (refused.status, pointers(refused)) == (400, [pointer])
    if pointer in {"/displayName", "/email"}:
        assert pointers(people.ask("POST", "/quick-link", people.alias("bob") | body)) == [pointer]
    assert people.get() == [made]


@pytest.mark.parametrize(("change", "field"), BAD_ALIASES)
def test_a_wrong_alias_is_named_and_links_nothing(people: People, change: dict[str, Any], field: str) -> None:
    made = people.create("ann")
    alias = {name: value for name, value in (people.alias("bob") | change).items() if value is not ...}
    for path, body, pointer in (
        ("", {"aliases": [people.alias("cat"), alias]}, f"/aliases/1/{field}"),
        (f"/{made['id']}/aliases", alias, f"/{field}"),
        ("/quick-link", alias, f"/{field}"),
    ):
        refused = people.ask("POST", path, body)
        assert (refused.status, pointers(refused)) == (400, [pointer])
    assert people.get() == [made]


@pytest.mark.parametrize("aliases", ["nonsense", "{}", {}, [1], None, "[" * 5000])
def test_aliases_must_be_a_list(people: People, aliases: Any) -> None:
    refused = people.ask("POST", "", {"aliases": aliases})
    assert refused.status == 400
    assert all(pointer.startswith("/aliases") for pointer in pointers(refused))


@pytest.mark.parametrize(
    ("path", "field"),
    [("/lookup?platformId=1", "providerUserId"), ("/lookup?providerUserId=1", "platformId"),
     ("/lookup?platformId=1&providerUserId=", "providerUserId"), ("/search", "q"), ("/search?q=a", "q"),
     ("?limit=0", "limit"), ("?limit=101", "limit"), ("?offset=-1", "offset"), ("/search?q=ann&limit=x", "limit"),
     ("/{id}/messages?limit=101", "limit"), ("/{id}/reactions?offset=x", "offset")],
)  # fmt: skip
def test_a_wrong_parameter_is_named(people: People, path: str, field: str) -> None:
    made = people.create("ann")
    refused = people.ask("GET", path.replace("{id}", made["id"]))
    assert (refused.status, pointers(refused)) == (400, [f"/query/{field}"])


# --- who may


ENDPOINTS: list[tuple[str, str, Any]] = [
    ("GET", "/{id}", None),
    ("PATCH", "/{id}", {"displayName": "Eve"}),
    ("DELETE", "/{id}", None),
    ("POST", "/{id}/aliases", {"platformId": "{box}", "providerUserId": "eve"}),
    ("DELETE", "/{id}/aliases/{alias}", None),
    ("GET", "/{id}/messages", None),
    ("GET", "/{id}/reactions", None),
    ("GET", "/lookup?platformId={box}&providerUserId=ann", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ENDPOINTS)
def test_what_is_anothers_looks_like_what_is_not_there(people: People, method: str, path: str, body: Any) -> None:
    made = people.create("ann", "anna")
    theirs = People(people.running, "other", add_box(people.running, "other"))
    ids = {"{id}": made["id"], "{alias}": made["aliases"][0]["id"]}

    def asked(identity: dict[str, str], box: str) -> Reply:
        text = path
        for place, value in (identity | {"{box}": box}).items():
            text = text.replace(place, value)
        sent = body and json.loads(json.dumps(body).replace("{box}", theirs.box))
        return theirs.ask(method, text, sent)

    foreign = asked(ids, people.box)
    for missing_id in (MISSING, "nonsense"):
        missing = asked(dict.fromkeys(ids, missing_id), missing_id)
        assert (foreign.status, missing.status) == (404, 404)
        shown = foreign.body["message"].replace(people.box, missing_id)
        for value in ids.values():
            shown = shown.replace(value, missing_id)
        assert shown == missing.body["message"]
    assert people.get() == [made]


def test_platforms_and_people_of_others_are_not_used(people: People) -> None:
    made = people.create("ann", displayName="Ann")
    theirs = People(people.running, f"{people.project}-2", "")
    assert people.running.admin.ask("POST", "projects", {"id": theirs.project, "name": "P"}).status == 201
    own = theirs.post("", {"displayName": "Own"})
    for path, body in (
        ("", {"aliases": [people.alias("eve")]}),
        (f"/{own['id']}/aliases", people.alias("eve")),
        ("/quick-link", people.alias("eve")),
        ("/quick-link", people.alias("ann")),
    ):
        foreign = theirs.ask("POST", path, body)
        missing = theirs.ask("POST", path, json.loads(json.dumps(body).replace(people.box, MISSING)))
        assert (foreign.status, missing.status) == (400, 400)
        assert pointers(foreign) == pointers(missing)
        assert foreign.body["detail"].replace(people.box, MISSING) == missing.body["detail"]
    assert theirs.get() == [own]
    assert theirs.get("/search?q=ann") == []
    assert people.get() == [made]


READS = [("GET", ""), ("GET", "/search?q=ann"), ("GET", "/lookup?platformId={box}&providerUserId=ann"),
         ("GET", "/{id}")]  # fmt: skip
MESSAGE_READS = [("GET", "/{id}/messages"), ("GET", "/{id}/reactions")]
WRITES = [("POST", ""), ("POST", "/quick-link"), ("PATCH", "/{id}"), ("DELETE", "/{id}"), ("POST", "/{id}/aliases"),
          ("DELETE", "/{id}/aliases/{id}")]  # fmt: skip


@pytest.mark.parametrize(
    ("endpoints", "scopes"),
    [(READS, {"identities:read"}), (MESSAGE_READS, {"identities:read", "messages:read"}),
     (WRITES, {"identities:write"})],
)  # fmt: skip
def test_each_endpoint_asks_for_its_scopes(
    running: Running, people: People, endpoints: list[tuple[str, str]], scopes: set[str]
) -> None:
    made = people.create("ann")
    allowed = running.make_key(*scopes, project=people.project)
    lacking = {scope: running.make_key(*(set(ALL_SCOPES) - {scope}), project=people.project) for scope in scopes}
    for method, path in endpoints:
        place = path.replace("{id}", made["id"]).replace("{box}", people.box)
        body = {"wrong": 1} if method in {"POST", "PATCH"} else None
        assert people.ask(method, place, body, by=running.nobody).status == 401
        assert people.ask(method, place, body, by=running.key).status == 404, "a key of another project"
        for scope, key in lacking.items():
            refused = people.ask(method, place, body, by=key)
            assert (refused.status, scope in refused.body["message"]) == (403, True)
    for method, path in endpoints:
        if method == "GET":
            place = path.replace("{id}", made["id"]).replace("{box}", people.box)
            assert people.ask(method, place, by=allowed).status == 200
    if endpoints is WRITES:
        assert people.get() == [made]
        assert people.ask("POST", "/quick-link", people.alias("bob"), by=allowed).status == 201
