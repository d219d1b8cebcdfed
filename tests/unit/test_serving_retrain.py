"""The doors of retraining: samples in, jobs queued, and what they tell."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

# Test folders are no packages; this lets the tests of this one share `serving_house`.
sys.path.insert(0, str(Path(__file__).parent))

from serving_house import NOW, RECORD, SCHEMA, ServingHouse

from stream_app.messages import PredictionMade, Served
from stream_app.values import JobStatus, Partition

SAMPLE = {**RECORD, "up": 1}
PLACE = Partition(incarnation="i", topic="ground-truth", number=0)


@pytest.fixture
def house(tmp_path: Path) -> ServingHouse:
    return ServingHouse(samples=tmp_path / "kept")


def sent(house: ServingHouse) -> list[dict[str, Any]]:
    return [orjson.loads(message.value or b"") for message in house.sent]


def kept(house: ServingHouse) -> list[Path]:
    return sorted(house.samples.glob("*")) if house.samples.exists() else []


def test_one_sample_is_kept_sent_and_waited_for(house: ServingHouse) -> None:
    answer = house.client.post("/retrain", json=SAMPLE)

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "Retraining triggered successfully!",
        "samples_received": 1,
        "training_file": str(house.samples / "new_training_data_2023-11-14T22-13-20.000000.json"),
        "message": "Retraining is running in the background. Check logs for progress.",
        "timestamp": "2023-11-14T22:13:20",
        "model": "m",
        "job": 1,
    }
    assert orjson.loads(kept(house)[0].read_bytes()) == [SAMPLE]
    assert sent(house) == [
        {
            "model": "m",
            "features": RECORD,
            "label": 1,
            "event_id": "new_training_data_2023-11-14T22-13-20.000000:0",
            "source": "retrain",
        }
    ]
    [job] = house.jobs.history("m")
    assert (job.trigger, job.status, job.after) == ("manual", JobStatus.QUEUED, {PLACE: 1})
    assert [deed.action for deed in house.audit.deeds] == ["retrain"]


def test_several_samples_and_other_forms_are_one_request(house: ServingHouse) -> None:
    apart = {"features": RECORD, "label": 0}
    answer = house.client.post("/retrain", json=[SAMPLE, apart, {**RECORD, "actual_value": 1, "timestamp": "now"}])

    assert answer.json()["samples_received"] == 3
    assert [(one["features"], one["label"]) for one in sent(house)] == [(RECORD, 1), (RECORD, 0), (RECORD, 1)]


def test_what_came_while_one_waits_joins_it(house: ServingHouse) -> None:
    first = house.client.post("/retrain", json=SAMPLE).json()
    second = house.client.post("/retrain", json=SAMPLE).json()

    assert first["job"] == second["job"]
    assert first["training_file"] != second["training_file"]
    assert house.jobs.history("m")[0].after == {PLACE: 2}
    assert [line.sample_count for line in house.jobs.lines()] == [1, 1]


def test_a_sample_about_a_prediction_brings_its_features_and_what_was_served(house: ServingHouse) -> None:
    served = Served(version="3", output=0.4, digest="d" * 64)
    house.store.stored["p1"] = PredictionMade(
        prediction_id="p1", model="m", features=RECORD, served=served, label=0, served_at=NOW
    )
    house.client.post("/retrain", json={"prediction_id": "p1", "actual_value": 1})

    [message] = sent(house)
    assert (message["features"], message["label"], message["prediction_id"]) == (RECORD, 1, "p1")
    assert (message["event_id"], message["served"]["output"]) == ("p1", 0.4)


@pytest.mark.parametrize(
    ("body", "loc", "msg", "type_"),
    [
        ({"a": 1, "b": 2}, ["up"], "field required", "value_error.missing"),
        ({"b": 2, "up": 1}, ["a"], "field required", "value_error.missing"),
        ([SAMPLE, SAMPLE, {"b": 2, "up": 1}], [2, "a"], "field required", "value_error.missing"),
        ([SAMPLE, {**SAMPLE, "c": 1}], [1, "c"], "extra fields not permitted", "value_error.extra"),
        ({**SAMPLE, "a": 99}, ["a"], None, "value_error.bounds"),
        ({**SAMPLE, "a": "1"}, ["a"], None, "type_error"),
        ({**SAMPLE, "a": True}, ["a"], None, "type_error"),
        ({**SAMPLE, "up": 7}, ["up"], None, "value_error.class"),
        ([], [], None, "value_error.count"),
        ([1], [0], "expected an object", "type_error.object"),
        (7, [], None, "type_error.object"),
        ({"prediction_id": "gone", "actual_value": 1}, ["prediction_id"], None, "value_error.unknown"),
        ({"prediction_id": 7, "up": 1, **RECORD}, ["prediction_id"], "expected a string", "type_error.str"),
    ],
)
def test_a_bad_sample_is_refused_with_its_place_and_nothing_is_kept(
    house: ServingHouse, body: object, loc: list[object], msg: str | None, type_: str
) -> None:
    answer = house.client.post("/retrain", json=body)

    assert answer.status_code == 422
    assert answer.json()["error"] == "Invalid training data format"
    [flaw] = answer.json()["details"]
    assert (flaw["loc"], flaw["type"]) == (loc, type_)
    assert msg in {None, flaw["msg"]}
    assert (kept(house), house.sent, house.jobs.history("m")) == ([], [], [])


@pytest.mark.parametrize("body", [b'{"a": NaN}', b'{"a": 1e999}', b"{", b'{"a": Infinity}', b"\xff"])
def test_what_is_no_json_is_refused(house: ServingHouse, body: bytes) -> None:
    assert house.client.post("/retrain", content=body).status_code == 422
    assert (kept(house), house.sent) == ([], [])


def test_json_is_read_whatever_the_content_type_says(house: ServingHouse) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert house.client.post("/retrain", content=orjson.dumps(SAMPLE), headers=form).status_code == 200


def test_while_kafka_is_away_nothing_is_kept(house: ServingHouse) -> None:
    house.is_kafka_away = True
    answer = house.client.post("/retrain", json=SAMPLE)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert (kept(house), house.jobs.history("m")) == ([], [])


def test_a_disk_that_refuses_is_a_failed_retrain(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("no folder")
    house = ServingHouse(samples=tmp_path / "kept")
    answer = house.client.post("/retrain", json=SAMPLE)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Retraining process failed: the samples cannot be kept")
    assert house.sent == []


def test_without_a_body_the_log_is_what_it_learns_from(house: ServingHouse) -> None:
    empty = house.client.post("/retrain")
    house.registry.seq = 5
    started = house.client.post("/retrain")
    again = house.client.post("/retrain", json={})

    assert empty.status_code == 400
    assert empty.json()["error"] == "Retraining process failed: the log of model 'm' holds no rows yet"
    assert (started.status_code, started.json()["status"], started.json()["job"]) == (200, "started", 1)
    assert (again.json()["status"], again.json()["job"]) == ("already_running", 1)


def test_the_model_is_named_in_query_or_body(house: ServingHouse) -> None:
    two = ServingHouse(models=dict.fromkeys(("m", "n"), house.models["m"]), samples=house.samples)
    two.registry.seq = 1

    assert two.client.post("/retrain?model=n").json()["model"] == "n"
    assert two.client.post("/retrain", json={"model": "m"}).json()["model"] == "m"
    assert two.client.post("/retrain").status_code == 422
    assert two.client.post("/retrain?model=x").status_code == 404


def test_the_status_is_the_union_of_the_documents(house: ServingHouse) -> None:
    house.registry.seq = 75
    house.client.post("/retrain", json=SAMPLE)
    status = house.client.get("/retrain/status").json()

    assert status.keys() >= {"status", "recent_retraining_logs", "retrain_status", "current_model_status", "timestamp"}
    assert status["recent_retraining_logs"][0]["status"] == "STARTED"
    assert status["retrain_status"]["next_retrain_recommended"] == "Not now - a retrain is queued"
    assert status["current_model_status"] == {
        "ml_classifier_loaded": True,
        "ml_labels_count": 2,
        "transformer_loaded": False,
    }
    assert (status["current_count"], status["threshold"], status["remaining"]) == (75, 10_000, 9_925)
    assert (status["progress_percent"], status["model_version"]) == (0.8, "3")
    assert house.client.get("/retrain_status").json() == status
    assert house.client.get("/retrain/status?limit=0").status_code == 422


def test_what_a_retrain_needs_is_told_in_words(house: ServingHouse) -> None:
    house.registry.seq = 9_000
    status = house.client.get("/retrain/status").json()["retrain_status"]
    assert status["next_retrain_recommended"] == "Not yet - need 1,000 more rows"
    assert status["last_retrain"] is None
    house.registry.seq = 10_000
    status = house.client.get("/retrain/status").json()["retrain_status"]
    assert status["next_retrain_recommended"].startswith("Now - ")
    assert status["recommendations"] == ["Consider running retraining pipeline"]


def test_health_tells_of_classifier_and_retrains(house: ServingHouse) -> None:
    health = house.client.get("/health").json()
    assert health["enhanced_classifier"] == {
        "ml_classifier_loaded": True,
        "ml_labels_count": 2,
        "transformer_loaded": False,
        "ml_classifier_available": True,
    }
    assert health["retraining"]["is_running"] is True


def test_automatic_retraining_is_stopped_and_started(house: ServingHouse) -> None:
    assert house.client.get("/retraining/status").json()["is_running"] is True
    assert house.client.post("/retraining/stop").json()["is_running"] is False
    assert house.client.post("/retraining/stop").json()["is_running"] is False
    assert house.client.get("/retraining/status").json()["is_running"] is False
    assert house.client.post("/retraining/start").json()["is_running"] is True
    assert house.client.get("/retraining/status").json()["is_running"] is True
    assert [deed.action for deed in house.audit.deeds] == ["retraining.stop", "retraining.stop", "retraining.start"]


def test_a_retrain_by_hand_and_its_history(house: ServingHouse) -> None:
    house.registry.seq = 5
    triggered = house.client.post("/retraining/trigger/m").json()
    assert (triggered["status"], triggered["model_name"], triggered["job"]) == ("triggered", "m", 1)
    assert house.client.post("/retraining/trigger/m").json()["status"] == "already_running"
    assert house.client.post("/retraining/trigger/x").status_code == 404
    job = house.jobs.claim(holder="t", now=NOW + 1, lease_s=10)
    assert job is not None
    ended = replace(job, status=JobStatus.REJECTED, reason="no gain", finished_at=NOW + 3, through_seq=5)
    assert house.jobs.finish(ended, holder="t")

    [event] = house.client.get("/retraining/history?model_name=m&limit=5").json()["history"]

    assert event == {
        "model_name": "m",
        "trigger_type": "manual",
        "trigger_time": "2023-11-14T22:13:20",
        "status": "success",
        "duration": 2.0,
        "data_hash": "m:5",
        "description": "no gain",
        "id": 1,
        "outcome": "rejected",
        "version": None,
        "verdict": {},
    }
    assert house.client.get("/retraining/history?model_name=x").status_code == 404


def test_a_feature_may_have_the_name_of_a_label(tmp_path: Path) -> None:
    schema = replace(SCHEMA, fields=(replace(SCHEMA.fields[0], name="label"), SCHEMA.fields[1]))
    house = ServingHouse(samples=tmp_path, schema=schema)
    house.client.post("/retrain", json={"label": 3, "b": 2.0, "up": 1})

    assert [(one["features"], one["label"]) for one in sent(house)] == [({"label": 3, "b": 2.0}, 1)]
