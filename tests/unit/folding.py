"""Windows made by hand, for tests of the fold."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stream_app.core.dedupe import IdMemory
from stream_app.core.schema import Field, Schema
from stream_app.values import (
    Closing,
    ControlEntry,
    Counts,
    Features,
    Floats,
    Partition,
    RowKind,
    Rows,
    Task,
    Window,
    WindowHeader,
)

PLACE = Partition(incarnation="abc", topic="ground-truth", number=0)
SCHEMA = Schema(
    task=Task.BINARY,
    target="y",
    fields=tuple(Field(name=name, type="number") for name in ("a", "b", "c")),
    classes=(0, 1),
)


def stream(n: int, *, seed: int = 0) -> tuple[Floats, Floats]:
    """Return n rows of three numbers and labels that follow from the first two, with noise."""
    chance = np.random.default_rng(seed)
    numbers = chance.normal(size=(n, 3)) * (1.0, 50.0, 0.01) + (0.0, 10.0, 1.0)
    labels = (numbers[:, 0] + (numbers[:, 1] - 10) / 50 + chance.normal(size=n) * 0.3 > 0).astype(np.float64)
    return numbers, labels


def rows_of(numbers: Floats, labels: Floats, *, offset: int = 0, kinds: Sequence[RowKind] | None = None) -> Rows:
    n = len(labels)
    return Rows(
        partition=PLACE,
        offsets=np.arange(offset, offset + n, dtype=np.int64),
        indexes=np.zeros(n, dtype=np.int64),
        occurred_at_ms=np.zeros(n, dtype=np.int64),
        kinds=np.array([RowKind.RECORD] * n if kinds is None else kinds, dtype=np.int8),
        features=Features(numeric=numbers, categorical=np.empty((n, 0), dtype=object)),
        labels=labels,
        event_ids=[f"e{i}" for i in range(offset, offset + n)],
    )


def window(seq: int, rows: Rows | None, *, control: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> Window:
    header = WindowHeader(
        model="m",
        epoch=1,
        seq=seq,
        closed_at=1000.0 + seq,
        closing=Closing.SIZE,
        positions={} if rows is None else {PLACE: int(rows.offsets[-1]) + 1},
        origin_marks={},
        counts=Counts(learned=0 if rows is None else len(rows)),
        schema_id=SCHEMA.id,
        fold_digest="",
        rows_digest="",
        control=tuple(
            ControlEntry(request_id=i, kind=kind, body=body, accepted=True, reason="")
            for i, (kind, body) in enumerate(control)
        ),
    )
    return Window(header=header, rows=rows)


def windows(numbers: Floats, labels: Floats, sizes: Sequence[int]) -> Iterator[Window]:
    """Cut the stream into windows of these sizes; what is left is the last one."""
    at = 0
    for seq, size in enumerate([*sizes, len(labels)], start=1):
        part = slice(at, at + size)
        if len(labels[part]):
            yield window(seq, rows_of(numbers[part], labels[part], offset=at))
        at += size


def remembered(memory: IdMemory) -> dict[str | None, float]:
    """Return the ids that a memory has, with their newest labels."""
    young, old = memory.generations
    parts = (*old.parts, *young.parts)
    return {i: label for ids, labels in parts for i, label in zip(ids, labels.tolist(), strict=True) if i is not None}
