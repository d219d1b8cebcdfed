"""The open window: nothing is taken in twice, positions never pass what was not dealt with."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.dedupe import IdMemory
from stream_app.core.records import Batch, TimePolicy
from stream_app.core.rows import learning_ids
from stream_app.core.schema import Field, Schema
from stream_app.core.windows import Closed, ModelIntake, WindowPolicy
from stream_app.values import Closing, Partition, RowKind, Task

PLACE = Partition(incarnation="abc", topic="ground-truth", number=0)
SCHEMA = Schema(task=Task.BINARY, target="y", fields=(Field(name="a", type="number"),), classes=(0, 1))


def intake(memory: IdMemory | None = None, *, position: int = 0, horizon: int = 100) -> ModelIntake:
    return ModelIntake(
        SCHEMA,
        TimePolicy(max_skew_s=3600, lateness_s=None),
        WindowPolicy(max_rows=100, max_age_s=0.25, progress_records=50, progress_s=60),
        memory=IdMemory(horizon) if memory is None else memory,
        positions={PLACE: position},
        marks={},
        now=0.0,
    )


def batch(records: Sequence[dict[str, Any]], *, offset: int = 0, origins: Sequence[str | None] | None = None) -> Batch:
    n = len(records)
    return Batch(
        partition=PLACE,
        records=records,
        offsets=np.arange(offset, offset + n, dtype=np.int64),
        indexes=np.zeros(n, dtype=np.int64),
        timestamps_ms=np.full(n, 1_750_000_000_000, dtype=np.int64),
        origins=origins,
    )


def record(id_: str | None = None, *, label: int = 1) -> dict[str, Any]:
    return {"a": 1.0, "y": label} | ({} if id_ is None else {"event_id": id_})


def close(into: ModelIntake) -> Closed:
    return into.close(Closing.AGE, now=1.0)


def test_a_repeat_is_counted_and_a_contradiction_is_a_correction() -> None:
    into = intake()
    into.take(batch([record("x"), record("x"), record("x", label=0), record("x", label=0)]), now=0.0)
    closed = close(into)
    assert closed.rows is not None
    assert closed.rows.kinds.tolist() == [RowKind.RECORD, RowKind.CORRECTION]
    assert closed.counts.duplicates == 2
    assert closed.counts.learned == 1
    assert closed.counts.corrections == 1


def test_a_repeat_is_recognised_while_its_window_is_on_the_way_to_the_fold() -> None:
    memory = IdMemory(100)
    into = intake(memory)
    into.take(batch([record("x")]), now=0.0)
    first = close(into)
    into.take(batch([record("x")], offset=1), now=0.0)
    assert close(into).counts.duplicates == 1
    assert first.rows is not None
    memory.remember(learning_ids(first.rows) or [], first.rows.labels)
    into.folded()
    into.folded()
    into.take(batch([record("x")], offset=2), now=0.0)
    assert close(into).counts.duplicates == 1


def test_records_below_the_position_are_dropped_without_a_trace() -> None:
    into = intake(position=3)
    into.take(batch([record()] * 5), now=0.0)
    closed = close(into)
    assert closed.rows is not None
    assert closed.rows.offsets.tolist() == [3, 4]
    assert closed.counts.duplicates == 0
    assert closed.positions == {PLACE: 5}


def test_a_prediction_id_and_an_equal_event_id_are_two_things() -> None:
    into = intake()
    into.take(batch([{**record("p"), "prediction_id": None}, {**record(), "prediction_id": "p"}]), now=0.0)
    closed = close(into)
    assert closed.rows is not None
    assert len(closed.rows) == 2


def test_a_forwarded_record_is_recognised_for_ever_by_its_origin() -> None:
    into = intake(horizon=1)
    origins = ["i/t/7/10/0", "i/t/7/10/1", "i/t/7/10/0", "i/t/8/3/0", None]
    into.take(batch([record()] * 5, origins=origins), now=0.0)
    closed = close(into)
    assert closed.rows is not None
    assert closed.rows.origins == ["i/t/7/10/0", "i/t/7/10/1", "i/t/8/3/0", None]
    assert closed.origin_marks == {"i/t/7": (10, 1), "i/t/8": (3, 0)}
    into.take(batch([record()], offset=9, origins=["i/t/7/10/1"]), now=0.0)
    assert close(into).rows is None


def test_a_calm_window_is_closed_by_age_and_an_empty_one_never() -> None:
    into = intake()
    assert into.due(1e9) is None
    into.take(batch([record()]), now=10.0)
    assert into.due(10.2) is None
    assert into.due(10.25) is Closing.AGE


def test_progress_of_others_moves_the_position_with_a_header_only_window() -> None:
    into = intake()
    into.passed(PLACE, 50, 49)
    assert into.due(59.0) is None
    assert into.due(60.0) is Closing.PROGRESS
    into.passed(PLACE, 51, 1)
    assert into.due(0.0) is Closing.PROGRESS
    closed = into.close(Closing.PROGRESS, now=0.0)
    assert closed.rows is None
    assert closed.positions == {PLACE: 51}


@given(
    st.lists(st.tuples(st.sampled_from("abcde") | st.none(), st.integers(0, 1)), max_size=30),
    st.lists(st.integers(1, 7), max_size=10),
)
def test_however_the_stream_is_cut_the_rows_and_counts_are_the_same(
    stream: list[tuple[str | None, int]], cuts: list[int]
) -> None:
    records = [record(id_, label=label) for id_, label in stream]

    def run(sizes: list[int]) -> tuple[list[tuple[int, int]], Counter[str]]:
        into, at, rows, counts = intake(), 0, [], Counter[str]()
        for size in [*sizes, len(records)]:
            part = records[at : at + size]
            into.take(batch(part, offset=at), now=0.0)
            at += len(part)
            closed = close(into)
            if closed.rows is not None:
                rows += list(zip(closed.rows.offsets.tolist(), closed.rows.kinds.tolist(), strict=True))
            counts.update({"duplicates": closed.counts.duplicates, "learned": closed.counts.learned})
        return rows, counts

    assert run(cuts) == run([])
