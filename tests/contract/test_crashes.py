"""kill -9 at every crash point of the worker: nothing is lost, nothing is learned twice, the state is the same."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.crashpoints import POINTS
from stream_app.settings import Settings
from tests.contract.crashing import POISONED, REPEATED, SIZE, killed_at, work, worker_settings
from tests.contract.proofs import probe_hash, proved
from tests.contract.working import bench

ROOT = Path(__file__).parents[2]
#: Points that lie in other processes, and where.
ELSEWHERE = {"sent": "stream_app/kafka/relay.py", "gate_pass": "stream_app/trainer/retraining.py"}
RECOVERY = ("recover_started", "recover_folded")
WORKER = [point for point in POINTS if point not in ELSEWHERE]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the state that a worker reaches that nobody kills."""
    settings = worker_settings(tmp_path_factory.mktemp("undisturbed"))
    asyncio.run(work(settings))
    with bench(settings) as made:
        return probe_hash(made)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return worker_settings(tmp_path)


def check_everything_once(settings: Settings, expected: str) -> None:
    """I1 to I4, and the state of an undisturbed worker."""
    with bench(settings) as made:
        assert probe_hash(made) == expected
        counts = proved(made).counts
        offsets = made.rooms.stores.log.table("m")["offset"].to_pylist()
        letters = {int(line) for line in (settings.storage.root / "letters").read_text().split()}
        assert sorted(offsets) == sorted(set(range(SIZE)) - POISONED - REPEATED)
        assert letters == POISONED
        assert counts["learned"] == SIZE - len(POISONED) - len(REPEATED)
        assert counts["duplicates"] == len(REPEATED)
        elsewhere = sum(dead for dead, _ in made.rooms.stores.partitions.counts().values())
        assert counts["dead_lettered"] + elsewhere == len(POISONED)


def test_every_crash_point_is_proved_here_or_lies_in_another_process() -> None:
    assert set(WORKER) | set(ELSEWHERE) == set(POINTS)
    for point, path in ELSEWHERE.items():
        assert f'crashpoint("{point}")' in (ROOT / path).read_text()


@pytest.mark.parametrize("point", WORKER)
async def test_a_kill_at_each_point_loses_nothing_and_learns_nothing_twice(
    settings: Settings, undisturbed: str, point: str
) -> None:
    await work(settings, through=SIZE // 3)
    passes = 1 if point in RECOVERY else 2
    assert killed_at(point, passes, settings) == -signal.SIGKILL
    await work(settings)
    check_everything_once(settings, undisturbed)


async def test_kill_after_kill_also_while_recovering(settings: Settings, undisturbed: str) -> None:
    """Recovery is idempotent: dying in it again and again adds neither rows nor files."""
    for point, passes in (("committed", 3), ("recover_folded", 1), ("learn_half", 2), ("effects", 2), ("outbox", 1)):
        assert killed_at(point, passes, settings) == -signal.SIGKILL
    stored = sorted(path for path in settings.storage.root.rglob("*.parquet"))
    for point in RECOVERY * 2:
        assert killed_at(point, 1, settings) == -signal.SIGKILL
    assert sorted(path for path in settings.storage.root.rglob("*.parquet")) == stored
    await work(settings)
    check_everything_once(settings, undisturbed)


async def test_a_kill_while_a_state_is_carried_over_is_followed_by_carrying_it_over(
    settings: Settings, tmp_path: Path, undisturbed: str
) -> None:
    await work(settings, through=SIZE // 2)
    changed = worker_settings(tmp_path, seed=2, on_change="continue")
    assert killed_at("ckpt_renamed", 1, changed) == -signal.SIGKILL
    await work(changed)
    check_everything_once(changed, undisturbed)


def test_the_variable_kills_as_the_tests_do(settings: Settings) -> None:
    root = str(settings.storage.root)
    code = f"from tests.contract.crashing import *; asyncio.run(work(worker_settings(Path({root!r}))))"
    environment = os.environ | {"STREAM_APP_CRASH": "committed:2", "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -signal.SIGKILL
    with bench(settings) as made:
        assert len(list(made.rooms.stores.log.windows("m"))) == 2
