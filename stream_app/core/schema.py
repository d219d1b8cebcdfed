"""What a model accepts: which fields, of which types, within which bounds, and how they become arrays.

Checking goes over whole columns in C (one `set(map(type, …))`, one numpy comparison a run); only a run that
fails is looked at record by record, to name what is wrong with which record.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any, Final, Literal

import numpy as np

from stream_app.core.shape import Shape
from stream_app.errors import InvalidRecord
from stream_app.values import Features, Floats, Objects, Task

#: Numbers beyond it are refused even without bounds: their squares leave the range in which sums are exact
#: enough for any learner, long before they overflow.
LARGEST: Final = 1e15
#: Longer category values are refused: they are payloads, not categories.
LONGEST_CATEGORY: Final = 256
#: Fields of a record that are not features; a schema may still use one of these names for a feature.
META: Final = ("event_id", "prediction_id", "occurred_at", "source", "served", "model", "corrects")

Class = bool | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One declared feature."""

    name: str
    type: Literal["number", "category"]
    low: float | None = None
    high: float | None = None
    required: bool = True
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The frozen description of a model's records."""

    task: Task
    target: str
    fields: tuple[Field, ...]
    #: labels in the order of their codes 0, 1, …; () for regression
    classes: tuple[Class, ...]
    extra_features: Literal["ignore", "reject"] = "ignore"

    @cached_property
    def numeric(self) -> tuple[str, ...]:
        """Names of the numeric features, in order."""
        return tuple(f.name for f in self.fields if f.type == "number")

    @cached_property
    def categorical(self) -> tuple[str, ...]:
        """Names of the categorical features, in order."""
        return tuple(f.name for f in self.fields if f.type == "category")

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(f.name for f in self.fields)

    def declares(self, name: str) -> bool:
        """Return whether the name is a feature."""
        return name in self._names

    def named(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the features that the schema names."""
        return {name: value for name, value in features.items() if name in self._names}

    @cached_property
    def shape(self) -> Shape:
        """What learners must know of the schema."""
        return Shape(task=self.task, numeric=self.numeric, categorical=self.categorical, classes=self.classes)

    @cached_property
    def id(self) -> str:
        """sha256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the canonical JSON, equal for equal schemas."""
        described = {
            "task": self.task.value,
            "target": self.target,
            "numeric": self.numeric,
            "categorical": self.categorical,
            "classes": self.classes,
            "extra_features": self.extra_features,
            "fields": [
                {name: getattr(f, name) for name in ("name", "type", "low", "high", "required", "values")}
                for f in self.fields
            ],
        }
        return json.dumps(described, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Schema":
        """Read what `to_json` wrote."""
        read = json.loads(text)
        fields = (Field(**{**f, "values": None if f["values"] is None else tuple(f["values"])}) for f in read["fields"])
        return cls(
            task=Task(read["task"]),
            target=read["target"],
            fields=tuple(fields),
            classes=tuple(read["classes"]),
            extra_features=read["extra_features"],
        )

    def features(self, records: Sequence[Mapping[str, Any]]) -> Features:
        """Turn n records' features into arrays; raises InvalidRecord that names the first bad field."""
        numbers, categories = self._encoders
        try:
            numeric = (
                self._matrix(records) if self._is_plain else _stacked([encode(records) for encode in numbers], records)
            )
            texts = [encode(records) for encode in categories]
            self._refuse_extra(records)
        except (InvalidRecord, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self.culprit(records)[1] from error
        return Features(
            numeric=numeric,
            categorical=np.column_stack(texts) if texts else np.empty((len(records), 0), dtype=object),
        )

    @cached_property
    def _encoders(self) -> tuple[list["_Numbers"], list["_Categories"]]:
        return (
            [_Numbers(f) for f in self.fields if f.type == "number"],
            [_Categories(f) for f in self.fields if f.type == "category"],
        )

    @cached_property
    def _is_plain(self) -> bool:
        """Whether numbers can be taken out of a record by one call: several, and none of them optional."""
        numbers = self._encoders[0]
        return len(numbers) > 1 and all(encode.field.required for encode in numbers)

    def _matrix(self, records: Sequence[Mapping[str, Any]]) -> Floats:
        """Take all numbers in one pass, float64[n, k]; what is wrong with them is found out elsewhere."""
        values = list(chain.from_iterable(map(itemgetter(*self.numeric), records)))
        if not set(map(type, values)) <= {int, float}:
            raise InvalidRecord("wrong_type", "a number")
        matrix = np.array(values, dtype=np.float64).reshape(-1, len(self.numeric))
        lows, highs = self._bounds
        if not np.all((matrix >= lows) & (matrix <= highs)):  # NaN, which is no value, is not within them
            raise InvalidRecord("out_of_bounds", "a number")
        return matrix

    @cached_property
    def _bounds(self) -> tuple[Floats, Floats]:
        numbers = self._encoders[0]
        return np.array([n.low for n in numbers]), np.array([n.high for n in numbers])

    def culprit(self, records: Sequence[Mapping[str, Any]]) -> tuple[int, InvalidRecord]:
        """Return the place of the first bad record among some that `features` refused, and what is wrong with it."""
        for place, record in enumerate(records):
            try:
                self._check(record)
            except InvalidRecord as error:
                return place, error
        return 0, InvalidRecord("wrong_type", "the features are not a JSON object")

    def _check(self, record: Mapping[str, Any]) -> None:
        if not isinstance(record, Mapping):
            raise InvalidRecord("wrong_type", f"{_shown(record)}, expected an object of feature values")
        for numbers in self._encoders[0]:
            numbers.check(record)
        for categories in self._encoders[1]:
            categories.check(record)
        self._refuse_extra([record])

    def _refuse_extra(self, records: Sequence[Mapping[str, Any]]) -> None:
        if self.extra_features == "ignore":
            return
        for record in records:
            extra = record.keys() - self._names - {self.target} - set(META)
            if extra:
                raise InvalidRecord("unknown_field", f"field {min(extra)!r} is not in the schema")

    def encode_labels(self, labels: Sequence[Any]) -> Floats:
        """Turn n labels into class codes or values, float64[n]; raises InvalidRecord that names the first bad one."""
        return self._label_encoder(labels)

    @cached_property
    def _label_encoder(self) -> Callable[[Sequence[Any]], Floats]:
        if self.task is Task.REGRESSION:
            return _Target(self.target)
        return _Classes(self.target, self.classes)


def _stacked(columns: list[Floats], records: Sequence[Mapping[str, Any]]) -> Floats:
    return np.column_stack(columns) if columns else np.empty((len(records), 0))


class _Numbers:
    """Encodes one numeric column."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.low = -LARGEST if field.low is None else max(field.low, -LARGEST)
        self.high = LARGEST if field.high is None else min(field.high, LARGEST)
        self._types = {int, float} if field.required else {int, float, type(None)}
        self._get: Callable[[Mapping[str, Any]], Any] = (
            itemgetter(field.name) if field.required else lambda record: record.get(field.name)
        )

    def __call__(self, records: Sequence[Mapping[str, Any]]) -> Floats:
        raw = list(map(self._get, records))
        if not set(map(type, raw)) <= self._types:
            raise InvalidRecord("wrong_type", self.field.name)
        column = np.array(raw, dtype=np.float64)
        is_missing = np.isnan(column) & (not self.field.required)
        if not np.all(is_missing | ((column >= self.low) & (column <= self.high))):
            raise InvalidRecord("out_of_bounds", self.field.name)
        return column

    def check(self, record: Mapping[str, Any]) -> None:
        """Raise InvalidRecord with the reason if the record's field is bad."""
        name, value = self.field.name, record.get(self.field.name)
        if value is None:
            if self.field.required:
                raise InvalidRecord("missing_field", f"field {name!r} is missing, expected a number")
            return
        if type(value) not in self._types:
            raise InvalidRecord("wrong_type", f"field {name!r} is {_shown(value)}, expected a number")
        # NaN, the only number that differs from itself, is an optional one that is missing
        is_missing = value != value and not self.field.required  # noqa: PLR0124 - isnan knows no large integers
        if not is_missing and not self.low <= value <= self.high:
            raise InvalidRecord(
                "out_of_bounds", f"field {name!r} is {_text(value)[:60]}, expected {self.low:g} to {self.high:g}"
            )


class _Categories:
    """Encodes one categorical column: text as it is, other scalars by their JSON spelling."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self._values = None if field.values is None else frozenset(field.values)

    def __call__(self, records: Sequence[Mapping[str, Any]]) -> Objects:
        column = np.empty(len(records), dtype=object)
        column[:] = [self.check(record) for record in records]
        return column

    def check(self, record: Mapping[str, Any]) -> str | None:
        """Return the category; raise InvalidRecord with the reason if the record's field is bad."""
        name, value = self.field.name, record.get(self.field.name)
        if value is None:
            if self.field.required:
                raise InvalidRecord("missing_field", f"field {name!r} is missing, expected a category")
            return None
        category = value if type(value) is str else self._spelled(value)
        if len(category) > LONGEST_CATEGORY:
            raise InvalidRecord("out_of_bounds", f"field {name!r} is longer than {LONGEST_CATEGORY} characters")
        if self._values is not None and category not in self._values:
            raise InvalidRecord("unknown_category", f"field {name!r} is {_shown(value)}, expected one of the schema's")
        return category

    def _spelled(self, value: object) -> str:
        if isinstance(value, bool | int):
            with suppress(ValueError):  # more digits than Python writes
                return json.dumps(value)
        raise InvalidRecord("wrong_type", f"field {self.field.name!r} is {_shown(value)}, expected a category")


class _Target:
    """Encodes the labels of a regression."""

    def __init__(self, target: str) -> None:
        self._target = target

    def __call__(self, labels: Sequence[Any]) -> Floats:
        if set(map(type, labels)) <= {int, float}:
            with suppress(OverflowError):  # an integer beyond all floats: it is named below
                column = np.array(labels, dtype=np.float64)
                if np.all(np.abs(column) <= LARGEST):
                    return column
        bad = next(v for v in labels if type(v) not in {int, float} or not abs(v) <= LARGEST)
        raise InvalidRecord(
            "bad_label", f"label {self._target!r} is {_shown(bad)}, expected a number within ±{LARGEST:g}"
        )


class _Classes:
    """Encodes the labels of a classification; a bool is no number and 1.0 is the class 1."""

    def __init__(self, target: str, classes: tuple[Class, ...]) -> None:
        self._target = target
        self._classes = classes
        self._codes: dict[tuple[type, object], float] = {(type(c), c): float(code) for code, c in enumerate(classes)}
        self._codes |= {(float, float(c)): float(code) for code, c in enumerate(classes) if type(c) is int}

    def __call__(self, labels: Sequence[Any]) -> Floats:
        try:
            return np.array([self._codes[type(label), label] for label in labels], dtype=np.float64)
        except (KeyError, TypeError):
            bad = next(v for v in labels if not self._knows(v))
            raise InvalidRecord(
                "unknown_class" if isinstance(bad, bool | int | float | str) else "bad_label",
                f"label {self._target!r} is {_shown(bad)}, expected one of {list(self._classes)[:20]}",
            ) from None

    def _knows(self, label: object) -> bool:
        try:
            return (type(label), label) in self._codes
        except TypeError:
            return False


def _shown(value: object) -> str:
    return f"{type(value).__name__} {_text(value)[:60]!r}"


def _text(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # Python does not write integers of thousands of digits
        return "of too many digits"
