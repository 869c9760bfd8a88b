"""The parts that benchmarks trust: the load generator, the sink, and the ledger of the bench of limits."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from bench.http_load import request_bytes, run_load
from bench.http_server import Connection, Handler, Request, answer
from bench.limit_load import feed, fill_ledger, is_group, limits_of, loads
from bench.schedulers import open_scheduler
from bench.sink import Sink

from msgcore.store.database import Database


def text(number: int) -> bytes:
    return b'{"content":{"text":"mark0123abcdn%de padding"}}' % number


async def serve(handler: Handler) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(lambda: Connection(handler), "127.0.0.1", 0)


def url_of(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"


async def test_the_sink_tells_lost_from_repeated() -> None:
    sink = Sink()
    async with await serve(sink.handle) as server:
        url = url_of(server)
        bodies = [*(text(number) for number in (1, 2, 2, 3, 12)), text(4).replace(b"0123abcd", b"eeeeeeee")]
        result = await run_load(url, iter([request_bytes("POST", url, {}, body) for body in bodies]), connections=2)
    assert result.statuses == Counter({200: 6})
    reply = sink.handle(Request("GET", "/marks?0123abcd", b"", b""))
    assert reply is not None
    assert reply.partition(b"\r\n\r\n")[2].split()[:2] == [b"4", b"1"]


async def test_the_server_reads_pieces_pipelines_and_chunks() -> None:
    seen: list[Request] = []

    def note(request: Request) -> bytes:
        seen.append(request)
        return answer(200, b"{}")

    first = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    second = b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\n"
    async with await serve(note) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(first + second[:30])
        await reader.readuntil(b"{}")
        writer.write(second[30:])
        await reader.readuntil(b"{}")
        writer.close()
    assert [(request.path, request.body) for request in seen] == [("/a", b"abc"), ("/b", b"2\r\nxy\r\n0\r\n\r\n")]


async def test_the_load_tells_refusals_and_broken_connections() -> None:
    answers = iter([answer(201, b"{}"), answer(422, b'{"message":"no"}')])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"{}"):
            reply = next(answers, None)
            if reply is None:
                break
            writer.write(reply)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        url = url_of(server)
        result = await run_load(url, iter([request_bytes("POST", url, {}, b"{}")] * 3), connections=1)
    assert (result.succeeded, result.failure, result.broken) == (1, b'{"message":"no"}', 1)


async def test_the_bench_of_limits_fills_a_ledger_that_a_scheduler_takes(empty_database_url: str) -> None:
    database = Database.open(empty_database_url)
    try:
        chosen = list(loads().values())
        total = await fill_ledger(database, bytes(32), "http://127.0.0.1:9", chosen, 1.0)
        async with open_scheduler(None) as scheduler:
            assert await feed(database, scheduler, 0.02) == total
            assert (await scheduler.counts()).waiting == total
    finally:
        await database.close()


@pytest.mark.parametrize("platform", list(loads()))
def test_a_queue_outlasts_the_run(platform: str) -> None:
    load = loads()[platform]
    seconds = 60
    messages = Counter(load.messages(seconds))
    assert messages.total() > load.rate * seconds
    for lane, number in messages.items():
        budgets = limits_of(platform, lane, 0.0).lane
        allowed = min(seconds * budget.count / budget.period for budget in budgets)
        share = load.rate * seconds / len(load.targets)
        assert number > (allowed if is_group(lane) else min(allowed, share)), lane
