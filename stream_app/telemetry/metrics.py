"""Metrics: every one that a process of ours exports is declared here, with one sentence on it.

The rooms report facts to an `Observer`; which metrics a fact feeds, and under which label names, is known here
alone. Values of labels are bounded: whoever sends records must not be able to make series without end.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from stream_app import __version__

PREFIX: Final = "stream_app_"
#: Distinct values of one label; whatever comes after them is counted as `OTHER`.
MOST_VALUES: Final = 100
OTHER: Final = "other"
#: The content type of what `PrometheusObserver.exposition` returns.
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_ROWS: Final = (1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
_FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW_S: Final = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600)
_LONG_S: Final = (0.1, 1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000)

#: Documents that we replace say `model_name` in the metrics that keep their names; everything else says `model`.
_MODEL: Final = ("model", "model_name")


class Kind(Enum):
    """What becomes of a fact's amount: added up, kept as the newest value, or sorted into buckets."""

    COUNTER = Counter
    GAUGE = Gauge
    HISTOGRAM = Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One exported metric and the fact that feeds it."""

    fact: str
    kind: Kind
    #: as exported, but for the `_total` that a counter's name ends with
    name: str
    sentence: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    #: label of which each value has one series at a time: the one before goes when another comes
    one_per: str | None = None


def _counter(fact: str, sentence: str, *labels: str) -> Metric:
    return Metric(fact=fact, kind=Kind.COUNTER, name=PREFIX + fact, sentence=sentence, labels=labels)


def _gauge(fact: str, unit: str, sentence: str, *labels: str, one_per: str | None = None) -> Metric:
    name = PREFIX + fact + unit
    return Metric(fact=fact, kind=Kind.GAUGE, name=name, sentence=sentence, labels=labels, one_per=one_per)


def _histogram(fact: str, unit: str, buckets: tuple[float, ...], sentence: str, *labels: str) -> Metric:
    name = PREFIX + fact + unit
    return Metric(fact=fact, kind=Kind.HISTOGRAM, name=name, sentence=sentence, labels=labels, buckets=buckets)


#: Every metric there is. Facts of §001 keep the names that existing dashboards ask for: no prefix, `model_name`.
METRICS: Final = (
    _counter("events_consumed", "Records taken in, by what became of them.", "model", "outcome"),
    _counter("events_dead_lettered", "Records that could never be processed, by reason.", "topic", "reason"),
    _counter("duplicates_skipped", "Records recognised as repeats and not learned again.", "model"),
    _counter("predictions_stored", "Served predictions stored, to be joined with their labels.", "model"),
    _counter("feedback", "Feedback, by what became of it.", "model", "outcome"),
    _counter("snapshots_published", "States of an online model published to subscribers.", "model"),
    _counter("checkpoints_saved", "Checkpoints of folded states saved.", "model"),
    _counter("checkpoints_broken", "Checkpoints set aside: missing, another digest or hmac.", "model", "reason"),
    _counter("drift_detected", "Changes found in a watched quantity.", "model", "feature", "detector"),
    _counter("windows_quarantined", "Windows not learned because they left the model non-finite.", "model"),
    _counter("model_refused", "Artifacts or events not loaded; the model before serves on.", "model", "reason"),
    _counter("model_reloads", "Models swapped in by a subscriber.", "model"),
    _counter("subscriber_outage", "Times that a subscriber found the broker away."),
    _counter("relay_messages_sent", "Messages of the outbox acknowledged by the broker."),
    _counter("relay_outage", "Times that the relay found broker or database away."),
    _counter("relay_fenced", "Times that another relay took over from this one."),
    _counter("http_requests", "Requests answered over HTTP.", "route", "status"),
    _counter("predictions_made", "Records that were answered with a prediction.", "model"),
    _counter("predictions_published", "Predictions acknowledged by the broker."),
    _counter("predictions_unrecorded", "Predictions answered but not kept: the spool was full or the disk refused."),
    _histogram("window_size_events", "", _ROWS, "Rows of a committed window.", "model"),
    _histogram("learn_duration", "_seconds", _FAST_S, "Time to fold one window.", "model"),
    _histogram("commit_duration", "_seconds", _FAST_S, "Time to make one window durable.", "model"),
    _histogram(
        "event_to_learned",
        "_seconds",
        _FAST_S,
        "Time from when the newest record of a window happened to learned.",
        "model",
    ),
    _histogram("http_request_duration", "_seconds", _FAST_S, "Time to answer a request over HTTP.", "route"),
    _histogram("prediction_duration", "_seconds", _FAST_S, "Time from a request's bytes to its predictions.", "model"),
    _histogram("label_lag", "_seconds", _LONG_S, "Time from a served prediction to its label.", "model"),
    _histogram("retrain_duration", "_seconds", _SLOW_S, "Time of a full retrain.", "trigger", "result"),
    _gauge("model_score", "", "Score of what a model answered; split says which answers.", "model", "metric", "split"),
    _gauge("model_info", "", "1 for what serves now.", "model", "version", "algorithm", one_per="model"),
    _gauge("model_age", "_seconds", "Time since the newest full retrain of a model.", "model"),
    _gauge("last_commit_timestamp", "_seconds", "When the newest window was committed, since the epoch.", "model"),
    _gauge("consumer_lag", "", "Offsets between a partition's end and our position.", "topic", "partition", "group"),
    _gauge("halted_partitions", "", "Partitions at a stand until a person acts: their records were too bad.", "topic"),
    _gauge("prediction_spool_bytes", "", "Bytes of predictions on disk that wait for the broker."),
    _gauge("feedback_pending", "", "Feedback that waits for its prediction."),
    _gauge("build_info", "", "1; what runs here.", "version"),
    Metric(
        fact="model_retraining_triggered",
        kind=Kind.COUNTER,
        name="model_retraining_triggered",
        sentence="Full retrains asked for.",
        labels=("model_name", "trigger_type"),
    ),
    Metric(
        fact="model_retraining_duration",
        kind=Kind.HISTOGRAM,
        name="model_retraining_duration_seconds",
        sentence="Time of a full retrain.",
        labels=("model_name", "status"),
        buckets=_SLOW_S,
    ),
    Metric(
        fact="model_retraining_success",
        kind=Kind.COUNTER,
        name="model_retraining_success",
        sentence="Full retrains that came to a verdict.",
        labels=("model_name",),
    ),
    Metric(
        fact="model_retraining_failure",
        kind=Kind.COUNTER,
        name="model_retraining_failure",
        sentence="Full retrains that failed.",
        labels=("model_name", "error_type"),
    ),
    Metric(
        fact="model_age",
        kind=Kind.GAUGE,
        name="model_age_seconds",
        sentence="Time since the newest full retrain of a model.",
        labels=("model_name",),
    ),
)

#: Values that the labels of a fact will have beside the model's name, for what is exported before it happens.
_EXPECTED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "events_consumed": {"outcome": ("learned", "late", "corrections", "duplicates", "dead_lettered")},
    "duplicates_skipped": {},
    "windows_quarantined": {},
    "snapshots_published": {},
    "checkpoints_saved": {},
    "checkpoints_broken": {"reason": ("missing", "digest", "hmac")},
    "model_refused": {"reason": ("absent", "artifact", "event", "predict")},
    "model_reloads": {},
    "model_retraining_success": {},
    "model_retraining_duration": {"status": ("success", "failed")},
}

Series: TypeAlias = Counter | Gauge | Histogram


class PrometheusObserver:
    """An `Observer` that exports what it hears, from a registry of its own.

    A fact that is not declared, or with other labels than declared, is counted in
    `stream_app_misreported_facts_total` and otherwise ignored: a slip in a metric must never stop the learning.
    A test holds every report in the package against the declarations.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._fed: dict[str, list[_Exported]] = {}
        self._misreported = Counter(
            f"{PREFIX}misreported_facts", "Facts that no metric is declared for.", registry=self._registry
        )
        bound = _Bound(MOST_VALUES)
        for metric in METRICS:
            self._fed.setdefault(metric.fact, []).append(_Exported(metric, self._registry, bound))
        ProcessCollector(registry=self._registry)
        self("build_info", version=__version__)

    def __call__(self, fact: str, /, *, amount: float = 1.0, **labels: str) -> None:
        """Feed the metrics of the fact; thread-safe."""
        spelled = {_spelled(name): str(value) for name, value in labels.items()}
        exported = self._fed.get(fact)
        if not exported or exported[0].labels != spelled.keys():
            self._misreported.inc()
            return
        try:
            for metric in exported:
                metric.feed(amount, spelled)
        except ValueError:  # a counter cannot fall
            self._misreported.inc()

    def expect(self, models: Iterable[str]) -> None:
        """Export what may happen to these models before it does: `increase()` cannot see how a series began."""
        known = tuple(models)
        for fact, values in _EXPECTED.items():
            for exported in self._fed[fact]:
                exported.begin({_MODEL[0]: known, **values})

    def exposition(self) -> bytes:
        """Return everything in Prometheus's text format, of content type `CONTENT_TYPE`."""
        return generate_latest(self._registry)


class _Exported:
    """One declared metric at work."""

    def __init__(self, metric: Metric, registry: CollectorRegistry, bound: "_Bound") -> None:
        self._names = tuple(map(_spelled, metric.labels))
        self.labels = set(self._names)
        self._one_per = metric.one_per
        self._series = _series(metric, registry)
        self._bound = bound
        self._shown: dict[str, tuple[str, ...]] = {}
        self._lock = threading.Lock()

    def feed(self, amount: float, labels: Mapping[str, str]) -> None:
        if self._one_per is not None:
            self._show_only(labels, amount)
            return
        values = [self._bound(name, labels[name]) for name in self._names]
        _feed(self._series.labels(*values) if values else self._series, amount)

    def begin(self, values: Mapping[str, Sequence[str]]) -> None:
        """Export the series of all these values of the labels, from 0 on."""
        for combination in product(*(values[name] for name in self._names)):
            self._series.labels(*map(self._bound, self._names, combination))

    def _show_only(self, labels: Mapping[str, str], amount: float) -> None:
        """Replace the series of the same key; its other labels need no bound, there is one of each at a time."""
        key = self._bound(str(self._one_per), labels[str(self._one_per)])
        values = tuple(key if name == self._one_per else labels[name] for name in self._names)
        with self._lock:
            before = self._shown.get(key, values)
            if before != values:
                self._series.remove(*before)
            self._shown[key] = values
            _feed(self._series.labels(*values), amount)


def _feed(series: Series, amount: float) -> None:
    if isinstance(series, Counter):
        series.inc(amount)
    elif isinstance(series, Gauge):
        series.set(amount)
    else:
        series.observe(amount)


class _Bound:
    """Lets the first few values of each label through; the rest share one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._admitted: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def __call__(self, label: str, value: str) -> str:
        admitted = self._admitted.get(label, set())
        if value in admitted:
            return value
        with self._lock:
            admitted = self._admitted.setdefault(label, set())
            if len(admitted) < self._most:
                admitted.add(value)
            return value if value in admitted else OTHER


def _series(metric: Metric, registry: CollectorRegistry) -> Series:
    if metric.kind is Kind.HISTOGRAM:
        return Histogram(metric.name, metric.sentence, metric.labels, registry=registry, buckets=metric.buckets)
    made: Series = metric.kind.value(metric.name, metric.sentence, metric.labels, registry=registry)
    return made


def _spelled(label: str) -> str:
    return _MODEL[0] if label in _MODEL else label
