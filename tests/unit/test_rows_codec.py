"""Rows through Arrow and Parquet and back: the same to the last bit, and the digest sees every value."""

import struct
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.errors import Misconfigured
from stream_app.storage.rows_codec import (
    FeatureNames,
    concatenate,
    empty_table,
    from_parquet,
    from_table,
    present_columns,
    rows_digest,
    to_parquet,
    to_table,
)
from stream_app.values import Features, Floats, Partition, Rows

NAMES = FeatureNames(numeric=("x", "y z"), categorical=("c",))
FLOATS = st.floats(width=64)
TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5))
INTS = st.integers(-(2**63), 2**63 - 1)


def floats(values: list[float]) -> Floats:
    return np.array(values, np.float64)


@st.composite
def some_rows(draw: st.DrawFn) -> Rows:
    count = draw(st.integers(1, 6))

    def many(one: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(one, min_size=count, max_size=count))

    def maybe(one: st.SearchStrategy[object], *, array: bool = False) -> object:
        column = draw(st.one_of(st.none(), st.lists(one, min_size=count, max_size=count)))
        return floats(column) if array and column is not None else column

    categorical = np.empty((count, 1), object)
    categorical[:, 0] = many(TEXTS)
    return Rows(
        partition=Partition(incarnation=draw(st.text("ab", max_size=2)), topic="t", number=draw(st.integers(0, 9))),
        offsets=np.array(many(INTS), np.int64),
        indexes=np.array(many(st.integers(0, 2**62)), np.int64),
        occurred_at_ms=np.array(many(INTS), np.int64),
        kinds=np.array(many(st.integers(0, 3)), np.int8),
        features=Features(numeric=np.column_stack([floats(many(FLOATS)) for _ in range(2)]), categorical=categorical),
        labels=floats(many(FLOATS)),
        event_ids=maybe(TEXTS),
        prediction_ids=maybe(TEXTS),
        origins=maybe(TEXTS),
        sources=maybe(TEXTS),
        served_versions=maybe(TEXTS),
        served_outputs=maybe(FLOATS, array=True),
        served_known_labels=maybe(FLOATS, array=True),
        outputs={"3": floats(many(FLOATS)), "4": floats(many(FLOATS)).reshape(-1, 1)} if draw(st.booleans()) else {},
    )


def bits(rows: Rows) -> list[object]:
    """Return all that there is, NaNs alike, absent columns apart from columns of nothing."""

    def of(column: object) -> object:
        if not isinstance(column, np.ndarray):
            return column
        if column.dtype == object:
            return column.tolist()
        if column.dtype == np.float64:
            column = np.where(np.isnan(column), np.nan, column)
        return (column.shape, str(column.dtype), column.tobytes())

    names = [name for name in Rows.__slots__ if name not in {"features", "outputs", "partition"}]
    values = [getattr(rows, name) for name in names]
    outputs = [(version, of(rows.outputs[version])) for version in sorted(rows.outputs)]
    features = [of(rows.features.numeric), of(rows.features.categorical)]
    return [rows.partition, outputs, features, *(of(list(v) if isinstance(v, tuple) else v) for v in values)]


def round_trip(rows: Rows) -> Rows:
    return from_table(from_parquet(to_parquet(to_table(7, rows, NAMES))), NAMES, present_columns(rows))


@settings(max_examples=60)
@given(some_rows())
def test_rows_come_back_to_the_last_bit(rows: Rows) -> None:
    read = round_trip(rows)
    assert bits(read) == bits(rows)
    assert rows_digest(read) == rows_digest(rows)


@settings(max_examples=40)
@given(some_rows(), some_rows())
def test_rows_come_back_from_a_merged_file(one: Rows, two: Rows) -> None:
    merged = concatenate([to_table(1, one, NAMES), to_table(2, two, NAMES)])
    table = from_parquet(to_parquet(merged, compression="zstd"))
    parts = [table.slice(0, len(one)), table.slice(len(one))]
    read = [from_table(part, NAMES, present_columns(rows)) for part, rows in zip(parts, [one, two], strict=True)]
    assert [bits(rows) for rows in read] == [bits(one), bits(two)]


@settings(max_examples=40)
@given(some_rows(), some_rows())
def test_the_digest_tells_rows_apart(one: Rows, two: Rows) -> None:
    assert (rows_digest(one) == rows_digest(two)) == (bits(one) == bits(two))


def sample() -> Rows:
    return Rows(
        partition=Partition(incarnation="i", topic="t", number=1),
        offsets=np.arange(2),
        indexes=np.zeros(2, np.int64),
        occurred_at_ms=np.arange(2),
        kinds=np.zeros(2, np.int8),
        features=Features(numeric=np.zeros((2, 2)), categorical=np.array([["ab"], ["c"]], object)),
        labels=np.zeros(2),
        event_ids=["ab", "c"],
        outputs={"3": np.zeros(2)},
    )


def with_numbers(first: float) -> Rows:
    numeric = np.zeros((2, 2))
    numeric[0, 0] = first
    return replace(sample(), features=replace(sample().features, numeric=numeric))


@pytest.mark.parametrize(
    "other",
    [
        with_numbers(-0.0),
        with_numbers(5e-324),
        replace(sample(), event_ids=["a", "bc"]),
        replace(sample(), event_ids=["abc", ""]),
        replace(sample(), event_ids=["abc", None]),
        replace(sample(), event_ids=None, prediction_ids=["ab", "c"]),
        replace(sample(), outputs={"4": np.zeros(2)}),
        replace(sample(), outputs={"3": np.zeros((2, 1))}),
        replace(sample(), partition=replace(sample().partition, number=2)),
        replace(sample(), kinds=np.array([0, 2], np.int8)),
    ],
)
def test_the_digest_sees_small_differences(other: Rows) -> None:
    assert rows_digest(other) != rows_digest(sample())


def test_the_digest_is_that_of_earlier_releases() -> None:
    """It is stored with every window ever written: another rule would make all logs corrupt."""
    assert rows_digest(sample()) == "69a34c14570e955b597dbbc4d554fe89da4a38455440c57f29dfb4b3c65040e6"


def test_nans_are_all_alike() -> None:
    payload = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
    assert rows_digest(with_numbers(payload)) == rows_digest(with_numbers(float("nan")))


def test_the_digest_does_not_depend_on_the_layout_in_memory() -> None:
    numeric = np.asfortranarray(np.arange(4.0).reshape(2, 2))
    rows = replace(sample(), features=replace(sample().features, numeric=numeric), kinds=np.zeros(2, np.int64))  # type: ignore[arg-type]
    expected = replace(sample(), features=replace(sample().features, numeric=np.arange(4.0).reshape(2, 2)))
    assert rows_digest(rows) == rows_digest(expected)


def test_columns_are_named_for_outside_readers() -> None:
    table = to_table(7, sample(), NAMES)
    assert table.column_names == [
        "seq",
        "pos",
        "incarnation",
        "topic",
        "partition",
        "offset",
        "index",
        "origin",
        "event_id",
        "prediction_id",
        "occurred_at",
        "source",
        "kind",
        "feature_x",
        "feature_y z",
        "feature_c",
        "label",
        "served_version",
        "served_output",
        "served_known_label",
        "out_3",
    ]
    assert table.schema.field("occurred_at").type == pa.timestamp("ms", "UTC")
    assert table["seq"].to_pylist() == [7, 7]
    assert empty_table(NAMES).schema == table.schema.remove(table.schema.get_field_index("out_3"))


def test_a_missing_value_is_null_for_outside_readers() -> None:
    table = to_table(1, with_numbers(float("nan")), NAMES)
    assert table["feature_x"].to_pylist() == [None, 0.0]


def test_arrays_that_were_read_can_be_written_to() -> None:
    """Compiled kernels are typed for writable, contiguous arrays."""
    rows = round_trip(sample())
    for array in (rows.labels, rows.features.numeric, rows.offsets, rows.outputs["3"]):
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_columns_can_be_chosen_whatever_their_names() -> None:
    dotted = FeatureNames(numeric=("a", "a.b"), categorical=("c",))
    content = to_parquet(to_table(1, sample(), dotted))
    assert from_parquet(content, ["feature_a.b", "label"]).column_names == ["feature_a.b", "label"]
    assert from_parquet(content, ["feature_a"]).column_names == ["feature_a"]


def test_names_of_features_come_from_the_schema() -> None:
    assert FeatureNames.of('{"numeric": ["x"], "categorical": [], "target": "t"}').numeric == ("x",)
    for text in ("", "[]", "{}", '{"numeric": []}'):
        with pytest.raises(Misconfigured, match="'numeric' and 'categorical'"):
            FeatureNames.of(text)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows have \(2, 1\) .* the schema names \(1, 1\)"):
        to_table(1, sample(), FeatureNames(numeric=("x",), categorical=("c",)))
