"""What throughput alone does not show: beside a retrain, with a long log behind it, and for how much memory."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from benchmarks import worker
from benchmarks.contestants import Round, timed

#: Rows between two checkpoints: a tenth and all of the log then end equally far behind one.
CHECKPOINT_ROWS: Final = 60_000
#: Share of the log that is learned before the retrain: it needs something to read, and a head start.
PRIMED: Final = 0.4
#: A fit in one thread, as the unrelated process is; it outlasts the measurement and would never be promoted.
RETRAIN: Final = (
    "[models.electricity.retrain]",
    "every_records = 1000",
    "min_gain = 1.0",
    'candidates = [{ name = "ensemble.GradientBoostingClassifier", params = { n_estimators = 10000 } }]',
)

Companion = Callable[[worker.Site], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A worker that has learned a log of some length, and came back after a kill."""

    records: int
    peak_bytes: int
    #: rows behind the newest checkpoint when it was killed
    behind_checkpoint: int
    #: from the start of the process until /readyz says so
    recovery_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accompanied:
    """A worker's round beside something that burns one core."""

    round: Round
    #: share of the measured time in which a retrain was running
    retraining: float


def grow(bootstrap: str, topic: str, count: int) -> Grown:
    """Learn the topic's `count` records from nothing, be killed, and come back."""
    with worker.site(bootstrap, topic, f"window.checkpoint_rows = {CHECKPOINT_ROWS}") as site:
        log, peak = worker.Log(site.database), 0

        with site.process("worker") as process:

            def is_done() -> bool:
                nonlocal peak
                peak = max(peak, process.memory_info().rss)
                # a checkpoint that the kill met half-way would leave one of the logs further behind
                return log.learned() >= count and log.rows_behind_checkpoint() < CHECKPOINT_ROWS

            worker.wait_until(process, is_done, what=f"learning {count} records")
        behind, started_at = log.rows_behind_checkpoint(), time.time()
        with site.process("worker") as process:
            ready_at = worker.wait_until(process, lambda: worker.is_ready(site.worker_port), what="being ready")
        return Grown(records=count, peak_bytes=peak, behind_checkpoint=behind, recovery_s=ready_at - started_at)


def beside(companion: Companion, bootstrap: str, topic: str, count: int) -> Accompanied:
    """Learn the first part of the topic alone, stop, and learn the rest in the companion's company."""
    with worker.site(bootstrap, topic, *RETRAIN) as site:
        log = worker.Log(site.database)
        with site.process("worker") as process:
            worker.wait_until(process, lambda: log.learned() >= PRIMED * count, what="learning the first part")
            process.send_signal(signal.SIGTERM)
            process.wait()
        learned = log.learned()
        with companion(site), site.process("worker") as process:
            result = timed(site, process, count, after=learned)
            ended_at = time.time()
        return Accompanied(round=result, retraining=log.retraining(ended_at - result.seconds, ended_at))


@contextmanager
def retrain(site: worker.Site) -> Iterator[None]:
    """Run a trainer, from the moment its retrain has started."""
    log = worker.Log(site.database)
    with site.process("trainer") as process:
        running = "SELECT 1 FROM jobs WHERE status = 'running'"
        worker.wait_until(process, lambda: log.one(running), what="starting a retrain")
        yield
        _end_children(process)


def _end_children(process: psutil.Popen) -> None:
    """End the processes of the trainer: they would outlive one that is killed."""
    for child in process.children(recursive=True):
        child.kill()


@contextmanager
def unrelated(_: worker.Site) -> Iterator[None]:
    """Run a process that burns one core."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()
