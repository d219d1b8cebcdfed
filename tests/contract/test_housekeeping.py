"""Merging, sweeping and retention: whatever they do, the rows are what was committed."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_house import NOW, House, effects_of, make_rows, make_window
from sqlalchemy import Engine, select

from stream_app.errors import Fenced, NotFound
from stream_app.ports import Recorder
from stream_app.storage import tables
from stream_app.storage.checkpoints import SqlCheckpoints
from stream_app.storage.database import open_database
from stream_app.storage.housekeeping import GRACE_S, Housekeeping, Retention, Tidied
from stream_app.storage.reader_leases import LEASE_S, SKEW_S
from stream_app.storage.window_log import FILES_LEASE_S, SqlWindowLog

#: Rows of a merged file here.
FULL = 100
#: Windows of fewer rows travel in the transaction here.
INLINE_BYTES = 5_000
NOTHING = Tidied(dropped=0, merged=0, removed=0)


class Tidy:
    """A log with small limits, its owner and its housekeeping."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.house = House(engine, root)
        self.root = root
        self.log = self.house.log = self.other_log()
        self.checkpoints = SqlCheckpoints(
            engine,
            root,
            key=b"k" * 32,
            keep=2,
            learning_events="learning-events",
            clock=lambda: NOW,
            observe=Recorder(),
        )
        self.tenure = self.house.own()
        self.seq = 0
        self.keeping = self.housekeeping(self.log)

    def other_log(self) -> SqlWindowLog:
        return self.house.other_log(merge_rows=FULL, inline_bytes=INLINE_BYTES)

    def housekeeping(self, log: SqlWindowLog, **retention: float) -> Housekeeping:
        return Housekeeping(log, self.checkpoints, retention=Retention(**retention))  # type: ignore[arg-type]

    def run(self, now: float = NOW) -> Tidied:
        return self.keeping.run_once("m", epoch=self.tenure.epoch, now=now)

    def take_over(self) -> None:
        self.tenure = self.house.own()

    def commit(self, *counts: int) -> None:
        for count in counts:
            self.seq += 1
            rows = make_rows(count, first=self.seq * 1000) if count else None
            self.log.commit(make_window(self.tenure, self.seq, rows))

    def fold(self) -> None:
        """Store the effects of all windows and a checkpoint after them."""
        first = self.house.own().effects_seq
        self.tenure = self.house.own()
        for seq in range(first + 1, self.seq + 1):
            self.log.apply_effects("m", epoch=self.tenure.epoch, effects=effects_of(seq))
        self.checkpoints.save("m", epoch=self.tenure.epoch, seq=self.seq, fold_digest="f", state=b"s%d" % self.seq)

    def on_disk(self) -> list[Path]:
        return sorted((self.root / "windows" / "m").glob("*.parquet"))

    def inline(self) -> int:
        with self.house.engine.connect() as connection:
            query = select(tables.windows.c.seq).where(tables.windows.c.inline.is_not(None))
            return len(connection.execute(query).all())

    def content(self) -> tuple[list[str], pa.Table]:
        """Return all that a reader can see; reading checks the digests."""
        return [repr(window.header) for window in self.log.windows("m")], self.log.table("m")


def same(left: tuple[list[str], pa.Table], right: tuple[list[str], pa.Table]) -> bool:
    return left[0] == right[0] and left[1].to_pydict() == right[1].to_pydict()


@pytest.fixture
def tidy(engine: Engine, tmp_path: Path) -> Tidy:
    return Tidy(engine, tmp_path / "root")


def test_small_windows_become_full_files(tidy: Tidy) -> None:
    """Inline ones and files alike, header-only ones in between; the rest waits until it is enough."""
    tidy.commit(10, 0, 60, 30, 90, 10, 5)
    before = tidy.content()
    assert len(tidy.on_disk()) == 2
    assert tidy.run().merged == 2
    assert same(tidy.content(), before)
    assert [file.rows for file in tidy.log.files("m")] == [100, 100, 5]
    assert tidy.run().merged == 0


def test_a_full_file_is_left_alone(tidy: Tidy) -> None:
    tidy.commit(150, 120)
    names = tidy.on_disk()
    assert tidy.run() == NOTHING
    assert tidy.on_disk() == names


def test_small_windows_between_full_files_do_not_wait_for_ever(tidy: Tidy) -> None:
    tidy.commit(150, 3, 4, 150, 60, 150)
    before = tidy.content()
    assert tidy.run().merged == 1
    assert tidy.inline() == 0
    assert same(tidy.content(), before)
    assert tidy.run().merged == 0


def test_files_hold_exactly_the_rows(tidy: Tidy) -> None:
    tidy.commit(10, 80, 0, 30, 150, 2)
    tidy.run()
    paths = [str(tidy.root / file.path) for file in tidy.log.files("m")]
    expected = tidy.log.table("m")
    assert tidy.inline() == 0
    read = pd.concat([pd.read_parquet(path) for path in paths])
    assert read["event_id"].tolist() == expected["event_id"].to_pylist()
    assert read["feature_x"].tolist() == expected["feature_x"].to_pylist()
    query = "SELECT seq, pos, event_id, topic, feature_c, label FROM read_parquet(?) ORDER BY seq, pos"
    with duckdb.connect() as connection:
        found = connection.execute(query, [paths]).fetchall()
    names = ["seq", "pos", "event_id", "topic", "feature_c", "label"]
    assert found == [tuple(row.values()) for row in expected.select(names).to_pylist()]


def test_files_say_what_they_are(tidy: Tidy) -> None:
    tidy.commit(10, 80, 0, 30)
    files = tidy.log.files("m")
    assert [(file.first_seq, file.last_seq, file.rows) for file in files] == [(1, 1, 10), (2, 2, 80), (4, 4, 30)]
    for file in files:
        assert (tidy.root / file.path).stat().st_size == file.size
        assert pq.read_metadata(tidy.root / file.path).num_rows == file.rows
    with pytest.raises(NotFound, match="'zebra'"):
        tidy.log.files("zebra")


def test_replaced_files_stay_for_their_readers(tidy: Tidy) -> None:
    tidy.commit(80, 80)
    old = tidy.on_disk()
    windows = tidy.log.windows("m")
    next(windows)
    assert tidy.run() == Tidied(dropped=0, merged=1, removed=0)
    assert tidy.run(NOW + SKEW_S).removed == 0
    assert next(windows).header.seq == 2
    windows.close()
    assert tidy.run().removed == 2
    assert not set(old) & set(tidy.on_disk())


def test_a_reader_that_died_does_not_hold_files_for_ever(tidy: Tidy) -> None:
    tidy.commit(80, 80)
    windows = tidy.log.windows("m")
    next(windows)
    tidy.run()
    assert tidy.run(NOW + LEASE_S + SKEW_S + 1).removed == 2
    assert next(windows).header.seq == 2  # and one that only slept finds where the rows are now


def test_listed_files_stay_for_a_while(tidy: Tidy) -> None:
    tidy.commit(80, 80)
    listed = [tidy.root / file.path for file in tidy.log.files("m")]
    assert tidy.run().removed == 0
    assert all(path.exists() for path in listed)
    assert tidy.run(NOW + FILES_LEASE_S + SKEW_S + 1).removed == 2


def test_an_owner_that_lost_the_model_tidies_nothing(tidy: Tidy) -> None:
    tidy.commit(80, 80)
    old = tidy.tenure
    tidy.take_over()
    with pytest.raises(Fenced):
        tidy.keeping.run_once("m", epoch=old.epoch, now=NOW)
    assert len(tidy.log.files("m")) == 2
    tidy.run()
    assert len(tidy.on_disk()) == 3  # the merged one, and the two it replaced: listed a moment ago


def test_orphans_go_but_nothing_that_may_still_be_committed(tidy: Tidy) -> None:
    tidy.commit(150)
    folder = tidy.root / "windows" / "m"
    for name in ("1-2-aa.parquet", "2-2-bb.parquet", "notes.txt"):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (NOW, NOW))
    assert tidy.run(NOW + GRACE_S).removed == 0
    tidy.take_over()
    assert tidy.run(NOW).removed == 1  # of epoch 1, which can commit nothing any more
    assert tidy.run(NOW + GRACE_S + 1).removed == 1
    assert {path.name for path in folder.iterdir() if path not in tidy.on_disk()} == {"notes.txt"}
    assert len(tidy.log.table("m")) == 150


def test_orphaned_checkpoints_go(tidy: Tidy) -> None:
    tidy.commit(1)
    tidy.fold()
    folder = tidy.root / "checkpoints" / "m"
    for name in ("9-aa.ckpt", ".9-bb.ckpt"):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (NOW, NOW))
    assert tidy.run(NOW + GRACE_S).removed == 0
    assert tidy.run(NOW + GRACE_S + 1).removed == 2
    assert next(tidy.checkpoints.newest("m")).state == b"s1"


def test_a_file_that_was_swept_is_not_committed(tidy: Tidy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer slept for more than the grace time between its file and its transaction."""
    write = tidy.log.folder.write

    def write_and_sleep(*args: object) -> dict[str, object]:
        row = write(*args)  # type: ignore[arg-type]
        assert tidy.run(NOW + 1e10).removed == 1
        return row

    monkeypatch.setattr(tidy.log.folder, "write", write_and_sleep)
    with pytest.raises(Exception, match="swept away before its commit"):
        tidy.commit(150)
    assert len(tidy.log.table("m")) == 0


def test_without_limits_nothing_is_dropped(tidy: Tidy) -> None:
    tidy.commit(80, 80)
    tidy.fold()
    assert tidy.run(NOW + 1e9).dropped == 0


def test_retention_by_rows_keeps_at_least_so_many(tidy: Tidy) -> None:
    for _ in range(6):
        tidy.commit(10)
        tidy.fold()
    digest = tidy.log.rows_digest("m", through=6)
    tidy.keeping = tidy.housekeeping(tidy.log, rows=25)
    assert tidy.run().dropped == 3
    assert tidy.log.table("m")["seq"].to_pylist() == [4] * 10 + [5] * 10 + [6] * 10
    assert tidy.log.oldest("m") == 4
    assert [window.header.seq for window in tidy.log.windows("m", after=3)] == [4, 5, 6]
    assert tidy.log.rows_digest("m", through=6) == digest
    with pytest.raises(NotFound, match="dropped by retention"):
        list(tidy.log.windows("m"))
    assert tidy.run().dropped == 0


def test_retention_by_age_keeps_what_is_younger(tidy: Tidy) -> None:
    tidy.commit(10, 10, 10)  # closed at NOW + 1, + 2, + 3
    tidy.fold()
    tidy.keeping = tidy.housekeeping(tidy.log, age_s=10)
    assert tidy.run(NOW + 11).dropped == 0
    assert tidy.run(NOW + 12.5).dropped == 2
    assert tidy.run(NOW + 1e6).dropped == 0  # the newest stays: it ends the chain


def test_retention_pins_where_later_folds_start(tidy: Tidy) -> None:
    """However often checkpoints are made afterwards, the remaining windows can be folded from it."""
    for _ in range(3):
        tidy.commit(10, 10)
        tidy.fold()  # after 2 (forgotten: two are kept), 4 and 6
    tidy.keeping = tidy.housekeeping(tidy.log, rows=30)
    assert tidy.run().dropped == 3
    for _ in range(4):
        tidy.commit(10)
        tidy.fold()
    assert [each.seq for each in tidy.checkpoints.newest("m")] == [10, 9, 4]
    assert [window.header.seq for window in tidy.log.windows("m", after=4)] == [5, 6, 7, 8, 9, 10]
    assert tidy.run().dropped == 4  # 9 is pinned now, what was pinned before could start nothing
    assert [each.seq for each in tidy.checkpoints.newest("m")] == [10, 9]


def test_retention_needs_a_checkpoint_that_verifies(tidy: Tidy) -> None:
    tidy.commit(10, 10, 10)
    tidy.keeping = tidy.housekeeping(tidy.log, rows=10)
    assert tidy.run().dropped == 0
    tidy.fold()
    (file,) = (tidy.root / "checkpoints" / "m").iterdir()
    file.write_bytes(b"spoilt")
    assert tidy.run().dropped == 0
    assert len(list(tidy.log.windows("m"))) == 3


def test_retention_drops_whole_files(tidy: Tidy) -> None:
    tidy.commit(60, 60, 60, 60, 150)
    tidy.run()  # into 1 + 2 and 3 + 4
    tidy.fold()
    tidy.keeping = tidy.housekeeping(tidy.log, rows=220)
    assert tidy.run().dropped == 2  # windows 1 to 3 may go, but 3 shares a file with 4
    assert sum(file.rows for file in tidy.log.files("m")) == len(tidy.log.table("m")) == 270
    tidy.run(NOW + 1e6)
    assert len(tidy.on_disk()) == 2


def test_the_log_goes_on_after_retention(tidy: Tidy) -> None:
    tidy.commit(10, 10)
    tidy.fold()
    tidy.keeping = tidy.housekeeping(tidy.log, rows=1)
    assert tidy.run().dropped == 1
    tidy.commit(10)
    assert tidy.log.rows_digest("m", through=3)[0] == 30


class Crowd:
    """One writer, two mergers of the same epoch, one that lists files and two readers, all at once."""

    def __init__(self, tidy: Tidy, counts: list[int]) -> None:
        self.tidy, self.counts = tidy, counts
        self.done = Event()

    def run(self) -> None:
        loops = [self.merge, self.merge, self.list_files, self.read_table, self.read_windows]
        with ThreadPoolExecutor(6) as pool:
            futures = [pool.submit(self.write), *(pool.submit(self.until_done, loop) for loop in loops)]
        for future in futures:
            future.result()

    def until_done(self, work: Callable[[], None]) -> None:
        while not self.done.is_set():
            work()

    def write(self) -> None:
        try:
            self.tidy.commit(*self.counts)
        finally:
            self.done.set()

    def merge(self) -> None:
        tidy = self.tidy
        tidy.housekeeping(tidy.other_log()).run_once("m", epoch=tidy.tenure.epoch, now=NOW)

    def list_files(self) -> None:
        self.tidy.other_log().files("m")

    def read_table(self) -> None:
        seqs = self.tidy.other_log().table("m")["seq"].to_pylist()
        assert seqs == sorted(seqs)
        assert len(seqs) == sum(self.counts[: max(seqs, default=0)])

    def read_windows(self) -> None:
        seqs = [window.header.seq for window in self.tidy.other_log().windows("m")]
        assert seqs == list(range(1, len(seqs) + 1))


def test_nothing_is_doubled_or_lost_beside_everybody_else(tidy: Tidy) -> None:
    counts = [7, 60, 0, 40, 20, 120] * 6
    Crowd(tidy, counts).run()
    ids = tidy.log.table("m")["event_id"].to_pylist()
    assert len(ids) == len(set(ids)) == sum(counts)
    files = tidy.log.files("m")
    on_disk = [pq.read_metadata(tidy.root / file.path).num_rows for file in files]
    assert sum(file.rows for file in files) == sum(on_disk) == sum(counts)


def test_a_merge_of_a_zombie_changes_nothing(tidy: Tidy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lost the model between reading the small files and swapping the references."""
    tidy.commit(60, 60)
    before = tidy.content()
    zombie = tidy.other_log()
    write = zombie.folder.write

    def write_and_lose(*args: object) -> dict[str, object]:
        row = write(*args)  # type: ignore[arg-type]
        tidy.take_over()
        tidy.run()
        return row

    monkeypatch.setattr(zombie.folder, "write", write_and_lose)
    with pytest.raises(Fenced):
        tidy.housekeeping(zombie).run_once("m", epoch=1, now=NOW)
    assert same(tidy.content(), before)
    assert [file.rows for file in tidy.log.files("m")] == [120]


Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from([0, 1, 12, 40, 99, 100, 130])),
        st.tuples(st.sampled_from(["run", "files", "take_over", "fold", "orphan", "later"]), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_the_rows_are_those_that_were_committed(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    """In whatever order windows, merges, listings, take-overs and sweeps come."""
    root = tmp_path_factory.mktemp("steps")
    engine = open_database(None, root)
    tidy, expected = Tidy(engine, root), []
    try:
        for step, count in steps:
            if step == "commit":
                tidy.commit(count)
                expected += [f"e{tidy.seq * 1000 + i}" for i in range(count)]
            elif step == "orphan":
                (root / "windows" / "m").mkdir(parents=True, exist_ok=True)
                (root / "windows" / "m" / "0-1-ff.parquet").write_bytes(b"x")
            elif step == "later":
                tidy.run(NOW + 1e6)
            elif step == "files":
                tidy.log.files("m")
            else:
                getattr(tidy, step)()
            assert tidy.log.table("m")["event_id"].to_pylist() == expected
        assert [window.header.seq for window in tidy.log.windows("m")] == list(range(1, tidy.seq + 1))
        assert sum(file.rows for file in tidy.log.files("m")) == len(expected)
    finally:
        engine.dispose()
