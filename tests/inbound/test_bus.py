"""The bus between processes: news that Redis refused are told once it takes them."""

from __future__ import annotations

import asyncio

from msgcore.dispatch.redis import RedisConnection
from msgcore.inbound.bus import EventBus
from servers.patience import PATIENCE
from servers.valkey import ValkeyServer


async def test_what_redis_did_not_take_is_told_later() -> None:
    """Nobody listens anew meanwhile, as after a restart of Redis: whoever waits is woken by this alone."""
    with ValkeyServer() as valkey, valkey.client() as admin:
        admin.acl_setuser("teller", enabled=True, nopass=True, categories=["+@all"], reset_channels=True)
        hearing = RedisConnection.open(valkey.url)
        telling = RedisConnection.open(valkey.url.replace("redis://", "redis://teller:any@"))
        one, other = EventBus(telling), EventBus(hearing)
        other.start()
        async with asyncio.timeout(PATIENCE), other.subscribe("shop") as news:
            await news.wait(PATIENCE)
            one.announce(["shop"])
            one.announce(["shop", "bakery"])
            while not admin.acl_log():
                await asyncio.sleep(0.01)
            assert not await news.wait(0)
            admin.acl_setuser("teller", channels=["*"])
            assert await news.wait(PATIENCE)
        await one.stop()
        await other.stop()
        await telling.close()
        await hearing.close()
