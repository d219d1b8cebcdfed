"""Feedback over HTTP: its forms, its words, and what is answered."""

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

# Test folders are no packages; this lets the tests of this one share `serving_house`.
sys.path.insert(0, str(Path(__file__).parent))

from serving_house import NOW, RECORD, ServingHouse

from stream_app.core.joining import Outcome
from stream_app.serving.doors import Scope


@pytest.fixture
def house() -> ServingHouse:
    return ServingHouse()


def post(house: ServingHouse, body: object) -> tuple[int, Any]:
    answer = house.client.post("/feedback", content=orjson.dumps(body))
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("correct", "correct"),
        ("Wrong", "wrong"),
        ("unsure", "unsure"),
        ("don't know", "unsure"),
        ("don\N{RIGHT SINGLE QUOTATION MARK}t know", "unsure"),
        ("unknown", "unsure"),
    ],
)
@pytest.mark.parametrize("name", ["verdict", "feedback"])
def test_a_verdict_in_everybodys_words(house: ServingHouse, name: str, said: str, verdict: str) -> None:
    assert post(house, {"prediction_id": "p", name: said}) == (200, {"prediction_id": "p", "outcome": "learned"})
    assert house.store.opinions[0].verdict == verdict


@pytest.mark.parametrize("name", ["label", "actual_value", "true_label", "up"])
def test_a_label_under_everybodys_names(house: ServingHouse, name: str) -> None:
    assert post(house, {"prediction_id": "p", name: 1})[0] == 200
    (opinion,) = house.store.opinions
    assert (opinion.label, opinion.verdict, opinion.source, opinion.given_at) == (1, None, "feedback", NOW)


def test_the_form_of_the_housing_document(house: ServingHouse) -> None:
    body = {"prediction_id": "p", "actual_value": 1, "features": RECORD, "timestamp": "2023-11-14T22:13:21Z"}
    assert post(house, body)[0] == 200
    assert house.store.opinions[0].given_at == NOW + 1


def test_a_whole_record_brings_its_prediction_along(house: ServingHouse) -> None:
    status, told = post(house, {**RECORD, "prediction": 1, "feedback": "wrong"})
    assert (status, told["outcome"], told["model"]) == (200, "learned", "m")
    (made,) = house.store.stored.values()
    assert made.features == RECORD
    assert (made.served.version, made.served.output, made.label) == ("external", 1.0, 1)
    assert house.store.opinions[0].prediction_id == made.prediction_id == told["prediction_id"]


def test_a_list_tells_of_each_and_refuses_none_for_the_others(house: ServingHouse) -> None:
    house.store.outcome = Outcome.REFUSED
    status, told = post(house, [{"prediction_id": "p", "verdict": "wrong"}, {"prediction_id": "q", "label": 1}])
    assert status == 200
    assert [(one["prediction_id"], one["outcome"]) for one in told["feedback"]] == [("p", "refused"), ("q", "refused")]
    assert all(one["msg"] for one in told["feedback"])


def test_refused_feedback_is_422_with_the_reason(house: ServingHouse) -> None:
    post(house, {**RECORD, "prediction": 1, "feedback": "correct"})
    (prediction_id,) = house.store.stored
    house.store.outcome = Outcome.REFUSED
    status, told = post(house, {"prediction_id": prediction_id, "verdict": "wrong", "label": 1})
    assert status == 422
    assert told["details"][0]["type"] == "value_error.feedback"
    assert "that was the prediction" in told["details"][0]["msg"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["prediction_id"]),
        ({"verdict": "correct"}, ["prediction_id"]),
        ({"prediction_id": "p"}, ["verdict"]),
        ({"prediction_id": 7, "verdict": "correct"}, ["prediction_id"]),
        ({"prediction_id": "p" * 65, "verdict": "correct"}, ["prediction_id"]),
        ({"prediction_id": "p\0", "verdict": "correct"}, ["prediction_id"]),
        ({"prediction_id": "p", "verdict": "maybe"}, ["verdict"]),
        ({"prediction_id": "p", "verdict": 1}, ["verdict"]),
        ({"prediction_id": "p", "label": [1]}, ["label"]),
        ({"prediction_id": "p", "label": 1, "up": 0}, ["label"]),
        ({"prediction_id": "p", "label": 1, "colour": 0}, ["colour"]),
        ({"prediction_id": "p", "label": 1, "timestamp": "soon"}, ["timestamp"]),
        ([{"prediction_id": "p", "label": 1}, {"prediction_id": "q"}], [1, "verdict"]),
        ({"a": 1, "prediction": 1, "feedback": "wrong"}, ["b"]),
        ({**RECORD, "prediction": 5, "feedback": "wrong"}, ["prediction"]),
        ([], []),
        (3, []),
    ],
)
def test_bad_feedback_is_422_with_its_place_and_nothing_is_stored(
    house: ServingHouse, body: object, loc: list[Any]
) -> None:
    status, told = post(house, body)
    assert (status, told["details"][0]["loc"]) == (422, loc)
    assert house.store.opinions == []
    assert house.audit.deeds == []


def test_a_database_that_is_away_is_503_with_the_time_to_come_back(house: ServingHouse) -> None:
    house.store.is_away = True
    answer = house.client.post("/feedback", content=b'{"prediction_id": "p", "label": 1}')
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_who_said_what_is_written_down(house: ServingHouse) -> None:
    header = house.key(Scope.FEEDBACK)
    house.client.post("/feedback", content=b'[{"prediction_id": "p", "label": 1}]', headers=header)
    (deed,) = house.audit.deeds
    assert (deed.actor, deed.action) == ("key-feedback feedback", "feedback")
    assert deed.details == {"outcomes": {"learned": 1}, "first": "p"}
