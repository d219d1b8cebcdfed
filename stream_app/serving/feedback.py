"""What people say about predictions, as it comes over HTTP: read, handed to the store, and answered.

    {"prediction_id": …, "verdict": "correct" | "wrong" | "unsure"}
    {"prediction_id": …, "label": …}        also as `actual_value`, `true_label` or the target's own name
    {…features…, "prediction": …, "feedback": …}   about a prediction that somebody else made and keeps

one or a list of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from stream_app.core.joining import Label, Opinion, Outcome, Rules
from stream_app.core.records import moment_ms
from stream_app.errors import InvalidRecord
from stream_app.messages import PredictionMade, Served
from stream_app.ports import Clock
from stream_app.serving.decoding import Value, decode
from stream_app.serving.errors import Invalid, detail
from stream_app.serving.forms import Reader
from stream_app.serving.predicting import prediction_ids
from stream_app.serving.validation import flaws, label_flaws
from stream_app.serving_ports import PredictionStore
from stream_app.values import Task

#: What people write, and what we call it.
VERDICTS: Final[Mapping[str, str]] = {
    "correct": "correct",
    "wrong": "wrong",
    "unsure": "unsure",
    "don't know": "unsure",
    "dont know": "unsure",
    "don't_know": "unsure",
    "dont_know": "unsure",
    "unknown": "unsure",
}
#: Version of a prediction that none of our models made.
EXTERNAL: Final = "external"
#: Where feedback comes from that does not say.
SOURCE: Final = "feedback"
_VERDICT: Final = ("verdict", "feedback")
_LABEL: Final = ("label", "actual_value", "true_label")
_TIME: Final = ("given_at", "timestamp")
#: Fields of feedback that say nothing about the label; `features` are taken from the prediction.
_BESIDE: Final = ("prediction_id", "feedback_id", "source", "model", "features", "prediction", "probability")
_LONGEST: Final[Mapping[str, int]] = {"prediction_id": 64, "feedback_id": 256, "source": 128}
_Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of one feedback."""

    prediction_id: str
    outcome: Outcome
    #: None while the prediction has not come in, and in answers to lists
    model: str | None
    #: why it was refused
    refusal: str | None = None

    def row(self) -> dict[str, object]:
        """Return it as it is answered, without what is not known."""
        row = {"prediction_id": self.prediction_id, "outcome": self.outcome, "model": self.model, "msg": self.refusal}
        return {name: value for name, value in row.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One feedback that was understood, and the prediction that it brought along, if it did."""

    opinion: Opinion
    made: PredictionMade | None = None


class FeedbackDesk:
    """Takes feedback in; every call blocks on the database."""

    def __init__(
        self, store: PredictionStore, reader: Reader, rules: Mapping[str, Rules], *, most_items: int, clock: Clock
    ) -> None:
        """`rules` are those of each model."""
        self._store = store
        self._reader = reader
        self._rules = rules
        self._labels = frozenset(_LABEL) | {rule.schema.target for rule in rules.values()}
        self._most_items = most_items
        self._clock = clock

    def take(self, body: bytes, named: str | None = None) -> tuple[bool, Sequence[Told]]:
        """Store what a body says; return whether it was one feedback by itself, and what became of each.

        All of them are understood before any is stored. Raises Invalid, NotFound, and Outage.
        """
        value = decode(body)
        items = value if isinstance(value, list) else [value]
        if not 1 <= len(items) <= self._most_items:
            raise Invalid([detail([], f"{len(items)} items, expected 1 to {self._most_items}", "value_error.count")])
        is_single = not isinstance(value, list)
        given = [self._read(item, () if is_single else (i,), named) for i, item in enumerate(items)]
        return is_single, self.store(given, name_models=is_single)

    def store(self, given: Sequence[Given], *, name_models: bool) -> Sequence[Told]:
        """Store feedback that was read; raises Outage."""
        brought = [one.made for one in given if one.made is not None]
        if brought:
            self._store.take_predictions(brought)
        opinions = [one.opinion for one in given]
        outcomes = self._store.take_feedback(opinions)
        return [
            self._told(opinion, outcome, name_model=name_models)
            for opinion, outcome in zip(opinions, outcomes, strict=True)
        ]

    def _told(self, opinion: Opinion, outcome: Outcome, *, name_model: bool) -> Told:
        is_refused = outcome is Outcome.REFUSED
        # asked one by one: a list of thousands would take as many questions to learn what its sender knows
        made = self._store.prediction(opinion.prediction_id) if name_model or is_refused else None
        return Told(
            prediction_id=opinion.prediction_id,
            outcome=outcome,
            model=made.model if made else None,
            refusal=self._why(opinion, made) if is_refused else None,
        )

    def _why(self, opinion: Opinion, made: PredictionMade | None) -> str:
        """Return why the store refused, by its own rules."""
        rules = None if made is None else self._rules.get(made.model)
        if made is None or rules is None:
            return "its prediction is of no model that is known here"
        try:
            rules.understand(made.label, opinion)
        except InvalidRecord as error:
            return str(error)
        return "feedback of this feedback_id is about another prediction"

    def _read(self, item: Value, place: _Place, named: str | None) -> Given:
        if not isinstance(item, dict):
            raise Invalid([detail(place, "expected an object", "type_error.object")])
        if "prediction_id" not in item and "prediction" in item:
            return self._whole(item, place, named)
        unknown = sorted(item.keys() - self._labels - {*_VERDICT, *_TIME, *_BESIDE})
        if unknown:
            raise Invalid(
                [detail([*place, name], "extra fields not permitted", "value_error.extra") for name in unknown]
            )
        return Given(opinion=self._opinion(item, place, _text(item, "prediction_id", place, needed=True)))

    def _opinion(self, item: Mapping[str, Any], place: _Place, prediction_id: str) -> Opinion:
        verdict, label = _verdict(item, place), self._label(item, place)
        if verdict is None and label is None:
            expected = "field required: a verdict (correct, wrong or unsure) or a label"
            raise Invalid([detail([*place, "verdict"], expected, "value_error.missing")])
        return Opinion(
            feedback_id=_text(item, "feedback_id", place) or f"http:{uuid4().hex}",
            prediction_id=prediction_id,
            verdict=verdict,
            label=label,
            source=_text(item, "source", place) or SOURCE,
            given_at=self._given_at(item, place),
        )

    def _label(self, item: Mapping[str, Any], place: _Place) -> Label | None:
        found = {name: item[name] for name in self._labels if item.get(name) is not None}
        if len({(type(value), value) for value in found.values() if not isinstance(value, dict | list)}) > 1:
            names = ", ".join(sorted(found))
            raise Invalid([detail([*place, min(found)], f"{names} say different things", "value_error.label")])
        name, label = next(iter(found.items()), ("", None))
        if not isinstance(label, float | str | int | bool | None):
            raise Invalid([detail([*place, name], "expected a class or a number", "type_error.label")])
        return label

    def _given_at(self, item: Mapping[str, Any], place: _Place) -> float:
        for name in _TIME:
            if item.get(name) is not None:
                try:
                    return moment_ms(name, item[name]) / 1000
                except InvalidRecord as error:
                    raise Invalid([detail([*place, name], str(error), "value_error.time")]) from error
        return self._clock()

    def _whole(self, item: Mapping[str, Any], place: _Place, named: str | None) -> Given:
        """Read a record with a prediction that is not ours, and what is said of it."""
        model = self._reader.model(item, named)
        rules, now = self._rules[model], self._clock()
        features = item["features"] if isinstance(item.get("features"), dict) else self._flat(item, rules)
        try:
            rules.schema.features([features])
        except InvalidRecord as error:
            raise flaws(rules.schema, [features], places=[place]) from error
        wrong = label_flaws(rules.schema, [item["prediction"]], places=[(*place, "prediction")])
        if wrong:
            raise Invalid(wrong)
        (prediction_id,) = prediction_ids(now, 1)
        made = _external(model, rules, features, item["prediction"], prediction_id=prediction_id, now=now)
        return Given(opinion=self._opinion(item, place, prediction_id), made=made)

    def _flat(self, item: Mapping[str, Any], rules: Rules) -> Mapping[str, Any]:
        """Return a flat record's features: a name of ours is one where the model declares it."""
        ours = {*self._labels, *_VERDICT, *_TIME, *_BESIDE}
        return {name: value for name, value in item.items() if name not in ours or rules.schema.declares(name)}


def _external(
    model: str, rules: Rules, features: Mapping[str, Any], said: Label, *, prediction_id: str, now: float
) -> PredictionMade:
    schema = rules.schema
    code = float(schema.encode_labels([said])[0])
    label = code if schema.task is Task.REGRESSION else schema.classes[int(code)]
    return PredictionMade(
        prediction_id=prediction_id,
        model=model,
        features={field.name: features.get(field.name) for field in schema.fields},
        served=Served(version=EXTERNAL, output=code if schema.task is Task.BINARY else label),
        label=label,
        served_at=now,
    )


def _verdict(item: Mapping[str, Any], place: _Place) -> str | None:
    for name in _VERDICT:
        said = item.get(name)
        if said is None:
            continue
        verdict = VERDICTS.get(_plain(said)) if isinstance(said, str) else None
        if verdict is None:
            raise Invalid([detail([*place, name], "expected correct, wrong or unsure", "value_error.verdict")])
        return verdict
    return None


def _plain(said: str) -> str:
    return said.strip().lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def _text(item: Mapping[str, Any], name: str, place: _Place, *, needed: bool = False) -> str:
    """Return a text of the item, "" if it is not there; raises Invalid for what cannot be one."""
    value = item.get(name)
    if value is None:
        if needed:
            raise Invalid([detail([*place, name], "field required", "value_error.missing")])
        return ""
    longest = _LONGEST[name]
    if not isinstance(value, str) or not value or len(value) > longest or "\0" in value:
        expected = f"expected text of 1 to {longest} characters"
        raise Invalid([detail([*place, name], expected, "value_error.text")])
    return value
