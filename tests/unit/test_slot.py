"""The slot: newer publications only, whatever their version, and nothing half swapped."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import linear_model
from sklearn.linear_model import LinearRegression, LogisticRegression

from stream_app.core.schema import Field, Schema
from stream_app.errors import InvalidRecord
from stream_app.storage.packing import Description, pack_batch, pack_online, unpack
from stream_app.subscriber.slot import LoadedModel, Prediction, Slot
from stream_app.values import Features, Task

FIELDS = (Field(name="a", type="number"), Field(name="b", type="number"))
PROBE = Features(numeric=np.array([[0.0, 1.0], [2.0, -1.0]]), categorical=np.empty((2, 0), dtype=object))


def loaded(estimator: object, schema: Schema, *, version: str = "3", promotion_seq: int = 1) -> LoadedModel:
    about = Description(
        model="m",
        version=version,
        algorithm="test",
        schema_json=schema.to_json(),
        shape=schema.shape,
        trained_through_seq=1,
    )
    pack = pack_online if isinstance(estimator, linear_model.LogisticRegression) else pack_batch
    return LoadedModel(
        model="m",
        version=version,
        digest="d" * 64,
        promotion_seq=promotion_seq,
        algorithm="test",
        trained_through_seq=1,
        trained_through_at=0.0,
        loaded_at=0.0,
        schema=schema,
        unpacked=unpack(pack(about, estimator, PROBE)),
    )


OPTIONAL = Schema(
    task=Task.BINARY, target="y", fields=(replace(FIELDS[0], required=False), FIELDS[1]), classes=("no", "yes")
)
CATEGORIES = Schema(
    task=Task.BINARY, target="y", fields=tuple(replace(f, type="category") for f in FIELDS), classes=("no", "yes")
)
BINARY = Schema(task=Task.BINARY, target="y", fields=FIELDS, classes=("no", "yes"))
UNTRAINED = loaded(linear_model.LogisticRegression(), BINARY)


@given(st.lists(st.integers(1, 20)))
def test_only_a_greater_publication_swaps(publications: list[int]) -> None:
    """In whatever order and however often events come, the greatest one serves in the end."""
    slot = Slot()
    for promotion_seq in publications:
        before = slot.current
        newer = before is None or promotion_seq > before.promotion_seq
        assert slot.swap(replace(UNTRAINED, promotion_seq=promotion_seq)) is newer
    assert (slot.current and slot.current.promotion_seq) == max(publications, default=None)


def test_an_older_version_comes_back_by_a_newer_publication() -> None:
    slot = Slot()
    slot.swap(replace(UNTRAINED, version="3", promotion_seq=7))
    assert slot.swap(replace(UNTRAINED, version="2", promotion_seq=8))
    assert slot.current is not None
    assert slot.current.version == "2"


def test_readers_see_the_old_or_the_new_and_never_a_mixture() -> None:
    slot = Slot()
    slot.swap(replace(UNTRAINED, version="1", promotion_seq=1))
    mixed: list[LoadedModel] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen = slot.current
            if seen is None or seen.version != str(seen.promotion_seq):
                mixed.append(UNTRAINED)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(2, 2000):
        slot.swap(replace(UNTRAINED, version=str(number), promotion_seq=number))
    stop.set()
    reader.join()
    assert not mixed


def test_no_request_fails_or_mixes_versions_while_models_are_swapped() -> None:
    slot, stop = Slot(), threading.Event()
    slot.swap(UNTRAINED)

    def ask() -> set[frozenset[str]]:
        answered = set()
        while not stop.is_set():
            assert slot.current is not None
            answered.add(frozenset(answer.version for answer in slot.current.predict([{"a": 1.0, "b": 2.0}] * 5)))
        return answered

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask) for _ in range(4)]
        try:
            for number in range(2, 22):
                slot.swap(loaded(linear_model.LogisticRegression(), BINARY, version=str(number), promotion_seq=number))
        finally:
            stop.set()
        answers = set().union(*(each.result() for each in asked))
    assert all(len(versions) == 1 for versions in answers)
    assert len(answers) > 1


def test_a_binary_prediction_names_the_class_and_both_probabilities() -> None:
    assert UNTRAINED.predict([{"a": 1.0, "b": 2}]) == [
        Prediction(
            model="m", version="3", digest="d" * 64, output=0.5, label="no", probabilities={"no": 0.5, "yes": 0.5}
        )
    ]


def test_a_multiclass_prediction_names_the_likeliest_class() -> None:
    schema = Schema(task=Task.MULTICLASS, target="y", fields=FIELDS, classes=(10, 20, 30))
    fitted = LogisticRegression(C=100).fit([[0, 0], [5, 0], [0, 5]] * 5, [0, 1, 2] * 5)
    (prediction,) = loaded(fitted, schema).predict([{"a": 0, "b": 5}])
    assert (prediction.output, prediction.label) == (30, 30)
    assert list(prediction.probabilities) == [10, 20, 30]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.probabilities[30] > 0.5


def test_a_regression_predicts_the_value() -> None:
    schema = Schema(task=Task.REGRESSION, target="y", fields=FIELDS, classes=())
    fitted = LinearRegression().fit([[0, 0], [1, 0], [0, 1]], [0, 2, 3])
    (prediction,) = loaded(fitted, schema).predict([{"a": 1, "b": 1}])
    assert prediction.output == prediction.label == pytest.approx(5)
    assert prediction.probabilities == {}


GOOD = {"a": 1, "b": 2}
NO_NUMBERS: list[tuple[object, str]] = [
    (None, "field 'b' is missing, expected a number"),
    ("x", "field 'b' is str 'x', expected a number"),
    (True, "field 'b' is bool 'True', expected a number"),
    (float("nan"), r"field 'b' is nan, expected -1e\+15 to 1e\+15"),
    (float("inf"), "field 'b' is inf, expected"),
    (1e300, r"field 'b' is 1e\+300, expected"),
    (10**400, r"field 'b' is 10{59}, expected"),
    (10**5000, "field 'b' is of too many digits, expected"),
]


@pytest.mark.parametrize(("value", "said"), NO_NUMBERS, ids=[said for _, said in NO_NUMBERS])
def test_a_bad_value_is_named_with_its_field_and_the_place_of_its_record(value: object, said: str) -> None:
    with pytest.raises(InvalidRecord, match=rf"^records\[1\]: {said}"):
        UNTRAINED.predict([GOOD, {"a": 1.0, "b": value}, {"a": 1.0, "b": "y"}])


NO_RECORDS: list[tuple[Any, str]] = [
    ({"a": 1.0, "b": 2.0}, "^records is of type dict, expected a list of objects"),
    ("abc", "^records is of type str, expected a list of objects"),
    (None, "^records is of type NoneType, expected a list of objects"),
    ([GOOD, None], r"^records\[1\]: NoneType 'None', expected an object of feature values"),
    (["abc"], r"^records\[0\]: str 'abc', expected an object of feature values"),
    ([[1.0, 2.0]], r"^records\[0\]: list '\[1.0, 2.0\]', expected an object of feature values"),
]


@pytest.mark.parametrize("schema", [BINARY, OPTIONAL, CATEGORIES], ids=["numbers", "optional", "categories"])
@pytest.mark.parametrize(("records", "said"), NO_RECORDS)
def test_what_is_no_list_of_records_is_refused_in_words(records: list[Any], said: str, schema: Schema) -> None:
    """Whatever way a schema takes a record apart, what is none does not end in an error of that way."""
    with pytest.raises(InvalidRecord, match=said):
        replace(UNTRAINED, schema=schema).predict(records)


def test_no_records_are_no_predictions() -> None:
    assert UNTRAINED.predict([]) == []


def test_nan_is_a_missing_value_where_one_may_be_missing() -> None:
    optional = replace(UNTRAINED, schema=OPTIONAL)
    nan, none = optional.predict([{"a": float("nan"), "b": 2.0}, {"a": None, "b": 2.0}])
    assert nan == none
    with pytest.raises(InvalidRecord, match="'b'"):
        optional.predict([{"a": float("nan"), "b": "x"}])
