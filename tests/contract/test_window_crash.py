"""kill -9 at each crash point of the log: the next owner finds all or nothing of each step, and goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from log_house import MANY, House, effects_of, make_rows, make_window

from stream_app.ports import Recorder
from stream_app.storage.checkpoints import SqlCheckpoints
from stream_app.storage.database import open_database
from stream_app.storage.housekeeping import GRACE_S, Housekeeping, Retention

WINDOWS = 3
#: By crash point, at its second pass: (windows committed, windows whose effects are stored, checkpoints).
EXPECTED = {
    "file_written": (1, 1, 1),
    "file_durable": (1, 1, 1),
    "commit_open": (1, 1, 1),
    "committed": (2, 1, 1),
    "effects": (2, 1, 1),
    "outbox": (2, 2, 1),
    "ckpt_tmp": (2, 2, 1),
    "ckpt_renamed": (2, 2, 1),
}


def checkpoints_of(house: House) -> SqlCheckpoints:
    return SqlCheckpoints(
        house.engine,
        house.root,
        key=b"k" * 32,
        keep=3,
        learning_events="learning-events",
        clock=lambda: 1.0,
        observe=Recorder(),
    )


def work(root: Path) -> None:
    """Commit, fold and checkpoint what is not yet."""
    house = House(open_database(None, root), root)
    checkpoints, tenure = checkpoints_of(house), house.own()
    if tenure.effects_seq < tenure.seq:
        finish(house, checkpoints, tenure.epoch, tenure.seq)
    for seq in range(tenure.seq + 1, WINDOWS + 1):
        house.log.commit(make_window(tenure, seq, make_rows(MANY, first=seq * MANY)))
        finish(house, checkpoints, tenure.epoch, seq)
    house.engine.dispose()


def finish(house: House, checkpoints: SqlCheckpoints, epoch: int, seq: int) -> None:
    house.log.apply_effects("m", epoch=epoch, effects=effects_of(seq, events=(("t", b"v"),)))
    checkpoints.save("m", epoch=epoch, seq=seq, fold_digest="f", state=b"state %d" % seq)


@pytest.mark.parametrize("point", EXPECTED)
def test_a_killed_owner_leaves_a_log_that_goes_on(point: str, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    killed = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env=os.environ | {"STREAM_APP_CRASH": f"{point}:2", "PYTHONPATH": paths},
        check=False,
        timeout=240,
    )
    assert killed.returncode == -signal.SIGKILL
    house = House(open_database(None, tmp_path), tmp_path)
    checkpoints = checkpoints_of(house)
    committed, stored, saved = EXPECTED[point]
    assert len(list(house.log.windows("m"))) == committed
    assert [row["seq"] for row in house.log.metrics("m")] == list(range(1, stored + 1))
    assert len(list(checkpoints.newest("m"))) == saved

    work(tmp_path)
    assert len(set(house.log.table("m")["event_id"].to_pylist())) == WINDOWS * MANY == len(house.log.table("m"))
    assert [row["event_id"] for row in house.outbox()] == ["m:1:0", "m:2:0", "m:3:0"]
    assert next(checkpoints.newest("m")).state == b"state 3"
    keeping = Housekeeping(house.log, checkpoints, retention=Retention())
    keeping.run_once("m", epoch=house.own().epoch, now=house.root.stat().st_mtime + 10 * GRACE_S)
    assert len(list((tmp_path / "windows" / "m").iterdir())) == WINDOWS
    assert len(list((tmp_path / "checkpoints" / "m").iterdir())) == len(list(checkpoints.newest("m")))
    house.engine.dispose()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
