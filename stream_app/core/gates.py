"""The gate: who answers best on the same held-out rows, and may serve.

It fails closed. Whatever cannot be compared (a score that is no number, too few rows, a champion whose answers
are missing) leaves the champion where it is, and the verdict says why. How two contestants are compared is one
function over rows and scores, so that a paired test with a confidence bound can take its place.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.core.evaluation import Evaluation
from stream_app.core.shape import Shape
from stream_app.core.tallies import Metrics
from stream_app.errors import Misconfigured
from stream_app.values import Floats, Task

#: On fewer rows the standard error of an accuracy is 0.09: no difference worth a promotion shows.
MIN_HOLDOUT: Final = 30
#: Beyond this share of rows without the champion's answer, the rest may be of another kind than all.
MAX_MISSING: Final = 0.2


class Better(IntEnum):
    """Which scores are good; the number turns any score into one that is better when greater."""

    HIGHER = 1
    LOWER = -1


#: Metrics of `Evaluation` that a gate can compare.
CLASS_METRICS: Final[Mapping[str, Better]] = {
    "accuracy": Better.HIGHER,
    "kappa": Better.HIGHER,
    "log_loss": Better.LOWER,
    "roc_auc": Better.HIGHER,
}
VALUE_METRICS: Final[Mapping[str, Better]] = {"mae": Better.LOWER, "rmse": Better.LOWER, "r2": Better.HIGHER}


class Role(StrEnum):
    """What a contestant is to the model."""

    CHAMPION = "champion"
    ONLINE = "online"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Somebody's answers for the holdout."""

    #: unique, e.g. "version 3", "online", "Ridge"
    name: str
    role: Role
    #: float64[n] or [n, classes] as `Contender` says; NaN where there is no answer
    outputs: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What is compared, and what it takes."""

    metric: str
    better: Better
    #: a contestant must be better than the champion by more than this
    min_gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decision with everything behind it."""

    #: name of the contestant that shall serve, None: the champion stays
    promote: str | None
    reason: str
    metric: str
    #: rows on which all were compared
    rows: int
    #: rows of the holdout that could not be compared
    missing: int
    #: all scores by name; empty when nothing was compared
    scores: Mapping[str, Metrics]


def policy_of(task: Task, metric: str | None, min_gain: float) -> GatePolicy:
    """Return the policy of a model; without a metric accuracy decides, or MAE. Raises Misconfigured."""
    known = VALUE_METRICS if task is Task.REGRESSION else CLASS_METRICS
    name = metric or next(iter(known))
    if name not in known:
        raise Misconfigured(
            f"metric: {name!r} is no metric for task = {task.value}; expected one of {', '.join(known)}"
        )
    return GatePolicy(metric=name, better=known[name], min_gain=min_gain)


def judge(shape: Shape, policy: GatePolicy, labels: Floats, contestants: Sequence[Contestant]) -> Verdict:
    """Return who shall serve: the best of all, if it beats the champion by more than the gain asked for.

    One contestant is the champion. The online learner, where it is not the champion itself, competes with the
    candidates and wins ties with them, since it goes on learning; rows that it was not asked about (late ones)
    are left out for everybody. Who has one answer that is no number on the rows compared cannot win.
    """
    champion = next(c for c in contestants if c.role is Role.CHAMPION)
    answered = _answered(champion)
    field = [c for c in contestants if c.role is not Role.ONLINE or _knows_most(c, answered)]
    compared = np.logical_and.reduce([_answered(c) for c in field if c.role is not Role.CANDIDATE])
    scores: dict[str, Metrics] = {}
    promote, reason = None, _refusal(answered, compared)
    if reason is None:
        scores = {c.name: _scores(shape, c.outputs[compared], labels[compared]) for c in field}
        # the online learner first: of equals the first wins
        challengers = sorted((c for c in field if c is not champion), key=lambda c: c.role is not Role.ONLINE)
        promote, reason = _winner(policy, scores, champion.name, [c.name for c in challengers])
    return Verdict(
        promote=promote,
        reason=reason,
        metric=policy.metric,
        rows=int(compared.sum()),
        missing=int((~compared).sum()),
        scores=scores,
    )


def _answered(contestant: Contestant) -> NDArray[np.bool_]:
    outputs = contestant.outputs
    finite: NDArray[np.bool_] = np.isfinite(outputs if outputs.ndim == 1 else outputs.sum(axis=1))
    return finite


def _knows_most(contestant: Contestant, rows: NDArray[np.bool_]) -> bool:
    return int((_answered(contestant) & rows).sum()) >= (1 - MAX_MISSING) * int(rows.sum())


def _refusal(answered: NDArray[np.bool_], compared: NDArray[np.bool_]) -> str | None:
    """Return why there can be no comparison, None if there can be one."""
    rows, missing = len(answered), int((~answered).sum())
    if missing > MAX_MISSING * rows:
        return f"the champion's answers are missing for {missing:,} of {rows:,} rows, at most {MAX_MISSING:.0%} may be"
    if int(compared.sum()) < MIN_HOLDOUT:
        return f"the holdout has {int(compared.sum()):,} rows to compare on, at least {MIN_HOLDOUT} are needed"
    return None


def _scores(shape: Shape, outputs: Floats, labels: Floats) -> Metrics:
    evaluation = Evaluation(shape)
    evaluation.update(outputs, labels)
    return {name: value for name, value in evaluation.metrics().items() if not name.startswith("rolling_")}


def _winner(
    policy: GatePolicy, scores: Mapping[str, Metrics], champion: str, challengers: Sequence[str]
) -> tuple[str | None, str]:
    """Return the name of who shall serve instead of the champion, if anybody, and why."""
    values = {name: _oriented(policy, metrics) for name, metrics in scores.items()}
    comparable = [name for name in challengers if not math.isnan(values[name])]
    if math.isnan(values[champion]) or not comparable:
        who = "the champion's" if comparable else "every challenger's"
        return None, f"{who} {policy.metric} is no number over all rows of the holdout"
    best = max(comparable, key=values.__getitem__)
    gain = values[best] - values[champion]
    both = f"{policy.metric} {scores[best][policy.metric]:.4f} against {scores[champion][policy.metric]:.4f}"
    if gain > policy.min_gain:
        return best, f"{best} beats {champion} by {gain:.4g}: {both}"
    return None, f"{best} does not beat {champion} by more than {policy.min_gain:g}: {both}"


def _oriented(policy: GatePolicy, metrics: Metrics) -> float:
    """Return a score that is better when greater; NaN unless it is a number over all the rows."""
    value = metrics[policy.metric]
    return math.nan if value is None or metrics["left_out"] else float(policy.better * value)
