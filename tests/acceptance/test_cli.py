"""The commands as a user types them: what they print where, what they write, and how they end."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from stream_app.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
ELECTRICITY = ROOT / "stream_app" / "data" / "electricity.csv.gz"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stream_app(tmp_path: Path) -> Run:
    """Run a command in an empty folder, without what the environment of the tests may hold."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_APP_")}

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stream_app", *map(str, arguments)],
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **variables},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


def test_the_root_command_lists_the_others(stream_app: Run) -> None:
    shown = stream_app("--help")

    assert shown.returncode == 0
    assert all(name in shown.stdout and command.summary in shown.stdout for name, command in COMMANDS.items())


def test_help_ends_with_an_example(stream_app: Run) -> None:
    shown = stream_app("produce", "--help")

    assert shown.returncode == 0
    assert "Example: stream-app produce electricity.csv.gz --model electricity" in shown.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["init"]])
def test_wrong_usage_leaves_with_2(arguments: list[str], stream_app: Run) -> None:
    ended = stream_app(*arguments)

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Usage: stream-app" in ended.stderr


def test_no_help_is_cluttered_with_the_completion_of_shells(stream_app: Run) -> None:
    assert "completion" not in stream_app("status", "--help").stdout + stream_app("--help").stdout


def test_version(stream_app: Run) -> None:
    assert stream_app("--version").stdout == "0.1.0\n"
    assert json.loads(stream_app("version", "--json").stdout)["stream-app"] == "0.1.0"
    assert stream_app("version").stdout.startswith("stream-app: 0.1.0\n")


class TestConfig:
    def test_show_redacts_and_says_who_set_what(self, stream_app: Run) -> None:
        shown = stream_app("config", "show", STREAM_APP_STORAGE__URL="postgresql://u:hunter2@h/db")

        assert shown.returncode == 0
        assert 'storage.url = "**********"  # STREAM_APP_STORAGE__URL' in shown.stdout.splitlines()
        assert "hunter2" not in shown.stdout + shown.stderr

    def test_show_prints_toml(self, stream_app: Run, tmp_path: Path) -> None:
        (tmp_path / "again.toml").write_text(stream_app("config", "show", "--set", "kafka.group_id=x").stdout)

        assert tomllib.loads((tmp_path / "again.toml").read_text())["kafka"]["group_id"] == "x"
        again = json.loads(stream_app("config", "show", "--config", "again.toml", "--json").stdout)
        assert (
            again["kafka"]
            == json.loads(stream_app("config", "show", "--set", "kafka.group_id=x", "--json").stdout)["kafka"]
        )

    def test_check_names_every_mistake_and_leaves_with_78(self, stream_app: Run) -> None:
        checked = stream_app("config", "check", "--json", "--set", "kafka.grup_id=x", "--set", "log.level=loud")

        assert checked.returncode == 78
        assert json.loads(checked.stdout) == {
            "ok": False,
            "mistakes": [
                "kafka.grup_id (--set kafka.grup_id): unknown key; did you mean group_id?",
                "log.level = 'loud' (--set log.level): expected 'debug', 'info', 'warning' or 'error'",
            ],
            "warnings": [],
        }

    def test_check_looks_into_the_data_files(self, stream_app: Run, tmp_path: Path) -> None:
        (tmp_path / "stream_app.toml").write_text(
            f'[models.m]\ntask = "binary"\ntarget = "missing"\ndata = "{ELECTRICITY}"'
        )

        checked = stream_app("config", "check")

        assert checked.returncode == 78
        assert checked.stderr.startswith(f"models.m: {ELECTRICITY}: no column 'missing'; expected one of period")

    def test_check_is_content_with_three_lines(self, stream_app: Run, tmp_path: Path) -> None:
        (tmp_path / "stream_app.toml").write_text(
            f'[models.m]\ntask = "binary"\ntarget = "class"\ndata = "{ELECTRICITY}"'
        )

        checked = stream_app("config", "check", "--json")

        assert (checked.returncode, json.loads(checked.stdout)) == (0, {"ok": True, "mistakes": [], "warnings": []})

    def test_a_mistake_stops_other_commands_with_78_too(self, stream_app: Run) -> None:
        ended = stream_app("topics", "list", STREAM_APP_KAFKA__GRUP_ID="x")

        assert (ended.returncode, ended.stdout) == (78, "")
        assert "error: 1 mistake in the settings:" in ended.stderr


class TestInit:
    def test_it_writes_what_config_check_accepts(self, stream_app: Run) -> None:
        written = stream_app("init", "--from", ELECTRICITY, "--target", "class", "--json")

        assert written.returncode == 0
        assert json.loads(written.stdout) == {
            "file": "stream_app.toml",
            "model": "electricity",
            "task": "binary",
            "features": 6,
            "left_out": {},
        }
        assert stream_app("config", "check").returncode == 0

    def test_it_does_not_replace_a_file_unasked(self, stream_app: Run, tmp_path: Path) -> None:
        (tmp_path / "stream_app.toml").write_text("mine")
        again = ("init", "--from", ELECTRICITY, "--target", "class")

        assert stream_app(*again).returncode == 1
        assert (tmp_path / "stream_app.toml").read_text() == "mine"
        assert stream_app(*again, "--force").returncode == 0

    def test_an_unknown_column_is_wrong_usage(self, stream_app: Run) -> None:
        ended = stream_app("init", "--from", ELECTRICITY, "--target", "price")

        assert ended.returncode == 2
        assert "no column 'price'" in ended.stderr


@pytest.mark.kafka
class TestKafka:
    @pytest.fixture
    def variables(self, kafka_bootstrap: str, unique: Callable[[str], str]) -> dict[str, str]:
        used = ("ground_truth", "predictions", "feedback", "model_updated", "learning_events")
        names = {name: unique(name.replace("_", "-")) for name in used}
        topics = {f"STREAM_APP_KAFKA__TOPICS__{name.upper()}": topic for name, topic in names.items()}
        return {"STREAM_APP_KAFKA__BOOTSTRAP_SERVERS": kafka_bootstrap, **topics}

    def test_topics_are_created_once_and_listed(self, stream_app: Run, variables: dict[str, str]) -> None:
        created = json.loads(stream_app("topics", "create", "--json", **variables).stdout)
        again = json.loads(stream_app("topics", "create", "--json", **variables).stdout)
        listed = json.loads(stream_app("topics", "list", "--json", **variables).stdout)

        assert sorted(created["created"]) == sorted(created["topics"])
        assert again == {"created": [], "topics": created["topics"]}
        assert [(row["partitions"], row["offsets"]) for row in listed] == [(4, 0)] * 8

    def test_a_file_arrives_whole_in_order_and_keyed(
        self, stream_app: Run, variables: dict[str, str], kafka_bootstrap: str
    ) -> None:
        stream_app("init", "--from", ELECTRICITY, "--target", "class")
        stream_app("topics", "create", **variables)

        sent = stream_app("produce", ELECTRICITY, "--model", "electricity", "--limit", "2000", "--json", **variables)

        topic = variables["STREAM_APP_KAFKA__TOPICS__GROUND_TRUTH"]
        assert sent.returncode == 0
        assert json.loads(sent.stdout) == {"model": "electricity", "topic": topic, "sent": 2000, "skipped": 0}
        values = consumed(kafka_bootstrap, topic, 2000)
        assert [value["features"]["period"] for value in values[:3]] == [0.0, 0.021277, 0.042553]
        assert {value["model"] for value in values} == {"electricity"}

    def test_a_topic_that_is_not_there_is_said_at_once(self, stream_app: Run, variables: dict[str, str]) -> None:
        stream_app("init", "--from", ELECTRICITY, "--target", "class")

        ended = stream_app("produce", ELECTRICITY, "--model", "electricity", **variables)

        assert ended.returncode == 1
        assert "there is no topic" in ended.stderr
        assert "stream-app topics create" in ended.stderr


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("other.csv", "FILE: other.csv: no column 'nswprice', "),
        ("missing.csv", "FILE: missing.csv: cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_would_be_dead_lettered_whole_is_not_sent(
    file: str, message: str, stream_app: Run, tmp_path: Path
) -> None:
    stream_app("init", "--from", ELECTRICITY, "--target", "class")
    (tmp_path / "other.csv").write_text("period,class\n1,0\n")

    ended = stream_app("produce", file, "--model", "electricity", STREAM_APP_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr


def test_a_model_that_is_not_declared_is_said(stream_app: Run) -> None:
    ended = stream_app("produce", ELECTRICITY, "--model", "nope")

    assert ended.returncode == 1
    assert "no model 'nope' in the settings" in ended.stderr


def test_a_broker_that_is_away_leaves_with_75(stream_app: Run) -> None:
    ended = stream_app("topics", "create", STREAM_APP_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1")

    assert (ended.returncode, ended.stdout) == (75, "")


def consumed(bootstrap: str, topic: str, count: int) -> list[dict[str, dict[str, float]]]:
    """Return the values of the first records of a topic; all of one key, so in order."""
    settings = {"bootstrap.servers": bootstrap, "group.id": f"{topic}-reader", "auto.offset.reset": "earliest"}
    reader = Consumer(settings)
    reader.subscribe([topic])
    values: list[dict[str, dict[str, float]]] = []
    while len(values) < count:
        messages = reader.consume(count - len(values), timeout=20)
        assert messages, f"only {len(values)} records arrived"
        values += [json.loads(message.value() or b"") for message in messages]
    reader.close()
    return values
