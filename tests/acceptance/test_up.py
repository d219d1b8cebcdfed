"""`stream-app up` on the embedded broker, as a first user runs it: twice."""

from collections.abc import Callable
from pathlib import Path

from tests.integration.pipeline import DATA, Pipeline, settings_text


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
    verdict = pipeline.json("log", "verify", "electricity")
    assert verdict["ok"] is True
    assert verdict["counts"]["learned"] == 2_000
