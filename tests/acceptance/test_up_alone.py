"""One `up` to a folder: a second one must not take the broker from the first."""

from collections.abc import Callable
from pathlib import Path

from tests.integration.pipeline import DATA, Pipeline, settings_text


def test_a_second_up_is_refused_and_the_first_goes_on(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    pipeline = Pipeline(tmp_path, "")
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    address = tmp_path / "state" / "broker"
    with pipeline.running("up") as up:
        wait_until(address.exists, what="the embedded broker's address")
        before = address.read_text()

        assert pipeline.run("up", code=78) == ""

        assert address.read_text() == before
        assert pipeline.json("produce", str(DATA), "--model", "electricity", "--limit", "10")["sent"] == 10
        pipeline.until_learned(10, up)
        assert up.stop() == 0
