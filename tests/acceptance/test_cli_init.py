"""`stream-app init` as a user types it."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "d.csv"
    rows = (f"{i},n{i},2026-01-{i % 10 + 1:02},{i % 2},{i % 9}" for i in range(200))
    path.write_text("\n".join(["x,name,day,label,stars", *rows]))
    return path


def test_dates_that_come_again_are_left_out(table: Path, command: Run) -> None:
    code, out, _ = command("init", "--from", str(table), "--target", "label", "--json")
    assert (code, json.loads(out)["left_out"]["day"]) == (0, "left out: dates")


@pytest.mark.parametrize(
    ("target", "said"), [("name", "column 'name': expected classes that come again"), ("day", "column 'day': dates")]
)
def test_names_and_dates_are_no_target_and_no_file_is_written(
    target: str, said: str, table: Path, command: Run, tmp_path: Path
) -> None:
    code, _, err = command("init", "--from", str(table), "--target", target)
    assert code == 2
    assert said in err
    assert not (tmp_path / "stream_app.toml").exists()


def test_the_task_can_be_given(table: Path, command: Run, tmp_path: Path) -> None:
    """Stars are nine classes or a quantity: only their owner knows."""
    given = ("init", "--from", str(table), "--target", "stars", "--force")
    assert command(*given)[0] == 0
    assert tomllib.loads((tmp_path / "stream_app.toml").read_text())["models"]["d"]["task"] == "multiclass"
    assert command(*given, "--task", "regression")[0] == 0
    assert tomllib.loads((tmp_path / "stream_app.toml").read_text())["models"]["d"]["task"] == "regression"


def test_a_task_that_the_labels_do_not_fit_is_refused(table: Path, command: Run) -> None:
    code, _, err = command("init", "--from", str(table), "--target", "name", "--task", "regression")
    assert code == 2
    assert "--from, --target, --task: " in err
    assert "expected numbers for a regression" in err
