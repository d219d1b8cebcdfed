"""The database: migrated by whoever comes first, never by halves, and an outage when it is away."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from log_house import House, make_rows, make_window
from sqlalchemy import Engine, make_url, text

from stream_app.errors import Corrupt, Misconfigured, Outage
from stream_app.storage import database
from stream_app.storage.database import FILE_NAME, REVISION, open_database, reading, writing
from stream_app.storage.serving_tables import metadata  # all tables: it adds its own to those of `tables`

OPEN = """
import sys, pathlib
from stream_app.storage.database import open_database
open_database(sys.argv[1] or None, pathlib.Path(sys.argv[2])).dispose()
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str | None:
    """Return the URL of a database that nobody opened yet; None is the default."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def is_complete(engine: Engine) -> bool:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata) == []


def test_migrations_make_the_tables_that_the_code_declares(engine: Engine) -> None:
    """A change of tables.py needs a migration."""
    assert is_complete(engine)


def test_the_newest_migration_is_the_one_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", "stream_app:storage/migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_processes_that_start_at_once_all_succeed(url: str | None, tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, url or "", str(tmp_path / "new")]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=240)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    engine = open_database(url, tmp_path / "new")
    assert is_complete(engine)
    engine.dispose()


def test_threads_that_start_at_once_all_succeed(url: str | None, tmp_path: Path) -> None:
    barrier = threading.Barrier(4)

    def start(_: int) -> Engine:
        barrier.wait()
        return open_database(url, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        for engine in pool.map(start, range(4)):
            assert is_complete(engine)
            engine.dispose()


def test_a_database_of_a_newer_release_is_refused(url: str | None, tmp_path: Path) -> None:
    engine = open_database(url, tmp_path)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(Misconfigured, match="revision '9999'"):
        open_database(url, tmp_path)


def test_a_migration_that_fails_leaves_nothing(
    url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("alembic.runtime.migration.MigrationContext._ensure_version_table", fail)
        with pytest.raises(RuntimeError):
            open_database(url, tmp_path)
    engine = open_database(url, tmp_path)
    assert is_complete(engine)
    engine.dispose()


@pytest.mark.parametrize(
    "wrong",
    ["mysql://host/db", "mysql://u:secret@host/db", "sqlite://", "sqlite:///:memory:", "not a url", "x://y"],
)
def test_a_url_that_cannot_be_used_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(Misconfigured, match=r"storage\.url") as caught:
        open_database(wrong, tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.postgres
@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgresql_is_opened_by_the_url_that_people_write(scheme: str, postgres_url: str, tmp_path: Path) -> None:
    url = make_url(postgres_url).set(drivername=scheme).render_as_string(hide_password=False)

    assert not database.is_there(url, tmp_path)
    engine = open_database(url, tmp_path)
    assert is_complete(engine)
    engine.dispose()
    assert database.is_there(url, tmp_path)


def test_looking_for_a_database_makes_none(tmp_path: Path) -> None:
    assert not database.is_there(None, tmp_path / "root")
    assert list(tmp_path.iterdir()) == []
    open_database(None, tmp_path / "root").dispose()
    assert database.is_there(None, tmp_path / "root")


def test_a_server_that_is_away_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(Outage, match="cannot be used now") as caught:
        open_database("postgresql+psycopg://u:secret@127.0.0.1:1/db", tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.postgres
def test_a_connection_that_is_cut_is_an_outage_once(postgres_engine: Engine, postgres_server: str) -> None:
    """The next statement finds a new connection."""
    other = database.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    name = make_url(str(postgres_engine.url)).database
    with postgres_engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with other.connect() as admin:
            kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            admin.execute(text(kill), {"name": name})
        with pytest.raises(Outage):
            connection.execute(text("SELECT 1"))
    with postgres_engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    other.dispose()


def test_a_locked_file_is_an_outage_after_a_bounded_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    engine = open_database(None, tmp_path)
    house = House(engine, tmp_path)
    tenure = house.own()
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Outage, match="locked"):
            house.log.commit(make_window(tenure, 1, make_rows(2)))
        assert house.log.positions("m")  # reading goes on meanwhile
        other.rollback()
    other.close()
    house.log.commit(make_window(tenure, 1, make_rows(2)))
    engine.dispose()


def test_a_damaged_file_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 500)
    with pytest.raises(Corrupt, match="damaged"):
        open_database(None, tmp_path)


def test_a_folder_that_cannot_be_made_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Outage, match="folder"):
        open_database(None, tmp_path / "file" / "root")


def test_commits_survive_a_power_cut(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_a_writer_that_reads_first_keeps_others_out(engine: Engine, tmp_path: Path) -> None:
    """Two that read, add one and write: without the lock from the start one addition is lost or refused."""
    house = House(engine, tmp_path)
    house.own()

    def add(_: int) -> None:
        with writing(engine) as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT 1 FROM models WHERE name = 'm' FOR UPDATE"))
            found = connection.execute(text("SELECT next_version FROM models WHERE name = 'm'")).scalar()
            connection.execute(text("UPDATE models SET next_version = :n WHERE name = 'm'"), {"n": found + 1})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(40)))
    assert house.model()["next_version"] == 41


def test_a_reader_sees_one_moment(engine: Engine, tmp_path: Path) -> None:
    house = House(engine, tmp_path)
    tenure = house.own()
    query = text("SELECT seq FROM models")
    with reading(engine) as connection:
        assert connection.execute(query).scalar() == 0
        house.log.commit(make_window(tenure, 1))
        assert connection.execute(query).scalar() == 0
    with reading(engine) as connection:
        assert connection.execute(query).scalar() == 1
