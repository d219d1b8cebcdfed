"""Opening the database: which one, how its transactions behave, and that its tables are ours.

SQLite by default, PostgreSQL by URL; what differs between the two is in this module and nowhere else. One
engine serves all threads of a process.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeAlias

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError

from stream_app.errors import Corrupt, Misconfigured, Outage, StreamAppError
from stream_app.redaction import REDACTED
from stream_app.storage.durable import make_folder

Insert: TypeAlias = sqlite.Insert | postgresql.Insert

FILE_NAME: Final = "stream_app.db"
_POSTGRES: Final = "postgresql+psycopg"
_PLAIN_POSTGRES: Final = frozenset({"postgres", "postgresql"})
#: Newest migration; a test holds that it is the head of `migrations/versions`.
REVISION: Final = "0003"
#: How long a statement waits for another writer before it counts as an outage.
BUSY_S: Final = 10.0
#: Migrating takes longer than a statement, and everybody else waits for it.
MIGRATION_S: Final = 60.0
#: Names our migrations among the advisory locks of a shared PostgreSQL server.
_ADVISORY_LOCK: Final = 0x5354524541
#: SQLite's primary result codes for "not now" or "not on this disk", as opposed to a mistake of ours.
_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def open_database(url: str | None, root: Path) -> Engine:
    """Return the engine of the migrated database; without a URL it is SQLite in `root`.

    Processes that start at once migrate one after the other. Raises Misconfigured for a URL that cannot be
    used and for tables made by a newer release, Outage when the database is away.
    """
    parsed = parse_url(url) if url else URL.create("sqlite", database=str(root / FILE_NAME))
    engine = _open_sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _connect_postgres(parsed)
    try:
        _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def parse_url(url: str) -> URL:
    """Return the URL with the driver that we use; raises Misconfigured unless it names SQLite's file or PostgreSQL.

    What people write for PostgreSQL, `postgres://` and `postgresql://`, means psycopg.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise _refused("no URL") from error
    if parsed.drivername in _PLAIN_POSTGRES:
        parsed = parsed.set(drivername=_POSTGRES)
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", _POSTGRES}:
        raise _refused(repr(parsed.drivername))
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise _refused("SQLite in memory forgets everything")
    if parsed.drivername == _POSTGRES and find_spec("psycopg") is None:
        raise Misconfigured("storage.url: PostgreSQL needs psycopg: pip install 'stream-app[postgres]'")
    return parsed


def _refused(reason: str) -> Misconfigured:
    # The URL itself stays out of messages: it may hold a password.
    return Misconfigured(
        f"storage.url = {REDACTED} ({reason}): expected postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE"
    )


def is_there(url: str | None, root: Path) -> bool:
    """Return whether `open_database` would find tables; makes nothing. Raises Misconfigured, or Outage."""
    parsed = parse_url(url) if url else URL.create("sqlite", database=str(root / FILE_NAME))
    if parsed.get_backend_name() == "sqlite":
        return Path(str(parsed.database)).is_file()
    engine = _connect_postgres(parsed)
    try:
        return _revision(engine) is not None
    finally:
        engine.dispose()


def _connect_postgres(url: URL) -> Engine:
    engine = create_engine(url, pool_pre_ping=True, pool_timeout=BUSY_S, connect_args={"connect_timeout": int(BUSY_S)})
    event.listen(engine, "handle_error", _from_postgres)
    return engine


def _open_sqlite(url: URL) -> Engine:
    try:
        make_folder(Path(str(url.database)).absolute().parent)
    except OSError as error:
        raise Outage(f"{url.database}: its folder cannot be made ({error.strerror})") from error
    # IMMEDIATE: the driver takes the write lock with the first statement that writes and waits for it. A
    # deferred transaction that has read before would be refused at once instead. Plain reads take no lock.
    engine = create_engine(url, pool_timeout=BUSY_S, connect_args={"isolation_level": "IMMEDIATE", "timeout": BUSY_S})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "handle_error", _from_sqlite)
    return engine


def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
    # FULL: without it a commit survives a crash of the process but not of the machine.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _from_sqlite(context: ExceptionContext) -> StreamAppError | None:
    error = context.original_exception
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code in _AWAY:
        return Outage(f"the database cannot be used now: {error}")
    return Corrupt(f"the database is damaged: {error}") if code in _BROKEN else None


def _from_postgres(context: ExceptionContext) -> StreamAppError | None:
    error = context.original_exception
    # psycopg files lost connections, shutdowns, deadlocks and full disks under OperationalError.
    names = {cls.__name__ for cls in type(error).__mro__}
    if context.is_disconnect or names & {"OperationalError", "InterfaceError"}:
        return Outage(f"the database cannot be used now: {error}")
    return None


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that holds the write lock from its start.

    For transactions that read before they write: on SQLite a plain `engine.begin()` locks at the first write.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection whose statements all see the database as it is at the first of them."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection
    else:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            yield connection


def insert_into(dialect: str, table: Table) -> Insert:
    """Return an INSERT that can say ON CONFLICT, which both databases can and plain SQL cannot."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


def _migrate(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        with _file_lock(Path(str(engine.url.database) + ".lock")), engine.connect() as connection:
            # Kept in the file once set; switching needs the file for ourselves, hence inside the lock.
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            _upgrade_if_old(engine)
    else:
        _upgrade_if_old(engine)


def _upgrade_if_old(engine: Engine) -> None:
    if _revision(engine) == REVISION:
        return
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    # Imported when it is needed: most starts find the tables as they should be.
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = _read_revision(connection)
    if found is not None and found not in known:
        raise Misconfigured(
            f"storage: the database has revision {found!r}, this release knows {REVISION!r} and older; "
            "expected an older database or a newer release"
        )
    command.upgrade(config, "head")


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return _read_revision(connection)


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Outage(f"{path}: cannot be opened ({error.strerror})") from error
    try:
        _wait_for_lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


def _wait_for_lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + MIGRATION_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Outage(f"{path}: another process has held the lock for {MIGRATION_S:g} s") from error
            time.sleep(0.05)
        else:
            return
