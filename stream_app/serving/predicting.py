"""From the bytes of a request for predictions to the bytes of its answer, every prediction kept before it is told."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeAlias

import orjson

from stream_app.core.joining import Opinion, Outcome
from stream_app.core.schema import Schema
from stream_app.errors import InvalidRecord, Outage
from stream_app.model_settings import ModelSettings
from stream_app.ports import Clock, Observer
from stream_app.serving.baseline import Baseline, baseline
from stream_app.serving.decoding import decode
from stream_app.serving.forms import Asked, Reader
from stream_app.serving.publishing import line
from stream_app.serving.validation import flaws
from stream_app.subscriber import LoadedModel, Prediction
from stream_app.values import Task

Answerer: TypeAlias = LoadedModel | Baseline
Row: TypeAlias = dict[str, Any]
#: Takes feedback and tells what became of each; raises Outage.
TakeFeedback: TypeAlias = Callable[[Sequence[Opinion]], Sequence[Outcome]]
#: Where labels come from that are sent along with the question.
SOURCE: Final = "true_labels"
_RANDOM_BYTES: Final = 16
#: Longer bodies hold many records. A River model answers one in 0.1 ms, and a thread costs as much again.
_INLINE_BYTES: Final = 8_192
#: Models of scikit-learn take milliseconds a call: on the event loop each would hold up all other requests.
_INLINE_S: Final = 0.002
_SHARE_OF_NEWEST: Final = 0.1


class Models(Protocol):
    """Who holds the verified models; a `ModelSubscriber` does."""

    def current(self, model: str) -> LoadedModel | None:
        """Return what answers for a model now, None before the first; raises NotFound for one not followed."""


class Predictor:
    """Answers requests for predictions; usable from several threads."""

    def __init__(
        self,
        reader: Reader,
        models: Models,
        *,
        record: Callable[[Sequence[bytes]], None],
        teach: TakeFeedback,
        clock: Clock,
        observe: Observer,
    ) -> None:
        """`record` keeps predictions on their way to Kafka, and never fails."""
        self._reader = reader
        self._models = models
        self._record = record
        self._teach = teach
        self._clock = clock
        self._observe = observe
        self._lately_s = 0.0
        #: what answers before a model's first version, by model
        self._baselines: dict[str, Baseline] = {}

    def find_baselines(self, models: Mapping[str, ModelSettings]) -> None:
        """Read the data files of models that have no verified version yet; requests may come meanwhile."""
        for name, settings in models.items():
            if self._models.current(name) is None:
                found = baseline(name, settings, self._reader.schema(name))
                if found is not None:
                    self._baselines[name] = found

    def answerer(self, model: str) -> Answerer | None:
        """Return what answers for a model now, None if nothing does yet."""
        return self._models.current(model) or self._baselines.get(model)

    def is_quick(self, body: bytes) -> bool:
        """Return whether answering takes less than handing it to a thread, and waits for nothing."""
        return len(body) <= _INLINE_BYTES and self._lately_s < _INLINE_S and SOURCE.encode() not in body

    def silent(self) -> str | None:
        """Return in words which models cannot answer yet, None when all can."""
        names = [name for name in self._reader.models if self.answerer(name) is None]
        return f"no verified version is loaded yet of: {', '.join(names)}" if names else None

    def answer(self, body: bytes, named: str | None = None) -> bytes:
        """Return the JSON answer to a body; raises Invalid, NotFound, and Outage while nothing can answer.

        1. read and predict
        2. hand on the labels that came along: if that fails, nothing was answered and a repeat does no harm
        3. keep the predictions
        4. answer
        """
        began = time.perf_counter()
        asked = self._reader.read(decode(body), named)
        answerer = self.answerer(asked.model)
        if answerer is None:
            raise Outage(f"no verified version of {asked.model!r} is loaded yet")
        predictions = _predict(answerer, asked)
        now = self._clock()
        ids = prediction_ids(now, len(predictions))
        outcomes = self._learn(asked, ids, now)
        self._record(list(_lines(answerer, asked, predictions, ids, now)))
        self._observe("predictions_made", amount=len(ids), model=asked.model)
        took_s = time.perf_counter() - began
        # a record at a time, so that one long list does not send what follows it to the threads
        self._lately_s += _SHARE_OF_NEWEST * (took_s / len(ids) - self._lately_s)
        self._observe("prediction_duration", amount=took_s, model=asked.model)
        return _told(asked, _rows(predictions, ids, now, outcomes))

    def _learn(self, asked: Asked, ids: Sequence[str], now: float) -> Mapping[str, Outcome]:
        """Return what became of the labels that came along, by prediction id."""
        known = [(i, label) for i, label in zip(ids, asked.labels, strict=False) if label is not None]
        if not known:
            return {}
        opinions = [
            Opinion(
                feedback_id=f"{SOURCE}:{i}", prediction_id=i, verdict=None, label=label, source=SOURCE, given_at=now
            )
            for i, label in known
        ]
        return dict(zip((i for i, _ in known), self._teach(opinions), strict=True))


def _predict(answerer: Answerer, asked: Asked) -> list[Prediction]:
    try:
        return answerer.predict(asked.records)
    except InvalidRecord as error:
        raise flaws(answerer.schema, asked.records, places=asked.places) from error


def prediction_ids(now: float, count: int) -> list[str]:
    """Return ids that nobody can guess (128 random bits) and that sort by the millisecond they were made in."""
    at = f"{int(now * 1000):012x}"
    noise = secrets.token_hex(_RANDOM_BYTES * count)
    width = 2 * _RANDOM_BYTES
    return [at + noise[width * i : width * (i + 1)] for i in range(count)]


def _lines(
    answerer: Answerer, asked: Asked, predictions: Sequence[Prediction], ids: Sequence[str], now: float
) -> Iterator[bytes]:
    """Yield each prediction as `messages.PredictionMade` has it; by hand: pydantic takes several times as long."""
    names = [field.name for field in answerer.schema.fields]
    known = _known_label(answerer)
    for prediction_id, record, made in zip(ids, asked.records, predictions, strict=True):
        served = {"version": made.version, "output": made.output, "digest": made.digest or None, "known_label": known}
        message = {
            "prediction_id": prediction_id,
            "model": made.model,
            "features": {name: record.get(name) for name in names},
            "served": served,
            "label": made.label,
            "served_at": now,
        }
        yield line(prediction_id, message)


def _known_label(answerer: Answerer) -> float | str | int | bool | None:
    """Return the newest label that the model knows of, None for a model that takes none into account."""
    known = answerer.unpacked.manifest.known_labels if isinstance(answerer, LoadedModel) else ()
    if not known or known[0] is None:
        return None
    return _decoded(answerer.schema, known[0])


def _decoded(schema: Schema, code: float) -> float | str | int | bool:
    return code if schema.task is Task.REGRESSION else schema.classes[int(code)]


def _rows(
    predictions: Sequence[Prediction], ids: Sequence[str], now: float, outcomes: Mapping[str, Outcome]
) -> list[Row]:
    served_at = datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
    return [
        {
            "prediction_id": prediction_id,
            "model": made.model,
            "version": made.version,
            "digest": made.digest or None,
            "prediction": made.label,
            "probability": None if isinstance(made.label, float) else made.probabilities.get(made.label),
            "probabilities": made.probabilities,
            "served_at": served_at,
            **({"feedback": outcomes[prediction_id]} if prediction_id in outcomes else {}),
        }
        for prediction_id, made in zip(ids, predictions, strict=True)
    ]


def _told(asked: Asked, rows: list[Row]) -> bytes:
    return orjson.dumps(rows[0] if asked.is_single else {"predictions": rows}, option=orjson.OPT_NON_STR_KEYS)
