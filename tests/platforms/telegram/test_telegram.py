"""Telegram beyond what holds for every platform: answers of which the body was lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msgcore.core.envelope import File
from msgcore.core.errors import TemporaryError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.telegram import TelegramAdapter
from servers.deliveries import make_account
from servers.http_sink import HttpSink


@pytest.mark.parametrize("body", [b"", b'{"ok":true}', b'{"ok":true,"result":true}'])
async def test_what_was_asked_for_and_lost_may_be_asked_for_again(
    body: bytes, services: AdapterServices, sink: HttpSink
) -> None:
    adapter = TelegramAdapter(replace(services, base_urls={"telegram": sink.url}))
    account = make_account("telegram", {"token": "123456789:" + "a" * 35})
    sink.answers(200, body=body)
    for asking in (
        adapter.register_webhook(account, "https://x.example/hook"),
        adapter.locate_file(account, File(type="image", id="f")),
    ):
        with pytest.raises(TemporaryError):
            await asking
