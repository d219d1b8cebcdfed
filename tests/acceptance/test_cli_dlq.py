"""`stream-app dlq` as a user types it, on a real broker."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from stream_app.kafka import client, topics
from stream_app.kafka.dead_letters import Grave, dead_letter
from stream_app.kafka.producer import Producer
from stream_app.settings import KafkaSettings, TopicSettings
from stream_app.values import Partition, Run

ROOT = Path(__file__).parents[2]
#: What a terminal must not be told: red, bell, a hidden change of direction; and what Rich would take for markup.
EVIL = "\x1b[31m\x07\u202e[/b]"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kafka(kafka_bootstrap: str, unique: Callable[[str], str], wait_until: Callable[..., None]) -> KafkaSettings:
    """Return settings of topics in which three messages of one partition have failed."""
    names = TopicSettings(ground_truth=unique("truth"), model_updated=unique("up"), learning_events=unique("ev"))
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topics=names)
    topics.declare(settings)
    admin = client.admin(settings)
    wait_until(lambda: topics.partition_count(admin, f"{names.ground_truth}.dlq") == names.partitions)
    run = Run(
        partition=Partition(incarnation="inc", topic=names.ground_truth, number=0),
        offsets=[0, 1, 2],
        keys=[b"m", b"m", EVIL.encode()],
        values=[b"{broken", EVIL.encode(), b"x" * 70_000],
        headers=[[], [], []],
        timestamps_ms=[1, 1, 1],
    )
    grave = Grave(suffix=".dlq", group="g", max_message_bytes=66_000)
    reasons = ("not_json", "not_json", "too_large")
    with Producer(settings) as deliver:
        for i, reason in enumerate(reasons):
            deliver([dead_letter(grave, run, i, index=None, reason=reason, error="first\nsecond", now=float(i))])
    return settings


@pytest.fixture
def dlq(kafka: KafkaSettings, tmp_path: Path) -> Command:
    names = kafka.topics
    settings = (
        f'[kafka]\nbootstrap_servers = "{kafka.bootstrap_servers}"\n[kafka.topics]\n'
        f'ground_truth = "{names.ground_truth}"\n'
        f'model_updated = "{names.model_updated}"\nlearning_events = "{names.learning_events}"\n'
    )
    (tmp_path / "stream_app.toml").write_text(settings)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_APP_")}

    def run(*arguments: str | int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stream_app", "dlq", *map(str, arguments)],
            cwd=tmp_path,
            env={**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run


@pytest.mark.parametrize("command", ["list", "show", "replay"])
def test_every_help_has_an_example_and_a_way_to_get_json(command: str, tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "stream_app", "dlq", command, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert f"Example: stream-app dlq {command}" in shown.stdout
    assert "--json" in shown.stdout


@pytest.mark.kafka
def test_list_counts_and_says_where_the_newest_lies(dlq: Command, kafka: KafkaSettings) -> None:
    shown = dlq("list", "--json")
    assert shown.returncode == 0, shown.stderr
    heaps = {heap["reason"]: heap for heap in json.loads(shown.stdout)}
    assert heaps["not_json"]["letters"] == heaps["not_json"]["records"] == 2
    assert heaps["not_json"]["topic"] == f"{kafka.topics.ground_truth}.dlq"
    assert heaps["not_json"]["newest"] == "1970-01-01T00:00:01+00:00"
    assert heaps["too_large"]["model"] == EVIL
    table = dlq("list")
    assert table.returncode == 0, table.stderr
    assert "3 letters" in table.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(table.stdout)


@pytest.mark.kafka
def test_each_letter_is_listed_with_the_place_that_show_asks_for(dlq: Command) -> None:
    listed = json.loads(dlq("list", "--each", "--json").stdout)
    assert sorted(letter["reason"] for letter in listed) == ["not_json", "not_json", "too_large"]
    for letter in listed:
        shown = dlq("show", letter["topic"], letter["partition"], letter["offset"], "--json")
        assert json.loads(shown.stdout)["headers"]["x-dlq-reason"] == letter["reason"]
    table = dlq("list", "--each")
    assert (table.returncode, len(table.stdout.splitlines())) == (0, 4)
    assert "3 letters" in table.stderr


@pytest.mark.kafka
def test_show_prints_headers_and_value_and_nothing_that_a_terminal_obeys(dlq: Command, kafka: KafkaSettings) -> None:
    (heap,) = [heap for heap in json.loads(dlq("list", "--json").stdout) if heap["reason"] == "not_json"]
    place = (heap["topic"], heap["newest_partition"], heap["newest_offset"])
    shown = dlq("show", *place)
    assert shown.returncode == 0, shown.stderr
    assert f"__connect.errors.topic: {kafka.topics.ground_truth}\n" in shown.stdout
    assert "__connect.errors.exception.message: first\n    second\n" in shown.stdout
    assert shown.stdout.endswith("\n\\x1b[31m\\x07\\u202e[/b]\n")
    as_json = json.loads(dlq("show", *place, "--json").stdout)
    assert as_json["headers"]["x-dlq-reason"] == "not_json"
    missing = dlq("show", heap["topic"], 0, 10_000)
    assert missing.returncode == 1
    assert "no letter lies in" in missing.stderr


@pytest.mark.kafka
def test_a_dry_run_tells_and_sends_nothing_a_replay_sends_and_a_refusal_ends_with_1(
    dlq: Command, kafka: KafkaSettings
) -> None:
    dry = dlq("replay", "--dry-run", "--json")
    told = json.loads(dry.stdout)
    assert (dry.returncode, told["would_send"], told["refused"], "sent" in told) == (1, 2, 1, False)
    assert [letter["refusal"][:17] for letter in told["letters"] if letter["to"] is None] == ["it was too large "]
    assert sum(topics.end_offsets(client.admin(kafka), [kafka.topics.ground_truth]).values()) == 0
    sent = dlq("replay", "--reason", "not_json", "--json")
    assert (sent.returncode, json.loads(sent.stdout)["sent"]) == (0, 2)
    assert sum(topics.end_offsets(client.admin(kafka), [kafka.topics.ground_truth]).values()) == 2


@pytest.mark.kafka
def test_corrected_values_are_sent_instead(dlq: Command, kafka: KafkaSettings, tmp_path: Path) -> None:
    letters = json.loads(dlq("replay", "--dry-run", "--json").stdout)["letters"]
    (large,) = [letter for letter in letters if letter["refusal"]]
    line = {"partition": large["partition"], "offset": large["offset"], "value": {"features": {"x": 1}, "label": 0}}
    (tmp_path / "fixed.jsonl").write_text(json.dumps(line) + "\n")
    sent = dlq("replay", "--topic", kafka.topics.ground_truth, "--file", "fixed.jsonl", "--json")
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["sent"] == 1
    value = json.loads(_only_message(kafka))
    assert value == {**line["value"], "event_id": f"dlq:inc/{kafka.topics.ground_truth}/0/2/0"}


@pytest.mark.kafka
def test_wrong_input_says_what_was_expected(dlq: Command, tmp_path: Path, kafka: KafkaSettings) -> None:
    (tmp_path / "bad.jsonl").write_text('{"partition": 0}\n')
    bad = dlq("replay", "--topic", kafka.topics.ground_truth, "--file", "bad.jsonl")
    assert (bad.returncode, "line 1: offset is missing, expected a whole number" in bad.stderr) == (2, True)
    absent = dlq("replay", "--file", "absent.jsonl")
    assert (absent.returncode, "No such file" in absent.stderr) == (2, True)
    foreign = dlq("list", "--topic", "secrets")
    assert (foreign.returncode, "expected one of: truth" in foreign.stderr) == (1, True)
    nonsense = dlq("replay", "--reason", "nonsense", "--json")
    assert (nonsense.returncode, nonsense.stdout) == (2, "")
    assert "reason is 'nonsense', expected one that letters have: not_json, too_large" in nonsense.stderr


def _only_message(kafka: KafkaSettings) -> str:
    config = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    try:
        consumer.assign([TopicPartition(kafka.topics.ground_truth, n, 0) for n in range(kafka.topics.partitions)])
        (message,) = consumer.consume(1, 20)
        return (message.value() or b"").decode()
    finally:
        consumer.close()
