"""`stream-app keys`: what it refuses, and what it leaves behind; over a database in a folder."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_app.bootstrap import Rooms
from stream_app.cli.keys import app
from stream_app.errors import NotFound
from stream_app.settings import Settings, StorageSettings

RUNNER = CliRunner()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["--set", f"storage.root={tmp_path / 'state'}"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "x", "--scopes", "everything"],
        ["--name", "x", "--scopes", ""],
        ["--name", " ", "--scopes", "read"],
        ["--name", "x" * 101, "--scopes", "read"],
        ["--name", "x", "--scopes", "read", "--expires", "soon"],
        ["--name", "x", "--scopes", "read", "--expires", "0d"],
    ],
)
def test_what_makes_no_key_is_a_usage_error_and_stores_nothing(
    place: list[str], tmp_path: Path, arguments: list[str]
) -> None:
    assert RUNNER.invoke(app, ["create", *arguments, *place]).exit_code == 2
    assert not (tmp_path / "state").exists()


def test_a_key_is_told_once_listed_and_revoked(place: list[str], tmp_path: Path) -> None:
    told = RUNNER.invoke(
        app, ["create", "--name", "page", "--scopes", "read, predict", "--expires", "12h", "--json", *place]
    )
    made = json.loads(told.stdout)
    revoked = json.loads(RUNNER.invoke(app, ["revoke", made["id"], "--json", *place]).stdout)
    (listed,) = json.loads(RUNNER.invoke(app, ["list", "--json", *place]).stdout)
    assert listed == revoked
    assert (listed["id"], listed["scopes"]) == (made["id"], "predict read")
    assert listed["expires_at"] is not None
    assert listed["revoked_at"] is not None
    assert "key" not in listed
    rooms = Rooms(Settings(storage=StorageSettings(root=tmp_path / "state")))
    assert [deed.action for deed in rooms.audit.newest()] == ["revoke key", "create key"]
    rooms.engine.dispose()


def test_where_there_is_no_state_there_are_no_keys_and_none_is_made(place: list[str], tmp_path: Path) -> None:
    assert json.loads(RUNNER.invoke(app, ["list", "--json", *place]).stdout) == []
    assert isinstance(RUNNER.invoke(app, ["revoke", "x", *place]).exception, NotFound)
    assert not (tmp_path / "state").exists()
