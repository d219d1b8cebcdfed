"""From the log's tables to the rows of a retrain."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.rows import learning_ids
from stream_app.core.schema import Field, Schema
from stream_app.errors import NotFound
from stream_app.storage.rows_codec import FeatureNames, concatenate, empty_table, to_table
from stream_app.trainer.reading import aligned, read_rows, to_log_rows
from stream_app.values import Features, Partition, RowKind, Rows, Task

SCHEMA = Schema(
    task=Task.MULTICLASS,
    target="y",
    fields=(Field(name="a", type="number"), Field(name="c", type="category"), Field(name="b", type="number")),
    classes=("x", "y", "z"),
)
NAMES = FeatureNames(numeric=("a", "b"), categorical=("c",))


def rows_of(n: int, *, first: int = 0) -> Rows:
    numbers = np.arange(first, first + n, dtype=float)
    return Rows(
        partition=Partition(incarnation="i", topic="t", number=0),
        offsets=np.arange(first, first + n),
        indexes=np.zeros(n, np.int64),
        occurred_at_ms=np.zeros(n, np.int64),
        kinds=np.full(n, RowKind.RECORD, np.int8),
        features=Features(
            numeric=np.column_stack([numbers, np.full(n, np.nan)]),
            categorical=np.array(["u", None] * n, object)[:n, None],
        ),
        labels=numbers % 3,
    )


class Log:
    """A log whose windows have so many rows; the first few may be gone."""

    def __init__(self, counts: list[int], *, dropped: int = 0) -> None:
        firsts = np.cumsum([0, *counts])
        self.tables = [
            to_table(seq, rows_of(n, first=int(first)), NAMES)
            for seq, (n, first) in enumerate(zip(counts, firsts, strict=False), start=1)
        ]
        self.counts, self.dropped = counts, dropped
        self.read: list[int] = []

    def rows_digest(self, model: str, *, through: int) -> tuple[int, str]:
        if 0 < through <= self.dropped:
            raise NotFound(f"{model}: window {through}")
        return sum(self.counts[:through]), ""

    def table(self, _: str, *, after: int = 0, through: int | None = None) -> pa.Table:
        self.read = list(range(max(after, self.dropped) + 1, (through or len(self.tables)) + 1))
        return concatenate([empty_table(NAMES), *(self.tables[seq - 1] for seq in self.read)])


def test_columns_become_arrays_and_absent_values_are_told() -> None:
    rows = to_log_rows(to_table(7, rows_of(3), NAMES), SCHEMA)
    assert (rows.seqs.tolist(), rows.positions.tolist()) == ([7, 7, 7], [0, 1, 2])
    assert rows.features.numeric[:, 0].tolist() == [0, 1, 2]
    assert np.isnan(rows.features.numeric[:, 1]).all()
    assert rows.features.categorical[:, 0].tolist() == ["u", None, "u"]
    assert rows.labels.tolist() == [0, 1, 2]
    assert rows.kinds.tolist() == [RowKind.RECORD] * 3
    assert rows.ids is None


def test_keys_are_those_of_the_learners() -> None:
    rows = replace(rows_of(3), event_ids=["e", None, "e2"], prediction_ids=["p", None, None])
    assert to_log_rows(to_table(1, rows, NAMES), SCHEMA).ids == learning_ids(rows) == ["\0p", None, "e2"]


def test_answers_that_only_some_windows_have_are_missing_in_the_others() -> None:
    said = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
    tables = [to_table(1, rows_of(1), NAMES), to_table(2, replace(rows_of(2), outputs={"3": said}), NAMES)]
    outputs = to_log_rows(concatenate(tables), SCHEMA).outputs["3"]
    assert np.isnan(outputs[0]).all()
    assert np.array_equal(outputs[1:], said)
    single = replace(rows_of(2), outputs={"4": np.array([0.25, np.nan])})
    outputs = to_log_rows(concatenate([tables[0], to_table(2, single, NAMES)]), SCHEMA).outputs["4"]
    assert np.array_equal(outputs, [np.nan, 0.25, np.nan], equal_nan=True)


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=12), newest=st.integers(1, 70), data=st.data())
def test_the_newest_rows_are_read_and_no_window_before_them(
    counts: list[int], newest: int, data: st.DataObject
) -> None:
    log = Log(counts, dropped=data.draw(st.integers(0, len(counts) - 1)))
    everything = read_rows(log, "m", SCHEMA, through=len(counts))
    rows = read_rows(log, "m", SCHEMA, through=len(counts), newest=newest)
    assert rows.labels.tolist() == everything.labels[-newest:].tolist()
    without_first = sum(counts[log.read[0] :])
    assert log.read[0] == log.dropped + 1 or without_first < newest


def test_an_empty_log_has_no_rows() -> None:
    assert len(read_rows(Log([]), "m", SCHEMA, through=0)) == 0


@given(
    known=st.sets(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1),
    wanted=st.sets(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1),
)
def test_answers_meet_their_rows_by_place(known: set[tuple[int, int]], wanted: set[tuple[int, int]]) -> None:
    rows = to_log_rows(to_table(1, rows_of(len(wanted)), NAMES), SCHEMA)
    places = np.array(sorted(wanted))
    rows = replace(rows, seqs=places[:, 0], positions=places[:, 1])
    told = np.array(sorted(known))
    outputs = aligned(rows, told[:, 0], told[:, 1], told[:, 0] * 10.0 + told[:, 1])
    expected = [seq * 10.0 + pos if (seq, pos) in known else np.nan for seq, pos in sorted(wanted)]
    assert np.array_equal(outputs, expected, equal_nan=True)


def test_answers_by_class_keep_their_columns() -> None:
    rows = to_log_rows(to_table(1, rows_of(2), NAMES), SCHEMA)
    outputs = aligned(rows, np.array([1]), np.array([1]), np.array([[0.2, 0.3, 0.5]]))
    assert np.isnan(outputs[0]).all()
    assert outputs[1].tolist() == [0.2, 0.3, 0.5]


@pytest.mark.parametrize("n", [0, 1])
def test_rows_come_with_arrays_that_can_be_written_to(n: int) -> None:
    rows = to_log_rows(to_table(1, rows_of(n), NAMES), SCHEMA)
    assert rows.features.numeric.flags.writeable
