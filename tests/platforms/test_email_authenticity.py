"""Who a mail is from counts as proven only by what the account's own server found out."""

from __future__ import annotations

import pytest

from msgcore.platforms.email.authenticity import is_authentic
from msgcore.platforms.email.mime import parse
from servers.growth import QUADRATIC, growth

SERVER = "mx.shop.example"
PASS = f"Authentication-Results: {SERVER}; spf=pass; dmarc=pass (p=none) header.from=example.org"
FROM = "From: Ann <ann@example.org>"


@pytest.mark.parametrize(
    ("proven", "lines"),
    [
        (True, [PASS, FROM]),
        (True, [PASS.replace("mx.shop", "MX.Shop").replace("header.from=example", "header.from=Example"), FROM]),
        (True, [f"Authentication-Results: {SERVER} 1; dmarc=pass header.from=example.org", FROM]),
        (True, [f"Authentication-Results: {SERVER};\r\n dkim=pass (a (b) c);\r\n dmarc=pass header.from=example.org", FROM]),
        (True, [f"Authentication-Results: {SERVER}; dkim=pass header.d=x.example", PASS, FROM]),
        (False, [FROM]),
        (False, [PASS.replace(SERVER, "mx.evil.example"), FROM]),
        (False, [PASS.replace("dmarc=pass", "dmarc=fail"), FROM]),
        (False, [PASS, PASS.replace("dmarc=pass", "dmarc=fail"), FROM]),
        (False, [PASS.replace("dmarc=pass", "dkim=pass"), FROM]),
        (False, [PASS.replace("example.org", "evil.example"), FROM]),
        (False, [f"Authentication-Results: {SERVER}; dmarc=pass", FROM]),
        (False, [PASS, FROM, "From: bob@evil.example"]),
        (False, [PASS, "From: ann@example.org, bob@example.org"]),
        (False, [PASS, "Subject: no sender"]),
        # What others could put into a header of the server's own.
        (False, [f'Authentication-Results: {SERVER}; spf=pass smtp.mailfrom="; dmarc=pass header.from=example.org"@x', FROM]),
        (False, [f"Authentication-Results: {SERVER}; spf=pass (; dmarc=pass header.from=example.org)", FROM]),
        (False, [f"Authentication-Results: {SERVER}; spf=pass (x; dmarc=pass header.from=example.org", FROM]),
        (False, [f'Authentication-Results: {SERVER}; dmarc=pass header.from=example.org; x="never (ends)', FROM]),
        (False, [f'Authentication-Results: {SERVER}; dmarc=pass header.from=example.org; x="\\" \\"', FROM]),
        (True, [f'Authentication-Results: {SERVER}; x="\\"; dmarc=fail" (y); dmarc=pass header.from=example.org', FROM]),
        (False, [f"Authentication-Results: {SERVER}; x=(((((((a))))))); dmarc=pass header.from=example.org", FROM]),
    ],
)  # fmt: skip
def test_only_a_pass_of_the_own_server_for_the_one_sender(proven: bool, lines: list[str]) -> None:
    root = parse("\r\n".join((*lines, "", "hi")).encode())
    assert is_authentic(root, SERVER) is proven
    assert not is_authentic(root, "")


@pytest.mark.parametrize("piece", ['\\"', "(", '"(', "dmarc ", "; dmarc=x header.from"])
def test_the_time_grows_with_the_length_only(piece: str) -> None:
    def look(text: str) -> None:
        is_authentic(parse(f"{FROM}\r\nAuthentication-Results: {SERVER}; {text}\r\n\r\nhi".encode()), SERVER)

    assert growth(look, piece, 500) < QUADRATIC / 2
