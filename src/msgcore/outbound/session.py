"""The HTTP session that all adapters of a process share."""

from __future__ import annotations

import aiohttp

from msgcore import __version__
from msgcore.security.egress import EgressGuard

USER_AGENT = f"MsgCore/{__version__}"
CONNECT_SECONDS = 10.0


def make_session(guard: EgressGuard, *, limit: int, limit_per_host: int = 0) -> aiohttp.ClientSession:
    """A session of at most `limit` connections (0: no limit) to hosts that `guard` allows.

    No cookies and no proxies from the environment: requests of one tenant must not colour those of
    another. Each request is bounded by the time to connect; the dispatch core bounds the whole
    attempt, which is cheaper than a timer for each read. Call it inside a running event loop; close it at the end.
    """
    return aiohttp.ClientSession(
        connector=guard.connector(limit=limit, limit_per_host=limit_per_host),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        trust_env=False,
    )
