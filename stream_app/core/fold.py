"""The fold: one model's state as a pure function of its windows, in order.

Whoever folds the same windows with the same settings and libraries has the same state to the last bit: the
worker that learned them first, the one that recovers after a crash, a rebuild years later. So there is no
clock here but the windows' `closed_at`, no randomness without a seed, and no look at anything but the window.
"""

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from stream_app.core.dedupe import IdMemory
from stream_app.core.drift import DriftWatch
from stream_app.core.lags import PreviousLabels
from stream_app.core.models import build, fold_libraries
from stream_app.core.probes import probe_hash, probe_set
from stream_app.core.rows import choose, learning_ids
from stream_app.core.schema import Schema
from stream_app.core.scores import Scores
from stream_app.errors import Corrupt, Misconfigured
from stream_app.model_settings import ModelSettings
from stream_app.values import Drift, Features, Floats, FoldReport, RowKind, Rows, Window

#: Moves on when folding the same windows would give another state; a golden test notices when it was forgotten.
REVISION: Final = 2
#: The version number of the online learner.
ONLINE: Final = 1
_REFOLD: Final = "on_change = 'refold' to fold the history anew"


def fold_digest(settings: ModelSettings, schema: Schema) -> str:
    """Return the sha256 of everything beside the windows that shapes the state."""
    shaping = {
        "revision": REVISION,
        "schema": schema.id,
        "online": settings.online.model_dump(mode="json"),
        "drift": settings.drift.model_dump(mode="json"),
        "seed": settings.seed,
        "libraries": fold_libraries(),
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def _nothing() -> None:
    """Do nothing between the halves of a window."""


class Fold:
    """One model's state; `apply` moves it on by one window."""

    def __init__(
        self, model: str, settings: ModelSettings, schema: Schema, *, midway: Callable[[], None] = _nothing
    ) -> None:
        """Start before the first window; `midway` is called half-way through learning each."""
        self.model = model
        self.schema = schema
        self.digest = fold_digest(settings, schema)
        # what a learned state cannot take on later; adapters exchange their states
        self._learner = settings.online.model_dump(mode="json", exclude={"adapter"})
        self._watched = settings.drift.model_dump(mode="json")
        self.seq = 0
        #: rows learned so far
        self.learned = 0
        #: version that serves, 0 before the first promotion
        self.champion = 0
        #: changes found so far
        self.drifts = 0
        #: when the newest window was closed, seconds since the epoch
        self.closed_at = 0.0
        self._midway = midway
        self._lags = PreviousLabels(settings.online.previous_labels, settings.online.label_delay)
        self.shape = replace(schema.shape, numeric=(*schema.numeric, *self._lags.names()))
        self.online = build(self.shape, settings.online, settings.seed)
        self.memory = IdMemory(settings.dedupe_horizon)
        self._scores = Scores(schema.shape, delay=settings.online.label_delay)
        self._drift = DriftWatch(schema.shape, settings.drift)
        self.probe = probe_set(schema)
        #: prequential outputs of the online learner for the learned rows of the newest window
        self.outputs: Floats = np.empty(0)

    @property
    def contenders(self) -> tuple[int, ...]:
        """Batch versions whose outputs the next window must carry."""
        return (self.champion,) if self.champion > ONLINE else ()

    @property
    def known_labels(self) -> list[float]:
        """The previous labels that a prediction made now may use, newest first."""
        return [float(label) for label in self._lags.known()]

    def apply(self, window: Window) -> FoldReport:
        """Fold the next window in and return what came of it.

        1. score, then learn, row by row; a window that leaves the learner non-finite is quarantined: the
           state stays as it was before it, now and at every replay
        2. scores and drift; 3. ids to be recognised; 4. decisions, which hold after the last row
        """
        if window.header.seq != self.seq + 1:
            raise Corrupt(f"{self.model}: window {window.header.seq} cannot follow window {self.seq}")
        self.seq, self.closed_at = window.header.seq, window.header.closed_at
        quarantined: str | None = None
        drifts: tuple[Drift, ...] = ()
        self.outputs = np.empty(0)
        if window.rows is not None:
            rows = choose(window.rows, window.rows.kinds == RowKind.RECORD)
            quarantined = self._learn(rows)  # 1
            if quarantined is None:
                self._scores.update(rows, self.outputs)  # 2
                drifts = self._watch(rows)
                self.drifts += len(drifts)
                self.learned += len(rows)
            self._remember(window.rows)  # 3
        self._decide(window)  # 4
        return FoldReport(
            seq=self.seq,
            metrics=self._metrics(window),
            probe_hash=self.probe_hash(),
            drifts=drifts,
            quarantined=quarantined,
        )

    def _learn(self, rows: Rows) -> str | None:
        """Score and learn the rows; return why they were not learned, None when they were."""
        before = self.online.snapshot(), pickle.dumps(self._lags)
        try:
            outputs = self._advance(rows)
            trouble = self._trouble()
        except MemoryError:
            raise  # says something about this machine, not about the rows
        except Exception as error:  # noqa: BLE001 - the window is committed: raising would stop every replay, for ever
            trouble = f"the online learner raised {type(error).__name__}: {error}"
        if trouble is not None:
            self.online.restore(before[0])
            self._lags = pickle.loads(before[1])
            return trouble
        self.outputs = outputs
        return None

    def _advance(self, rows: Rows) -> Floats:
        features = self._lags.append(rows.features, rows.labels)
        half = len(rows) // 2
        first = self.online.advance(features.take(slice(half)), rows.labels[:half])
        self._midway()
        second = self.online.advance(features.take(slice(half, None)), rows.labels[half:])
        return np.concatenate([first, second])

    def _trouble(self) -> str | None:
        if not self.online.is_finite():
            return "a weight of the online learner is no finite number"
        if not np.isfinite(self._probed()).all():
            return "a prediction of the online learner for the probe set is no finite number"
        return None

    def _watch(self, rows: Rows) -> tuple[Drift, ...]:
        return tuple(self._drift.update(self.seq, self.outputs, rows))

    def _remember(self, rows: Rows) -> None:
        ids = learning_ids(rows)
        if ids is not None:
            self.memory.remember(ids, rows.labels)

    def _decide(self, window: Window) -> None:
        for entry in window.header.control:
            if entry.accepted:
                self.champion = int(entry.body["version"])
        self._scores.follow(self.contenders)

    def _metrics(self, window: Window) -> dict[str, Any]:
        return {
            "rows": 0 if window.rows is None else len(window.rows),
            "learned": self.learned,
            "closed_at": window.header.closed_at,
            "champion": self.champion,
            "drifts": self.drifts,
            **self._scores.metrics(),
        }

    def predict(self, features: Features) -> Floats:
        """Return the online learner's outputs for records whose labels are not known."""
        return self.online.predict(self._lags.append_known(features))

    def probe_with_known_labels(self) -> Features:
        """Return the probe records as the online learner takes them."""
        return self._lags.append_known(self.probe)

    def headline(self) -> dict[str, float | None]:
        """Return the online learner's scores."""
        return self._scores.headline()

    def _probed(self) -> Floats:
        return self.online.predict(self.probe_with_known_labels())

    def probe_hash(self) -> str:
        """Return the sha256 of the online learner's outputs on the probe set: equal state, equal hash."""
        return probe_hash([self._probed()])

    def state(self) -> bytes:
        """Return everything that `restore` needs to go on bit for bit."""
        parts = (self.online.snapshot(), self._lags, self.memory, self._scores, self._drift)
        place = (self.seq, self.learned, self.champion, self.drifts, self.closed_at)
        return pickle.dumps((REVISION, (self._learner, self._watched), place, parts), protocol=pickle.HIGHEST_PROTOCOL)

    def restore(self, state: bytes) -> None:
        """Go to a state of the same fold digest; raises Corrupt for one of another revision.

        Only ever given bytes whose digest and HMAC have been verified: unpickling runs what the bytes say.
        """
        revision, _, place, parts = pickle.loads(state)
        if revision != REVISION:
            raise Corrupt(f"{self.model}: the checkpoint is of fold revision {revision}, expected {REVISION}")
        online, self._lags, self.memory, self._scores, self._drift = parts
        self.online.restore(online)
        self.seq, self.learned, self.champion, self.drifts, self.closed_at = place

    def carry_over(self, state: bytes) -> None:
        """Go on from a verified state of another fold digest: of other libraries, seed or drift settings.

        Detectors whose settings changed start anew. Raises Misconfigured if the learner's own settings changed,
        since a learner cannot take on others in the middle of its life, or if these libraries cannot read it.
        """
        fresh = self._drift
        try:
            learner, watched = pickle.loads(state)[1]
            self.restore(state)
        except Exception as error:
            raise Misconfigured(
                f"models.{self.model}: its state cannot be carried over: {error!r}; {_REFOLD}"
            ) from error
        if learner != self._learner:
            changed = sorted(name for name in self._learner if self._learner[name] != learner.get(name))
            raise Misconfigured(
                f"models.{self.model}.online: {', '.join(changed)} changed, and what was learned cannot take that on; "
                f"set it back, or {_REFOLD}"
            )
        if watched != self._watched:
            self._drift = fresh
