"""Proving a model from its log: everything once, in order, and the very state that was learned."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stream_app.core.fold import Fold
from stream_app.errors import Corrupt
from stream_app.ports import PartitionLog, Stores
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
    #: of the fold over the log
    probe_hash_replayed: str = ""
    #: committed windows whose effects are still to be stored: a worker that starts does so first
    unfinished: list[int] = field(default_factory=list)
    #: records that are in no model's log, since it could not be told or was not here: counts by "topic[partition]"
    elsewhere: dict[str, dict[str, int]] = field(default_factory=dict)
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


class _Replay:
    """The log folded anew, each stretch of windows of one fold digest from where its own fold began."""

    def __init__(self, stores: Stores, fold: Fold, oldest: int) -> None:
        self._stores = stores
        self._fold = fold
        self._oldest = oldest

    @cached_property
    def _bases(self) -> Mapping[int, bytes]:
        newest = self._stores.checkpoints.newest(self._fold.model)
        return {each.seq: each.state for each in newest if each.fold_digest == self._fold.digest}

    def apply(self, window: Window) -> FoldReport | None:
        """Return what the window folds to; None where nothing can be compared: another digest, or no base."""
        before = window.header.seq - 1
        if window.header.fold_digest != self._fold.digest:
            return None
        if self._fold.seq < before:
            self._go_to(before)
        return self._fold.apply(window) if self._fold.seq == before else None

    def _go_to(self, seq: int) -> None:
        """Go to the checkpoint that a change of settings or retention left there, else fold what is before."""
        if seq in self._bases:
            self._fold.restore(self._bases[seq])
        elif self._fold.seq >= self._oldest - 1:
            for window in self._stores.log.windows(self._fold.model, after=self._fold.seq, through=seq):
                self._fold.apply(window)


def audit(stores: Stores, fold: Fold, progress: Callable[[int], None]) -> Audit:
    """Fold the log anew, from a fresh fold, and compare with what is stored.

    The log is read as far as it goes now: a worker may go on meanwhile.

    I1 each window's rows lie between the positions before and after it; I2 no coordinates come twice;
    I3 the replayed probe hash is the stored one; I4 each window has one metrics row, equal to its
    recomputation; but the newest window may still be without, when a crash or a stop came between its commit and
    its effects. I3 and the recomputation hold within one fold digest, and after retention from the checkpoint that
    it pinned. `progress` is called with the seq of each window.
    """
    found = Audit(model=fold.model, elsewhere=elsewhere(stores.partitions))
    oldest, (seq, finished) = stores.log.oldest(fold.model), _standing(stores, fold.model)
    stored = _stored_metrics(stores, fold.model, oldest, seq, found)
    cursor, replay, report = _Cursor(), _Replay(stores, fold, oldest), None
    for window in _readable(stores, fold.model, oldest - 1, seq, found):
        _check_rows(window, cursor, found)
        report = replay.apply(window)
        _check_metrics(window.header.seq, report, stored.pop(window.header.seq, None), finished, found)
        _count(window, found)
        found.drifts += len(report.drifts) if report else 0
        progress(window.header.seq)
    if found.windows and report is None:
        found.blame("I3: the newest window was folded with other settings or libraries, or its base is lost")
    for strange in stored:
        found.blame(f"I4: metrics of window {strange}, which is not in the log")
    if len(found.unfinished) > 1:
        found.blame(f"I4: windows {found.unfinished} have no metrics, expected at most the newest to have none")
    return found


def elsewhere(partitions: PartitionLog) -> dict[str, dict[str, int]]:
    """Return the counts of records that are in no model's log, by "topic[partition]"."""
    totals: dict[str, dict[str, int]] = {}
    for partition, (dead_lettered, forwarded) in partitions.counts().items():
        # a topic that was made anew has the same name
        counts = totals.setdefault(f"{partition.topic}[{partition.number}]", {"dead_lettered": 0, "forwarded": 0})
        counts["dead_lettered"] += dead_lettered
        counts["forwarded"] += forwarded
    return totals


def _standing(stores: Stores, model: str) -> tuple[int, int]:
    """Return the newest committed window, and the newest whose effects are stored."""
    rows = (row for row in stores.registry.models() if row["name"] == model)
    return next(((int(row["seq"]), int(row["effects_seq"])) for row in rows), (0, 0))


def _stored_metrics(
    stores: Stores, model: str, oldest: int, through: int, found: Audit
) -> dict[int, Mapping[str, Any]]:
    stored = {int(row["seq"]): row for row in stores.log.metrics(model, after=oldest - 1)}
    finished = _standing(stores, model)[1]  # looked up after them: a worker may have stored more since
    for seq in stored:
        if seq > finished:
            found.blame(f"I4: metrics of window {seq}, whose effects are said not to be stored")
    return {seq: row for seq, row in stored.items() if seq <= through}


def _readable(stores: Stores, model: str, after: int, through: int, found: Audit) -> Iterator[Window]:
    try:
        yield from stores.log.windows(model, after=after, through=through)
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


def _check_metrics(
    seq: int, report: FoldReport | None, stored: Mapping[str, Any] | None, finished: int, found: Audit
) -> None:
    if stored is None and seq > finished:
        found.unfinished.append(seq)
        return
    if stored is None:
        found.blame(f"I4: window {seq} has no metrics")
        return
    found.probe_hash_live = str(stored["probe_hash"])
    if report is None:
        return
    found.probe_hash_replayed = report.probe_hash
    if stored["probe_hash"] != report.probe_hash:
        found.blame(f"I3: window {seq} was folded to another state than it folds to now")
    differing = [name for name, value in report.metrics.items() if stored.get(name) != value]
    if differing:
        found.blame(f"I4: metrics of window {seq} differ from their recomputation: {', '.join(differing)}")


def _count(window: Window, found: Audit) -> None:
    found.windows += 1
    found.promotions += sum(entry.accepted for entry in window.header.control)
    found.rows += 0 if window.rows is None else len(window.rows)
    counts = window.header.counts
    for name in ("learned", "late", "corrections", "duplicates", "dead_lettered"):
        found.counts[name] = found.counts.get(name, 0) + getattr(counts, name)
