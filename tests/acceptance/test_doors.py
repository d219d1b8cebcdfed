"""A whole product behind its HTTP doors: what goes in at one is seen at another."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.integration.pipeline import PATIENCE_S, Pipeline, Running, electricity, settings_text

Wait = Callable[..., None]
ROWS = electricity(1_000)
RECORD = {name: value for name, value in ROWS[0].items() if name != "class"}
MORE = """
[models.electricity.retrain]
enabled = false
min_rows = 100
"""


@dataclass
class Product:
    """`stream-app up`, asked as with curl: bodies without a content type."""

    pipeline: Pipeline
    running: Running
    url: str
    wait: Wait

    def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - whatever it answers
        content = b"" if body is None else orjson.dumps(body)
        answer = httpx2.post(self.url + path, content=content, timeout=240)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever it answers
        return httpx2.get(self.url + path, timeout=240).raise_for_status().json()


@pytest.fixture
def product(tmp_path: Path, wait_until: Wait) -> Iterator[Product]:
    (tmp_path / "stream_app.toml").write_text(settings_text(tmp_path / "state", more=MORE))
    pipeline = Pipeline(tmp_path, "")
    with pipeline.running("up") as running:
        wait_until(lambda: _url(running), 2 * PATIENCE_S, what="the server's address")
        product = Product(pipeline, running, _url(running), wait_until)
        wait_until(lambda: _is_ready(product), 2 * PATIENCE_S, what="readiness")
        yield product
        assert running.stop() == 0


def _url(running: Running) -> str:
    found = re.search(r'"event":"server started".*?"url":"([^"]+)"', running.log.read_text())
    return found[1] if found else ""


def _is_ready(product: Product) -> bool:
    return httpx2.get(f"{product.url}/readyz", timeout=240).status_code == 200


@pytest.mark.timeout(240)
def test_samples_are_learned_retrained_on_and_a_prediction_is_corrected(product: Product) -> None:
    triggered = product.post("/retrain", ROWS)
    _check_retrain(product, triggered)
    _check_promotion(product)
    _check_feedback(product)

    stats = product.pipeline.json("log", "stats", "electricity")
    assert stats["learned"] == 1_001
    audited = product.pipeline.json("status")["models"][0]
    assert product.get("/status")["models"][0]["learned"] == audited["learned"] == 1_001


def _check_retrain(product: Product, triggered: dict[str, Any]) -> None:
    """The samples travel through the topic, and the job waits for them."""
    assert (triggered["status"], triggered["samples_received"]) == ("Retraining triggered successfully!", 1_000)
    assert orjson.loads((product.pipeline.folder / triggered["training_file"]).read_bytes()) == ROWS

    def newest() -> dict[str, Any]:
        line: dict[str, Any] = product.get("/retrain/status")["recent_retraining_logs"][0]
        return line

    product.wait(lambda: newest()["status"] != "STARTED", 4 * PATIENCE_S, what="the retrain's end")
    assert (newest()["status"], newest()["sample_count"], newest()["stderr"]) == ("COMPLETED", 1_000, None)
    assert "rows" in newest()["stdout"]
    [event] = product.get("/retraining/history?model_name=electricity")["history"]
    assert (event["status"], event["trigger_type"]) == ("success", "manual")
    assert product.get("/models/electricity")["learned"] == 1_000


def _check_promotion(product: Product) -> None:
    """Whatever the gate said, people may go back to the online learner, and the server follows."""
    champion = product.get("/models/electricity")["champion"]
    stored = [
        v["version"] for v in product.get("/models/electricity/versions")["versions"] if v["status"] != "rejected"
    ]
    other = next((version for version in stored if version != champion), None)
    if other is not None:
        assert product.post("/models/electricity/promote", {"version": other})["accepted"] is True
        product.wait(lambda: product.get("/models/electricity")["champion"] == other, what="the promotion")
    product.wait(lambda: product.post("/predict", RECORD)["digest"] is not None, what="a verified version")


def _check_feedback(product: Product) -> None:
    """The model learns what a person says of a prediction, once."""
    prediction = product.post("/predict", RECORD)
    said = {"prediction_id": prediction["prediction_id"], "verdict": "wrong", "feedback_id": "mine"}
    assert product.post("/feedback", said)["outcome"] in {"learned", "pending"}
    product.wait(lambda: product.get("/models/electricity")["learned"] == 1_001, what="the corrected prediction")
    assert product.post("/feedback", said)["outcome"] == "learned"
    again = {"prediction_id": prediction["prediction_id"], "verdict": "wrong"}
    assert product.post("/feedback", again)["outcome"] == "duplicate"
    assert product.post("/feedback", {**again, "verdict": "don't know"})["outcome"] == "stored"
    point = product.get("/models/electricity/history?newest=1")["points"][-1]
    assert (point["learned"], point["served"]) == (1_001, 0.0)
