"""Checkpoints: found again bit for bit, or not at all."""

import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any, cast

import orjson
import pytest
from log_house import NOW, House, effects_of, make_window
from sqlalchemy import select, update

from stream_app import messages
from stream_app.errors import Fenced, Misconfigured, NotFound, Outage
from stream_app.ports import Recorder
from stream_app.storage import checkpoints as module
from stream_app.storage import tables
from stream_app.storage.checkpoints import SqlCheckpoints
from stream_app.storage.keys import checkpoint_key
from stream_app.values import Tenure

KEY = bytes(range(32))


@pytest.fixture
def heard() -> Recorder:
    return Recorder()


@pytest.fixture
def tenure(house: House) -> Tenure:
    """Return a tenure of a model with the effects of ten windows."""
    tenure = house.own()
    for seq in range(1, 11):
        house.log.commit(make_window(tenure, seq))
        house.log.apply_effects("m", epoch=1, effects=effects_of(seq))
    return tenure


@pytest.fixture
def checkpoints(house: House, tenure: Tenure, heard: Recorder) -> SqlCheckpoints:
    assert tenure.epoch == 1
    return open_with(KEY, house, heard)


def open_with(key: bytes, house: House, heard: Recorder) -> SqlCheckpoints:
    return SqlCheckpoints(
        house.engine,
        house.root,
        key=key,
        keep=3,
        learning_events="learning-events",
        clock=lambda: NOW,
        observe=heard,
    )


def save(checkpoints: SqlCheckpoints, seq: int, *, epoch: int = 1, state: bytes | None = None) -> None:
    checkpoints.save("m", epoch=epoch, seq=seq, fold_digest="f" * 64, state=state or b"state %d" % seq)


def found(checkpoints: SqlCheckpoints, through: int | None = None) -> list[tuple[int, bytes]]:
    return [(each.seq, each.state) for each in checkpoints.newest("m", through=through)]


def the_file(house: House, seq: int) -> Path:
    (path,) = (house.root / "checkpoints" / "m").glob(f"{seq}-*.ckpt")
    return path


def test_what_was_saved_is_found_newest_first(checkpoints: SqlCheckpoints) -> None:
    for seq in (2, 4, 3):
        save(checkpoints, seq)
    assert found(checkpoints) == [(4, b"state 4"), (3, b"state 3"), (2, b"state 2")]
    assert found(checkpoints, through=3) == [(3, b"state 3"), (2, b"state 2")]
    assert next(checkpoints.newest("m")).fold_digest == "f" * 64
    assert list(checkpoints.newest("n")) == []


def test_the_newest_and_the_pinned_are_kept(house: House, checkpoints: SqlCheckpoints) -> None:
    save(checkpoints, 1)
    checkpoints.pin("m", 1)
    for seq in range(2, 8):
        save(checkpoints, seq)
    assert [seq for seq, _ in found(checkpoints)] == [7, 6, 5, 1]
    assert len(list((house.root / "checkpoints" / "m").iterdir())) == 4


def test_only_what_exists_can_be_pinned(checkpoints: SqlCheckpoints) -> None:
    with pytest.raises(NotFound, match="no checkpoint of window 5"):
        checkpoints.pin("m", 5)


def test_a_repeat_takes_the_place_of_the_first(house: House, checkpoints: SqlCheckpoints) -> None:
    save(checkpoints, 2, state=b"first")
    checkpoints.pin("m", 2)
    save(checkpoints, 2, state=b"second")
    assert found(checkpoints) == [(2, b"second")]
    assert the_file(house, 2).read_bytes() == b"second"
    for seq in range(3, 8):
        save(checkpoints, seq)
    assert found(checkpoints)[-1] == (2, b"second")


def test_an_owner_that_lost_the_model_saves_nothing(house: House, checkpoints: SqlCheckpoints) -> None:
    house.own()
    with pytest.raises(Fenced, match="epoch 1 lost"):
        save(checkpoints, 2)
    assert found(checkpoints) == []
    assert list((house.root / "checkpoints" / "m").iterdir()) == []


def test_a_state_ahead_of_its_effects_is_not_kept(checkpoints: SqlCheckpoints) -> None:
    """After a crash the effects would be missing, and nothing would fold that window again."""
    with pytest.raises(Fenced, match="effects of window 11"):
        save(checkpoints, 11)
    assert found(checkpoints) == []


def _flip(house: House) -> None:
    file = the_file(house, 3)
    file.write_bytes(b"S" + file.read_bytes()[1:])


def _truncate(house: House) -> None:
    os.truncate(the_file(house, 3), 4)


def _remove(house: House) -> None:
    the_file(house, 3).unlink()


def _forge(house: House) -> None:
    """Put other bytes there and mend the digest, as somebody without the key could."""
    the_file(house, 3).write_bytes(b"evil")
    forged = {"sha256": hashlib.sha256(b"evil").hexdigest(), "size": 4}
    with house.engine.begin() as connection:
        connection.execute(update(tables.checkpoints).where(tables.checkpoints.c.seq == 3).values(forged))


def _relabel(house: House) -> None:
    """Let the bytes of window 2 pass for those of window 3."""
    the_file(house, 3).write_bytes(the_file(house, 2).read_bytes())
    with house.engine.begin() as connection:
        table = tables.checkpoints
        older = connection.execute(select(table.c.sha256, table.c.hmac).where(table.c.seq == 2)).one()
        connection.execute(update(table).where(table.c.seq == 3).values(older._asdict()))


def _other_settings(house: House) -> None:
    with house.engine.begin() as connection:
        table = tables.checkpoints
        connection.execute(update(table).where(table.c.seq == 3).values(fold_digest="0" * 64))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_flip, "digest"),
        (_truncate, "digest"),
        (_remove, "missing"),
        (_forge, "hmac"),
        (_relabel, "hmac"),
        (_other_settings, "hmac"),
    ],
)
def test_a_broken_one_is_set_aside_and_the_next_older_found(
    house: House, checkpoints: SqlCheckpoints, heard: Recorder, spoil: Callable[[House], None], reason: str
) -> None:
    for seq in (1, 2, 3):
        save(checkpoints, seq)
    spoil(house)
    assert next(checkpoints.newest("m")).seq == 2
    assert [(fact, labels) for fact, _, labels in heard.facts] == [
        ("checkpoints_broken", {"model": "m", "reason": reason})
    ]
    with house.engine.connect() as connection:
        table = tables.checkpoints
        assert connection.execute(select(table.c.broken).where(table.c.seq == 3)).scalar_one()


def test_a_broken_file_is_kept_for_whoever_wants_to_know_why(house: House, checkpoints: SqlCheckpoints) -> None:
    save(checkpoints, 3)
    _flip(house)
    assert found(checkpoints) == []
    (kept,) = (house.root / "quarantine").iterdir()
    assert kept.read_bytes() == b"State 3"
    save(checkpoints, 3)
    assert found(checkpoints) == [(3, b"state 3")]


def refusals(house: House) -> list[dict[str, Any]]:
    """Return what the events on learning-events say of checkpoints."""
    owed = [row for row in house.outbox() if row["type"] == messages.CHECKPOINT_REFUSED]
    assert {(row["topic"], row["key"], row["model"]) for row in owed} <= {("learning-events", b"m", "m")}
    return [orjson.loads(cast("bytes", row["value"])) for row in owed]


def test_a_refusal_is_told_once_in_the_log_and_by_an_event(
    house: House, checkpoints: SqlCheckpoints, heard: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    for seq in (2, 3):
        save(checkpoints, seq)
    name = the_file(house, 3).name
    _truncate(house)
    assert found(checkpoints) == found(checkpoints) == [(2, b"state 2")]
    (record,) = caplog.records
    why = "its 4 bytes do not have the digest of the 7 bytes that were stored"
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"checkpoint of window 3 refused: {why}; the checkpoint of window 2 is next"
    kept = f"quarantine/m-{name}"
    told = {"model": "m", "reason": "digest", "file": f"checkpoints/m/{name}", "kept_as": kept}
    assert told.items() <= vars(record).items()
    details = {"reason": "digest", "message": why, "kept_as": kept, "next_seq": 2}
    assert refusals(house) == [{"model": "m", "seq": 3, "details": details}]
    assert len(heard.facts) == 1


def test_another_key_finds_nothing_and_says_so(
    house: House, checkpoints: SqlCheckpoints, heard: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    for seq in (2, 3):
        save(checkpoints, seq)
    assert found(open_with(b"x" * 32, house, heard)) == []
    first, second = (record.getMessage() for record in caplog.records)
    assert "keys/checkpoint.key or storage.checkpoint_key is another" in first
    assert first.endswith("the checkpoint of window 2 is next")
    assert second.endswith("the log is folded from its start")
    assert [(event["seq"], event["details"]["next_seq"]) for event in refusals(house)] == [(3, 2), (2, 0)]


def test_a_key_that_is_made_where_checkpoints_are_is_told(
    tmp_path: Path, house: House, checkpoints: SqlCheckpoints, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint_key(tmp_path / "first run")
    assert not caplog.records
    save(checkpoints, 3)
    checkpoint_key(house.root)
    (record,) = caplog.records
    assert "keys/checkpoint.key is gone" in record.getMessage()
    checkpoint_key(house.root)
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_written_is_an_outage(house: House, checkpoints: SqlCheckpoints) -> None:
    house.root.mkdir(exist_ok=True)
    (house.root / "checkpoints").write_text("no folder")
    with pytest.raises(Outage, match="checkpoint"):
        save(checkpoints, 1)


def test_the_row_comes_after_file_and_folder_are_durable(
    checkpoints: SqlCheckpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        original(descriptor)
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(module, "crashpoint", order.append)
    insert = SqlCheckpoints._insert
    monkeypatch.setattr(SqlCheckpoints, "_insert", lambda self, row: (order.append("row"), insert(self, row))[1])
    save(checkpoints, 1)
    assert order[-5:] == ["file", "ckpt_tmp", "folder", "ckpt_renamed", "row"]


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    barrier = Barrier(8)

    def first_run(_: int) -> bytes:
        barrier.wait()
        return checkpoint_key(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(first_run, range(8)))
    assert len(keys) == 1
    path = tmp_path / "keys" / "checkpoint.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bytes.fromhex(path.read_text()) == keys.pop()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    checkpoint_key(tmp_path)
    (tmp_path / "keys" / "checkpoint.key").chmod(0o640)
    with pytest.raises(Misconfigured, match="mode 0640, expected 0600"):
        checkpoint_key(tmp_path)


@pytest.mark.parametrize("given", ["", "zz", "00" * 31, "key"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(Misconfigured, match=r"storage\.checkpoint_key"):
        checkpoint_key(tmp_path, given)


def test_a_given_key_is_used(tmp_path: Path) -> None:
    assert checkpoint_key(tmp_path, KEY.hex()) == KEY
    assert not (tmp_path / "keys").exists()
