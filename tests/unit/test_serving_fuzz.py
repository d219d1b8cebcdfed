"""Whatever is sent: a documented status, never a 5xx of our own making, and every error in the one shape."""

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# Test folders are no packages; this lets the tests of this one share `serving_house`.
sys.path.insert(0, str(Path(__file__).parent))

from serving_house import RECORD, ServingHouse, loaded

HOUSE = ServingHouse(models={"m": loaded("m"), "n": loaded("n")})
DOCUMENT: dict[str, Any] = HOUSE.client.get("/openapi.json").json()

PREDICT_NAMES = ["a", "b", "up", "model", "features", "records", "inputs", "raw_features", "true_labels", "x"]
FEEDBACK_NAMES = ["prediction_id", "verdict", "feedback", "label", "prediction", "source", "timestamp", "feedback_id"]
NAMES = st.sampled_from([*PREDICT_NAMES, *FEEDBACK_NAMES])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from(["m", "n", "correct", "wrong", "p"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=12
)
RECORDS = st.fixed_dictionaries(RECORD | {"a": SCALARS, "b": SCALARS}) | st.just(RECORD)
BODIES = (
    st.binary(max_size=60)
    | VALUES.map(orjson.dumps)
    | st.lists(RECORDS, max_size=3).map(orjson.dumps)
    | st.fixed_dictionaries({"raw_features": st.lists(RECORDS, max_size=2), "true_labels": VALUES}).map(orjson.dumps)
    | st.fixed_dictionaries({"prediction_id": SCALARS, "verdict": SCALARS, "label": VALUES}).map(orjson.dumps)
)


@pytest.mark.parametrize("path", ["/predict", "/feedback", "/models/{name}/predict"])
@given(body=BODIES, model=st.none() | st.text(max_size=5) | st.just("m"))
@settings(max_examples=100)
def test_any_body_gets_a_documented_answer(path: str, body: bytes, model: str | None) -> None:
    documented = {int(status) for status in DOCUMENT["paths"][path]["post"]["responses"]}
    parameters = {} if model is None else {"model": model}
    answer = HOUSE.client.post(path.replace("{name}", "m"), content=body, params=parameters)
    assert answer.status_code in documented - {500, 503}, (body, answer.text)
    if answer.status_code != 200:
        assert answer.json().keys() == {"error", "details"}


@pytest.mark.parametrize("operation", [(path, method) for path, one in DOCUMENT["paths"].items() for method in one])
def test_methods_that_a_path_does_not_have_are_405(operation: tuple[str, str]) -> None:
    path, _ = operation
    others = {"get", "post", "put", "delete", "patch"} - DOCUMENT["paths"][path].keys()
    for method in others:
        answer = HOUSE.client.request(method.upper(), path.replace("{name}", "m"))
        assert (answer.status_code, answer.json().keys()) == (405, {"error", "details"})
        assert answer.headers["allow"]
