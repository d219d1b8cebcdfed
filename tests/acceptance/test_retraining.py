"""`scripts/manage_retraining.py`, as users of other systems type it."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_app import background
from stream_app.cli.entry import main
from tests.integration.pipeline import DATA, ROOT, Pipeline, settings_text

Manage = Callable[..., Any]


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    yield Pipeline(tmp_path, "")
    background.stop(tmp_path / "state")


@pytest.fixture
def manage(pipeline: Pipeline) -> Manage:
    def run(*arguments: str, code: int = 0) -> Any:  # noqa: ANN401 - whatever it prints
        command = [sys.executable, str(ROOT / "scripts" / "manage_retraining.py"), *arguments, "--json"]
        done = subprocess.run(
            command,
            cwd=pipeline.folder,
            env=pipeline.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == code, f"{arguments} left with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout else done.stderr

    return run


@pytest.mark.timeout(750)
def test_it_is_started_watched_triggered_and_stopped(
    pipeline: Pipeline, manage: Manage, wait_until: Callable[..., None]
) -> None:
    started = manage("start", "--electricity-data", str(DATA))
    pipeline.json("produce", str(DATA), "--model", "electricity", "--limit", "1000")
    job = manage("trigger", "electricity")
    wait_until(lambda: _newest(manage)["status"] in {"success", "failed"}, deadline=120, what="the retrain's end")
    status = manage("status")
    ended = manage("stop")

    assert (started["is_running"], started["started"]) == (True, True)
    assert started["process"] == status["process"]
    assert (job["job"], job["is_new"], status["is_running"]) == (1, True, True)
    assert ended == {"is_running": False, "ended": True}
    assert background.running(pipeline.folder / "state") is None


def _newest(manage: Manage) -> dict[str, Any]:
    events: list[dict[str, Any]] = manage("history")["history"]
    return events[0]


def test_an_option_for_data_becomes_a_setting() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "manage_retraining.py"))
    translated = script["translated"]

    assert translated(["start", "--iris-data", "a.csv", "--housing-data=b.csv", "--json"]) == [
        *("start", "--set", "models.iris.data=a.csv", "--set", "models.housing.data=b.csv", "--json")
    ]
    with pytest.raises(SystemExit, match="--iris-data: expected a file behind it"):
        translated(["start", "--iris-data"])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return `run(arguments…)`, in this process: what `stream-app retraining` prints as JSON, or its last words."""
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> Any:  # noqa: ANN401 - whatever it prints
        with pytest.raises(SystemExit):
            main(["retraining", *arguments, "--json"])
        said = capsys.readouterr()
        return json.loads(said.out) if said.out else said.err

    return command


def test_settings_of_retraining_are_shown_and_strangers_refused(run: Callable[..., Any]) -> None:
    assert run("config", "--model", "electricity")["electricity"]["enabled"] is True
    assert "no model 'iris'" in run("trigger", "iris")
    assert run("history") == {"history": []}
    assert run("stop") == {"is_running": False, "ended": False}
    assert run("status")["is_running"] is False


@pytest.mark.timeout(600)
def test_an_up_that_others_started_is_left_alone(
    pipeline: Pipeline, manage: Manage, wait_until: Callable[..., None]
) -> None:
    with pipeline.running("up") as up:
        wait_until((pipeline.folder / "state" / "broker").exists, what="the embedded broker's address")
        assert manage("start")["started"] is False
        assert manage("stop") == {"is_running": False, "ended": False}
        assert up.stop() == 0
