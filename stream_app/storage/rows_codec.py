"""Rows as Arrow tables and Parquet bytes, and the digest that identifies rows in whatever file they are.

The columns are those of design and of `log files`; a reader of other origin needs nothing of ours to use them.
An absent value is a null, also where the arrays of a process hold NaN.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stream_app.errors import Misconfigured
from stream_app.values import Features, Floats, Partition, Rows

#: Attributes of Rows that may be absent, and their columns.
_TEXTS: Final = {
    "origins": "origin",
    "event_ids": "event_id",
    "prediction_ids": "prediction_id",
    "sources": "source",
    "served_versions": "served_version",
}
_FLOATS: Final = {"served_outputs": "served_output", "served_known_labels": "served_known_label"}
_OUTPUT: Final = "out_"
_FEATURE: Final = "feature_"
_TIME: Final = pa.timestamp("ms", "UTC")
#: Few distinct values: a dictionary makes them nearly free. On unique ids it would cost four times the rest.
_REPETITIVE: Final = ("seq", "incarnation", "topic", "partition", "index", "source", "kind", "served_version")
#: Rising numbers: stored as differences.
_RISING: Final = dict.fromkeys(("pos", "offset", "occurred_at"), "DELTA_BINARY_PACKED")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureNames:
    """Which features a model's rows have, in the schema's order."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @classmethod
    def of(cls, schema_json: str) -> "FeatureNames":
        """Read them from a schema's JSON, which names them under "numeric" and "categorical"."""
        try:
            schema = json.loads(schema_json)
            return cls(numeric=tuple(schema["numeric"]), categorical=tuple(schema["categorical"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Misconfigured(
                f"schema {schema_json[:80]!r}: expected a JSON object with lists 'numeric' and 'categorical'"
            ) from error

    def check(self, features: Features) -> None:
        """Raise ValueError unless the arrays have a column for each name."""
        found = (features.numeric.shape[1], features.categorical.shape[1])
        expected = (len(self.numeric), len(self.categorical))
        if found != expected:
            raise ValueError(f"rows have {found} numeric and categorical columns, the schema names {expected}")


def present_columns(rows: Rows) -> list[str]:
    """Return the columns that are not absent, of those that may be: a merged file does not say it by itself."""
    given = [column for name, column in (_TEXTS | _FLOATS).items() if getattr(rows, name) is not None]
    return given + [_OUTPUT + version for version in sorted(rows.outputs)]


def to_table(seq: int, rows: Rows, names: FeatureNames) -> pa.Table:
    """Return the rows of window `seq` as an Arrow table."""
    names.check(rows.features)
    count, place = len(rows), rows.partition
    columns = {
        "seq": pa.array(np.full(count, seq, np.int64)),
        "pos": pa.array(np.arange(count, dtype=np.int32)),
        "incarnation": _constant(place.incarnation, count),
        "topic": _constant(place.topic, count),
        "partition": pa.array(np.full(count, place.number, np.int32)),
        "offset": pa.array(rows.offsets, pa.int64()),
        "index": pa.array(rows.indexes, pa.int64()),
        **{column: _texts(getattr(rows, name), count) for name, column in list(_TEXTS.items())[:3]},
        "occurred_at": pa.array(rows.occurred_at_ms, pa.int64()).cast(_TIME),
        "source": _texts(rows.sources, count),
        "kind": pa.array(rows.kinds, pa.int8()),
        **_feature_columns(rows.features, names),
        "label": pa.array(rows.labels, pa.float64()),
        "served_version": _texts(rows.served_versions, count),
        **{column: _floats(getattr(rows, name), count) for name, column in _FLOATS.items()},
        **{_OUTPUT + version: _outputs(rows.outputs[version]) for version in sorted(rows.outputs)},
    }
    return pa.table(columns)


def empty_table(names: FeatureNames) -> pa.Table:
    """Return a table of no rows with the columns that every table of the model has."""
    nothing = np.empty(0, np.int64)
    rows = Rows(
        partition=Partition(incarnation="", topic="", number=0),
        offsets=nothing,
        indexes=nothing,
        occurred_at_ms=nothing,
        kinds=np.empty(0, np.int8),
        features=Features(
            numeric=np.empty((0, len(names.numeric))), categorical=np.empty((0, len(names.categorical)), object)
        ),
        labels=np.empty(0),
    )
    return to_table(0, rows, names)


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the tables as one; outputs that only some have are null in the others."""
    return pa.concat_tables(tables, promote_options="default").unify_dictionaries()


def to_parquet(table: pa.Table, *, compression: str = "lz4") -> pa.Buffer:
    """Return the table as the bytes of a Parquet file.

    The default is what a commit can afford: 2 MB in 3 to 4 ms. Without compression it takes 2 ms, with zstd 6;
    column statistics are left out, nothing here is ever searched by value.
    """
    texts = [field.name for field in table.schema if field.name.startswith(_FEATURE) and field.type == pa.string()]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression=compression,
        use_dictionary=[*_REPETITIVE, *texts],
        column_encoding=_RISING,
        write_statistics=False,
    )
    return sink.getvalue()


def from_parquet(content: bytes | pa.Buffer, columns: list[str] | None = None) -> pa.Table:
    """Return the table that `to_parquet` was given, or some of its columns."""
    # Not read_table, which goes through datasets and takes three times as long for a small window.
    table = pq.ParquetFile(pa.BufferReader(content)).read(columns=columns, use_threads=False)
    # It takes "a.b" for a part of "a" as well, but a feature may be named like that.
    return table if columns is None else table.select(columns)


def from_table(table: pa.Table, names: FeatureNames, present: Sequence[str]) -> Rows:
    """Return the rows of one window; `present` is what `present_columns` said of them."""
    absent = {column for column in (_TEXTS | _FLOATS).values() if column not in present}
    texts: dict[str, Any] = {
        name: None if column in absent else table[column].to_pylist() for name, column in _TEXTS.items()
    }
    floats: dict[str, Any] = {
        name: None if column in absent else _numbers(table[column]) for name, column in _FLOATS.items()
    }
    return Rows(
        partition=_partition(table),
        offsets=_numbers(table["offset"]),
        indexes=_numbers(table["index"]),
        occurred_at_ms=_numbers(table["occurred_at"].cast(pa.int64())),
        kinds=_numbers(table["kind"]),
        features=_features(table, names),
        labels=_numbers(table["label"]),
        outputs={c.removeprefix(_OUTPUT): _output(table[c]) for c in present if c.startswith(_OUTPUT)},
        **texts,
        **floats,
    )


def _constant(value: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], pa.string()))


def _texts(values: Sequence[str | None] | None, count: int) -> pa.Array:
    return pa.nulls(count, pa.string()) if values is None else pa.array(values, pa.string())


def _floats(values: Floats | None, count: int) -> pa.Array:
    return pa.nulls(count, pa.float64()) if values is None else pa.array(values, pa.float64(), from_pandas=True)


def _outputs(values: Floats) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values, pa.float64(), from_pandas=True)
    # No list of fixed size: Parquet files of those cannot be read back where a merge put nulls beside them.
    ends = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values.ravel(), pa.float64()))


def _feature_columns(features: Features, names: FeatureNames) -> dict[str, pa.Array]:
    by_column = np.ascontiguousarray(features.numeric.T)  # one pass, instead of a strided one per column
    numeric = {
        _FEATURE + name: pa.array(column, from_pandas=True)
        for name, column in zip(names.numeric, by_column, strict=True)
    }
    texts = zip(names.categorical, features.categorical.T, strict=True)
    return numeric | {_FEATURE + name: pa.array(column, pa.string()) for name, column in texts}


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    # A copy: Arrow's own memory is read-only, and compiled kernels are typed for arrays that are not.
    return np.array(column.to_numpy())


def _output(column: pa.ChunkedArray) -> Floats:
    if not pa.types.is_list(column.type):
        return _numbers(column)
    return _numbers(pc.list_flatten(column)).reshape(len(column), -1)


def _features(table: pa.Table, names: FeatureNames) -> Features:
    numeric = np.empty((len(table), len(names.numeric)))
    categorical = np.empty((len(table), len(names.categorical)), object)
    for place, name in enumerate(names.numeric):
        numeric[:, place] = table[_FEATURE + name].to_numpy()
    for place, name in enumerate(names.categorical):
        categorical[:, place] = table[_FEATURE + name].to_numpy()
    return Features(numeric=numeric, categorical=categorical)


def _partition(table: pa.Table) -> Partition:
    incarnation, topic, number = (table[name][0].as_py() for name in ("incarnation", "topic", "partition"))
    return Partition(incarnation=incarnation, topic=topic, number=number)


def rows_digest(rows: Rows) -> str:
    """Return the sha256 (hex) of the rows: of their values alone, so that it survives any rewriting of files.

    All columns count, absent ones as absent. NaNs are all alike; 0.0 and -0.0 differ.
    """
    digest = hashlib.sha256()
    for part in _parts(rows):
        digest.update(part)
    return digest.hexdigest()


def _parts(rows: Rows) -> Iterator[bytes | memoryview]:
    """Yield what is hashed; each part's length follows from those before it, so no two rows look alike."""
    place = rows.partition
    yield json.dumps([len(rows), place.incarnation, place.topic, place.number, present_columns(rows)]).encode()
    for whole in (rows.offsets, rows.indexes, rows.occurred_at_ms):
        yield np.ascontiguousarray(whole, "<i8").data
    yield np.ascontiguousarray(rows.kinds, "<i1").data
    yield from _float_parts(rows.labels)
    yield from _float_parts(rows.features.numeric)
    for column in rows.features.categorical.T:
        yield from _text_parts(column.tolist())
    for name in _TEXTS:
        if (texts := getattr(rows, name)) is not None:
            yield from _text_parts(texts)
    for floats in (rows.served_outputs, rows.served_known_labels, *(rows.outputs[v] for v in sorted(rows.outputs))):
        if floats is not None:
            yield from _float_parts(floats)


def _float_parts(values: Floats) -> Iterator[bytes | memoryview]:
    numbers = np.ascontiguousarray(values, "<f8")
    missing = np.isnan(numbers)
    yield repr(numbers.shape).encode()
    yield (np.where(missing, np.nan, numbers) if missing.any() else numbers).data


def _text_parts(values: Sequence[str | None]) -> Iterator[bytes | memoryview]:
    if None in values:
        yield np.fromiter((-1 if v is None else len(v) for v in values), "<i4", len(values)).data
        yield "".join(v for v in values if v is not None).encode()
    else:
        yield np.fromiter(map(len, values), "<i4", len(values)).data  # type: ignore[arg-type] # no None among them
        yield "".join(values).encode()  # type: ignore[arg-type] # the same
