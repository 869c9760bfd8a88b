"""What queries cost, counted instead of timed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import event

from msgcore.store.database import Database

Ask = Callable[[Database], Awaitable[object]]


async def work_of(database: Database, ask: Ask) -> int:
    """What the queries of `ask` cost: steps of SQLite's machine, or rows that PostgreSQL's scans gave."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    engine = database._reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await ask(database)
    event.remove(engine, "before_cursor_execute", note)
    assert asked
    if database.kind == "sqlite":
        return sum(_steps(engine.url.database or "", statement, parameters) for statement, parameters in asked)
    async with database.read() as connection:
        plans = [
            (await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)).scalar_one()
            for statement, parameters in asked
        ]
    return sum(_rows((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]) for plan in plans)


def _steps(path: str, statement: str, parameters: Any) -> int:
    taken = 0

    def ten_more() -> None:
        nonlocal taken
        taken += 10

    connection = sqlite3.connect(path)
    connection.set_progress_handler(ten_more, 10)
    connection.execute(statement, parameters).fetchall()
    connection.close()
    return taken


def _rows(plan: dict[str, Any]) -> int:
    seen = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return int(seen * plan["Actual Loops"]) + sum(_rows(inner) for inner in plan.get("Plans", ()))
