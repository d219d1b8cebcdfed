"""A run is sorted by model: learned here, sent home, or nobody's."""

from collections.abc import Sequence

import orjson

from stream_app.kafka.codec import decode
from stream_app.values import Partition, Run
from stream_app.worker.routing import ORIGIN, Map, Routed

MAP = Map(topic="gt", homes={"a": 0, "b": 1}, ingest={"raw": "a"})


def run_of(
    values: Sequence[object],
    keys: Sequence[bytes | None],
    *,
    topic: str = "gt",
    headers: Sequence[Sequence[tuple[str, bytes]]] | None = None,
) -> Run:
    n = len(values)
    return Run(
        partition=Partition(incarnation="i", topic=topic, number=0),
        offsets=range(100, 100 + n),
        keys=keys,
        values=[orjson.dumps(v) for v in values],
        headers=headers or [()] * n,
        timestamps_ms=[1_000 + i for i in range(n)],
    )


def route(run: Run) -> Routed:
    return MAP.route(run, decode(run, max_message_bytes=10_000))


def test_a_run_of_one_model_at_home_is_one_batch() -> None:
    routed = route(run_of([{"x": 1}, {"x": 2}], [b"a", b"a"]))
    assert list(routed.batches) == ["a"]
    assert routed.batches["a"].offsets.tolist() == [100, 101]
    assert not routed.forwards
    assert not routed.strays


def test_the_record_s_own_model_wins_over_the_key() -> None:
    routed = route(run_of([{"x": 1, "model": "a"}], [b"zzz"]))
    assert list(routed.batches) == ["a"]


def test_a_record_away_from_home_is_forwarded_with_its_origin_and_time() -> None:
    routed = route(run_of([{"x": 1}, {"x": 2}], [b"a", b"b"]))
    [(position, message)] = routed.forwards
    assert position == 1
    assert (message.topic, message.partition, message.key) == ("gt", 1, b"b")
    assert dict(message.headers)[ORIGIN] == b"i/gt/0/101/0"
    assert message.timestamp_ms == 1_001
    assert routed.batches["a"].offsets.tolist() == [100]


def test_an_ingest_topic_is_forwarded_whole_whatever_its_keys() -> None:
    routed = route(run_of([{"x": 1}, [{"x": 2}, {"x": 3}]], [None, b"b"], topic="raw"))
    assert [m.key for _, m in routed.forwards] == [b"a"] * 3
    assert [dict(m.headers)[ORIGIN] for _, m in routed.forwards] == [
        b"i/raw/0/100/0",
        b"i/raw/0/101/0",
        b"i/raw/0/101/1",
    ]
    assert [orjson.loads(m.value or b"") for _, m in routed.forwards] == [{"x": 1}, {"x": 2}, {"x": 3}]


def test_the_first_origin_stays_when_a_record_is_forwarded_again() -> None:
    origin = (ORIGIN, b"i/raw/3/7/0")
    routed = route(run_of([{"x": 1}], [b"b"], headers=[[origin]]))
    [(_, message)] = routed.forwards
    assert [v for n, v in message.headers if n == ORIGIN] == [b"i/raw/3/7/0"]


def test_an_origin_comes_along_into_the_batch_and_a_forged_one_does_not() -> None:
    headers = [[(ORIGIN, b"i/raw/3/7/0")], [(ORIGIN, b"\xff not/an/origin")]]
    routed = route(run_of([{"x": 1}, {"x": 2}], [b"a", b"a"], headers=headers))
    assert routed.batches["a"].origins == ["i/raw/3/7/0", None]


def test_records_of_unknown_models_are_strays() -> None:
    routed = route(run_of([{"x": 1}, {"x": 2}, {"x": 3, "model": "nope"}], [b"a", None, b"a"]))
    assert [s.position for s in routed.strays] == [1, 2]
    assert "nope" in routed.strays[1].detail


def test_elements_of_an_array_keep_their_index() -> None:
    routed = route(run_of([[{"x": 1}, {"x": 2, "model": "b"}, {"x": 3}]], [b"a"]))
    assert routed.batches["a"].indexes.tolist() == [0, 2]
    assert dict(routed.forwards[0][1].headers)[ORIGIN] == b"i/gt/0/100/1"
