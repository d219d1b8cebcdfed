"""Both databases for the contract tests: SQLite always, PostgreSQL from the machine's binaries or by URL."""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import OperationalError

from stream_app.storage.database import open_database

# Test folders are no packages; this lets the tests of this one share `log_house`.
sys.path.insert(0, str(Path(__file__).parent))

from log_house import House

#: A server to use instead of one of our own; the user may create databases there.
URL = "STREAM_APP_TEST_POSTGRES_URL"
#: Turns a missing service from a skip into a failure; the build sets it.
REQUIRE = "STREAM_APP_REQUIRE_KAFKA"


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    """Yield the engine of a new SQLite file."""
    engine = open_database(None, tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Yield the URL of a running server."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get(URL) or _own_server(stack)
        if url is None:
            message = f"NO POSTGRESQL: set {URL}, or install its server (initdb and postgres)"
            pytest.fail(message) if os.environ.get(REQUIRE) == "1" else pytest.skip(message)
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Yield the URL of a new, empty database."""
    name = f"test_{uuid.uuid4().hex}"
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture
def postgres_engine(postgres_url: str, tmp_path: Path) -> Iterator[Engine]:
    """Yield the engine of a new database on PostgreSQL."""
    engine = open_database(postgres_url, tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Return the engine of each database in turn."""
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return engine


@pytest.fixture
def house(engine: Engine, tmp_path: Path) -> House:
    """Return a log on each database in turn."""
    return House(engine, tmp_path / "root")


def _own_server(stack: contextlib.ExitStack) -> str | None:
    binaries = _binaries()
    if binaries is None:
        return None
    # Not in pytest's folder: the server runs as another user, who may not look in there.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-")))
    prefix = _as_unprivileged(folder)
    data = folder / "data"
    _run([*prefix, str(binaries / "initdb"), "-D", str(data), "-U", "test", "-A", "trust", "--no-sync"])
    options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=100", "-k", str(folder)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*prefix, str(binaries / "postgres"), "-D", str(data), *options], stdout=log, stderr=log
        )
    stack.callback(_stop, server)
    url = f"postgresql+psycopg://test@/postgres?host={folder}"
    _wait_for(url, server, folder / "log")
    return url


def _binaries() -> Path | None:
    """Return the newest folder with a server; packages of Debian do not put it on the path."""
    found = shutil.which("postgres")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((c for c in candidates if (c / "initdb").exists() and (c / "postgres").exists()), None)


def _as_unprivileged(folder: Path) -> list[str]:
    """Return the command that drops our rights: the server refuses to run as root."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    # The server must not outlive a test run that is killed.
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=QUIT"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(3)  # SIGQUIT: at once, nothing is to be kept
    server.wait(timeout=30)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    engine = create_engine(url)
    while True:
        try:
            engine.connect().close()
        except OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            engine.dispose()
            return
