"""A carried window is reported by what became of its records."""

import numpy as np

from stream_app.core.fold import Fold
from stream_app.model_settings import ModelSettings
from stream_app.ports import Recorder
from stream_app.worker.telling import tell
from tests.unit.folding import SCHEMA, rows_of, stream, window


def told(rows_are_finite: bool) -> dict[str, float]:
    numbers, labels = stream(20)
    fold = Fold("m", ModelSettings.model_validate({"task": "binary", "target": "y"}), SCHEMA)
    carried = window(1, rows_of(numbers if rows_are_finite else np.full_like(numbers, np.inf), labels))
    recorder = Recorder()
    tell(recorder, carried, fold.apply(carried), fold, now=5.0)
    return {
        fact if fact != "model_score" else f"{labels['split']} {labels['metric']}": amount
        for fact, amount, labels in recorder.facts
    }


def test_what_became_of_the_records_is_reported_with_the_scores() -> None:
    facts = told(rows_are_finite=True)
    assert facts["events_consumed"] == 20
    assert facts["window_size_events"] == 20
    assert facts["event_to_learned"] == 5.0
    assert facts["prequential rows"] == 20
    assert {"baseline_no_change accuracy", "baseline_majority accuracy"} <= facts.keys()
    assert "windows_quarantined" not in facts


def test_a_quarantined_window_is_reported() -> None:
    assert told(rows_are_finite=False)["windows_quarantined"] == 1
