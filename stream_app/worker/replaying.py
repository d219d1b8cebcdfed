"""Folding the history again: for the outputs of a retrain's comparison, a rebuild, another configuration."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stream_app.core.fold import Fold
from stream_app.core.projection import Projection, check_same
from stream_app.core.rows import choose
from stream_app.core.schema import Schema
from stream_app.errors import Conflict
from stream_app.ports import Stores
from stream_app.values import Floats, FoldReport, Ints, RowKind, Window


def online_outputs(stores: Stores, fold: Fold, *, after: int, through: int) -> tuple[Ints, Ints, Floats]:
    """Return what the online learner said just before learning each row of windows after < seq <= through.

    (seq int64[n], pos int64[n], outputs float64[n] or [n, classes]); rows that were not learned are left out.
    `fold` is fresh; it starts from the newest checkpoint that is not younger than `after`. Raises Misconfigured
    unless it has the schema that the model was created with.
    """
    check_same(fold.model, Schema.from_json(stores.log.schema(fold.model)), fold.schema)
    for checkpoint in stores.checkpoints.newest(fold.model, through=after):
        if checkpoint.fold_digest == fold.digest:
            fold.restore(checkpoint.state)
            break
    parts = [(window, fold.outputs) for window, _ in _folded(stores, fold, through) if window.header.seq > after]
    learned = [(w, o) for w, o in parts if len(o)]
    if not learned:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    seqs = [np.full(len(o), w.header.seq, dtype=np.int64) for w, o in learned]
    positions = [_learned_positions(w) for w, _ in learned]
    return np.concatenate(seqs), np.concatenate(positions), np.concatenate([o for _, o in learned])


def _folded(stores: Stores, fold: Fold, through: int | None) -> Iterator[tuple[Window, FoldReport]]:
    for window in stores.log.windows(fold.model, after=fold.seq, through=through):
        yield window, fold.apply(window)


def _learned_positions(window: Window) -> Ints:
    if window.rows is None:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(window.rows.kinds == RowKind.RECORD).astype(np.int64)


def _records(window: Window) -> int:
    return 0 if window.rows is None else int((window.rows.kinds == RowKind.RECORD).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Rows that a rebuild leaves out."""

    #: value of the column `source`
    source: str

    @classmethod
    def parse(cls, text: str) -> "Exclusion":
        """Read "source=X"; raises Conflict for anything else."""
        name, equals, value = text.partition("=")
        if name != "source" or not equals or not value:
            raise Conflict(f"--exclude is {text!r}, expected source=NAME")
        return cls(source=value)

    def apply(self, window: Window) -> Window:
        """Return the window without the excluded rows."""
        rows = window.rows
        if rows is None or rows.sources is None:
            return window
        kept = np.array([source != self.source for source in rows.sources], dtype=np.bool_)
        return replace(window, rows=choose(rows, kept) if kept.any() else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A state folded anew beside the one that was learned."""

    model: str
    windows: int
    rows: int
    rows_before: int
    #: rows that were excluded, or that the other schema does not accept
    rows_left_out: int
    probe_hash: str
    probe_hash_before: str
    #: scores by name: (before, now)
    metrics: dict[str, tuple[Any, Any]]
    #: largest difference between the two on the probe set
    largest_difference: float


def refold(
    stores: Stores, fold: Fold, before: Fold, exclusion: Exclusion | None, progress: Callable[[int], None]
) -> Comparison:
    """Fold the whole history into the fresh `fold`, and as it was into `before`; return how they differ.

    `before` is fresh too and has the settings that the log was folded with. The schema of `fold` may have fewer
    features or other bounds: rows that it does not accept are left out. `progress` hears each seq. Raises
    Misconfigured, before anything is folded, for a schema that the log has no rows for.
    """
    stored = Schema.from_json(stores.log.schema(fold.model))
    projection = Projection(fold.model, stored, fold.schema)
    check_same(fold.model, stored, before.schema)
    old_report, report, left_out = None, None, 0
    for window in stores.log.windows(fold.model):
        old_report = before.apply(window)
        chosen = projection.window(exclusion.apply(window) if exclusion else window)
        report = fold.apply(chosen)
        left_out += _records(window) - _records(chosen)
        progress(window.header.seq)
    if report is None or old_report is None:
        raise Conflict(f"{fold.model}: the log has no window yet, there is nothing to fold")
    new, old = report.metrics["prequential"], old_report.metrics["prequential"]
    # of the same records: another schema has another probe set of its own
    difference = np.abs(fold.predict(projection.features(before.probe)) - before.predict(before.probe))
    return Comparison(
        model=fold.model,
        windows=report.seq,
        rows=fold.learned,
        rows_before=before.learned,
        rows_left_out=left_out,
        probe_hash=report.probe_hash,
        probe_hash_before=old_report.probe_hash,
        metrics={name: (old.get(name), value) for name, value in new.items()},
        largest_difference=float(difference.max()) if difference.shape else 0.0,
    )
