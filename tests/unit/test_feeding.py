"""Turning rows of a file into messages, and sending them."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stream_app.errors import Misconfigured, Outage
from stream_app.feeding import Feed, Form, Progress, rows, send
from stream_app.messages import GroundTruth
from stream_app.model_settings import FeatureSettings, ModelSettings
from stream_app.ports import Outgoing
from stream_app.values import Task

MODEL = ModelSettings(
    task=Task.BINARY,
    target="y",
    classes=("no", "yes"),
    features={"n": FeatureSettings(required=False), "zip": FeatureSettings(type="category")},
)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    path = tmp_path / "d.csv"
    path.write_text("n,zip,y,event_id,rest\n1.5,01,no,e1,a\n,02,yes,e2,b\n2,03,,e3,c\n3,04,no,,d\n")
    return Feed(path=path, name="m", model=MODEL, topic="t", form=Form.ENVELOPE, numbered=False)


class Broker:
    """Remembers what was delivered."""

    def __init__(self) -> None:
        self.deliveries: list[Sequence[Outgoing]] = []

    def __call__(self, messages: Sequence[Outgoing]) -> None:
        self.deliveries.append(messages)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(message.value or b"") for messages in self.deliveries for message in messages]


def sent(feed: Feed, *, limit: int | None = None, rate: float | None = None) -> tuple[Broker, Progress]:
    broker = Broker()
    return broker, send(feed, broker, rate=rate, limit=limit, report=lambda _: None)


def test_an_envelope_keeps_features_label_and_the_rest_apart(feed: Feed) -> None:
    broker, _ = sent(feed)

    assert broker.records == [
        {"model": "m", "features": {"n": 1.5, "zip": "01", "rest": "a"}, "label": "no", "event_id": "e1"},
        {"model": "m", "features": {"n": None, "zip": "02", "rest": "b"}, "label": "yes", "event_id": "e2"},
        {"model": "m", "features": {"n": 3.0, "zip": "04", "rest": "d"}, "label": "no"},
    ]
    assert [GroundTruth.model_validate(value).label for value in broker.records] == ["no", "yes", "no"]


def test_a_flat_record_is_the_row(feed: Feed) -> None:
    broker, _ = sent(replace(feed, form=Form.FLAT), limit=1)

    assert broker.records == [{"n": 1.5, "zip": "01", "y": "no", "event_id": "e1", "rest": "a"}]


def test_every_message_is_keyed_by_the_model(feed: Feed) -> None:
    broker, _ = sent(feed)

    assert {(m.topic, m.key, m.partition) for messages in broker.deliveries for m in messages} == {("t", b"m", None)}


def test_rows_without_a_label_are_counted_and_not_sent(feed: Feed) -> None:
    _, progress = sent(feed)

    assert progress == Progress(sent=3, skipped=1, share=1.0)


def test_the_limit_counts_records_not_rows(feed: Feed) -> None:
    broker, progress = sent(feed, limit=3)

    assert len(broker.records) == progress.sent == 3
    assert sent(feed, limit=1)[1].sent == 1


@pytest.mark.parametrize("form", list(Form))
def test_numbered_rows_have_the_same_id_each_time(form: Form, feed: Feed, tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("n,zip,y\n1,01,no\n2,02,\n3,03,yes\n")
    numbered = replace(feed, path=tmp_path / "n.csv", form=form, numbered=True)

    assert [value["event_id"] for value in sent(numbered)[0].records] == ["n.csv:1", "n.csv:3"]
    assert sent(numbered)[0].records == sent(numbered)[0].records


def test_a_file_without_the_target_or_a_required_feature_is_refused(feed: Feed, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("a,b\n1,2\n")

    with pytest.raises(Misconfigured, match=r"o\.csv: no column 'zip', 'y', which model 'm' requires; it has a, b"):
        sent(replace(feed, path=tmp_path / "o.csv"))


def test_a_feature_that_is_not_required_may_be_absent(feed: Feed, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("zip,y\n01,no\n")

    assert sent(replace(feed, path=tmp_path / "o.csv"))[1].sent == 1


def test_a_json_line_without_the_label_is_left_out_wherever_it_stands(feed: Feed, tmp_path: Path) -> None:
    (tmp_path / "o.jsonl").write_text('{"zip": "1"}\n{"zip": "1", "y": "no"}\n{"zip": "2"}\n')
    broker = Broker()

    progress = send(
        replace(feed, path=tmp_path / "o.jsonl"), broker, rate=10_000_000, limit=None, report=lambda _: None
    )

    assert (progress.sent, progress.skipped) == (1, 2)


def test_an_outage_stops_it(feed: Feed) -> None:
    def away(_: Sequence[Outgoing]) -> None:
        raise Outage("away")

    with pytest.raises(Outage):
        send(feed, away, rate=None, limit=None, report=lambda _: None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], float]]:
    """A clock that only sleeping moves."""
    now = [0.0]
    monkeypatch.setattr("stream_app.feeding.time.monotonic", lambda: now[0])
    monkeypatch.setattr("stream_app.feeding.time.sleep", lambda s: now.__setitem__(0, now[0] + s))
    return lambda: now[0]


def test_a_rate_spreads_the_records_evenly(feed: Feed, clock: Callable[[], float], tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("n,zip,y\n" + "1,01,no\n" * 100)
    times: list[float] = []

    def note(messages: Sequence[Outgoing]) -> None:
        times.extend([clock()] * len(messages))

    send(replace(feed, path=tmp_path / "r.csv"), note, rate=50, limit=None, report=lambda _: None)

    assert len(times) == 100
    assert all(abs(at - i / 50) <= 0.1 for i, at in enumerate(times))


def test_progress_is_reported_after_each_delivery(feed: Feed, clock: Callable[[], float]) -> None:
    del clock
    seen: list[Progress] = []

    send(feed, Broker(), rate=10, limit=None, report=seen.append)

    assert [progress.sent for progress in seen] == [1, 2, 2, 3]
    assert seen[-1].share == 1.0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1.5, float("nan")], [1.5, None]),
        ([float("inf"), -float("inf")], ["inf", "-inf"]),
        ([True, False], [True, False]),
        (["a", None], ["a", None]),
        ([True, None], [True, None]),
    ],
)
def test_cells_become_json_values(column: list[Any], expected: list[Any]) -> None:
    """Infinity must not become null: null is a missing value, and this is a wrong one."""
    found = [row["x"] for row in rows(pd.DataFrame({"x": column}))]

    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]
