"""What a worker tells orchestrators and people while it cannot work: its broker is gone, or its group waits."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stream_app.kafka.embedded import EmbeddedBroker
from tests.integration.pipeline import Pipeline, settings_text


def ask(port: int, path: str) -> tuple[int, Any]:
    """Return the status and body, 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, json.load(answer)
    except OSError:
        return 0, None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_worker_whose_broker_is_gone_is_alive_but_not_ready(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    port = free_port()
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    with ExitStack() as stack:
        with EmbeddedBroker() as broker:
            pipeline = Pipeline(tmp_path, broker.bootstrap_servers)
            worker = stack.enter_context(pipeline.running("worker", "--set", f"http.worker_port={port}"))
            wait_until(lambda: ask(port, "/readyz")[0] == 200, 60)
        wait_until(lambda: "Kafka is not to be reached since 2" in str(ask(port, "/readyz")[1]), 60)
        status, body = ask(port, "/readyz")
        assert (status, body["status"], body["checks"]["kafka"]["ok"]) == (503, "failing", False)
        assert ask(port, "/livez")[0] == 200
        assert worker.process.poll() is None


@pytest.mark.kafka
def test_a_worker_says_why_it_waits_after_one_that_was_killed(
    tmp_path: Path, kafka_bootstrap: str, unique: Callable[[str], str], wait_until: Callable[..., None]
) -> None:
    pipeline = Pipeline(tmp_path, kafka_bootstrap, {"STREAM_APP_KAFKA__TOPICS__GROUND_TRUTH": unique("gt")})
    text = settings_text(tmp_path / "state")
    (tmp_path / "stream_app.toml").write_text(text.replace("timeout_s = 6", "timeout_s = 15").replace("= 10", "= 20"))
    pipeline.run("topics", "create")
    with pipeline.running("worker") as first:
        wait_until(lambda: "partitions assigned" in first.log.read_text(), 60)
        first.kill()
    with pipeline.running("worker") as second:
        wait_until(lambda: "partitions assigned" in second.log.read_text(), 60)
        said = [json.loads(line)["event"] for line in second.log.read_text().splitlines() if line.startswith("{")]
        (waiting,) = [event for event in said if event.startswith("waiting for partitions")]
        assert "kafka.session_timeout_s (15 s)" in waiting
        assert second.stop() == 0
