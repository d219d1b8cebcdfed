"""Collecting labelled rows from somebody's database: send them, wait for the broker, then mark them as taken."""

import math
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import orjson
from sqlalchemy import CursorResult, Engine, RowMapping, create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    StatementError,
)

from stream_app.errors import Outage, WrongArgument
from stream_app.model_settings import ModelSettings
from stream_app.ports import Deliver, Outgoing
from stream_app.redaction import without_credentials

#: Columns that belong beside the features of a record, if the query has them.
BESIDE: Final = ("prediction_id", "occurred_at")
#: In `columns` it stands for the model's target, whatever that is called.
TARGET: Final = "target"
#: Rows read from the database at a time.
READ_ROWS: Final = 1_000

#: What marks one row: the values that the marking statement binds, in the order of their names.
Key: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What to take from where, and as what to send it."""

    #: SQLAlchemy's; it may hold a password, so it is never part of a message
    url: str
    query: str
    #: statement that marks one row; what it binds (`:id`) are columns of the query
    mark: str
    #: name of the model, the key of every message
    name: str
    model: ModelSettings
    topic: str
    #: column by field, where their names differ
    columns: Mapping[str, str]
    #: source of the records, and the first part of their event ids
    source: str
    #: rows sent, and then marked, at a time
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a collection has come."""

    #: records acknowledged by the broker
    sent: int
    #: rows that the marking statement has changed
    marked: int
    #: rows without a label, neither sent nor marked
    skipped: int


def collect(wanted: Collection, deliver: Deliver, report: Callable[[Progress], None]) -> Progress:
    """Send what the query returns, batch by batch.

    1. run the query once and put its rows aside, so that no cursor is open while rows are marked; of each batch
    2. deliver the records and wait for the broker, 3. mark exactly these rows, in one transaction.
    After a crash between 2 and 3 the rows come again, with the event ids that they had, and are learned once.
    Raises WrongArgument for a URL, statement or column that will not do, Outage when database or Kafka is away.
    """
    binds = _binds(wanted)
    with _database(wanted.url) as engine, tempfile.TemporaryFile() as aside:
        keys, skipped = _put_aside(engine, wanted, binds, aside)  # 1
        progress = Progress(sent=0, marked=0, skipped=skipped)
        for start in range(0, len(keys), wanted.batch):
            batch = keys[start : start + wanted.batch]
            deliver([_message(wanted, line) for line in islice(aside, len(batch))])  # 2
            marked = _mark(engine, wanted, [dict(zip(binds, key, strict=True)) for key in batch])  # 3
            progress = Progress(sent=progress.sent + len(batch), marked=progress.marked + marked, skipped=skipped)
            report(progress)
    return progress


def _binds(wanted: Collection) -> Sequence[str]:
    binds = sorted(text(wanted.mark).compile().params)
    if not binds:
        raise WrongArgument("--mark: expected it to name the row by a column of the query, e.g. WHERE id = :id")
    return binds


@contextmanager
def _database(url: str) -> Iterator[Engine]:
    engine = create_engine(_parsed(url))
    try:
        with _blaming("--url"):
            engine.connect().close()
        yield engine
    finally:
        engine.dispose()


def _parsed(url: str) -> URL:
    """Return the URL with a driver that is installed; its text stays out of messages."""
    expected = "expected what SQLAlchemy takes, e.g. postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE"
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgres", "postgresql"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect().import_dbapi()
    except NoSuchModuleError as error:
        raise WrongArgument(f"--url: no database is called {parsed.drivername!r}; {expected}") from error
    except ArgumentError as error:
        raise WrongArgument(f"--url: no URL; {expected}") from error
    except ModuleNotFoundError as error:
        raise WrongArgument(f"--url: {parsed.drivername!r} needs the module {error.name!r}, not installed") from error
    # SQLite would make an empty file of that name
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise WrongArgument(f"--url: no file {parsed.database!r}; {expected}")
    return parsed


def _put_aside(engine: Engine, wanted: Collection, binds: Sequence[str], aside: IO[bytes]) -> tuple[list[Key], int]:
    """Write the records of the labelled rows to the file, one a line; return their keys and how many had no label."""
    keys: list[Key] = []
    skipped = 0
    with _blaming("--query"), _answer(engine, wanted.query) as result:
        fields = _fields(wanted, list(result.keys()), binds)
        for row in result.yield_per(READ_ROWS).mappings():
            if row[fields[wanted.model.target]] is None:
                skipped += 1
                continue
            key = tuple(row[name] for name in binds)
            aside.write(orjson.dumps(_record(wanted, fields, row, key), default=str, option=orjson.OPT_NAIVE_UTC))
            aside.write(b"\n")
            keys.append(key)
    aside.seek(0)
    return keys, skipped


@contextmanager
def _answer(engine: Engine, query: str) -> Iterator[CursorResult[Any]]:
    with (
        engine.connect() as connection,
        # without it the driver of PostgreSQL holds all rows in memory
        connection.execution_options(stream_results=True).execute(text(query)) as result,
    ):
        if not result.returns_rows:
            raise WrongArgument("--query: expected it to return rows, as SELECT does")
        yield result


def _fields(wanted: Collection, present: Sequence[str], binds: Sequence[str]) -> dict[str, str]:
    """Return the column of each field; raises WrongArgument for one that is not there."""
    model = wanted.model
    named = {
        model.target if name == TARGET and TARGET not in model.features else name: column
        for name, column in wanted.columns.items()
    }
    known = [*model.features, model.target, *BESIDE]
    for name in named.keys() - set(known):
        raise WrongArgument(f"--map {name}: no field of model {wanted.name!r}; expected one of {', '.join(known)}")
    fields = {name: named.get(name, name) for name in known}
    required = [model.target, *named, *(name for name, feature in model.features.items() if feature.required)]
    columns = [*(fields[name] for name in required), *binds]
    missing = sorted({column for column in columns if column not in present})
    if missing:
        raise WrongArgument(
            f"--query: no column {', '.join(map(repr, missing))}, which model {wanted.name!r} or --mark needs; "
            f"it has {', '.join(present)}; --map FIELD=COLUMN gives a field another column"
        )
    return {name: column for name, column in fields.items() if column in present}


def _record(wanted: Collection, fields: Mapping[str, str], row: RowMapping, key: Key) -> dict[str, Any]:
    values = {name: _plain(column, row[column]) for name, column in fields.items()}
    features = {name: values[name] for name in wanted.model.features if name in values}
    beside = {name: values[name] for name in BESIDE if name not in features and values.get(name) is not None}
    return {
        "model": wanted.name,
        "event_id": f"{wanted.source}:{','.join(map(str, key))}",
        "source": wanted.source,
        **beside,
        "features": features,
        "label": values[wanted.model.target],
    }


def _plain(column: str, value: Any) -> Any:  # noqa: ANN401 - whatever a driver returns
    """Return the value as JSON can say it; what is no finite number becomes text, since null would mean missing."""
    if isinstance(value, bytes | memoryview):
        raise WrongArgument(f"--query: column {column!r} holds bytes; expected numbers, text, truth or times")
    if isinstance(value, Decimal):
        value = float(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _message(wanted: Collection, line: bytes) -> Outgoing:
    return Outgoing(topic=wanted.topic, key=wanted.name.encode(), value=line.rstrip(b"\n"))


def _mark(engine: Engine, wanted: Collection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Mark the rows and return how many were changed; raises WrongArgument, and changes none, for more than these."""
    with _blaming("--mark"), engine.begin() as connection:
        marked = connection.execute(text(wanted.mark), rows).rowcount
        if marked > len(rows):
            raise WrongArgument(f"--mark: changed {marked} rows for {len(rows)}; expected it to name one row each time")
    return marked


@contextmanager
def _blaming(option: str) -> Iterator[None]:
    """Turn what a database complains of into our errors: a lock or a lost connection will pass, the rest will not."""
    try:
        yield
    except DBAPIError as error:
        said = without_credentials(str(error.orig)).strip()
        if _may_pass(error):
            raise Outage(f"{option}: the database cannot be reached: {said}") from error
        raise WrongArgument(f"{option}: the database refuses it: {said}") from error
    except StatementError as error:
        raise WrongArgument(f"{option}: {without_credentials(str(error.orig))}") from error


def _may_pass(error: DBAPIError) -> bool:
    # SQLite has one class for what is wrong with a statement and for what is wrong with the world
    code = getattr(error.orig, "sqlite_errorcode", None)
    is_about_the_world = code is None or code & 0xFF not in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_NOTADB}
    return isinstance(error, OperationalError | InterfaceError) and is_about_the_world
