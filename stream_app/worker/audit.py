"""Proving a model from its log: everything once, in order, and the very state that was learned."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stream_app.core.fold import Fold
from stream_app.errors import Corrupt
from stream_app.ports import Stores
from stream_app.values import FoldReport, Partition, Window

#: Problems named in full; the rest is counted.
MOST_NAMED = 20


@dataclass(slots=True)
class Audit:
    """What an audit found."""

    model: str
    windows: int = 0
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    promotions: int = 0
    drifts: int = 0
    #: of the newest stored metrics row
    probe_hash_live: str = ""
    #: of the fold over the log, from its first window
    probe_hash_replayed: str = ""
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything is proved."""
        return not self.problem_count

    def blame(self, problem: str) -> None:
        """Note what is wrong."""
        self.problem_count += 1
        if len(self.problems) < MOST_NAMED:
            self.problems.append(problem)


@dataclass(slots=True)
class _Cursor:
    """How far the log has been read in each partition."""

    #: (offset, index) of the newest row
    newest: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    positions: dict[Partition, int] = field(default_factory=dict)


def audit(stores: Stores, fold: Fold, progress: Callable[[int], None]) -> Audit:
    """Fold the whole log anew, from a fresh fold, and compare with what is stored.

    I1 each window's rows lie between the positions before and after it; I2 no coordinates come twice;
    I3 the replayed probe hash is the stored one; I4 each window has one metrics row, equal to its
    recomputation. `progress` is called with the seq of each window.
    """
    found = Audit(model=fold.model)
    stored = {int(row["seq"]): row for row in stores.log.metrics(fold.model)}
    cursor = _Cursor()
    for window in _readable(stores, fold.model, found):
        _check_rows(window, cursor, found)
        report = fold.apply(window)
        _check_report(report, stored.pop(report.seq, None), found)
        _count(window, found)
        found.drifts += len(report.drifts)
        progress(report.seq)
    for seq in stored:
        found.blame(f"I4: metrics of window {seq}, which is not in the log")
    return found


def _readable(stores: Stores, model: str, found: Audit) -> Iterator[Window]:
    try:
        yield from stores.log.windows(model)
    except Corrupt as error:
        found.blame(f"log: {error}")


def _check_rows(window: Window, cursor: _Cursor, found: Audit) -> None:
    seq, rows = window.header.seq, window.rows
    if rows is not None:
        at = list(zip(rows.offsets.tolist(), rows.indexes.tolist(), strict=True))
        before = cursor.newest.get(rows.partition, (-1, -1))
        if any(later <= earlier for earlier, later in zip([before, *at], at, strict=False)):
            found.blame(f"I2: window {seq} holds coordinates that came before")
        if at[0][0] < cursor.positions.get(rows.partition, 0) or at[-1][0] >= window.header.positions[rows.partition]:
            found.blame(f"I1: window {seq} holds rows outside of the positions that it moved")
        cursor.newest[rows.partition] = at[-1]
    for partition, position in window.header.positions.items():
        if position < cursor.positions.get(partition, 0):
            found.blame(f"I1: window {seq} moves {partition.topic}[{partition.number}] back to {position}")
        cursor.positions[partition] = position


def _check_report(report: FoldReport, stored: Mapping[str, Any] | None, found: Audit) -> None:
    found.probe_hash_replayed = report.probe_hash
    if stored is None:
        found.blame(f"I4: window {report.seq} has no metrics")
        return
    found.probe_hash_live = str(stored["probe_hash"])
    if stored["probe_hash"] != report.probe_hash:
        found.blame(f"I3: window {report.seq} was folded to another state than it folds to now")
    differing = [name for name, value in report.metrics.items() if stored.get(name) != value]
    if differing:
        found.blame(f"I4: metrics of window {report.seq} differ from their recomputation: {', '.join(differing)}")


def _count(window: Window, found: Audit) -> None:
    found.windows += 1
    found.promotions += sum(entry.accepted for entry in window.header.control)
    found.rows += 0 if window.rows is None else len(window.rows)
    counts = window.header.counts
    for name in ("learned", "late", "corrections", "duplicates", "dead_lettered", "forwarded"):
        found.counts[name] = found.counts.get(name, 0) + getattr(counts, name)
