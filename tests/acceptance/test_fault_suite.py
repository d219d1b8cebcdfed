"""The fault suite, short: what a run of hours must hold must hold for ten seconds too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


def suite(kafka_bootstrap: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "faults", "--json", "--keep", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap},
        capture_output=True,
        text=True,
        timeout=890,
        check=False,
    )


def test_killed_workers_lose_nothing_and_learn_nothing_twice(kafka_bootstrap: str, tmp_path: Path) -> None:
    done = suite(kafka_bootstrap, tmp_path, "--only", "kill-loop", "--seconds", "10", "--seed", "3")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (scene,) = result["scenes"]
    assert scene["problems"] == []
    assert (result["lost"], result["twice"]) == (0, 0)
    assert result["in_the_log"] > 0
    assert sum(scene["numbers"]["attacks"].values()) > 0
    assert scene["numbers"]["answers"] > 0


def test_wrong_usage_is_said(kafka_bootstrap: str, tmp_path: Path) -> None:
    done = suite(kafka_bootstrap, tmp_path, "--only", "nonsense")
    assert done.returncode == 2
    assert "kill-loop" in done.stderr
