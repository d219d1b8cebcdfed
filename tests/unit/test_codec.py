"""Bytes become records, and what cannot is named."""

from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.kafka.codec import Decoded, decode
from stream_app.values import Partition, Run


def decoded(*values: bytes | None, limit: int = 1000) -> Decoded:
    n = len(values)
    run = Run(
        partition=Partition(incarnation="i", topic="t", number=0),
        offsets=range(n),
        keys=[None] * n,
        values=values,
        headers=[()] * n,
        timestamps_ms=[0] * n,
    )
    return decode(run, max_message_bytes=limit)


def test_arrays_are_taken_apart_and_every_record_knows_where_it_was() -> None:
    found = decoded(b'{"a":1}', b'[{"a":2},{"a":3}]', b"[]", b'{"a":4}')
    assert [r["a"] for r in found.records] == [1, 2, 3, 4]
    assert list(found.positions) == [0, 1, 1, 3]
    assert list(found.indexes) == [0, 0, 1, 0]
    assert not found.bad


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"a":', "not_json"),
        (b'{"a":NaN}', "not_json"),
        (b'{"a":1e999}', "not_json"),
        (b'{"a":' + b"1" * 400 + b"}", "not_json"),
        (b"[" * 900 + b"]" * 900, "too_large"),
        (b"3", "not_an_object"),
        (b'[{"a":1},7]', "not_an_object"),
    ],
)
def test_a_bad_message_is_named_and_its_neighbours_are_kept(value: bytes | None, reason: str) -> None:
    found = decoded(b'{"a":1}', value, b'{"a":2}')
    assert [b.reason for b in found.bad] == [reason]
    assert found.bad[0].position == 1
    assert [p for p in found.positions if p != 1] == [0, 2]


def test_two_half_messages_are_two_bad_ones_and_never_a_good_one() -> None:
    found = decoded(b'{"a":[1', b"2]}")
    assert len(found.bad) == 2
    assert not found.records


def test_too_many_elements_are_refused_before_any_is_looked_at() -> None:
    found = decoded(orjson.dumps([{}] * 10_001), limit=10**6)
    assert [b.reason for b in found.bad] == ["too_large"]


def test_a_structured_cloud_event_is_its_data_with_an_id() -> None:
    event = {"specversion": "1.0", "id": "7", "source": "shop", "type": "sold", "data": {"a": 1}}
    assert list(decoded(orjson.dumps(event)).records) == [{"event_id": "shop#7", "a": 1}]


@given(st.lists(st.none() | st.binary(max_size=12) | st.sampled_from([b'{"a":1}', b'[{"a":1},2]', b"[]"]), max_size=8))
def test_every_message_is_accounted_for_whatever_its_bytes(values: Sequence[bytes | None]) -> None:
    found = decoded(*values)
    assert list(found.positions) == sorted(found.positions)
    silent = [i for i in range(len(values)) if i not in {*found.positions, *(b.position for b in found.bad)}]
    assert all(orjson.loads(values[i] or b"") == [] for i in silent)
    assert all(isinstance(r, dict) for r in found.records)
