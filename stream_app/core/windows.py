"""The open window of a model: what it has taken in since its newest committed one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream_app.core.dedupe import IdMemory, Intake, Sight, beyond_marks
from stream_app.core.records import Batch, Rejected, TimePolicy, canonicalise
from stream_app.core.rows import choose, join, learning_ids
from stream_app.core.schema import Schema
from stream_app.values import Closing, Counts, Partition, RowKind, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPolicy:
    """When an open window must be closed."""

    max_rows: int
    max_age_s: float
    progress_records: int
    progress_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """An open window's content at the moment of closing, not yet numbered."""

    rows: Rows | None
    positions: Mapping[Partition, int]
    origin_marks: Mapping[str, tuple[int, int]]
    counts: Counts
    closing: Closing


@dataclass(slots=True)
class _Open:
    """What has come in since the last closing."""

    since: float
    parts: list[Rows] = field(default_factory=list)
    size: int = 0
    #: records of all models that went by
    seen: int = 0
    positions: dict[Partition, int] = field(default_factory=dict)
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)

    @property
    def is_empty(self) -> bool:
        """Whether closing it now would only move positions."""
        return self.counts == Counts()


class ModelIntake:
    """Takes records of one model in: checks them, sorts out repeats, gathers the rest into windows.

    All of it is lost when the model is, and read again by the next owner: only what was closed and committed
    counts.
    """

    def __init__(
        self,
        schema: Schema,
        times: TimePolicy,
        policy: WindowPolicy,
        *,
        memory: IdMemory,
        positions: Mapping[Partition, int],
        marks: Mapping[str, tuple[int, int]],
        now: float,
    ) -> None:
        self._schema = schema
        self._times = times
        self._policy = policy
        self._ids = Intake(memory)
        self._next = dict(positions)
        self._marks = dict(marks)
        self._open = _Open(since=now)

    @property
    def room(self) -> int:
        """Rows that the open window still takes."""
        return max(0, self._policy.max_rows - self._open.size)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was taken in since the last closing."""
        return self._open.is_empty

    def position(self, partition: Partition) -> int:
        """Return the next offset to take; what is below was taken in before."""
        return self._next.get(partition, 0)

    def take(self, batch: Batch, *, now: float) -> Sequence[Rejected]:
        """Take records of whole messages in, at most once each; return those that can never be rows."""
        batch = self._unread(batch)
        if not len(batch):
            return ()
        if self._open.is_empty:
            self._open.since = now
        rows, rejected = canonicalise(self._schema, self._times, batch)
        rows = self._without_repeats(rows)
        if len(rows):
            self._open.parts.append(rows)
            self._open.size += len(rows)
        self._count(rows, dead_lettered=len(rejected))
        self._move(batch.partition, int(batch.offsets[-1]) + 1)
        return rejected

    def passed(self, partition: Partition, next_offset: int, records: int) -> None:
        """Note that all records of the partition below `next_offset` have been dealt with."""
        self._open.seen += records
        self._move(partition, next_offset)

    def due(self, now: float) -> Closing | None:
        """Return why the open window must be closed now, None if it may go on."""
        age = now - self._open.since
        if self._open.size >= self._policy.max_rows:
            return Closing.SIZE
        if not self._open.is_empty:
            return Closing.AGE if age >= self._policy.max_age_s else None
        moved = self._open.seen >= self._policy.progress_records or (self._open.seen and age >= self._policy.progress_s)
        return Closing.PROGRESS if moved else None

    def close(self, closing: Closing, *, now: float) -> Closed:
        """Return what the open window holds and open the next one."""
        done, self._open = self._open, _Open(since=now)
        self._ids.close()
        return Closed(
            rows=join(done.parts) if done.parts else None,
            positions=done.positions,
            origin_marks=done.marks,
            counts=done.counts,
            closing=closing,
        )

    def folded(self) -> None:
        """The oldest closed window is in the fold's memory now."""
        self._ids.folded()

    def _unread(self, batch: Batch) -> Batch:
        position = self.position(batch.partition)
        if not len(batch) or batch.offsets[0] >= position:
            return batch
        return batch.take(np.flatnonzero(batch.offsets >= position).tolist())

    def _move(self, partition: Partition, next_offset: int) -> None:
        if next_offset > self.position(partition):
            self._next[partition] = self._open.positions[partition] = next_offset

    def _without_repeats(self, rows: Rows) -> Rows:
        taken = len(rows)
        if rows.origins is not None:
            fresh, moved = beyond_marks(self._marks, rows.origins)
            self._marks |= moved
            self._open.marks |= moved
            rows = choose(rows, fresh)
        ids = learning_ids(rows)
        if ids is not None and len(rows):
            sights = self._ids.sort(ids, rows.labels)
            rows.kinds[sights == Sight.CORRECTION] = RowKind.CORRECTION
            rows = choose(rows, sights != Sight.DUPLICATE)
        duplicates = self._open.counts.duplicates + taken - len(rows)
        self._open.counts = replace(self._open.counts, duplicates=duplicates)
        return rows

    def _count(self, rows: Rows, *, dead_lettered: int) -> None:
        by_kind = np.bincount(rows.kinds, minlength=len(RowKind))
        counts = self._open.counts
        self._open.counts = replace(
            counts,
            learned=counts.learned + int(by_kind[RowKind.RECORD]),
            late=counts.late + int(by_kind[RowKind.LATE]),
            corrections=counts.corrections + int(by_kind[RowKind.CORRECTION]),
            dead_lettered=counts.dead_lettered + dead_lettered,
        )
