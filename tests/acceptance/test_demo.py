"""The demo is the main job: what it prints adds up and is proved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.pipeline import ROOT


@pytest.mark.timeout(600)
def test_the_demo_adds_up_recovers_and_beats_the_baseline(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stream_app", "demo", "--fast", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    accounted = shown["records_learned"] + shown["records_dead_lettered"] + shown["duplicates_skipped"]
    assert shown["records_sent"] == accounted
    assert shown["records_learned"] == 45_312
    assert shown["probe_hash_live"] == shown["probe_hash_replayed"]
    assert shown["log_verified"] is True
    assert shown["accuracy_served"] > shown["accuracy_no_change"]
    assert shown["reloads"] >= 2
    assert shown["kills"] >= 1
    assert shown["retrains_decided"] >= 1
    report = (tmp_path / "demo-report.html").read_text()
    assert report.count("<svg") == 2
    assert "://" not in report
