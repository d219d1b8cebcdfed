"""What is answered before a model's first version: the commonest class, or the mean, of its data file."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stream_app.core.schema import Schema
from stream_app.datafiles import read
from stream_app.errors import InvalidRecord, Misconfigured
from stream_app.model_settings import ModelSettings
from stream_app.subscriber.slot import Class, Prediction
from stream_app.values import Task

VERSION: Final = "baseline"
#: Rows beyond these change a share or a mean no more.
_MOST_ROWS: Final = 100_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A constant in the clothes of a model."""

    model: str
    schema: Schema
    prediction: Prediction

    def predict(self, records: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return the same for each record that fits the schema; raises InvalidRecord otherwise."""
        self.schema.features(records)
        return [self.prediction] * len(records)


def baseline(model: str, settings: ModelSettings, schema: Schema) -> Baseline | None:
    """Return the constant that a model's data file suggests, None without a file or without labels in it."""
    if settings.data is None:
        return None
    try:
        labels = read(settings.data, most_rows=_MOST_ROWS)[settings.target].dropna().tolist()
        codes = schema.encode_labels(labels)
    except (Misconfigured, KeyError, InvalidRecord) as error:
        _log.warning("no baseline", extra={"model": model, "why": str(error)})
        return None
    return Baseline(model=model, schema=schema, prediction=_constant(model, schema, codes)) if len(codes) else None


def _constant(model: str, schema: Schema, codes: "np.typing.NDArray[np.float64]") -> Prediction:
    output: float | Class
    label: float | Class
    if schema.task is Task.REGRESSION:
        output = label = float(np.mean(codes))
        shares: dict[Class, float] = {}
    else:
        counts = np.bincount(codes.astype(np.int64), minlength=len(schema.classes))
        shares = dict(zip(schema.classes, (counts / len(codes)).tolist(), strict=True))
        label = schema.classes[int(np.argmax(counts))]
        output = shares[schema.classes[1]] if schema.task is Task.BINARY else label
    return Prediction(model=model, version=VERSION, digest="", output=output, label=label, probabilities=shares)
