"""The benchmark compares like with like: all learn the same rows, so all are right equally often."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CONTESTANTS = ["memory_loop", "handwritten", "quix", "plain_faust", "worker_compiled", "worker_river"]
#: More than one window, or the worker leaves nothing to measure.
RECORDS = 25_000


def bench(kafka_bootstrap: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.kafka
@pytest.mark.timeout(900)  # the first run installs Quix Streams into an environment of its own
def test_all_contestants_are_right_equally_often(kafka_bootstrap: str) -> None:
    done = bench(kafka_bootstrap, "--json", "--rounds", "1", "--records", str(RECORDS), "--only", *CONTESTANTS)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert set(printed["accuracies"]) == set(CONTESTANTS)
    assert len(set(printed["accuracies"].values())) == 1
    assert 0.5 < printed["accuracies"]["memory_loop"] < 1
    peers = [name for name in CONTESTANTS if not name.startswith("worker_")]
    assert {printed["records"][name] for name in peers} == {RECORDS}
    assert printed["durable_worker_vs_handwritten"] > 0
    assert printed["memory_ratio"] is None, "what was not run has no ratio"


def test_peers_stay_as_short_as_a_user_would_write_them() -> None:
    for peer in (ROOT / "benchmarks" / "peers").glob("*.py"):
        assert len(peer.read_text().splitlines()) <= 40, peer.name


@pytest.mark.parametrize(
    ("arguments", "complaint"), [(["--records", "0"], "expected 1 or more"), (["--only", "x"], "invalid choice")]
)
def test_a_wrong_option_is_a_usage_error(arguments: list[str], complaint: str) -> None:
    done = bench("", *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
