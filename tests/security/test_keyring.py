"""What is encrypted can be read under its own key and in its own row alone, and what refuses tells nothing of it."""

from __future__ import annotations

import pytest

from msgcore.security.keyring import DecryptionError, Keyring

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
PLAIN = b'{"token":"planted"}'


def changed(token: str, place: int) -> str:
    return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("another row", "moved here from another row"),
        ("nonce", "damaged"),
        ("content", "damaged"),
        ("tag", "damaged"),
        ("cut", "damaged"),
        ("no base64", "damaged"),
        ("empty", "not an encrypted value"),
        ("plain", "not an encrypted value"),
        ("another version", "not an encrypted value"),
        ("another key", "another key"),
        ("another key's name", "damaged"),
    ],
)
def test_what_was_tampered_with_is_refused(case: str, problem: str) -> None:
    keyring = Keyring(KEY, [OTHER])
    token = keyring.encrypt(PLAIN, context="row")
    head = keyring.current
    tampered = {
        "another row": token,
        "nonce": changed(token, len(head)),
        "content": changed(token, len(head) + 20),
        "tag": changed(token, len(token) - 4),
        "cut": token[:-8],
        "no base64": f"{head}!!!",
        "empty": "",
        "plain": PLAIN.decode(),
        "another version": token.replace("v1:", "v2:"),
        "another key": Keyring(bytes(32)).encrypt(PLAIN, context="row"),
        "another key's name": token.replace(head, Keyring(OTHER).current),
    }
    with pytest.raises(DecryptionError, match=problem) as raised:
        keyring.decrypt(tampered[case], context="other" if case == "another row" else "row")
    assert "planted" not in str(raised.value)
    assert keyring.decrypt(token, context="row") == PLAIN


def test_the_same_is_never_encrypted_alike() -> None:
    keyring = Keyring(KEY)
    assert len({keyring.encrypt(PLAIN, context="row") for _ in range(100)}) == 100
    assert repr(KEY) not in repr(keyring)
