"""The HTTP API over fakes: forms of predict, words of errors, and what every route has."""

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

# Test folders are no packages; this lets the tests of this one share `serving_house`.
sys.path.insert(0, str(Path(__file__).parent))

from serving_house import NOW, RECORD, SCHEMA, ServingHouse, loaded

from stream_app.messages import PredictionMade
from stream_app.serving.errors import MOST_DETAILS
from stream_app.settings import ServeSettings


@pytest.fixture
def house() -> ServingHouse:
    return ServingHouse()


def test_one_record_gets_one_answer_that_names_who_gave_it(house: ServingHouse) -> None:
    answer = house.client.post("/predict", content=orjson.dumps({"a": 7, "b": 0}))
    assert answer.status_code == 200
    told = answer.json()
    assert len(told.pop("prediction_id")) == 44
    assert told == {
        "model": "m",
        "version": "3",
        "digest": "d" * 64,
        "prediction": 1,
        "probability": 0.7,
        "probabilities": {"0": pytest.approx(0.3), "1": 0.7},
        "served_at": "2023-11-14T22:13:20Z",
    }


@pytest.mark.parametrize(
    "body",
    [
        [RECORD, {"a": 7, "b": 0}],
        {"records": [RECORD, {"a": 7, "b": 0}], "model": "m"},
        [{"features": RECORD}, {"a": 7, "b": 0}],
        {"inputs": [[1]], "raw_features": [RECORD, {"a": 7, "b": 0}]},
    ],
)
def test_several_records_get_their_answers_in_order(house: ServingHouse, body: object) -> None:
    told = house.client.post("/predict", content=orjson.dumps(body)).json()["predictions"]
    assert [one["probabilities"]["1"] for one in told] == [0.1, 0.7]
    assert len({one["prediction_id"] for one in told}) == 2


def test_what_is_answered_was_kept_first_as_the_message_that_the_topic_carries(house: ServingHouse) -> None:
    told = house.client.post("/predict", content=orjson.dumps({"features": {**RECORD, "extra": "x"}})).json()
    key, _, value = house.lines[0].partition(b" ")
    made = PredictionMade.model_validate_json(value)
    assert made.prediction_id == told["prediction_id"] == key.decode()
    assert made.features == RECORD
    assert (made.served.version, made.served.output, made.served.digest) == ("3", 0.1, "d" * 64)
    assert (made.label, made.served_at) == (0, NOW)


@pytest.mark.parametrize(
    ("body", "loc", "type_"),
    [
        (b'{"a": 1}', ["b"], "value_error.missing"),
        (b'[{"a":1,"b":1},{"a":1,"b":1},{"b":1}]', [2, "a"], "value_error.missing"),
        (b'{"a": "1", "b": 1}', ["a"], "type_error"),
        (b'{"a": true, "b": 1}', ["a"], "type_error"),
        (b'{"a": 11, "b": 1}', ["a"], "value_error.bounds"),
        (b'[{"a": NaN, "b": 1}]', [0, "a"], "type_error.number.not_finite"),
        (b'{"a": -Infinity, "b": 1}', ["a"], "type_error.number.not_finite"),
        (b'{"a": 1e999, "b": 1}', ["a"], "type_error.number.not_finite"),
        (b'{"a": ' + b"1" * 400 + b', "b": 1}', ["a"], "type_error.number.not_finite"),
        (b'{"a": 123456789012345678901234, "b": 1}', ["a"], "value_error.bounds"),
        (b'{"a": 1, "a": 2, "b": 1}', ["a"], "value_error.duplicate_key"),
        (b'{"a": 1, "b": ' + b"[" * 40 + b"]" * 40 + b"}", [], "value_error.depth"),
        (b"[" * 100_000, [], "value_error.depth"),
        (b'{"a": "\xff"}', [], "value_error.utf8"),
        (b'{"a": 1', [], "value_error.json"),
        (b"", [], "value_error.missing"),
        (b"3", [], "type_error.object"),
        (b"[]", [], "value_error.count"),
        (b"[3]", [0], "type_error.object"),
        (b'{"features": 3}', ["features"], "type_error.object"),
        (b'{"records": {}}', ["records"], "type_error.array"),
        (b'{"features": {"a": 1}}', ["features", "b"], "value_error.missing"),
        (b'{"inputs": [[0.5]]}', ["inputs"], "value_error.inputs"),
        (b'{"raw_features": [{"a":1,"b":1}], "true_labels": []}', ["true_labels"], "value_error.count"),
        (b'{"raw_features": [{"a":1,"b":1}], "true_labels": [7]}', ["true_labels", 0], "value_error.class"),
    ],
    ids=lambda value: value.decode(errors="replace")[:40] if isinstance(value, bytes) else None,
)
def test_a_bad_body_is_422_with_its_place_and_nothing_is_kept(
    house: ServingHouse, body: bytes, loc: list[Any], type_: str
) -> None:
    answer = house.client.post("/predict", content=body)
    assert answer.status_code == 422
    told = answer.json()
    assert told.keys() == {"error", "details"}
    assert (told["details"][0]["loc"], told["details"][0]["type"]) == (loc, type_)
    assert house.lines == []


def test_a_missing_field_is_told_in_the_words_of_the_documents(house: ServingHouse) -> None:
    told = house.client.post("/predict", content=b'{"a": 1}').json()
    assert told["details"] == [{"loc": ["b"], "msg": "field required", "type": "value_error.missing"}]


def test_of_many_flaws_the_first_few_are_told(house: ServingHouse) -> None:
    told = house.client.post("/predict", content=orjson.dumps([{}] * 100)).json()
    assert len(told["details"]) == MOST_DETAILS


def test_labels_that_come_along_become_feedback(house: ServingHouse) -> None:
    body = {"raw_features": [RECORD, RECORD], "true_labels": [1, None]}
    told = house.client.post("/predict", content=orjson.dumps(body)).json()["predictions"]
    (opinion,) = house.store.opinions
    assert (opinion.prediction_id, opinion.label, opinion.source) == (told[0]["prediction_id"], 1, "true_labels")
    assert told[0]["feedback"] == "learned"
    assert "feedback" not in told[1]


def test_labels_that_cannot_be_stored_answer_nothing(house: ServingHouse) -> None:
    house.store.is_away = True
    answer = house.client.post("/predict", content=orjson.dumps({"raw_features": [RECORD], "true_labels": [1]}))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert house.lines == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", RECORD, 422),
        ("/predict?model=n", RECORD, 200),
        ("/predict", {**RECORD, "model": "n"}, 200),
        ("/models/n/predict", RECORD, 200),
        ("/predict?model=nope", RECORD, 404),
        ("/models/..%2f..%2fetc/predict", RECORD, 404),
        ("/models/n/predict", {**RECORD, "model": "m"}, 422),
        ("/predict", [{**RECORD, "model": "m"}, {**RECORD, "model": "n"}], 422),
    ],
)
def test_where_there_are_several_models_a_request_names_one(path: str, body: object, status: int) -> None:
    house = ServingHouse(models={"m": loaded("m"), "n": loaded("n")})
    answer = house.client.post(path, content=orjson.dumps(body))
    assert answer.status_code == status
    assert status != 200 or answer.json()["model"] == "n"


def test_the_default_model_is_asked_when_none_is_named() -> None:
    house = ServingHouse(models={"m": loaded("m"), "n": loaded("n")}, settings=ServeSettings(default_model="n"))
    assert house.client.post("/predict", content=orjson.dumps(RECORD)).json()["model"] == "n"


def test_before_the_first_version_it_is_not_ready_and_says_when_to_come_back() -> None:
    house = ServingHouse(models={"m": None})
    answer = house.client.post("/predict", content=orjson.dumps(RECORD))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert house.client.get("/readyz").status_code == 503
    house.models["m"] = loaded("m")
    assert house.client.get("/readyz").status_code == 200


def test_a_server_that_drains_is_not_ready(house: ServingHouse) -> None:
    house.health.drain()
    answer = house.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["server"]["ok"] is False


def test_what_only_waits_is_degraded_with_200(house: ServingHouse) -> None:
    house.health.wanted = {"kafka": lambda: "away"}
    answer = house.client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("DELETE", "/predict", 405), ("POST", "/readyz", 405), ("POST", "/predict/", 404)],
)
def test_paths_and_methods_that_are_not_there_have_the_one_shape(
    house: ServingHouse, method: str, path: str, status: int
) -> None:
    answer = house.client.request(method, path)
    assert (answer.status_code, answer.json().keys()) == (status, {"error", "details"})


def test_a_body_beyond_the_limit_is_413_whether_its_length_is_told_or_not() -> None:
    house = ServingHouse(settings=ServeSettings(max_body_bytes=1_024))
    told = house.client.post("/predict", content=b" " * 1_025)
    chunked = house.client.post("/predict", content=iter([b" " * 600, b" " * 600]))
    assert [told.status_code, chunked.status_code] == [413, 413]
    assert told.json().keys() == {"error", "details"}


def test_more_records_than_the_limit_are_refused() -> None:
    house = ServingHouse(settings=ServeSettings(max_records=2))
    assert house.client.post("/predict", content=orjson.dumps([RECORD] * 2)).status_code == 200
    assert house.client.post("/predict", content=orjson.dumps([RECORD] * 3)).status_code == 422


def test_an_unknown_failure_tells_nothing_of_itself(house: ServingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(house.predictor, "answer", fail)
    answer = house.client.post("/predict", content=orjson.dumps(RECORD))
    assert (answer.status_code, answer.json().keys()) == (500, {"error", "details"})
    assert "secret" not in answer.text


def test_a_schema_that_refuses_unknown_fields_names_them() -> None:
    from dataclasses import replace  # noqa: PLC0415

    schema = replace(SCHEMA, extra_features="reject")
    house = ServingHouse(models={"m": loaded("m", schema)}, schema=schema)
    told = house.client.post("/predict", content=orjson.dumps({**RECORD, "c": 1})).json()
    assert told["details"] == [{"loc": ["c"], "msg": "extra fields not permitted", "type": "value_error.extra"}]
    assert house.client.post("/predict", content=orjson.dumps({**RECORD, "model": "m"})).status_code == 200


def test_a_model_that_takes_its_time_is_asked_in_a_thread(house: ServingHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    body = orjson.dumps(RECORD)
    assert house.predictor.is_quick(body)
    assert not house.predictor.is_quick(orjson.dumps([RECORD] * 1_000))
    assert not house.predictor.is_quick(b'{"raw_features": [], "true_labels": []}')
    moments = iter(range(1_000))
    monkeypatch.setattr("stream_app.serving.predicting.time.perf_counter", lambda: float(next(moments)))
    assert house.client.post("/predict", content=body).status_code == 200
    assert not house.predictor.is_quick(body)
    assert house.client.post("/predict", content=body).status_code == 200
