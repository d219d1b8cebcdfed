"""What predictions and feedback say: records of a run become checked values, or reasons why not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import numpy as np
from pydantic import ValidationError

from stream_app.core.joining import Opinion
from stream_app.core.records import Batch, TimePolicy, canonicalise, moment_ms
from stream_app.core.schema import Schema
from stream_app.errors import InvalidRecord
from stream_app.kafka.codec import Decoded
from stream_app.messages import Feedback, PredictionMade
from stream_app.values import Run

Value = TypeVar("Value")
Message = TypeVar("Message", PredictionMade, Feedback)

#: Our word for what pydantic finds; anything else is a wrong type.
_REASONS: Final = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "literal_error": "bad_verdict",
    "string_too_long": "bad_id",
    "string_too_short": "bad_id",
}
#: Fields whose parts are worth naming.
_NESTED: Final = ("served", "features")
_LONGEST_DIGEST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements(Generic[Value]):
    """The records of a run, checked."""

    #: in order
    good: Sequence[Value]
    #: (place among the decoded records, what is wrong with it)
    bad: Sequence[tuple[int, InvalidRecord]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the records of one model must look like."""

    schema: Schema
    max_skew_s: float


class Predictions:
    """Reads predictions; one that passes can be learned from, whatever its label turns out to be."""

    def __init__(self, forms: Mapping[str, Form]) -> None:
        """`forms` by model."""
        self._forms = forms

    def __call__(self, run: Run, decoded: Decoded) -> Statements[PredictionMade]:
        """Check the records of a run."""
        made: dict[int, PredictionMade] = {}
        bad: dict[int, InvalidRecord] = {}
        for at, record in enumerate(decoded.records):
            try:
                made[at] = self._read(record, run.timestamps_ms[decoded.positions[at]])
            except InvalidRecord as error:
                bad[at] = error
        bad |= dict(self._misfits(run, made))
        return Statements(good=[made[at] for at in made if at not in bad], bad=sorted(bad.items(), key=_place))

    def _read(self, record: Mapping[str, Any], timestamp_ms: int) -> PredictionMade:
        prediction = _parsed(PredictionMade, record)
        form = self._forms.get(prediction.model)
        if form is None:
            raise InvalidRecord("unknown_model", f"model {prediction.model!r} is not in the settings")
        ahead_ms = moment_ms("served_at", prediction.served_at) - timestamp_ms
        if ahead_ms > form.max_skew_s * 1000:
            raise InvalidRecord("bad_time", f"field 'served_at' lies more than {form.max_skew_s:g} s after the message")
        _check_texts(
            {"served.version": prediction.served.version, "served.digest": prediction.served.digest}, _LONGEST_DIGEST
        )
        return prediction

    def _misfits(self, run: Run, made: Mapping[int, PredictionMade]) -> Iterator[tuple[int, InvalidRecord]]:
        """Yield those that would make no row: each is looked at as the record that its own answer makes."""
        by_model: dict[str, list[int]] = {}
        for at, prediction in made.items():
            by_model.setdefault(prediction.model, []).append(at)
        for model, places in by_model.items():
            batch = _batch(run, [made[at] for at in places])
            for rejected in canonicalise(self._forms[model].schema, _ANY_TIME, batch)[1]:
                yield places[rejected.position], rejected.error


#: Times are checked by themselves.
_ANY_TIME: Final = TimePolicy(max_skew_s=0, lateness_s=None)


def _batch(run: Run, predictions: Sequence[PredictionMade]) -> Batch:
    n = len(predictions)
    return Batch(
        partition=run.partition,
        records=[_record(prediction) for prediction in predictions],
        offsets=np.arange(n, dtype=np.int64),
        indexes=np.zeros(n, dtype=np.int64),
        timestamps_ms=np.zeros(n, dtype=np.int64),
    )


def _record(prediction: PredictionMade) -> dict[str, Any]:
    served = prediction.served
    return {
        "features": prediction.features,
        "label": prediction.label,
        "prediction_id": prediction.prediction_id,
        "served": {"version": served.version, "output": served.output, "known_label": served.known_label},
    }


def read_feedback(run: Run, decoded: Decoded) -> Statements[Opinion]:
    """Check the records of a run; whether they make sense is only known beside their predictions."""
    good: list[Opinion] = []
    bad: list[tuple[int, InvalidRecord]] = []
    place = f"{run.partition.incarnation}/{run.partition.topic}/{run.partition.number}"
    for at, (record, position, index) in enumerate(
        zip(decoded.records, decoded.positions, decoded.indexes, strict=True)
    ):
        try:
            coordinates = f"{place}/{run.offsets[position]}/{index}"
            good.append(_opinion(record, coordinates, run.timestamps_ms[position]))
        except InvalidRecord as error:
            bad.append((at, error))
    return Statements(good=good, bad=bad)


def _opinion(record: Mapping[str, Any], coordinates: str, timestamp_ms: int) -> Opinion:
    feedback = _parsed(Feedback, record)
    # `dlq replay` and CloudEvents name a record by its event id
    feedback_id = feedback.feedback_id or record.get("event_id") or coordinates
    ids = {"feedback_id": feedback_id, "prediction_id": feedback.prediction_id, "source": feedback.source}
    _check_texts(ids, _LONGEST_COORDINATES)
    given_at = feedback.given_at
    return Opinion(
        feedback_id=feedback_id,
        prediction_id=feedback.prediction_id,
        verdict=feedback.verdict,
        label=feedback.label,
        source=feedback.source,
        given_at=(timestamp_ms if given_at is None else moment_ms("given_at", given_at)) / 1000,
    )


#: As the table of feedback takes them.
_LONGEST_COORDINATES: Final = 400


def _check_texts(texts: Mapping[str, object], longest: int) -> None:
    """Refuse what PostgreSQL does not take in a text: every worker that reads it would stop, for ever."""
    for name, text in texts.items():
        if text is None:
            continue
        if not isinstance(text, str) or len(text) > longest or "\0" in text:
            expected = f"expected text of at most {longest} characters, none of them NUL"
            raise InvalidRecord("bad_id", f"field {name!r} is {str(text)[:60]!r}, {expected}")


def _parsed(kind: type[Message], record: Mapping[str, Any]) -> Message:
    """Return the record as a message; raises InvalidRecord that names the first bad field."""
    if "event_id" in record:
        record = {name: value for name, value in record.items() if name != "event_id"}
    try:
        return kind.model_validate(record, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        depth = 2 if first["loc"][0] in _NESTED else 1
        field = ".".join(str(part) for part in first["loc"][:depth])
        reason = _REASONS.get(first["type"], "wrong_type")
        shown = "" if reason == "missing_field" else f" is {str(first['input'])[:60]!r}"
        raise InvalidRecord(reason, f"field {field!r}{shown}: {first['msg']}") from error


def _place(found: tuple[int, InvalidRecord]) -> int:
    return found[0]
