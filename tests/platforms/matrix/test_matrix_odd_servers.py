"""Receiving from a homeserver that does what a real one does seldom, or only if somebody means ill."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import web

from msgcore.core.errors import TemporaryError
from msgcore.outbound import aiohttp_transport
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import Account
from msgcore.platforms.matrix import invitations, live
from msgcore.platforms.matrix.live import MatrixLive
from servers.deliveries import make_account
from servers.http_sink import HttpSink
from servers.live_sink import MemorySink, connected
from servers.patience import PATIENCE

ME, ANN = "@bot:example.org", "@ann:example.org"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def connection(services: AdapterServices) -> MatrixLive:
    return MatrixLive(services)


def account_of(sink: HttpSink, **more: Any) -> Account:
    return make_account("matrix", {"homeserverUrl": sink.url, "accessToken": "a", "userId": ME, **more})


def serve(sink: HttpSink, syncs: Sequence[dict[str, Any]], **handlers: Handler) -> None:
    """Answer `/sync` with these, one after another, then with nothing; what else is asked for by its last word."""
    told = iter([*syncs])

    async def answer(request: web.Request) -> web.StreamResponse:
        word = request.path.rpartition("/")[2]
        if word in handlers:
            return await handlers[word](request)
        match word:
            case "whoami":
                return web.json_response({"user_id": ME})
            case "filter":
                return web.json_response({"filter_id": "1"})
            case "sync":
                found = next(told, None)
                if found is None:
                    await asyncio.sleep(int(request.query.get("timeout", 0)) / 1000)
                return web.json_response(found or {"next_batch": request.query.get("since", "0")})
            case _:
                return web.json_response({"errcode": "M_NOT_FOUND", "error": "no"}, status=404)

    sink.answer = answer


def joined(since: str, **rooms: Any) -> dict[str, Any]:
    return {"next_batch": since, "rooms": {"join": {f"!{name}:x": told for name, told in rooms.items()}}}


def event(id_: str, kind: str = "m.room.message", **content: Any) -> dict[str, Any]:
    return {"event_id": id_, "type": kind, "sender": ANN, "content": content or {"msgtype": "m.text", "body": id_}}


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_a_room_that_can_no_longer_be_read_holds_up_no_other(connection: MatrixLive, sink: HttpSink) -> None:
    async def refused(_: web.Request) -> web.StreamResponse:
        return web.json_response({"errcode": "M_FORBIDDEN", "error": "not in room"}, status=403)

    gone = {"timeline": {"limited": True, "prev_batch": "p", "events": [event("$last")]}}
    serve(sink, [joined("1"), joined("2", gone=gone, other={"timeline": {"events": [event("$b")]}})], messages=refused)
    kept = MemorySink()
    async with connected(connection, account_of(sink), kept):
        await kept.until(2)
    assert [msgspec.json.decode(body)["event"]["event_id"] for body in kept.bodies] == ["$last", "$b"]
    assert kept.states[-1]["since"] == "2"
    assert "!gone:x" in kept.notes[0]


async def test_a_homeserver_that_falls_silent_is_given_up(
    connection: MatrixLive, sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "ANSWER_SECONDS", 0.1)
    sink.never_answers()
    with pytest.raises(TemporaryError) as raised:
        async with asyncio.timeout(PATIENCE):
            await connection.run(account_of(sink), MemorySink(), None)
    assert raised.value.code == "timeout"


async def test_an_answer_may_take_as_long_as_it_is_large(
    connection: MatrixLive, sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_transport, "BODY_SECONDS", 0.05)
    asked = 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        whole = msgspec.json.encode(joined(str(asked), a={"timeline": {"events": [event(f"${asked}")]}}))
        await answer.write(whole[:20])
        await asyncio.sleep(0.2)
        await answer.write(whole[20:])
        return answer

    serve(sink, [], sync=slow)
    kept = MemorySink()
    async with connected(connection, account_of(sink), kept):
        await kept.until(2)


async def test_an_invitation_is_followed_once_the_homeserver_lets_us_and_says_by_whom_it_is(
    connection: MatrixLive, sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "LEAST_WAIT", 0.02)
    joins = 0

    async def join(_: web.Request) -> web.StreamResponse:
        nonlocal joins
        joins += 1
        if joins in (1, 2):
            wait = 60_000 if joins == 1 else 0
            return web.json_response({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": wait}, status=429)
        return web.json_response({"room_id": "!new:x"})

    about = {"type": "m.room.member", "state_key": ME, "sender": ANN, "content": {"membership": "invite"}}
    claimed = about | {"sender": "@boss:example.org"}  # by the other server; ours puts its own behind
    named = {"type": "m.room.name", "state_key": ME, "sender": "@boss:example.org"}
    invited = {"invite": {"!new:x": {"invite_state": {"events": [claimed, about, named]}}}}
    some = joined("3", a={"timeline": {"events": [event("$a")]}})
    serve(sink, [joined("1"), {"next_batch": "2", "rooms": invited}, some], join=join)
    kept = MemorySink()
    async with connected(connection, account_of(sink, autoJoin=True), kept):
        await kept.until(1)
    assert kept.states[-1]["invited"], "who goes on from here has to know of it"
    serve(sink, [joined("4")], join=join)
    async with connected(connection, account_of(sink, autoJoin=True), kept):
        await until(lambda: joins == 3)
    assert kept.notes == []
    serve(sink, [joined("5"), {"next_batch": "6", "rooms": invited}], join=join)
    off = MemorySink()
    async with connected(connection, account_of(sink), off):
        await until(lambda: bool(off.notes))
    assert off.notes[0].startswith(f"{ANN} invited")


async def test_the_state_stays_small_whatever_people_react_with(connection: MatrixLive, sink: HttpSink) -> None:
    def reaction(id_: str, message: str) -> dict[str, Any]:
        relation = {"rel_type": "m.annotation", "event_id": message, "key": "x" * 30_000}
        return event(id_, "m.reaction", **{"m.relates_to": relation})

    events = [reaction("$1", "$m"), *(reaction(f"${n}", "$" + "x" * 20_000) for n in range(2, 50))]
    serve(sink, [joined("1"), joined("2", a={"timeline": {"events": events}})])
    kept = MemorySink()
    async with connected(connection, account_of(sink), kept):
        await kept.until(1)
    assert [each[:2] for each in kept.states[-1]["reactions"]] == [["$1", "$m"]]
