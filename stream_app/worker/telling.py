"""What a carried window is to those who watch: facts for the observer, nothing for the model."""

from stream_app.core.fold import Fold
from stream_app.ports import Observer
from stream_app.values import FoldReport, Window

_OUTCOMES = ("learned", "late", "corrections", "duplicates", "dead_lettered")


def tell(observe: Observer, window: Window, report: FoldReport, fold: Fold, now: float) -> None:
    """Report a window whose effects are stored; `now` is in seconds since the epoch."""
    model, counts = fold.model, window.header.counts
    for outcome in _OUTCOMES:
        if amount := getattr(counts, outcome):
            observe("events_consumed", amount=amount, model=model, outcome=outcome)
    if counts.duplicates:
        observe("duplicates_skipped", amount=counts.duplicates, model=model)
    if report.quarantined is not None:
        observe("windows_quarantined", model=model)
    for drift in report.drifts:
        observe("drift_detected", model=model, feature=drift.feature, detector=drift.detector)
    observe("last_commit_timestamp", amount=window.header.closed_at, model=model)
    if window.rows is not None:
        observe("window_size_events", amount=len(window.rows), model=model)
        # of the newest row, which waited least: what the pipeline itself takes
        observe("event_to_learned", amount=max(0.0, now - window.rows.occurred_at_ms[-1] / 1000), model=model)
    _tell_scores(observe, report, model)


def _tell_scores(observe: Observer, report: FoldReport, model: str) -> None:
    scores = report.metrics
    splits = {"prequential": scores["prequential"], "served": scores["served"]}
    splits |= {f"baseline_{name}": baseline for name, baseline in scores["baselines"].items()}
    for split, values in splits.items():
        for metric, value in values.items():
            if isinstance(value, int | float):
                observe("model_score", amount=float(value), model=model, metric=metric, split=split)
