"""`stream-app serve` beside a worker, asked as with curl: bodies without a content type, kills and stops."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.integration.pipeline import DATA, PATIENCE_S, Pipeline, Running, electricity, settings_text

Wait = Callable[..., None]
#: Nobody listens there.
NOWHERE: Final = "127.0.0.1:9"
FEATURES = [{name: value for name, value in row.items() if name != "class"} for row in electricity(10_000)]
RECORD = FEATURES[0]


@dataclass
class Server:
    """A server that answers, and how to ask it."""

    running: Running
    url: str

    def post(self, path: str, body: object, **headers: str) -> httpx2.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return httpx2.post(self.url + path, content=content, headers=headers, timeout=30)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(self.url + path, headers=headers, timeout=30)


@pytest.fixture
def pipeline(tmp_path: Path, embedded_bootstrap: str) -> Pipeline:
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state"))
    return Pipeline(tmp_path, embedded_bootstrap)


@contextmanager
def serving(pipeline: Pipeline, wait_until: Wait, *arguments: str, **environment: str) -> Iterator[Server]:
    with pipeline.running("serve", *arguments, **environment) as running:
        wait_until(lambda: running.process.poll() is not None or _url(running), PATIENCE_S, what="the server's address")
        assert running.process.poll() is None, running.log.read_text()
        server = Server(running, _url(running) or "")
        wait_until(lambda: server.get("/readyz").status_code == 200, PATIENCE_S, what="readiness")
        yield server


def _url(running: Running) -> str | None:
    found = re.search(r'"url":"([^"]+)"', running.log.read_text())
    return found[1] if found else None


def test_it_answers_with_what_the_worker_learned(pipeline: Pipeline, wait_until: Wait) -> None:
    with pipeline.running("worker") as worker, serving(pipeline, wait_until) as server:
        before = server.post("/predict", RECORD).json()
        assert (before["version"], before["digest"], before["prediction"]) == ("baseline", None, 0)
        pipeline.json("produce", str(DATA), "--model", "electricity", "--limit", "1000")
        pipeline.until_learned(1_000, worker)
        wait_until(lambda: server.post("/predict", RECORD).json()["version"] != "baseline", what="a verified version")
        _check_answers(server)
        _check_bad_bodies(server)
        assert server.running.stop() == 0
        assert worker.stop() == 0


def _check_answers(server: Server) -> None:
    one = server.post("/predict", RECORD).json()
    assert one["probability"] == max(one["probabilities"].values())
    many = server.post("/predict", FEATURES).json()["predictions"]
    assert len({answer["prediction_id"] for answer in many}) == len(many) == 10_000
    assert many[0]["probabilities"] == one["probabilities"]
    metrics = server.get("/metrics").text
    assert 'stream_app_predictions_made_total{model="electricity"}' in metrics
    assert server.get("/readyz").json()["checks"]["models"]["ok"] is True


def _check_bad_bodies(server: Server) -> None:
    for body in (b'{"period": NaN}', b'{"period": 1e999}', b"[" * 100_000, b'{"period": "x"}', b"{", b"\xff", b""):
        answer = server.post("/predict", body)
        assert (answer.status_code, answer.json().keys()) == (422, {"error", "details"}), body[:40]
    assert server.post("/predict", b" " * 10_000_000).status_code == 413
    assert server.post("/models/%2e%2e%2fetc/predict", RECORD).status_code == 404


def test_a_request_under_way_is_answered_after_sigterm(pipeline: Pipeline, wait_until: Wait) -> None:
    body = orjson.dumps(RECORD)
    with serving(pipeline, wait_until) as server:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            head = f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body[:10])
            server.running.process.terminate()
            wait_until(lambda: not _listens(host, int(port)), what="the end of listening")
            connection.sendall(body[10:])
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert server.running.ended() == 0


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_predictions_that_a_killed_server_answered_reach_the_broker(
    pipeline: Pipeline, wait_until: Wait, embedded_bootstrap: str
) -> None:
    with serving(pipeline, wait_until, STREAM_APP_KAFKA__BOOTSTRAP_SERVERS=NOWHERE) as server:
        told = [server.post("/predict", RECORD).json() for _ in range(5)]
        told += server.post("/predict", FEATURES[:500]).json()["predictions"]
        wait_until(lambda: server.get("/readyz").json()["status"] == "degraded", what="word of the outage")
        server.running.kill()
    with serving(pipeline, wait_until) as server:
        told.append(server.post("/predict", RECORD).json())
        wait_until(lambda: _is_idle(server), what="delivery")
        assert server.running.stop() == 0
    published = _published(embedded_bootstrap, len(told))
    assert {one["prediction_id"] for one in told} == published.keys()
    assert published[told[0]["prediction_id"]]["features"] == RECORD
    assert list((pipeline.folder / "state" / "spool").iterdir()) == []


def _is_idle(server: Server) -> bool:
    metrics = server.get("/metrics").text
    return "stream_app_predictions_published_total 506.0" in metrics


def _published(bootstrap: str, count: int) -> dict[str, Any]:
    """Return what is on the topic, by key."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    partitions = consumer.list_topics("predictions", timeout=10).topics["predictions"].partitions
    consumer.assign([TopicPartition("predictions", number, OFFSET_BEGINNING) for number in partitions])
    found: dict[str, Any] = {}
    while len(found) < count and (messages := consumer.consume(count, timeout=10)):
        for message in messages:
            assert message.error() is None
            found[message.key().decode()] = json.loads(message.value())
    consumer.close()
    return found


def test_keys_are_made_used_and_revoked(pipeline: Pipeline, wait_until: Wait) -> None:
    pipeline.run("serve", "--host", "0.0.0.0", code=78)  # noqa: S104 - which is refused
    made = pipeline.json("keys", "create", "--name", "page", "--scopes", "predict", "--expires", "90d")
    assert [(key["id"], key["name"], key["scopes"]) for key in pipeline.json("keys", "list")] == [
        (made["id"], "page", "predict")
    ]
    with serving(pipeline, wait_until, "--host", "0.0.0.0") as server:  # noqa: S104 - there is a key
        assert server.post("/predict", RECORD).status_code == 401
        assert server.post("/predict", RECORD, Authorization=f"Bearer {made['key']}").status_code == 200
        assert (
            server.post("/feedback", {"prediction_id": "p", "label": 1}, **{"X-API-Key": made["key"]}).status_code
            == 403
        )
        pipeline.run("keys", "revoke", made["id"])
        wait_until(
            lambda: server.post("/predict", RECORD, **{"X-API-Key": made["key"]}).status_code == 401,
            what="word of the revocation",
        )
        assert made["key"] not in server.running.log.read_text()
