"""Writing and finding many rows with one statement, without what an ORM adds to each row.

SQLAlchemy compiles the statement once for each kind of database; from then on a row costs its
column types' conversions and what the driver does. For the batches of the hot paths this takes
about a fifth of the time of `Connection.execute` with a list of dictionaries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Table,
    Text,
    TypeDecorator,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

CHUNK = 1000
"""Rows that one statement names: both databases take some 32,000 bound values, and plan such lists quickly."""

Row = Mapping[str, Any]
_Encode = Callable[[Row], tuple[Any, ...]]


def chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Parts of a list of ids, each short enough for the `IN` of a statement."""
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


async def lock_in_order(connection: AsyncConnection, column: Column[Any], values: Sequence[str]) -> None:
    """Lock the rows with one of these values in a column by their ids, as all do who lock several of them.

    Before deleting them, which goes by where they lie, and could wait for somebody who waits for it.
    """
    ids = column.table.c.id
    rows = select(ids).where(column.in_(values)).order_by(ids).with_for_update().subquery()
    await connection.execute(select(func.count()).select_from(rows))


class ListOf(TypeDecorator[Sequence[Any]]):
    """Values of one type as one bound value: an array on PostgreSQL, a JSON text on SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: TypeEngine[Any]) -> None:
        super().__init__()
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """As the driver takes it."""
        if dialect.name == "sqlite":
            return Text()
        return dialect.type_descriptor(postgresql.ARRAY(self.kind.dialect_impl(dialect)))

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        """The list, or the text of it."""
        return msgspec.json.encode(value).decode() if dialect.name == "sqlite" else value


class Among(FunctionElement[bool]):
    """Whether a column holds one of the values that are bound as the list `name`.

    Unlike the `IN` of a list, whose text is another for each length, it is compiled by SQLAlchemy and
    prepared by the server once.
    """

    inherit_cache = True
    type = Boolean()
    _is_implicitly_boolean = True  # else SQLite gets `... = 1`, and scans the table

    def __init__(self, column: ColumnElement[Any], name: str = "ids") -> None:
        super().__init__(column, bindparam(name, type_=ListOf(column.type)))


@compiles(Among)
def _among(element: Among, compiler: SQLCompiler, **options: Any) -> str:  # pyright: ignore[reportUnusedFunction]
    column, ids = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({ids})"


@compiles(Among, "sqlite")
def _among_on_sqlite(element: Among, compiler: SQLCompiler, **options: Any) -> str:  # pyright: ignore[reportUnusedFunction]
    column, ids = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - both are what the compiler made


class Bulk:
    """A statement that is run for each of many rows.

    `make` gives the statement for a dialect's name. Its bound values are `names`: every row has to
    have them all.
    """

    def __init__(self, make: Callable[[str], UpdateBase], names: Sequence[str]) -> None:
        self._make = make
        self._names = tuple(names)
        self._compiled: dict[str, tuple[str, _Encode]] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Run it for these rows, in their order, in one round trip where the driver can."""
        if rows:
            text, encode = self.of(connection.dialect)
            connection.exec_driver_sql(text, [encode(row) for row in rows])

    def of(self, dialect: Dialect) -> tuple[str, _Encode]:
        """The text of the statement for one row, and what makes a row its arguments."""
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = self._compile(dialect)
        return compiled

    def _compile(self, dialect: Dialect) -> tuple[str, _Encode]:
        statement = self._make(dialect.name)
        compiled = statement.compile(dialect=dialect, column_keys=self._names)
        names = compiled.positiontup or []
        binds = compiled.binds
        unknown = set(names) - set(self._names)
        if unknown:
            raise ValueError(f"not given by every row: {', '.join(sorted(unknown))}")
        types = [binds[name].type.dialect_impl(dialect) for name in names]
        return str(compiled), _encoder(names, [kind.bind_processor(dialect) for kind in types])


def insert_once(table: Table) -> Callable[[str], UpdateBase]:
    """For `Bulk`: insert rows into a table, but for those that are there already."""

    def make(dialect: str) -> UpdateBase:
        return (sqlite.insert if dialect == "sqlite" else postgresql.insert)(table).on_conflict_do_nothing()

    return make


class Together:
    """Several bulk insertions that PostgreSQL makes with one statement, and so in one round trip, or not at all."""

    def __init__(self, *bulks: Bulk) -> None:
        self._bulks = bulks
        self._texts: dict[tuple[bool, ...], str] = {}

    def statement(self, dialect: Dialect, *rows: Sequence[Row]) -> tuple[str, tuple[Any, ...]]:
        """The statement's text and its arguments: an array for each column of each insertion that has rows."""
        arguments: list[list[Any]] = []
        texts: list[str] = []
        for bulk, some in zip(self._bulks, rows, strict=True):
            if some:
                text, encode = bulk.of(dialect)
                columns = [list(column) for column in zip(*map(encode, some), strict=True)]
                texts.append(text)
                arguments += columns
        present = tuple(map(bool, rows))
        if present not in self._texts:
            self._texts[present] = _as_one(texts)
        return self._texts[present], tuple(arguments)


_VALUES = re.compile(r"VALUES \((.*?)\)(?= ON CONFLICT|$)")
_PLACE = re.compile(r"\$\d+")


def _as_one(texts: Sequence[str]) -> str:
    """INSERT statements of one row each as one of arrays."""
    place = count(1)
    parts: list[str] = []
    for text in texts:
        match = _VALUES.search(text)
        if match is None:
            raise ValueError(f"no insertion: {text}")
        arrays = ", ".join(f"{_PLACE.sub(lambda _: f'${next(place)}', each)}[]" for each in match[1].split(", "))
        head, tail = text[: match.start()], text[match.end() :]
        alias = f"given{len(parts)}"
        parts.append(f"{head}SELECT * FROM unnest({arrays}) AS {alias}{tail}")  # noqa: S608 - compiled above
    *first, last = parts
    if not first:
        return last
    return "WITH " + ", ".join(f"part{number} AS ({part})" for number, part in enumerate(first)) + f" {last}"


def _encoder(names: Sequence[str], processors: Sequence[Callable[[Any], Any] | None]) -> _Encode:
    """What makes a row a tuple of driver values."""
    pick = itemgetter(*names)
    convert = [(index, processor) for index, processor in enumerate(processors) if processor is not None]

    def encode(row: Row) -> tuple[Any, ...]:
        values = list(pick(row))
        for index, processor in convert:
            values[index] = processor(values[index])
        return tuple(values)

    return encode
