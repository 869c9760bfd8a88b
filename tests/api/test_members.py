"""Members and invitations: who lets whom in, as what, and until when."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.conftest import ALL_SCOPES, EMAIL, PASSWORD, Running
from servers.api_client import ApiClient, Reply

MEMBERS = "projects/shop/members"
NUMBERS = itertools.count()
READING = [scope for scope in ALL_SCOPES if scope.endswith(":read") and scope != "keys:read"]


class Person:
    """Somebody who accepted an invitation."""

    def __init__(self, running: Running, role: str, project: str = "shop") -> None:
        self.email = f"p{next(NUMBERS)}@example.com"
        invited = running.admin.ask(
            "POST", f"projects/{project}/members/invite", {"email": self.email.upper(), "role": role}
        )
        assert invited.status == 201, invited
        accepted = accept(running.nobody, invited.body["inviteLink"])
        assert accepted.status == 201, accepted
        self.id = str(accepted.body["user"]["id"])
        self.client = running.nobody.as_user(accepted.body["accessToken"])


def accept(nobody: ApiClient, link: str, password: str = PASSWORD) -> Reply:
    token = link.rpartition("/invite/")[2]
    return nobody.ask("POST", "auth/accept-invite", {"token": token, "name": "Bob", "password": password})


def meet(running: Running, giver: Person, taker: Person) -> None:
    """Let somebody in by a link that another one made."""
    project = f"of-{next(NUMBERS)}"
    assert giver.client.ask("POST", "projects", {"id": project, "name": "x"}).status == 201
    asked = {"email": taker.email, "role": "viewer"}
    link = giver.client.ask("POST", f"projects/{project}/members/invite", asked).body["inviteLink"]
    assert taker.client.ask("POST", "auth/join", {"token": link.rpartition("/")[2]}).status == 201


def role_of(running: Running, person: Person) -> str | None:
    found = {member["userId"]: member["role"] for member in running.admin.ask("GET", MEMBERS).body}
    return found.get(person.id)


def test_an_invitation_makes_one_account_with_its_role(running: Running) -> None:
    asked = {"email": "bob@example.com", "role": "viewer"}
    earlier = running.admin.ask("POST", f"{MEMBERS}/invite", asked).body
    invited = running.admin.ask("POST", f"{MEMBERS}/invite", asked).body
    assert invited["inviteLink"].startswith("http")
    assert accept(running.nobody, earlier["inviteLink"]).status == 401, "the later one replaces it"
    listed = running.admin.ask("GET", f"{MEMBERS}/invites")
    assert [(each["email"], each["role"]) for each in listed.body] == [("bob@example.com", "viewer")]
    assert invited["inviteLink"].rpartition("/")[2] not in str(listed.body)
    assert accept(running.nobody, invited["inviteLink"], "weak").status == 400
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: accept(running.nobody, invited["inviteLink"]), range(4)))
    assert sorted(reply.status for reply in replies) == [201, 401, 401, 401]
    bob = next(reply.body for reply in replies if reply.status == 201)
    assert (bob["user"]["email"], bob["user"]["isAdmin"]) == ("bob@example.com", False)
    client = running.nobody.as_user(bob["accessToken"])
    assert client.ask("GET", "projects/shop").status == 200
    assert client.ask("GET", "projects/other").status == 404
    assert client.ask("POST", MEMBERS, {"email": EMAIL, "role": "viewer"}).status == 403
    assert running.admin.ask("GET", f"{MEMBERS}/invites").body == []
    again = running.admin.ask("POST", f"{MEMBERS}/invite", asked)
    assert (again.status, again.body["errors"][0]["pointer"]) == (400, "/email")
    known = running.admin.ask("POST", "projects/other/members/invite", {"email": "bob@example.com"})
    assert (known.status, known.body["inviteLink"], known.body["expiresAt"]) == (201, None, None)
    assert client.ask("GET", "projects/other").status == 200
    running.admin.ask("DELETE", f"projects/other/members/{bob['user']['id']}")


def test_a_revoked_invitation_is_of_no_use(running: Running) -> None:
    invited = running.admin.ask("POST", f"{MEMBERS}/invite", {"email": "carl@example.com"}).body
    (listed,) = running.admin.ask("GET", f"{MEMBERS}/invites").body
    assert running.admin.ask("DELETE", f"projects/other/members/invites/{listed['id']}").status == 404
    assert running.admin.ask("DELETE", f"{MEMBERS}/invites/{listed['id']}").status == 200
    assert running.admin.ask("DELETE", f"{MEMBERS}/invites/{listed['id']}").status == 404
    assert accept(running.nobody, invited["inviteLink"]).status == 401
    assert accept(running.nobody, "no such token").status == 401


def test_who_leaves_or_falls_takes_their_invitations_along(running: Running) -> None:
    boss = Person(running, "admin")
    links = [
        boss.client.ask("POST", f"{MEMBERS}/invite", {"email": f"{role}@x.org", "role": role}).body["inviteLink"]
        for role in ("admin", "viewer")
    ]
    running.admin.ask("PATCH", f"{MEMBERS}/{boss.id}", {"role": "member"})
    assert accept(running.nobody, links[0]).status == 401
    running.admin.ask("DELETE", f"{MEMBERS}/{boss.id}")
    assert accept(running.nobody, links[1]).status == 401
    ended = running.admin.ask("GET", "projects/shop/audit?action=invite.revoked&limit=2").body["entries"]
    assert [each["before"]["role"] for each in ended] == ["viewer", "admin"]


def test_a_revoked_key_takes_its_invitations_along(running: Running) -> None:
    key = running.make_key("members:write", *READING)
    link = key.ask("POST", f"{MEMBERS}/invite", {"email": "mallory@x.org", "role": "viewer"}).body["inviteLink"]
    key_id = key.ask("GET", "auth/whoami").body["apiKey"]["id"]
    assert [each["invitedBy"] for each in running.admin.ask("GET", f"{MEMBERS}/invites").body] == [key_id]
    assert running.admin.ask("DELETE", f"projects/shop/keys/{key_id}").status == 200
    assert accept(running.nobody, link).status == 401


@pytest.mark.parametrize(
    ("own", "role", "status"),
    [
        ("owner", "owner", 201),
        ("admin", "owner", 403),
        ("admin", "admin", 201),
        ("member", "viewer", 403),
        ("viewer", "viewer", 403),
    ],
)
def test_nobody_gives_a_role_above_their_own(running: Running, own: str, role: str, status: int) -> None:
    giver, taker = Person(running, own), Person(running, "viewer", "other")
    meet(running, giver, taker)
    answers = [
        giver.client.ask("POST", f"{MEMBERS}/invite", {"email": f"n{next(NUMBERS)}@x.org", "role": role}),
        giver.client.ask("POST", MEMBERS, {"email": taker.email, "role": role}),
        giver.client.ask("PATCH", f"{MEMBERS}/{giver.id}", {"role": role}),
    ]
    expected = [status, status, 200 if status == 201 else status]
    assert [answer.status for answer in answers] == expected
    assert role_of(running, taker) == (role if status == 201 else None)
    assert role_of(running, giver) == own


def test_nobody_decides_about_who_stands_above_them(running: Running) -> None:
    owner, boss = Person(running, "owner"), Person(running, "admin")
    invited = owner.client.ask("POST", f"{MEMBERS}/invite", {"email": "above@x.org", "role": "owner"}).body["id"]
    assert boss.client.ask("DELETE", f"{MEMBERS}/invites/{invited}").status == 403
    assert owner.client.ask("DELETE", f"{MEMBERS}/invites/{invited}").status == 200
    (first,) = (each for each in running.admin.ask("GET", MEMBERS).body if each["user"]["email"] == EMAIL)
    for target, status in ((owner.id, 403), (first["userId"], 400), ("x", 404)):
        assert boss.client.ask("PATCH", f"{MEMBERS}/{target}", {"role": "viewer"}).status == status
        assert boss.client.ask("DELETE", f"{MEMBERS}/{target}").status == status
    assert boss.client.ask("POST", MEMBERS, {"email": owner.email, "role": "viewer"}).status == 403
    assert owner.client.ask("DELETE", f"{MEMBERS}/{first['userId']}").status == 400, "the project's owner stays"
    assert running.admin.ask("POST", MEMBERS, {"email": EMAIL, "role": "viewer"}).status == 400
    assert role_of(running, owner) == "owner"


def test_what_was_taken_away_ends_with_the_next_request(running: Running) -> None:
    person = Person(running, "admin")
    new = {"name": "k", "scopes": ["messages:read"]}
    assert person.client.ask("POST", "projects/shop/keys", new).status == 201
    assert running.admin.ask("PATCH", f"{MEMBERS}/{person.id}", {"role": "viewer"}).body["role"] == "viewer"
    assert person.client.ask("POST", "projects/shop/keys", new).status == 403
    assert person.client.ask("GET", "projects/shop").status == 200
    assert running.admin.ask("DELETE", f"{MEMBERS}/{person.id}").status == 200
    assert person.client.ask("GET", "projects/shop").status == 404
    assert person.client.ask("GET", "auth/whoami").status == 200


@pytest.mark.parametrize(
    ("scopes", "role", "status"),
    [
        (ALL_SCOPES, "admin", 201),
        (ALL_SCOPES, "owner", 403),
        ([*READING, "members:write"], "viewer", 201),
        ([*READING, "members:write"], "member", 403),
        (["members:read", "members:write"], "viewer", 403),
    ],
)
def test_a_key_lets_nobody_do_what_it_may_not(running: Running, scopes: list[str], role: str, status: int) -> None:
    key = running.make_key(*scopes)
    asked: dict[str, Any] = {"email": f"k{next(NUMBERS)}@x.org", "role": role}
    assert key.ask("POST", f"{MEMBERS}/invite", asked).status == status
    assert key.ask("GET", MEMBERS).status == 200


def test_another_tenants_members_are_not_there(running: Running) -> None:
    stranger, member = Person(running, "owner", "other"), Person(running, "viewer")
    asks: list[tuple[str, str, Any]] = [
        ("GET", MEMBERS, None),
        ("POST", MEMBERS, {"email": EMAIL, "role": "viewer"}),
        ("POST", f"{MEMBERS}/invite", {"email": "x@x.org"}),
        ("GET", f"{MEMBERS}/invites", None),
        ("PATCH", f"{MEMBERS}/{member.id}", {"role": "viewer"}),
        ("DELETE", f"{MEMBERS}/{member.id}", None),
        ("PATCH", f"projects/other/members/{member.id}", {"role": "viewer"}),
        ("DELETE", f"projects/other/members/{member.id}", None),
    ]
    assert [stranger.client.ask(*ask).status for ask in asks] == [404] * len(asks)


def test_an_address_in_an_account_proves_nothing(running: Running) -> None:
    """Whoever invites sees the link: the account of an address can be anybody's."""
    owner, mallory = Person(running, "owner"), Person(running, "viewer", "other")
    evil = f"evil-{next(NUMBERS)}"
    assert mallory.client.ask("POST", "projects", {"id": evil, "name": "x"}).status == 201
    victim = {"email": f"victim{next(NUMBERS)}@example.com", "role": "admin"}
    link = mallory.client.ask("POST", f"projects/{evil}/members/invite", victim).body["inviteLink"]
    squatter = running.nobody.as_user(accept(running.nobody, link).body["accessToken"])
    unknown = {"email": f"unknown{next(NUMBERS)}@example.com", "role": "admin"}
    refused = [owner.client.ask("POST", MEMBERS, asked) for asked in (victim, unknown)]
    texts = [
        reply.body["message"].replace(asked["email"], "")
        for reply, asked in zip(refused, (victim, unknown), strict=True)
    ]
    assert [reply.status for reply in refused] == [404, 404]
    assert texts[0] == texts[1]
    invited = [owner.client.ask("POST", f"{MEMBERS}/invite", asked).body for asked in (victim, unknown)]
    assert [(each["message"], bool(each["inviteLink"])) for each in invited] == [
        ("Invitation created successfully", True)
    ] * 2
    assert squatter.ask("GET", "projects/shop").status == 404
    # The victim was given the link, cannot make an account of the address, and uses one of another.
    assert accept(running.nobody, invited[0]["inviteLink"]).status == 409
    real = Person(running, "viewer", "other")
    joined = real.client.ask("POST", "auth/join", {"token": invited[0]["inviteLink"].rpartition("/")[2]})
    assert (joined.status, joined.body["projectId"], joined.body["role"]) == (201, "shop", "admin")
    assert role_of(running, real) == "admin"
    # Whose that other address is, nobody knows: it may be squatted as well. By a link for it, the owner does.
    assert owner.client.ask("POST", "projects", {"id": f"{evil}-2", "name": "x"}).status == 201
    asked = {"email": real.email, "role": "viewer"}
    assert owner.client.ask("POST", f"projects/{evil}-2/members", asked).status == 404
    meet(running, owner, real)
    assert owner.client.ask("POST", f"projects/{evil}-2/members", asked).status == 201
    assert mallory.client.ask("POST", f"projects/{evil}/members", asked).status == 404


def test_a_link_lets_one_person_in(running: Running) -> None:
    link = running.admin.ask("POST", f"{MEMBERS}/invite", {"email": f"z{next(NUMBERS)}@x.org"}).body["inviteLink"]
    body = {"token": link.rpartition("/")[2]}
    member, people = Person(running, "viewer"), [Person(running, "viewer", "other") for _ in range(3)]
    assert member.client.ask("POST", "auth/join", body).status == 409
    assert running.admin.ask("POST", "auth/join", body).status == 409
    assert running.key.ask("POST", "auth/join", body).status == 403
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda person: person.client.ask("POST", "auth/join", body).status, people))
    assert sorted(replies) == [201, 401, 401]
    made = running.nobody.ask("POST", "auth/accept-invite", body | {"name": "Zoe", "password": PASSWORD})
    again = running.admin.ask("POST", "auth/join", {"token": "x"})
    assert (made.status, made.body["message"]) == (again.status, again.body["message"]), "one answer for a dead link"
    assert [role_of(running, person) for person in people].count("member") == 1


@pytest.mark.parametrize(
    "address", ["ｒoot@example.com", "root@exаmple.com", "root@example.com\u200b", "ro\u202eot@x.org", "a\x07@x.org"]
)
def test_addresses_that_only_look_like_others_are_refused(running: Running, address: str) -> None:
    invited = running.admin.ask("POST", f"{MEMBERS}/invite", {"email": address})
    assert (invited.status, invited.body["errors"][0]["pointer"]) == (400, "/email")
    assert "ASCII" in invited.body["detail"]


def test_who_is_refused_is_told_what_to_do(running: Running) -> None:
    viewer = Person(running, "viewer").client
    wrong = running.nobody.as_key("msc_dev_" + "x" * 43)
    no_writer = running.make_key("projects:read")
    change = {"currentPassword": "Wr0ngPassword", "newPassword": "Passw0rd9"}
    told = [
        (wrong.ask("GET", "projects"), 401, "Invalid API key", "was copied whole"),
        (running.nobody.as_key("x").ask("GET", "projects"), 401, "Invalid API key", "POST /api/v1/projects/:project"),
        (running.nobody.ask("GET", "auth/session"), 401, "Authentication is required", "POST /api/v1/auth/session"),
        (viewer.ask("GET", "auth/session"), 404, "There is no session", "POST /api/v1/auth/session signs in"),
        (viewer.ask("PATCH", "auth/password", change), 401, "The current password is wrong", "/currentPassword"),
        (viewer.ask("GET", "projects/shop/keys"), 403, "This needs the role admin", "PATCH /api/v1/projects/shop/mem"),
        (
            no_writer.ask("GET", "projects/shop/keys"),
            403,
            "This API key lacks the scope keys:read",
            "projects/shop/keys",
        ),
        (running.key.ask("DELETE", "projects/shop"), 403, "API keys cannot delete a project", "its owner"),
    ]
    for reply, status, message, remedy in told:
        assert (reply.status, reply.body["message"].startswith(message)) == (status, True), reply
        assert remedy in str(reply.body), reply
    assert told[0][0].body["message"] == "Invalid API key", "clients of the compatible API know it"
    assert told[0][0].body["errors"][0]["pointer"] == "/header/X-API-Key"
