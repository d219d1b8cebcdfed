"""A power cut after the commit loses nothing; a failed sync is never mistaken for a good one."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from log_house import MANY, House, effects_of, make_rows, make_window
from sqlalchemy import Engine, event

from stream_app import crashpoints
from stream_app.errors import Outage
from stream_app.storage import durable, effects, window_files, window_log
from stream_app.storage.database import open_database


class Shim:
    """Records what reaches the disk, in order: writes, syncs of files and folders, commits of the database."""

    def __init__(self, engine: Engine, patch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self.fail_at = ""
        event.listen(engine, "commit", lambda _: self.order.append("transaction"))
        patch.setattr(os, "fsync", self._recording(os.fsync))
        for module in (window_files, window_log, effects):
            patch.setattr(module, "crashpoint", lambda name: self.order.append(f"@{name}"))

    def _recording(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            what = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
            if what == self.fail_at:
                raise OSError(errno.EIO, "Input/output error")
            sync(descriptor)
            self.order.append(f"fsync {what}")

        return fsync


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(open_database(None, tmp_path), tmp_path)
    house.log.commit(make_window(house.own(), 1, make_rows(MANY)))  # makes the folders
    yield house
    house.engine.dispose()


@pytest.fixture
def shim(house: House, monkeypatch: pytest.MonkeyPatch) -> Shim:
    return Shim(house.engine, monkeypatch)


def commit(house: House, seq: int, count: int = MANY) -> None:
    tenure = house.own()
    house.log.commit(make_window(tenure, seq, make_rows(count, first=seq * MANY)))


def test_the_file_and_its_name_are_durable_before_the_transaction(house: House, shim: Shim) -> None:
    tenure = house.own()
    shim.order.clear()
    house.log.commit(make_window(tenure, 2, make_rows(MANY)))
    assert shim.order == [
        "@file_written",
        "fsync file",
        "fsync folder",
        "@file_durable",
        "@commit_open",
        "transaction",
        "@committed",
    ]


def test_a_small_window_needs_no_file(house: House, shim: Shim) -> None:
    tenure = house.own()
    shim.order.clear()
    house.log.commit(make_window(tenure, 2, make_rows(2)))
    assert shim.order == ["@commit_open", "transaction", "@committed"]


def test_effects_stand_between_their_crash_points(house: House, shim: Shim) -> None:
    shim.order.clear()
    house.log.apply_effects("m", epoch=1, effects=effects_of(1))
    assert shim.order == ["@effects", "transaction", "@outbox"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_after_a_failed_sync_this_process_commits_nothing_more(house: House, shim: Shim, what: str) -> None:
    """The kernel may drop what it could not write and call the next sync a success."""
    shim.fail_at = what
    with pytest.raises(Outage, match="Input/output error"):
        commit(house, 2)
    shim.fail_at = ""
    with pytest.raises(Outage, match="earlier failure"):
        commit(house, 2)
    assert [window.header.seq for window in house.log.windows("m")] == [1]
    restarted = House(house.engine, house.root)
    commit(restarted, 2)
    assert [window.header.seq for window in restarted.log.windows("m")] == [1, 2]


def test_every_folder_on_the_way_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    house = House(open_database(None, tmp_path), tmp_path)
    house.log.commit(make_window(house.own(), 1, make_rows(MANY)))
    house.engine.dispose()
    assert synced == [tmp_path, tmp_path / "windows"]  # and windows/m by the file itself


def test_the_crash_points_are_declared() -> None:
    mine = {"file_written", "file_durable", "commit_open", "committed", "effects", "outbox", "ckpt_tmp", "ckpt_renamed"}
    assert mine <= set(crashpoints.POINTS)
