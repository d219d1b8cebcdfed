"""Commands that look at the state: what they say where there is none, and that they make none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from stream_app.bootstrap import Rooms
from stream_app.cli.entry import main
from stream_app.configuration import load
from stream_app.values import Version, VersionStatus
from stream_app.worker.opening import schema_of

Run = Callable[..., tuple[int, str, str]]

SETTINGS = """
[models.known]
task = "binary"
target = "y"
classes = [0, 1]
features = { x = {} }
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return `run(arguments…)` in a folder with settings: exit code, standard output, standard error."""
    (tmp_path / "stream_app.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


@pytest.fixture
def rooms(run: Run) -> Rooms:
    """Return the state that a worker of the model "learned" left, with a version that was rejected."""
    del run  # the folder is the working folder by now
    rooms = Rooms(load())
    rooms.log.take_over("learned", owner="test", schema_json=schema_of(rooms.model("known")).to_json(), start={})
    versions: tuple[tuple[Literal["online", "batch"], VersionStatus], ...] = (
        ("online", VersionStatus.GATED),
        ("batch", VersionStatus.REJECTED),
    )
    for kind, status in versions:
        rooms.registry.register(
            Version(
                model="learned",
                number=0,
                kind=kind,
                algorithm="sklearn:Ridge",
                status=status,
                artifact=None,
                metrics={},
                trained_through=0,
                row_count=0,
                rows_digest="",
                parent=0,
                trigger="manual",
                created_at=0.0,
            )
        )
    return rooms


@pytest.mark.parametrize(
    ("command", "empty"), [("status", {"models": []}), ("models list", [])], ids=["status", "models list"]
)
def test_without_state_they_say_so_and_make_none(command: str, empty: object, run: Run, tmp_path: Path) -> None:
    code, out, err = run(*command.split(), "--json")

    assert (code, json.loads(out)) == (0, empty)
    assert "no state in .stream_app yet; start a worker, or set storage.root" in err
    assert "without a log: known" in err
    assert [path.name for path in tmp_path.iterdir()] == ["stream_app.toml"]


ABOUT_ONE = (
    "models show {}",
    "models promote {} 2",
    "models rollback {}",
    "models export {} out",
    "log files {}",
    "log verify {}",
    "log stats {}",
    "log export {} out",
    "rebuild {}",
    "replay {} --with stream_app.toml",
)


@pytest.mark.parametrize("command", ABOUT_ONE)
def test_without_state_a_model_cannot_be_looked_at(command: str, run: Run, tmp_path: Path) -> None:
    code, out, err = run(*command.format("known").split())

    assert (code, out) == (1, "")
    assert "no state in .stream_app yet" in err
    assert [path.name for path in tmp_path.iterdir()] == ["stream_app.toml"]


@pytest.mark.usefixtures("rooms")
@pytest.mark.parametrize("command", ABOUT_ONE)
def test_a_model_without_a_log_is_told_with_those_that_have_one(command: str, run: Run) -> None:
    code, out, err = run(*command.format("nosuch").split())

    assert (code, out) == (1, "")
    assert "no model 'nosuch' has a log; expected one of: learned" in err


@pytest.mark.usefixtures("rooms")
def test_looking_makes_no_keys(run: Run, tmp_path: Path) -> None:
    assert run("status")[0] == run("models", "show", "learned")[0] == 0
    assert not (tmp_path / ".stream_app" / "keys").exists()


@pytest.mark.usefixtures("rooms")
def test_a_rejected_version_cannot_be_promoted_and_no_worker_is_asked(run: Run) -> None:
    code, _, err = run("models", "promote", "learned", "2")

    assert code == 1
    assert "learned: version 2 was rejected by the gate, so it was never stored and cannot serve" in err
