"""Every query of every panel has data while a pipeline runs, and says what `stream-app status` says."""

import math
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import confluent_kafka
import httpx2
import orjson
import pytest

from tests.integration.pipeline import DATA, Pipeline, as_bytes, electricity
from tests.integration.watching import (
    DEPLOY,
    PROMETHEUS,
    PROMTOOL,
    Prometheus,
    alert_rules,
    free_port,
    panel_queries,
    watching,
)

pytestmark = [
    pytest.mark.skipif(not (PROMETHEUS and PROMTOOL), reason="NO PROMETHEUS: apt-get install prometheus"),
    pytest.mark.timeout(900),
]
#: Jobs of prometheus.yml, and the settings of their ports.
JOBS: Final = {
    "stream-app-worker": "http.worker_port",
    "stream-app-trainer": "http.trainer_port",
    "stream-app-serve": "serve.port",
}
ROWS: Final = 6_000
FEW: Final = 1_000
#: A model whose retrains come to a verdict, and one whose retrains never end in time.
SETTINGS: Final = """
[storage]
root = "state"
[models.electricity]
task = "binary"
target = "class"
data = "{data}"
retrain = {{ every_records = 4000, min_gain = 1, candidates = [{{ name = "linear_model.LogisticRegression" }}] }}
[models.hasty]
task = "binary"
target = "class"
data = "{data}"
retrain = {{ every_records = 500, timeout_s = 0.01 }}
"""


@dataclass(frozen=True, slots=True)
class Watched:
    """A pipeline under load and the Prometheus that watches it."""

    pipeline: Pipeline
    prometheus: Prometheus
    ports: dict[str, int]

    def url(self, job: str) -> str:
        return f"http://127.0.0.1:{self.ports[job]}"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Start `up` over the embedded broker, watch it, and send what makes every metric move."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "stream_app.toml").write_text(SETTINGS.format(data=DATA))
    pipeline = Pipeline(folder, "")
    ports = {job: free_port() for job in JOBS}
    settings = [part for job, key in JOBS.items() for part in ("--set", f"{key}={ports[job]}")]
    with ExitStack() as stack:
        stack.enter_context(pipeline.running("up", *settings))
        prometheus = stack.enter_context(watching(folder, ports))
        made = Watched(pipeline, prometheus, ports)
        _load(made, folder / "state" / "broker")
        yield made


def _load(watched: Watched, address: Path) -> None:
    _until(address.exists, what="the embedded broker's address")
    _send(address.read_text(), _bad())  # before anything else, for a share of bad records is a rate
    _send(address.read_text(), as_bytes(electricity(FEW)), model="hasty")
    watched.pipeline.run("produce", str(DATA), "--model", "electricity", "--limit", str(ROWS))
    _until(lambda: all(httpx2.get(f"{watched.url(job)}/readyz").is_success for job in JOBS), what="readiness")
    _answer_and_label(watched.url("stream-app-serve"))
    watched.pipeline.until_learned(ROWS)
    _until(lambda: _is_retrained(watched), what="a verdict and a failure")


def _is_retrained(watched: Watched) -> bool:
    return {"rejected", "failed"} <= {job.status.value for job in watched.pipeline.rooms.jobs.history()}


def _send(bootstrap: str, messages: Sequence[bytes], model: str = "electricity") -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
    for message in messages:
        producer.produce("ground-truth", key=model.encode(), value=message)
    assert producer.flush(30) == 0


def _bad() -> list[bytes]:
    nameless, *others = electricity(20)
    return [b"{", orjson.dumps({**nameless, "class": None}), *(orjson.dumps({**row, "day": "x"}) for row in others[:3])]


def _answer_and_label(server: str) -> None:
    features = [{name: value for name, value in row.items() if name != "class"} for row in electricity(50)]
    answered = (
        httpx2.post(f"{server}/predict", json=features, params={"model": "electricity"}).raise_for_status().json()
    )
    given = [{"prediction_id": p["prediction_id"], "verdict": "correct"} for p in answered["predictions"]]
    httpx2.post(f"{server}/feedback", json=given, params={"model": "electricity"}).raise_for_status()


def _until(predicate: Callable[[], object], deadline: float = 120.0, *, what: str) -> None:
    end = time.monotonic() + deadline
    while not _holds(predicate):
        assert time.monotonic() < end, f"{what} did not come within {deadline:g} s"
        time.sleep(0.1)


def _holds(predicate: Callable[[], object]) -> bool:
    try:
        return bool(predicate())
    except httpx2.TransportError:
        return False


def test_every_query_of_every_panel_has_data(watched: Watched) -> None:
    waiting = panel_queries()
    deadline = time.monotonic() + 40
    while waiting and time.monotonic() < deadline:
        waiting = [query for query in waiting if not watched.prometheus.ask(query.expression)]
        _send_again(watched)
    assert [query.place for query in waiting] == []


def _send_again(watched: Watched) -> None:
    """Let rates go on: a rate of what came once is over after a few looks."""
    _send((watched.pipeline.folder / "state" / "broker").read_text(), _bad())
    _answer_and_label(watched.url("stream-app-serve"))


def test_every_alert_can_be_evaluated(watched: Watched) -> None:
    for rule in alert_rules():
        watched.prometheus.ask(rule["expr"])
    assert watched.prometheus.troubled_rules() == []


def test_prometheus_says_what_status_says(watched: Watched) -> None:
    expected = {}
    for row in watched.pipeline.json("status")["models"]:
        name = row["model"]
        score = f'stream_app_model_score{{model="{name}",split="prequential"'
        expected[f'sum(stream_app_events_consumed_total{{model="{name}",outcome="learned"}})'] = row["learned"]
        expected[f'{score},metric="accuracy"}}'] = row["score"]
        expected[f'{score},metric="rolling_accuracy"}}'] = row["rolling"]
        expected[f'sum(stream_app_drift_detected_total{{model="{name}"}}) or vector(0)'] = row["drifts"]
        expected[
            f'count(stream_app_model_info{{job="stream-app-worker",model="{name}",version=~"{row["champion"]}.*"}})'
        ] = 1
    differing = _differing(watched.prometheus, expected)
    assert len(expected) == 10
    assert differing == {}


def _differing(prometheus: Prometheus, expected: dict[str, float]) -> dict[str, Any]:
    found = {expression: prometheus.number(expression) for expression in expected}
    return {e: (v, expected[e]) for e, v in found.items() if not math.isclose(v, expected[e], rel_tol=1e-12)}


@pytest.mark.parametrize("job", JOBS)
def test_what_is_exported_is_clean(watched: Watched, job: str) -> None:
    exposition = httpx2.get(f"{watched.url(job)}/metrics").raise_for_status().content
    checked = _promtool("check", "metrics", content=exposition)
    assert checked == (0, "")


def _promtool(*arguments: str, content: bytes = b"") -> tuple[int, str]:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], input=content, capture_output=True, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    "what", ["check config --syntax-only prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"]
)
def test_rules_are_clean_and_fire_when_they_should(what: str) -> None:
    *command, name = what.split()
    assert _promtool(*command, str(DEPLOY / "prometheus" / name)) == (0, "")
