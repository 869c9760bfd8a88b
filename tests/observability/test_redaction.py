"""What is hidden, and what is not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgcore.observability.redaction import MASK, MAX_TEXT, Redactor
from servers.growth import QUADRATIC, growth

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

TEXTS = [
    ("api key", "created msc_live4f9a8b7c6d5e for you", "live4f9a8b7c6d5e"),
    ("bearer", "Authorization: Bearer abcdef123456", "abcdef123456"),
    ("basic", "sent basic dXNlcjpwYXNz to host", "dXNlcjpwYXNz"),
    ("other scheme", "authorization: Hawk id=abc mac=zzz999", "zzz999"),
    ("cookie", "Set-Cookie: session=abc123; Path=/; csrf=def456", "def456"),
    ("jwt", f"token was {JWT}", JWT[10:]),
    ("webhook secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqr"),
    ("database url", "postgresql://app:hunter2@db:5432/x", "hunter2"),
    ("smtp url", "smtp://user%40x:p4ss@mail.example.com:587", "p4ss"),
    ("slash in password", "redis://:pa/ss@cache:6379", "pa/ss"),
    ("at in password", "redis://u:one@two@cache:6379", "two"),
    ("user only", "https://ghp_token123@example.com/x", "ghp_token123"),
    ("assignment", "login failed, password=hunter2 for bob", "hunter2"),
    ("quoted", "creds {'smtpPassword': 'hunter two', 'smtpHost': 'h'}", "hunter two"),
    ("json", json.dumps({"api_key": 'a"quoted"b', "x": 1}), "quoted"),
    ("open quote", "password='hunter2 and then cut", "hunter2"),
    ("query", "GET /hook?access_token=s3cr3t&x=1", "s3cr3t"),
    ("header", "X-Api-Key: 0123456789", "0123456789"),
    ("smtp login", "AUTH PLAIN AGJvYgBodW50ZXIy", "AGJvYgBodW50ZXIy"),
    ("telegram", "https://api.example.com/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/sendMessage", "AAHdqTcvCH1v"),
    ("slack", "xoxb-1234567890-abcdefghij", "1234567890-abc"),
    ("argon2", "hash $argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "aGFzaA"),
    ("hex key", "key " + "0a" * 32, "0a0a0a"),
]


@pytest.mark.parametrize(("text", "secret"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS])
def test_secret_looking_text_is_hidden(text: str, secret: str) -> None:
    shown = Redactor().text(text)
    assert secret not in shown
    assert MASK in shown


@pytest.mark.parametrize(
    "text",
    [
        "delivered to ann@example.com in 12 ms",
        "ready on http://127.0.0.1:7890",
        "GET /api/v1/projects/shop/messages/status/0198c0de-7000-7abc-8def-000000000000",
        "MSGCORE_JWT_SECRET must be set",
        "the password is too short",
        "sent 5 of 7 at 12:30:45",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "smtpPassword",
        "SECRET",
        "jwt_secret",
        "accessToken",
        "apiKey",
        "api_key",
        "x-api-key",
        "Authorization",
        "credentials",
        "Cookie",
        "set-cookie",
        "encryptionKey",
        "private_key",
        "passphrase",
    ],
)
@pytest.mark.parametrize("secret", ["plain words", 123456, ["a", "b"], {"deep": "inside"}])
def test_fields_with_a_secret_name_are_hidden_at_any_depth(name: str, secret: Any) -> None:
    assert Redactor().value({"outer": [{name: secret, "host": "h"}]}) == {"outer": [{name: MASK, "host": "h"}]}


def test_flags_and_absent_values_stay() -> None:
    event = {"has_password": True, "token": None, "idempotency_key": "order-7"}
    assert Redactor().value(event) == event


def test_known_values_are_hidden_without_any_pattern() -> None:
    redactor = Redactor(["correct horse", "correct horse battery", "no"])
    assert redactor.text("it is correct horse battery, no?") == f"it is {MASK}, no?"


def test_objects_are_shown_as_text_without_secrets() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("password=hunter2")

    value = Redactor().value({"error": ValueError("Bearer abcdefgh"), "body": b"\x00secret", "broken": Broken()})
    assert value == {
        "error": f"Bearer {MASK}",
        "body": "<7 bytes>",
        "broken": "<Broken, not printable: ValueError>",
    }


def test_endless_structures_end() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert "..." in str(Redactor().value(loop))


def test_long_text_keeps_both_ends_and_hides_what_the_cut_would_split() -> None:
    shown = Redactor().text("start " + "x" * 20_000 + " msc_" + "k" * (MAX_TEXT // 2 + 50) + " end")
    assert shown.startswith("start ")
    assert shown.endswith(" end")
    assert "kkkk" not in shown
    assert len(shown) < MAX_TEXT + 100


def test_huge_text_is_cut_before_a_half_secret() -> None:
    filler = "y" * (MAX_TEXT + 2048 - 30)
    shown = Redactor().text(filler + " smtp://user:" + "pw" * 200_000 + "@host")
    assert "pwpw" not in shown
    assert len(shown) < MAX_TEXT + 100


@pytest.mark.parametrize("piece", ["password", "a://", "eyJaaaaa.", "x" * 7 + ":", '"', "msc_", "://:@", "cookie:"])
def test_hostile_text_takes_no_more_than_linear_time(piece: str) -> None:
    assert growth(Redactor().text, piece, 16_000 // len(piece)) < QUADRATIC / 2


secrets = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=12, max_size=60).filter(
    lambda text: not text.isdigit()  # digits alone may be part of a number that has nothing to do with them
)
plain = st.text(max_size=40)


@given(secret=secrets, before=plain, after=plain)
def test_a_key_is_hidden_whatever_stands_around_it(secret: str, before: str, after: str) -> None:
    text = f"{before} msc_{secret} {after}"
    if secret not in before + after:
        assert secret not in Redactor().text(text)


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda children: st.lists(children) | st.dictionaries(st.text() | st.integers(), children),
    max_leaves=30,
)


@given(value=nested, secret=secrets)
def test_any_value_becomes_plain_json_without_the_known_secret(value: Any, secret: str) -> None:
    shown = Redactor([secret]).value({"data": value, "planted": {"text": f"x{secret}y"}})
    assert secret not in msgspec.json.encode(shown).decode()
