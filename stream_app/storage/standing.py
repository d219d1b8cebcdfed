"""Where a model stands: its log, its scores, what serves, its newest retrain; the same numbers for every door."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from stream_app.errors import NotFound
from stream_app.job_ports import Jobs
from stream_app.ports import Registry, WindowLog
from stream_app.values import Version

#: The score that stands for a model, by what its task has.
_SCORES: Final = ("accuracy", "mae")
#: By the series' name: where in a metrics row its scores are.
_SERIES: Final[Mapping[str, Sequence[str]]] = {
    "online": ("prequential",),
    "served": ("served",),
    "no_change": ("baselines", "no_change"),
    "served_no_change": ("baselines", "served_no_change"),
    "majority": ("baselines", "majority"),
}


class Places(Protocol):
    """What must be looked at; less than all stores, since opening those makes keys."""

    @property
    def registry(self) -> Registry:
        """Which models there are, and what serves."""

    @property
    def log(self) -> WindowLog:
        """Their windows and scores."""

    @property
    def jobs(self) -> Jobs:
        """Their retrains."""


def standings(stores: Places) -> list[dict[str, Any]]:
    """Return where every model stands."""
    return [standing(stores, facts) for facts in stores.registry.models()]


def standing_of(stores: Places, model: str) -> dict[str, Any]:
    """Return where one model stands; raises NotFound until a worker has taken it over."""
    for facts in stores.registry.models():
        if facts["name"] == model:
            return standing(stores, facts)
    raise NotFound(f"model {model!r} has no log yet: no worker has taken it over")


def standing(stores: Places, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the model of a line of `Registry.models` stands."""
    name = str(facts["name"])
    newest = next(iter(stores.log.metrics(name, newest=1)), None)
    jobs = stores.jobs.history(name, limit=1)
    return {
        "model": name,
        "windows": facts["seq"],
        "learned": newest["learned"] if newest else 0,
        "champion": facts["champion"],
        "promotion_seq": facts["promotion_seq"],
        **(_scores(newest) if newest else {"score": None, "rolling": None}),
        "drifts": newest["drifts"] if newest else 0,
        "updated_at": newest["closed_at"] if newest else None,
        "retrain": f"{jobs[0].status.value}: {jobs[0].reason}" if jobs else "none yet",
    }


def series(stores: Places, model: str, *, newest: int) -> list[dict[str, Any]]:
    """Return the newest points of a model's curves, oldest first: one a window, each series its rolling score."""
    return [
        {
            "seq": row["seq"],
            "at": row["closed_at"],
            "learned": row["learned"],
            "drifts": row["drifts"],
            "champion": row["champion"],
            **{name: _rolling(row, path) for name, path in _SERIES.items()},
        }
        for row in stores.log.metrics(model, newest=newest)
    ]


def described(version: Version, champion: int) -> dict[str, Any]:
    """Return a version as people read it."""
    return {
        "version": version.number,
        "kind": version.kind,
        "status": "champion" if version.number == champion else version.status.value,
        "algorithm": version.algorithm,
        "trigger": version.trigger,
        "trained_through": version.trained_through,
        "rows": version.row_count,
        "rows_digest": version.rows_digest,
        "parent": version.parent,
        "created_at": version.created_at,
        "metrics": dict(version.metrics),
        "sha256": version.artifact.sha256 if version.artifact else None,
    }


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    scores = row["prequential"]
    name = next(name for name in _SCORES if name in scores)
    return {"metric": name, "score": scores[name], "rolling": scores[f"rolling_{name}"]}


def _rolling(row: Mapping[str, Any], path: Sequence[str]) -> float | None:
    scores: Any = row
    for step in path:
        scores = scores[step]
    value = next((scores[f"rolling_{name}"] for name in _SCORES if f"rolling_{name}" in scores), None)
    return None if value is None else float(value)
