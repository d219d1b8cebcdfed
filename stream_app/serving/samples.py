"""Labelled samples that come with a request to retrain: read, checked all or nothing, and kept as they came.

{"MedInc": 8.3, …, "MedHouseValue": 4.5}                        flat
{"features": {…}, "label": 4.5}                                 features and label apart
{"prediction_id": "…", "actual_value": 4.5, "features"?: {…}}   about a prediction that was served here
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from stream_app.core.schema import META, Schema
from stream_app.errors import InvalidRecord
from stream_app.messages import GroundTruth, PredictionMade
from stream_app.serving.decoding import Value
from stream_app.serving.errors import MOST_DETAILS, Detail, Problem, detail
from stream_app.serving.validation import flaws, label_flaws

Record = Mapping[str, Any]
#: Returns a stored prediction, None if there is none.
FindPrediction = Callable[[str], PredictionMade | None]
#: Names under which the documents send the right answer, beside the target's own.
LABELS: Final = ("label", "actual_value", "true_label")
#: What a sample may have beside its features.
_BESIDE: Final = frozenset({*META, "features", "timestamp", *LABELS})


def invalid(details: Sequence[Detail]) -> Problem:
    """Return the answer to samples that cannot be taken, in the words of the document."""
    return Problem(422, "Invalid training data format", details)


def read(schema: Schema, body: Value, *, find: FindPrediction, most: int) -> list[GroundTruth]:
    """Return the samples of a body, every one of them good; raises Problem 422 that says what is wrong where."""
    given: Sequence[Any] = body if isinstance(body, list) else [body]
    if not 1 <= len(given) <= most:
        raise invalid([detail([], f"{len(given)} samples, expected 1 to {most}", "value_error.count")])
    places: list[tuple[str | int, ...]] = [(i,) for i in range(len(given))] if isinstance(body, list) else [()]
    strange = [i for i, one in enumerate(given) if not isinstance(one, dict)]
    if strange:
        raise invalid([detail(places[i], "expected an object", "type_error.object") for i in strange])
    samples = [_apart(schema, one, place, find) for one, place in zip(given, places, strict=True)]
    _check(schema, samples, places)
    return samples


def _apart(schema: Schema, given: Record, place: tuple[str | int, ...], find: FindPrediction) -> GroundTruth:
    """Take a sample's features, label and id apart."""
    label_name = next((name for name in (schema.target, *LABELS) if given.get(name) is not None), schema.target)
    prediction_id = None if schema.declares("prediction_id") else given.get("prediction_id")
    if prediction_id is not None and not isinstance(prediction_id, str):
        raise invalid([detail([*place, "prediction_id"], "expected a string", "type_error.str")])
    made = find(prediction_id) if prediction_id is not None else None
    features = given["features"] if _is_envelope(schema, given) else _flat_features(schema, given)
    if prediction_id is not None and not features:
        if made is None:
            missing = "no prediction of that id is known here (yet): expected its features as well"
            raise invalid([detail([*place, "prediction_id"], missing, "value_error.unknown")])
        features = made.features
    return GroundTruth.model_construct(
        features=dict(features),
        label=given.get(label_name),
        prediction_id=prediction_id,
        event_id=prediction_id,
        served=None if made is None else made.served,
        source="retrain",
    )


def _is_envelope(schema: Schema, given: Record) -> bool:
    return isinstance(given.get("features"), dict) and not schema.declares("features")


def _flat_features(schema: Schema, given: Record) -> Record:
    aside = {name for name in _BESIDE if not schema.declares(name)} | {schema.target}
    return {name: value for name, value in given.items() if name not in aside}


def _check(schema: Schema, samples: Sequence[GroundTruth], places: Sequence[tuple[str | int, ...]]) -> None:
    """Raise Problem 422 unless all samples fit the schema, and name nothing that it does not know."""
    strict = replace(schema, extra_features="reject")
    records, labels = [sample.features for sample in samples], [sample.label for sample in samples]
    details: list[Detail] = []
    try:
        strict.features(records)
    except InvalidRecord:
        details += flaws(strict, records, places=places).details
    wrong = label_flaws(schema, labels, places=[(*place, schema.target) for place in places])
    details += list(islice(wrong, MOST_DETAILS))
    if details:
        raise invalid(details)


def keep(folder: Path, samples: Sequence[Record], now: float) -> Path:
    """Write the samples as they came to a new file of the folder and return where; raises OSError.

    The name says when: `new_training_data_<ISO time, UTC>.json`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = orjson.dumps(samples, option=orjson.OPT_INDENT_2)
    while True:
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
        path = folder / f"new_training_data_{at}.json"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            now += 1e-6  # another request of the same moment
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return path
