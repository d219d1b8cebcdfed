"""`stream-app up` on the embedded broker, as a first user runs it: twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib

from tests.integration.pipeline import DATA, Pipeline, Running, settings_text

#: What an operator waits for in the log, whatever else is there.
LIFE = {
    "worker started",
    "model recovered",
    "partitions assigned",
    "first records taken in",
    "worker stopped",
    "trainer started",
    "trainer stopped",
}


def test_a_thousand_records_stop_and_a_thousand_more_are_two_thousand(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    pipeline = Pipeline(tmp_path, "")
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    for learned in (1_000, 2_000):
        with pipeline.running("up") as up:
            wait_until((tmp_path / "state" / "broker").exists, what="the embedded broker's address")
            sent = pipeline.json("produce", str(DATA), "--model", "electricity", "--limit", "1000")
            assert sent["sent"] == 1_000
            pipeline.until_learned(learned, up)
            assert up.stop() == 0
            said = _said(up)
            assert said.keys() >= LIFE
            assert said["model recovered"]["learned"] == learned - 1_000
            assert said["worker stopped"]["why"] == "SIGTERM"
    verdict = pipeline.json("log", "verify", "electricity")
    assert verdict["ok"] is True
    assert verdict["counts"]["learned"] == 2_000
    exported = pipeline.json("models", "export", "electricity", "exported")
    assert exported["algorithm"] == "river:LogisticRegression"
    assert _answers_its_probe(tmp_path / "exported")


def _answers_its_probe(folder: Path) -> bool:
    """Ask an exported River pipeline as a program would that has never heard of us."""
    manifest = json.loads((folder / "manifest.json").read_text())
    pipeline = joblib.load(folder / "model.joblib")
    asked = [dict(zip(manifest["numeric"], row, strict=True)) for row in manifest["probe"]["numeric"]]
    assert len(asked) == len(manifest["probe"]["outputs"]) > 0
    answers: list[float] = [pipeline.predict_proba_one(row)[True] for row in asked]
    expected: list[float] = manifest["probe"]["outputs"]
    return answers == expected


def _said(running: Running) -> dict[str, dict[str, Any]]:
    """Return the lines of a log by their event."""
    lines = [json.loads(line) for line in running.log.read_text().splitlines() if line.startswith("{")]
    return {line["event"]: line for line in lines}
