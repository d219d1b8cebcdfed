"""The one reference that a swap replaces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from stream_app.core.schema import Schema
from stream_app.errors import InvalidRecord
from stream_app.storage.packing import UnpackedModel
from stream_app.values import Features, Floats, Task

Class: TypeAlias = bool | int | str

#: P(positive) above it is the positive class; the scores of the learners use the same bound.
_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer, and who gave it."""

    model: str
    #: "3" or "1.57"
    version: str
    #: sha256 of the artifact
    digest: str
    #: P(positive class) for binary models, the class for multiclass, the value for regression
    output: float | Class
    #: the class or value that is predicted
    label: float | Class
    #: P by class; empty for regression
    probabilities: Mapping[Class, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A verified model, ready to predict; whoever holds it may go on using it after a swap."""

    model: str
    version: str
    digest: str
    promotion_seq: int
    algorithm: str
    trained_through_seq: int
    #: seconds since the epoch: when the newest window that it learned was closed
    trained_through_at: float
    #: seconds since the epoch
    loaded_at: float
    schema: Schema
    unpacked: UnpackedModel

    def predict(self, records: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return one prediction a record of feature values, e.g. [{"period": 0.1, "nswprice": 0.06}].

        Raises InvalidRecord that names the first bad record by its place in the list, field, value and what was
        expected. NaN and None are missing values: only features that are not required may be missing.
        """
        if not isinstance(records, Sequence) or isinstance(records, str | bytes):
            shown = type(records).__name__
            raise InvalidRecord("wrong_type", f"records is of type {shown}, expected a list of objects, one a record")
        if not records:
            return []
        return [self._prediction(output) for output in self.unpacked.predict(self._features(records))]

    def _features(self, records: Sequence[Mapping[str, Any]]) -> Features:
        try:
            return self.schema.features(records)
        except InvalidRecord as error:
            place, cause = self.schema.culprit(records)
            raise InvalidRecord(cause.reason, f"records[{place}]: {cause}") from error

    def _prediction(self, output: Floats) -> Prediction:
        answer, label, probabilities = self._answer(output)
        return Prediction(
            model=self.model,
            version=self.version,
            digest=self.digest,
            output=answer,
            label=label,
            probabilities=probabilities,
        )

    def _answer(self, output: Floats) -> tuple[float | Class, float | Class, dict[Class, float]]:
        classes = self.schema.classes
        if self.schema.task is Task.REGRESSION:
            return float(output), float(output), {}
        if self.schema.task is Task.BINARY:
            positive = float(output)
            by_class = dict(zip(classes, (1.0 - positive, positive), strict=True))
            return positive, classes[int(positive > _HALF)], by_class
        best = classes[int(np.argmax(output))]
        return best, best, dict(zip(classes, output.tolist(), strict=True))


class Slot:
    """Holds the model that answers now; only one thread may swap."""

    def __init__(self) -> None:
        self._loaded: LoadedModel | None = None

    @property
    def current(self) -> LoadedModel | None:
        """Return the model that answers now, None before the first."""
        return self._loaded

    def is_stale(self, promotion_seq: int) -> bool:
        """Return whether a publication is not newer than what answers now.

        An older version may well be newer here: a rollback is a later promotion of an earlier version.
        """
        return self._loaded is not None and promotion_seq <= self._loaded.promotion_seq

    def swap(self, new: LoadedModel) -> bool:
        """Let the new model answer; False, and nothing changed, if it is stale."""
        if self.is_stale(new.promotion_seq):
            return False
        self._loaded = new  # one assignment: readers see the old or the new, never half
        return True
