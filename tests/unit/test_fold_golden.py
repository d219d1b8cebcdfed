"""Golden numbers: what a fixed little stream folds to, so that no change of the fold's meaning goes unnoticed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from stream_app.core.fold import REVISION, Fold
from stream_app.core.schema import Field, Schema
from stream_app.model_settings import ModelSettings
from stream_app.values import Features, RowKind, Rows, Task, Window
from tests.unit.folding import PLACE, remembered, window

#: By fold revision, task and what was looked at; rounded to 9 digits, so that another libm passes.
GOLDEN: dict[int, dict[str, dict[str, str]]] = {
    2: {
        "binary": {
            "outputs": "0.562875268 0.413576542 0.667932097",
            "predictions": "0.507207939 0.371336249 0.622151554",
            "learned": "588 19 1",
            "drifts": "error:ADWIN:11 15 0.05078125 0.40625 error:ADWIN:17 39 0.953125 0.6640625",
            "prequential": (
                "rows=588 left_out=0 accuracy=0.678571429 kappa=0.357142857 log_loss=0.64996368 "
                "roc_auc=0.697787959 rolling_accuracy=0.678571429 rolling_kappa=0.357142857 "
                "rolling_log_loss=0.64996368 rolling_roc_auc=0.697730112"
            ),
            "no_change": (
                "rows=587 left_out=1 accuracy=0.272572402 kappa=-0.454850974 log_loss=25.1244591 "
                "roc_auc=0.272573193 rolling_accuracy=0.272572402 rolling_kappa=-0.454850974 "
                "rolling_log_loss=25.1244591 rolling_roc_auc=0.272573193"
            ),
            "majority": (
                "rows=587 left_out=1 accuracy=0.444633731 kappa=-0.112026685 log_loss=19.1816714 "
                "roc_auc=0.444051682 rolling_accuracy=0.444633731 rolling_kappa=-0.112026685 "
                "rolling_log_loss=19.1816714 rolling_roc_auc=0.444051682"
            ),
        },
        "multiclass": {
            "outputs": (
                "0.460094356 0.373982716 0.165922929 0.146720009 0.246163955 0.607116036 0.603696898 "
                "0.354408259 0.0418948435"
            ),
            "predictions": (
                "0.365111191 0.227000846 0.407887964 0.0918853477 0.242486659 0.665627993 0.596530045 "
                "0.286959123 0.116510831"
            ),
            "learned": "588 19 1",
            "drifts": "",
            "prequential": (
                "rows=588 left_out=0 accuracy=0.775510204 kappa=0.645010359 log_loss=0.935622498 "
                "roc_auc=0.86964812 rolling_accuracy=0.775510204 rolling_kappa=0.645010359 "
                "rolling_log_loss=0.935622498 rolling_roc_auc=0.86964965"
            ),
            "no_change": (
                "rows=587 left_out=1 accuracy=0.105621806 kappa=-0.365842308 log_loss=30.8907285 "
                "roc_auc=0.318717061 rolling_accuracy=0.105621806 rolling_kappa=-0.365842308 "
                "rolling_log_loss=30.8907285 rolling_roc_auc=0.318717061"
            ),
            "majority": (
                "rows=587 left_out=1 accuracy=0.405451448 kappa=-0.0082535214 log_loss=20.5349795 "
                "roc_auc=0.496150806 rolling_accuracy=0.405451448 rolling_kappa=-0.0082535214 "
                "rolling_log_loss=20.5349795 rolling_roc_auc=0.496150806"
            ),
        },
        "regression": {
            "outputs": "60.2232388 76.1518931 67.1729031",
            "predictions": "60.7078973 75.6481807 57.2618313",
            "learned": "588 19 65.875",
            "drifts": (
                "error:ADWIN:5 18 8.7883771 3.54258981 error:ADWIN:11 15 1.00029676 18.0561926 "
                "error:ADWIN:18 9 9.98531981 6.36447303"
            ),
            "prequential": (
                "rows=588 left_out=0 mae=5.49224405 rmse=9.26654077 r2=0.884902617 rolling_mae=5.49224405 "
                "rolling_rmse=9.26654077 rolling_r2=0.884902617"
            ),
            "no_change": (
                "rows=585 left_out=3 mae=7.66570513 rmse=12.5091081 r2=0.790088723 rolling_mae=7.66570513 "
                "rolling_rmse=12.5091081 rolling_r2=0.790088723"
            ),
            "majority": (
                "rows=585 left_out=3 mae=22.3230987 rmse=27.5158498 r2=-0.0156613868 rolling_mae=22.3230987"
                " rolling_rmse=27.5158498 rolling_r2=-0.0156613868"
            ),
        },
    }
}

ADVICE = f"""
The same windows fold to other numbers than before.
- If that was not intended, it is a defect: everybody's checkpoints and stored metrics would disagree with their logs.
- If it was intended, move stream_app.core.fold.REVISION on from {REVISION}, so that the fold digest changes and
  workers ask before they go on, and put the numbers found now into GOLDEN under the new revision.
"""
CLASSES: dict[Task, tuple[Any, ...]] = {
    Task.BINARY: (0, 1),
    Task.MULTICLASS: ("low", "mid", "high"),
    Task.REGRESSION: (),
}


def schema_for(task: Task) -> Schema:
    numbers = (Field(name="a", type="number"), Field(name="b", type="number", required=False))
    names = () if task is Task.BINARY else (Field(name="c", type="category"),)  # without one the compiled loop runs
    return Schema(task=task, target="y", fields=(*numbers, *names), classes=CLASSES[task])


def stream(task: Task) -> Iterator[Window]:
    """Yield windows of uneven sizes, made by whole numbers alone; their meaning turns round in the middle."""
    n, seq, at = 600, 0, 0
    i = np.arange(n)
    a, b = (i * 37 % 101) / 8.0, (i * i % 89) / 16.0 - 2.0
    labels = {
        Task.BINARY: (a > 6) ^ (i > 300),
        Task.MULTICLASS: (a > 4).astype(int) + (a + b > 8),
        Task.REGRESSION: a * 3.0 - b + (i > 300) * 50.0,
    }[task].astype(np.float64)
    names = np.array([("x", "y", None)[k % 3] for k in i], dtype=object)[:, None]
    if task is Task.BINARY:
        names = names[:, :0]
    missing = np.where(i % 13 == 5, np.nan, b)
    while at < n:
        part = slice(at, at + 1 + (seq * 29 % 67))
        yield window(
            seq + 1,
            _rows(Features(numeric=np.column_stack([a, missing])[part], categorical=names[part]), labels[part], at),
        )
        at, seq = part.stop, seq + 1


def _rows(features: Features, labels: np.ndarray[Any, Any], offset: int) -> Rows:
    n = len(labels)
    kinds = [RowKind.LATE if (offset + k) % 50 == 49 else RowKind.RECORD for k in range(n)]
    return Rows(
        partition=PLACE,
        offsets=np.arange(offset, offset + n, dtype=np.int64),
        indexes=np.zeros(n, dtype=np.int64),
        occurred_at_ms=np.zeros(n, dtype=np.int64),
        kinds=np.array(kinds, dtype=np.int8),
        features=features,
        labels=labels,
        event_ids=[f"e{offset + k}" for k in range(n)],
    )


def digits(values: object) -> str:
    return " ".join(format(float(value), ".9g") for value in np.ravel(np.asarray(values, dtype=np.float64)))


def folded(task: Task, **online: Any) -> dict[str, str]:  # noqa: ANN401 - settings
    """Return what the stream folds to."""
    section = {"task": task.value, "target": "y", "drift": {"features": True}}
    section["online"] = {"previous_labels": 1, "label_delay": 2, **online} if task is Task.REGRESSION else online
    fold = Fold("m", ModelSettings.model_validate(section), schema_for(task))
    cut = list(stream(task))
    reports = [fold.apply(each) for each in cut]
    metrics, rows = reports[-1].metrics, cut[-1].rows
    assert rows is not None
    drifts = [drift for report in reports for drift in report.drifts]
    return {
        "outputs": digits(fold.outputs[-3:]),
        "predictions": digits(fold.predict(rows.features.take(slice(3)))),
        "learned": digits([fold.learned, fold.seq, remembered(fold.memory)["e599"]]),
        "drifts": " ".join(f"{d.feature}:{d.detector}:{digits([d.seq, d.pos, d.before, d.after])}" for d in drifts),
        "prequential": scores(metrics["prequential"]),
        **{name: scores(metrics["baselines"][name]) for name in ("no_change", "majority")},
    }


def scores(found: dict[str, float | None]) -> str:
    return " ".join(f"{name}={value if value is None else digits(value)}" for name, value in found.items())


@pytest.mark.parametrize("task", list(Task))
def test_the_same_windows_fold_to_the_same_numbers(task: Task) -> None:
    found = folded(task)
    assert REVISION in GOLDEN, f"{ADVICE}\nFound for {task}: {found}"
    differing = {name: value for name, value in found.items() if GOLDEN[REVISION][task].get(name) != value}
    assert not differing, f"{ADVICE}\nFound for {task}: {found}"
    assert found.keys() == GOLDEN[REVISION][task].keys()


@pytest.mark.parametrize("change", [{"params": {"l2": 1e-6}}, {"scale": False}])
def test_the_numbers_notice_a_small_change(change: dict[str, Any]) -> None:
    assert folded(Task.BINARY, **change) != folded(Task.BINARY)
