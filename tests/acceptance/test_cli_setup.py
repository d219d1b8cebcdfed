"""Installing: what scripts/setup says when it cannot do its work, and that it does nothing twice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy what scripts/setup looks at."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts" / "setup")
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def setup(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / "setup", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_told(checkout: Path) -> None:
    old = checkout / "old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)

    ended = setup(checkout, PYTHON=str(old))

    assert ended.returncode == 1
    assert "needs Python 3.11 or newer, found Python 3.9.2; name one with PYTHON=" in ended.stderr


def test_an_unknown_kind_is_told(checkout: Path) -> None:
    ended = setup(checkout, "everything")

    assert (ended.returncode, ended.stderr) == (
        2,
        "scripts/setup: unknown kind 'everything'; expected runtime or dev\n",
    )


def test_a_package_index_that_is_away_is_told(checkout: Path) -> None:
    """Port 1 answers nobody."""
    away = {
        "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
        "PIP_RETRIES": "0",
        "PIP_FIND_LINKS": "",
        "PIP_NO_CACHE_DIR": "1",
    }

    ended = setup(checkout, PYTHON=sys.executable, **away)

    assert ended.returncode == 75
    assert "check that this machine reaches a package index, then run it again" in ended.stderr


@pytest.fixture
def installed(checkout: Path) -> Path:
    """Pretend that everything was installed: a command, a stamp, and where they were made."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    command = checkout / ".venv" / "bin" / "stream-app"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    (checkout / ".venv" / "pyvenv.cfg").write_text(f"command = /usr/bin/python3 -m venv {checkout}/.venv\n")
    inputs = ("requirements/build.txt", "requirements/dev.txt", "pyproject.toml")
    content = b"".join((checkout / name).read_bytes() for name in inputs)
    digest = subprocess.run(["sha256sum"], input=content, capture_output=True, check=True).stdout.split()[0]
    (checkout / ".venv" / ".locked-dev").write_bytes(digest)
    return checkout


@pytest.mark.parametrize("kind", ["dev", "runtime"])
def test_what_is_up_to_date_is_left_alone(kind: str, installed: Path) -> None:
    """What developers have is more than users need."""
    assert setup(installed, kind, PYTHON="/bin/false").returncode == 0


def test_a_changed_lock_is_installed_anew(installed: Path) -> None:
    with (installed / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")

    assert setup(installed, "dev", PYTHON="/bin/false").returncode != 0


def test_a_moved_checkout_is_installed_anew(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its commands would start the old one, or nothing."""
    moved = tmp_path_factory.mktemp("elsewhere") / "checkout"
    shutil.move(installed, moved)

    assert setup(moved, "dev", PYTHON="/bin/false").returncode != 0


def test_the_locks_name_no_place() -> None:
    """A package comes from whatever index its user trusts; the hashes say whether it is the right one."""
    locks = [path.read_text() for path in (ROOT / "requirements").glob("*.txt")]

    assert len(locks) == 3
    assert not [
        line
        for lock in locks
        for line in lock.splitlines()
        if "://" in line or (line.lstrip().startswith("-") and not line.lstrip().startswith("--hash=sha256:"))
    ]


def test_one_package_has_one_version_in_all_locks() -> None:
    pins: dict[str, set[str]] = {}
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in path.read_text().splitlines():
            name, found, version = line.partition("==")
            if found:
                pins.setdefault(name, set()).add(version.split()[0])

    assert {name: versions for name, versions in pins.items() if len(versions) > 1} == {}
