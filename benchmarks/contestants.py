"""Who takes part, and how one round of each is run: all are started, warmed and stopped the same way."""

import hashlib
import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks import rows, worker

PEERS: Final = rows.ROOT / "benchmarks" / "peers"
REQUIREMENTS: Final = rows.ROOT / "benchmarks" / "quix-requirements.txt"
#: In the order of each round.
NAMES: Final = ("memory_loop", "handwritten", "quix", "plain_faust", "worker_compiled", "worker_river")
#: Plain Faust is so slow that all of the records would take minutes; its rate does not depend on how many it reads.
AT_MOST: Final = {"plain_faust": 3 * rows.FILE_ROWS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of one contestant in one round."""

    #: records learned in the measured time
    records: int
    seconds: float
    #: share of all records whose label was predicted right before it was learned
    accuracy: float

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds


def run(name: str, bootstrap: str, topic: str, count: int) -> Round:
    """Run one contestant over the topic's `count` records; raises RuntimeError when it fails."""
    if name.startswith("worker_"):
        return run_worker(name.removeprefix("worker_"), bootstrap, topic, count)
    return run_peer(name, bootstrap, topic, min(count, AT_MOST.get(name, count)))


def run_peer(name: str, bootstrap: str, topic: str, count: int) -> Round:
    """Run a peer: from the first batch in its hands to the last record learned, by its own clock."""
    python = quix_python() if name == "quix" else sys.executable
    where = [str(rows.FILE)] if name == "memory_loop" else [bootstrap, topic]
    command = [str(python), "-W", "ignore", str(PEERS / f"{name}.py"), *where, str(count)]
    with tempfile.TemporaryDirectory() as folder:  # Faust makes folders where it stands
        options = {"cwd": folder, "timeout": worker.PATIENCE_S}
        done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    said = [line[line.index("{") :] for line in done.stdout.splitlines() if '{"began_at"' in line]
    if not said:
        raise RuntimeError(f"{name} ended with code {done.returncode} and no result: {done.stderr[-1000:]}")
    result = json.loads(said[0])
    seconds = result["ended_at"] - result["began_at"]
    return Round(records=result["records"], seconds=seconds, accuracy=result["accuracy"])


def run_worker(adapter: str, bootstrap: str, topic: str, count: int) -> Round:
    """Run our worker: from the closing of its first window until the last is durable, folded and scored."""
    with worker.site(bootstrap, topic, f'online.adapter = "{adapter}"') as site, site.process("worker") as process:
        return timed(site, process, count)


def timed(site: worker.Site, process: psutil.Popen, count: int, *, after: int = 0) -> Round:
    """Wait until `count` rows are learned; measure those behind the first window beyond the first `after`.

    That window was in memory when the clock started, but not yet learned: its rows do not count, though learning
    them does.
    """
    log = worker.Log(site.database)
    ended_at = worker.wait_until(process, lambda: log.learned() >= count, what=f"learning {count} records")
    began_at, in_memory = log.first_window(after=after)
    scores = log.scores()
    if scores["learned"] <= in_memory:
        raise RuntimeError(f"{count} records fit into one window, so nothing is left to measure; take more")
    return Round(
        records=scores["learned"] - in_memory,
        seconds=ended_at - began_at,
        accuracy=scores["prequential"]["accuracy"],
    )


def quix_python() -> Path:
    """Return the interpreter of the environment that Quix Streams has for itself; made when it is first needed.

    It pulls older confluent-kafka and pydantic than ours.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = worker.CACHE / f"quix-{digest}"
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists():
        print("making an environment for Quix Streams …", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        install = [str(python), "-m", "pip", "install", *options, "--requirement", str(REQUIREMENTS)]
        subprocess.run(install, check=True, stdout=sys.stderr)
        stamp.touch()
    return python
