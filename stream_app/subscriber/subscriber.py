"""A library class that always holds the newest verified models: event in, swap out.

    with ModelSubscriber(["electricity"], kafka, artifacts, verifier) as subscriber:
        subscriber.wait_ready(10)
        subscriber.predict("electricity", [{"period": 0.1, "nswprice": 0.06}])

Serving never waits for loading: a thread of its own reads, fetches, verifies and warms, then swaps one
reference. Whatever goes wrong on that way leaves the last good model where it is.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import getpid
from types import TracebackType
from typing import Any, Final, Self

from stream_app.errors import NotFound, Outage
from stream_app.messages import MODEL_LOADED, MODEL_REFUSED, ModelUpdated
from stream_app.ports import Observer
from stream_app.settings import KafkaSettings
from stream_app.storage.signing import Verifier
from stream_app.subscriber.feed import Feed
from stream_app.subscriber.loader import ArtifactSource, EventReader, Loader, Refused
from stream_app.subscriber.notices import Notices
from stream_app.subscriber.slot import LoadedModel, Prediction, Slot

_LOG = logging.getLogger(__name__)

#: How often the topic is read from its start again, so that nothing missed or refused for now is missed for good.
RECONCILE_S: Final = 30.0
_READ_S: Final = 0.1
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """What a subscriber serves of one model; None while nothing is loaded."""

    version: str | None = None
    promotion_seq: int | None = None
    digest: str | None = None
    #: seconds since the newest window that the model has learned was closed
    freshness_s: float | None = None
    #: seconds since the epoch
    loaded_at: float | None = None
    #: swaps so far
    reloads: int
    #: events and artifacts that were refused
    refused: int
    #: why the last of them was, in words
    last_refusal: str | None


@dataclass(slots=True)
class _Followed:
    slot: Slot = field(default_factory=Slot)
    reloads: int = 0
    refused: int = 0
    last_refusal: str | None = None


class ModelSubscriber:
    """Follows `model-updated` and serves the champion of each model it was asked for."""

    def __init__(
        self,
        models: Collection[str],
        kafka: KafkaSettings,
        artifacts: ArtifactSource,
        verifier: Verifier,
        *,
        trusted: Sequence[str] = (),
        observe: Observer | None = None,
        reconcile_s: float = RECONCILE_S,
    ) -> None:
        """`trusted` names the operator's own transformers, exactly and dotted."""
        self._followed = {model: _Followed() for model in models}
        self._by_key = {model.encode(): model for model in models}
        self._kafka = kafka
        self._events = EventReader(verifier)
        self._observe = observe or _ignore
        self._reconcile_s = reconcile_s
        self._name = f"{socket.gethostname()}:{getpid()}"
        self._callbacks: list[Callable[[LoadedModel], None]] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._loader = Loader(artifacts, trusted=trusted, clock=time.time, wait=self._stop.wait)
        self._thread = threading.Thread(target=self._run, name="model-subscriber", daemon=True)

    def start(self) -> Self:
        """Begin to follow; raises Misconfigured for Kafka options that cannot be. A broker may come later."""
        self._feed = Feed(self._kafka)
        self._notices = Notices(self._kafka, clock=time.time)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop following; models that were loaded go on predicting."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def wait_ready(self, timeout_s: float) -> bool:
        """Return True once a verified model of each name is loaded, False if that takes longer."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._is_ready(), timeout_s)
        if self._failure is not None:
            raise self._failure
        return self._is_ready()

    def current(self, model: str) -> LoadedModel | None:
        """Return what answers for a model now, None before the first; raises NotFound for one not followed."""
        if model not in self._followed:
            raise NotFound(f"model {model!r} is not followed here, expected one of: {', '.join(self._followed)}")
        return self._followed[model].slot.current

    def predict(self, model: str, records: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return one prediction a record of feature values, all from one version.

        Raises InvalidRecord that names the bad record, field and value, and NotFound while nothing is loaded.
        """
        loaded = self.current(model)
        if loaded is None:
            raise NotFound(f"no verified version of {model!r} is loaded yet")
        return loaded.predict(records)

    def on_swap(self, callback: Callable[[LoadedModel], None]) -> None:
        """Call back after each swap, in the subscriber's thread: what blocks there delays the next reload."""
        self._callbacks.append(callback)

    def status(self) -> dict[str, ModelStatus]:
        """Return what is served, by model."""
        return {model: _status(followed) for model, followed in self._followed.items()}

    def _is_ready(self) -> bool:
        return all(followed.slot.current is not None for followed in self._followed.values())

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            while not self._stop.is_set():
                try:
                    self._follow_once()
                    pause_s = _FIRST_PAUSE_S
                except Outage:
                    self._observe("subscriber_outage")
                    self._stop.wait(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._feed.close()
            self._notices.close()
            with self._changed:
                self._changed.notify_all()

    def _follow_once(self) -> None:
        """Read the topic from its start to its end, then on as it grows, until it is time to reconcile.

        Up to the end only the newest event of each model is kept: what was published in between is history,
        and its artifacts may be gone.
        """
        self._feed.rewind()
        until = time.monotonic() + self._reconcile_s
        newest: dict[str, ModelUpdated] = {}
        while not self._stop.is_set() and (time.monotonic() < until or not self._feed.is_caught_up):
            self._keep_newest(newest, self._feed.read(_READ_S))
            if self._feed.is_caught_up:
                for event in newest.values():
                    self._apply(event)
                newest.clear()

    def _keep_newest(self, newest: dict[str, ModelUpdated], messages: Sequence[tuple[bytes, bytes]]) -> None:
        for model in {key for key, _ in messages} & self._by_key.keys():
            name = self._by_key[model]
            values = [value for key, value in messages if key == model]
            refuse = partial(self._refuse, name)
            event = self._events.newest(name, values, above=self._newest_seq(newest, name), refuse=refuse)
            if event is not None:
                newest[name] = event

    def _newest_seq(self, newest: Mapping[str, ModelUpdated], model: str) -> int:
        if model in newest:
            return newest[model].promotion_seq
        loaded = self._followed[model].slot.current
        return 0 if loaded is None else loaded.promotion_seq

    def _apply(self, event: ModelUpdated) -> None:
        followed = self._followed[event.model]
        if followed.slot.is_stale(event.promotion_seq):
            return
        try:
            loaded = self._loader.load(event)
        except Refused as refused:
            self._refuse(event.model, refused, promotion_seq=event.promotion_seq)
            return
        if loaded is not None and followed.slot.swap(loaded):
            followed.reloads += 1
            self._announce(loaded)

    def _announce(self, loaded: LoadedModel) -> None:
        with self._changed:
            self._changed.notify_all()
        self._observe("model_reloads", model=loaded.model)
        self._observe("model_info", model=loaded.model, version=loaded.version, algorithm=loaded.algorithm)
        details = {"version": loaded.version, "digest": loaded.digest, "promotion_seq": loaded.promotion_seq}
        details |= {"freshness_s": loaded.loaded_at - loaded.trained_through_at, "subscriber": self._name}
        self._notices.send(MODEL_LOADED, loaded.model, seq=loaded.trained_through_seq, details=details)
        for callback in self._callbacks:
            self._call(callback, loaded)

    def _call(self, callback: Callable[[LoadedModel], None], loaded: LoadedModel) -> None:
        try:
            callback(loaded)
        except Exception:  # noqa: BLE001 - whatever it raises
            # It is the caller's code: what it does wrong must be seen, but must not end the reloads.
            _LOG.exception("a callback of on_swap failed for %s", loaded.model)

    def _refuse(self, model: str, refused: Refused, **details: Any) -> None:  # noqa: ANN401 - JSON
        followed = self._followed[model]
        followed.refused += 1
        followed.last_refusal = str(refused)
        self._observe("model_refused", model=model, reason=refused.reason)
        known = {"reason": refused.reason.value, "message": str(refused)[:1000], "subscriber": self._name}
        self._notices.send(MODEL_REFUSED, model, seq=None, details=details | known)


def _status(followed: _Followed) -> ModelStatus:
    counts = ModelStatus(reloads=followed.reloads, refused=followed.refused, last_refusal=followed.last_refusal)
    loaded = followed.slot.current
    if loaded is None:
        return counts
    return replace(
        counts,
        version=loaded.version,
        promotion_seq=loaded.promotion_seq,
        digest=loaded.digest,
        freshness_s=time.time() - loaded.trained_through_at,
        loaded_at=loaded.loaded_at,
    )


def _ignore(_fact: str, /, *, amount: float = 1.0, **labels: str) -> None:
    """Hear nothing."""
