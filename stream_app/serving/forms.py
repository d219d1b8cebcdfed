"""The forms in which a prediction may be asked for, all read into one.

    {"a": 1, "b": 2}                       one record          [{…}, {…}]              several
    {"features": {…}}                      one record          {"records": [{…}, {…}]} several
    {"inputs": …, "raw_features": [{…}], "true_labels": […]}   several, with what is known of them

Each may name its `model`. A name that is a feature of the model is always the feature.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from stream_app.core.schema import Schema
from stream_app.errors import NotFound
from stream_app.serving.decoding import Value
from stream_app.serving.errors import Invalid, detail
from stream_app.serving.validation import label_flaws

Record = Mapping[str, Any]
_Place = tuple[str | int, ...]

_UNSCALED: Final = (
    "inputs alone are rows after a scaling that only their sender knows; this model takes plain features: "
    "send them as raw_features"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody wants to know."""

    model: str
    records: Sequence[Record]
    #: where in the body each record is
    places: Sequence[_Place]
    #: whether one record was sent by itself, and one answer is expected
    is_single: bool
    #: what is known of each record, None where nothing is; () when nothing is known at all
    labels: Sequence[Any] = ()


class Reader:
    """Reads bodies for these models."""

    def __init__(self, schemas: Mapping[str, Schema], *, default: str | None, most_records: int) -> None:
        """`default` is asked when a request names none."""
        self._schemas = schemas
        self._default = default or (next(iter(schemas)) if len(schemas) == 1 else None)
        self._most_records = most_records

    @property
    def models(self) -> Collection[str]:
        """Return the names of the models that can be asked."""
        return self._schemas.keys()

    def schema(self, model: str) -> Schema:
        """Return the schema of a model that can be asked."""
        return self._schemas[model]

    def read(self, body: Value, named: str | None = None) -> Asked:
        """Return what a body asks for; `named` is the model of path or query. Raises Invalid or NotFound."""
        if not isinstance(body, dict | list):
            raise Invalid([detail([], "expected an object or an array of objects", "type_error.object")])
        model = self.model(body, named)
        schema = self._schemas[model]
        asked = _of_list(model, body, ()) if isinstance(body, list) else _of_object(model, schema, body)
        self._check_count(asked)
        _check_labels(schema, asked)
        return _unwrapped(schema, asked)

    def model(self, body: Value, named: str | None) -> str:
        """Return the model that a request means; raises Invalid or NotFound."""
        said = self._said(body, named)
        chosen = named or said or self._default
        if chosen is None:
            expected = f"field required: one of {', '.join(self._schemas)}"
            raise Invalid([detail(["model"], expected, "value_error.missing")])
        if chosen not in self._schemas:
            raise NotFound(f"no model {chosen[:64]!r}; expected one of: {', '.join(self._schemas)}")
        if said is not None and said != chosen:
            raise Invalid([detail(["model"], f"{said[:64]!r}, but the request is for {chosen!r}", "value_error.model")])
        return chosen

    def _said(self, body: Value, named: str | None) -> str | None:
        """Return the model that the body names; where the model has a feature of that name it is no name."""
        likely = self._schemas.get(named or self._default or "")
        if likely is not None and likely.declares("model"):
            return None
        said = {one["model"] for one in _tops(body) if isinstance(one.get("model"), str)}
        if len(said) > 1:
            raise Invalid([detail(["model"], "several models in one request", "value_error.model")])
        return next(iter(said), None)

    def _check_count(self, asked: Asked) -> None:
        count = len(asked.records)
        if not 1 <= count <= self._most_records:
            expected = f"{count} records, expected 1 to {self._most_records}"
            raise Invalid([detail(asked.places[0][:-1] if asked.places else [], expected, "value_error.count")])


def _tops(body: Value) -> Sequence[Record]:
    return [one for one in (body if isinstance(body, list) else [body]) if isinstance(one, dict)]


def _of_object(model: str, schema: Schema, body: Record) -> Asked:
    def has(name: str) -> bool:
        return name in body and not schema.declares(name)

    for name in ("raw_features", "records"):
        if has(name):
            return _of_list(model, body[name], (name,), body.get("true_labels") if has("true_labels") else None)
    if has("inputs"):
        raise Invalid([detail(["inputs"], _UNSCALED, "value_error.inputs")])
    return Asked(model=model, records=[body], places=[()], is_single=True)


def _of_list(model: str, records: Value, place: _Place, labels: Value = None) -> Asked:
    if not isinstance(records, list):
        raise Invalid([detail(place, "expected an array of objects", "type_error.array")])
    if labels is not None and (not isinstance(labels, list) or len(labels) != len(records)):
        expected = f"expected an array of {len(records)}, one for each record"
        raise Invalid([detail(["true_labels"], expected, "value_error.count")])
    places = [(*place, i) for i in range(len(records))]
    return Asked(model=model, records=records, places=places, is_single=False, labels=labels or ())


def _unwrapped(schema: Schema, asked: Asked) -> Asked:
    """Return the same with each record's features taken out of the envelope that it may be in."""
    is_name = schema.declares("features")
    records, places = [], []
    for given, place in zip(asked.records, asked.places, strict=True):
        is_envelope = not is_name and isinstance(given, dict) and "features" in given
        record, where = (given["features"], (*place, "features")) if is_envelope else (given, place)
        if not isinstance(record, dict):
            raise Invalid([detail(where, "expected an object of features", "type_error.object")])
        records.append(record)
        places.append(where)
    return replace(asked, records=records, places=places)


def _check_labels(schema: Schema, asked: Asked) -> None:
    known = [(i, label) for i, label in enumerate(asked.labels) if label is not None]
    flaws = label_flaws(schema, [label for _, label in known], places=[("true_labels", i) for i, _ in known])
    if flaws:
        raise Invalid(flaws)
