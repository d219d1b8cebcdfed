"""What a command says about settings and arguments that are not what their author meant."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]

WARNING = "STREAM_APP_KAFKA_GROUP_ID is ignored, as it names no setting; did you mean STREAM_APP_KAFKA__GROUP_ID?"


def test_a_variable_that_is_ignored_is_told_by_the_check_which_still_passes(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_APP_KAFKA_GROUP_ID", "x")
    code, out, err = command("config", "check", "--json")
    assert (code, json.loads(out)) == (0, {"ok": True, "mistakes": [], "warnings": [WARNING]})
    assert f"warning: {WARNING}" in err


def test_a_variable_that_is_ignored_is_logged_when_a_process_starts(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_APP_KAFKA_GROUP_ID", "x")
    monkeypatch.setenv("STREAM_APP_LOG__FORMAT", "json")
    code, _, err = command("worker")
    assert code == 78
    (line,) = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert (line["level"], line["event"]) == ("warning", WARNING)


@pytest.mark.parametrize("text", ["=x", " =x", "x"])
def test_a_setting_without_a_key_is_wrong_usage(text: str, command: Run) -> None:
    code, _, err = command("config", "show", "--set", text)
    assert code == 2
    assert f"{text!r}: expected KEY=VALUE" in err


def test_without_a_broker_it_says_when_that_of_up_is_found(command: Run) -> None:
    code, _, err = command("dlq", "list")
    assert code == 78
    assert "kafka.bootstrap_servers is not set: expected host:port" in err
    assert "`stream-app up` is found without it, but only in the folder in which that runs, while it runs" in err


@pytest.mark.parametrize("text", ["foo", "source=", "feature=x", ""])
def test_an_exclusion_that_is_none_is_wrong_usage_whatever_there_is_to_rebuild(text: str, command: Run) -> None:
    code, _, err = command("rebuild", "m", "--exclude", text)
    assert code == 2
    assert f"--exclude is {text!r}, expected source=NAME" in err


def test_a_check_that_finds_a_mistake_tells_the_warnings_too(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stream_app.toml").write_text("[kafka]\ngrup_id = 'x'\n")
    monkeypatch.setenv("STREAM_APP_KAFKA_GROUP_ID", "x")
    code, out, _ = command("config", "check", "--json")
    assert (code, json.loads(out)["warnings"], len(json.loads(out)["mistakes"])) == (78, [WARNING], 1)
