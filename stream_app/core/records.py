"""From what producers wrote (envelope or flat) to canonical rows, a run at a time.

A run whose records all have the same keys is taken apart by columns. Any other run, and any run with a bad
record, is looked at record by record; what is good is then taken apart by columns all the same, so that there
is one way only in which rows come to be.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.core.schema import META, Schema
from stream_app.errors import InvalidRecord
from stream_app.values import Floats, Ints, Partition, RowKind, Rows, Task

LONGEST_ID: Final = 256
LONGEST_SOURCE: Final = 128
LONGEST_VERSION: Final = 40
#: Seconds of the year 2100.
LATEST_S: Final = 4_102_444_800
NAN: Final = float("nan")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Parsed records of one model from one partition, in order, as columns of equal length."""

    partition: Partition
    records: Sequence[Mapping[str, Any]]
    offsets: Ints
    indexes: Ints
    #: Kafka timestamps, milliseconds
    timestamps_ms: Ints
    origins: Sequence[str | None] | None = None

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def take(self, chosen: Sequence[int]) -> "Batch":
        """Return the chosen records."""
        return Batch(
            partition=self.partition,
            records=[self.records[i] for i in chosen],
            offsets=self.offsets[chosen],
            indexes=self.indexes[chosen],
            timestamps_ms=self.timestamps_ms[chosen],
            origins=None if self.origins is None else [self.origins[i] for i in chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A record that can never become a row."""

    #: position in the batch
    position: int
    #: Kafka offset and index inside the message
    offset: int
    index: int
    error: InvalidRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePolicy:
    """Which times are believed."""

    max_skew_s: float
    #: None: nothing is late
    lateness_s: float | None


def canonicalise(schema: Schema, times: TimePolicy, batch: Batch) -> tuple[Rows, Sequence[Rejected]]:
    """Return the rows of the good records, in order, and what is wrong with the others."""
    columns = _columns_of_equals(schema, batch.records)
    if columns is not None:
        try:
            return _rows(schema, times, batch, columns), ()
        except InvalidRecord:
            pass  # somebody in it is bad: find out who
    rejected = list(_rejections(schema, times, batch))
    bad = {r.position for r in rejected}
    good = batch.take([i for i in range(len(batch)) if i not in bad])
    return _rows(schema, times, good, _columns(schema, good.records)), rejected


def _rejections(schema: Schema, times: TimePolicy, batch: Batch) -> Iterator[Rejected]:
    for i, record in enumerate(batch.records):
        try:
            _rows(schema, times, batch.take([i]), _columns(schema, [record]))
        except InvalidRecord as error:
            yield Rejected(position=i, offset=int(batch.offsets[i]), index=int(batch.indexes[i]), error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Records taken apart; a meta field that no record has is absent."""

    features: Sequence[Mapping[str, Any]]
    labels: Sequence[Any]
    meta: Mapping[str, Sequence[Any]]


def _columns_of_equals(schema: Schema, records: Sequence[Record]) -> _Columns | None:
    """Take records with the same keys apart; None when their keys differ or they need a closer look."""
    first = records[0] if records else {}
    if not first or set(map(len, records)) != {len(first)}:
        return None
    envelope = _is_envelope(first)
    try:
        deque(map(itemgetter(*first), records), maxlen=0)  # KeyError: another set of keys
        return _Columns(
            features=list(map(itemgetter("features"), records)) if envelope else records,
            labels=list(map(itemgetter("label" if envelope else schema.target), records)),
            meta={
                name: list(map(itemgetter(name), records))
                for name in META
                if name in first and (envelope or not schema.declares(name))
            },
        )
    except KeyError:
        return None


def _columns(schema: Schema, records: Sequence[Record]) -> _Columns:
    envelopes = [_envelope(schema, record) for record in records]
    return _Columns(
        features=[e["features"] for e in envelopes],
        labels=[e["label"] for e in envelopes],
        meta={name: [e.get(name) for e in envelopes] for name in META if any(name in e for e in envelopes)},
    )


def _is_envelope(record: Record) -> bool:
    # also where a feature has that name: no value of a feature is an object
    return type(record.get("features")) is dict


def _envelope(schema: Schema, record: Record) -> Record:
    """Return the record in its envelope form; raises InvalidRecord if it has no label."""
    envelope = _is_envelope(record)
    for name in ("label", schema.target, "actual_value", "true_label") if envelope else (schema.target,):
        if record.get(name) is not None:
            meta = {m: record[m] for m in META if m in record and (envelope or not schema.declares(m))}
            return {**meta, "features": record["features"] if envelope else record, "label": record[name]}
    raise InvalidRecord("missing_label", f"field {'label' if envelope else schema.target!r} is missing")


def _rows(schema: Schema, times: TimePolicy, batch: Batch, columns: _Columns) -> Rows:
    """Build canonical rows; raises InvalidRecord if any record is bad."""
    occurred_at_ms = _times(times, batch, columns.meta.get("occurred_at"))
    served = _Served.read(schema, columns.meta.get("served"))
    return Rows(
        partition=batch.partition,
        offsets=batch.offsets,
        indexes=batch.indexes,
        occurred_at_ms=occurred_at_ms,
        kinds=_kinds(times, batch, occurred_at_ms, columns.meta.get("corrects")),
        features=schema.features(columns.features),
        labels=schema.encode_labels(columns.labels),
        event_ids=_texts("event_id", LONGEST_ID, columns.meta.get("event_id")),
        prediction_ids=_texts("prediction_id", LONGEST_ID, columns.meta.get("prediction_id")),
        origins=batch.origins,
        sources=_texts("source", LONGEST_SOURCE, columns.meta.get("source")),
        served_versions=served.versions,
        served_outputs=served.outputs,
        served_known_labels=served.known_labels,
    )


def _kinds(times: TimePolicy, batch: Batch, occurred_at_ms: Ints, corrects: Sequence[Any] | None) -> NDArray[np.int8]:
    kinds = np.full(len(batch), RowKind.RECORD, dtype=np.int8)
    if times.lateness_s is not None:
        kinds[batch.timestamps_ms - occurred_at_ms > times.lateness_s * 1000] = RowKind.LATE
    if corrects is not None:
        # its sender knows that a label of this id was learned, however long ago: our memory of ids is bounded
        kinds[_flags("corrects", corrects)] = RowKind.CORRECTION
    return kinds


def _flags(name: str, column: Sequence[Any]) -> NDArray[np.bool_]:
    """Return which records say yes; absent is no."""
    if not set(map(type, column)) <= {bool, type(None)}:
        bad = next(value for value in column if type(value) not in {bool, type(None)})
        raise InvalidRecord("wrong_type", f"field {name!r} is {str(bad)[:60]!r}, expected true or false")
    return np.array(column, dtype=object).astype(np.bool_)


def _texts(name: str, longest: int, column: Sequence[Any] | None) -> Sequence[str | None] | None:
    """Return a column of ids; numbers are taken by their spelling, other types are refused."""
    if column is None:
        return None
    present = column
    if set(map(type, column)) != {str}:
        column = [value if value is None or type(value) is str else _spelled(name, value) for value in column]
        present = [value for value in column if value is not None]
    if max(map(len, present), default=0) > longest:
        raise InvalidRecord("bad_id", f"field {name!r} is longer than {longest} characters")
    if "\0" in "".join(filter(None, column)):
        # it marks prediction ids among learning ids, and PostgreSQL takes none in a text
        raise InvalidRecord("bad_id", f"field {name!r} holds a NUL character")
    return column


def _spelled(name: str, value: object) -> str:
    if type(value) is int:
        return str(value)
    raise InvalidRecord("bad_id", f"field {name!r} is a {type(value).__name__}, expected text")


def _times(times: TimePolicy, batch: Batch, column: Sequence[Any] | None) -> Ints:
    """Return when each record happened, the Kafka timestamp where it does not say; refuse the far future."""
    if column is None:
        return batch.timestamps_ms
    occurred = np.array(
        [
            kafka if value is None else moment_ms("occurred_at", value)
            for value, kafka in zip(column, batch.timestamps_ms, strict=True)
        ],
        dtype=np.int64,
    )
    if np.any(occurred - batch.timestamps_ms > times.max_skew_s * 1000):
        raise InvalidRecord("bad_time", f"field 'occurred_at' lies more than {times.max_skew_s:g} s after the message")
    return occurred


def moment_ms(name: str, value: object) -> int:
    """Return milliseconds since the epoch of ISO 8601 text (UTC unless it says otherwise) or of seconds.

    Raises InvalidRecord, which names the field.
    """
    seconds = _seconds(value)
    if seconds is None or not 0 < seconds < LATEST_S:
        shown = str(value)[:60]
        raise InvalidRecord("bad_time", f"field {name!r} is {shown!r}, expected ISO 8601 or seconds, 1970 to 2100")
    return round(seconds * 1000)


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """The predictions that were really given, as columns; all None when no record carries one."""

    versions: Sequence[str | None] | None = None
    outputs: Floats | None = None
    known_labels: Floats | None = None

    @classmethod
    def read(cls, schema: Schema, column: Sequence[Any] | None) -> "_Served":
        if column is None or not any(column):
            return cls()
        parts = [_served_parts(schema, served) for served in column]
        versions, outputs, known = zip(*parts, strict=True)
        return cls(versions=versions, outputs=np.array(outputs), known_labels=np.array(known))


def _served_parts(schema: Schema, served: Mapping[str, Any] | None) -> tuple[str | None, float, float]:
    if served is None:
        return None, NAN, NAN
    try:
        version, output, known = served["version"], served["output"], served.get("known_label")
    except (TypeError, KeyError, AttributeError):
        raise InvalidRecord("bad_served", "field 'served' is not an object with version and output") from None
    if type(version) is not str or len(version) > LONGEST_VERSION:
        raise InvalidRecord("bad_served", f"field 'served.version' is {str(version)[:60]!r}, expected a version's name")
    known_label = NAN if known is None else float(schema.encode_labels([known])[0])
    return version, _served_output(schema, output), known_label


def _served_output(schema: Schema, output: object) -> float:
    if schema.task is Task.BINARY:
        if isinstance(output, int | float) and not isinstance(output, bool) and 0 <= output <= 1:
            return float(output)
        raise InvalidRecord(
            "bad_served", f"field 'served.output' is {str(output)[:60]!r}, expected P(positive) in [0, 1]"
        )
    return float(schema.encode_labels([output])[0])
