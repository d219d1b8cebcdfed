"""Who may serve, and that nobody new does whenever something cannot be compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.gates import (
    MAX_MISSING,
    MIN_HOLDOUT,
    Contestant,
    Role,
    Verdict,
    judge,
    policy_of,
)
from stream_app.core.shape import Shape
from stream_app.errors import Misconfigured
from stream_app.values import Floats, Task

BINARY = Shape(task=Task.BINARY, numeric=("a",), categorical=(), classes=(0, 1))
VALUES = Shape(task=Task.REGRESSION, numeric=("a",), categorical=(), classes=())
LABELS = np.tile([0.0, 1.0], 50)


def right(share: float) -> Floats:
    """Return outputs that are right for the first share of the rows."""
    known = np.arange(len(LABELS)) < share * len(LABELS)
    return np.where(known, LABELS, 1 - LABELS)


def gate(
    champion: Floats, candidate: Floats, online: Floats | None = None, *, gain: float = 0.0, metric: str | None = None
) -> Verdict:
    contestants = [
        Contestant(name="version 3", role=Role.CHAMPION, outputs=champion),
        Contestant(name="Ridge", role=Role.CANDIDATE, outputs=candidate),
    ]
    if online is not None:
        contestants.append(Contestant(name="online", role=Role.ONLINE, outputs=online))
    return judge(BINARY, policy_of(Task.BINARY, metric, gain), LABELS, contestants)


def test_a_better_candidate_is_promoted_with_its_numbers() -> None:
    verdict = gate(right(0.7), right(0.9))
    assert verdict.promote == "Ridge"
    assert verdict.reason == "Ridge beats version 3 by 0.2: accuracy 0.9000 against 0.7000"
    assert (verdict.rows, verdict.missing, verdict.metric) == (100, 0, "accuracy")
    assert verdict.scores["Ridge"]["accuracy"] == 0.9
    assert verdict.scores["version 3"]["accuracy"] == 0.7


def test_as_good_is_not_better() -> None:
    verdict = gate(right(0.7), right(0.7))
    assert verdict.promote is None
    assert verdict.reason == "Ridge does not beat version 3 by more than 0: accuracy 0.7000 against 0.7000"


def test_the_gain_asked_for_must_be_exceeded() -> None:
    assert gate(right(0.7), right(0.75), gain=0.06).promote is None
    assert gate(right(0.7), right(0.75), gain=0.04).promote == "Ridge"


def test_the_online_learner_wins_when_it_is_best_and_when_it_is_as_good_as_the_best_candidate() -> None:
    assert gate(right(0.7), right(0.8), right(0.9)).promote == "online"
    assert gate(right(0.7), right(0.8), right(0.8)).promote == "online"
    assert gate(right(0.7), right(0.8), right(0.6)).promote == "Ridge"


def test_lower_is_better_for_losses_and_errors() -> None:
    sure, unsure = np.where(LABELS == 1, 0.9, 0.1), np.where(LABELS == 1, 0.6, 0.4)
    assert gate(unsure, sure, metric="log_loss").promote == "Ridge"
    assert gate(sure, unsure, metric="log_loss").promote is None
    policy = policy_of(Task.REGRESSION, None, 0.0)
    near = Contestant(name="near", role=Role.CANDIDATE, outputs=LABELS + 0.1)
    far = Contestant(name="far", role=Role.CHAMPION, outputs=LABELS + 0.5)
    verdict = judge(VALUES, policy, LABELS, [far, near])
    assert (verdict.promote, verdict.metric) == ("near", "mae")


def test_an_answer_that_is_no_number_cannot_win() -> None:
    broken = right(1.0)
    broken[7] = np.nan
    verdict = gate(right(0.5), broken)
    assert verdict.promote is None
    assert verdict.reason == "every challenger's accuracy is no number over all rows of the holdout"


def test_a_metric_that_is_undefined_decides_nothing() -> None:
    contestants = [
        Contestant(name="version 3", role=Role.CHAMPION, outputs=np.zeros(100)),
        Contestant(name="Ridge", role=Role.CANDIDATE, outputs=np.linspace(0, 1, 100)),
    ]
    verdict = judge(BINARY, policy_of(Task.BINARY, "roc_auc", 0.0), np.zeros(100), contestants)
    assert verdict.promote is None
    assert "roc_auc is no number" in verdict.reason


def test_a_tiny_holdout_decides_nothing() -> None:
    few = slice(0, MIN_HOLDOUT - 1)
    contestants = [
        Contestant(name="version 3", role=Role.CHAMPION, outputs=right(0.0)[few]),
        Contestant(name="Ridge", role=Role.CANDIDATE, outputs=right(1.0)[few]),
    ]
    verdict = judge(BINARY, policy_of(Task.BINARY, None, 0.0), LABELS[few], contestants)
    assert verdict.promote is None
    assert verdict.reason == "the holdout has 29 rows to compare on, at least 30 are needed"


def test_a_champion_without_answers_is_not_beaten() -> None:
    silent = right(0.5)
    silent[: int(MAX_MISSING * 100) + 1] = np.nan
    verdict = gate(silent, right(1.0))
    assert verdict.promote is None
    assert verdict.reason == "the champion's answers are missing for 21 of 100 rows, at most 20% may be"
    assert verdict.scores == {}


def test_all_are_compared_on_the_rows_that_the_champion_answered() -> None:
    silent = right(0.5)
    silent[:20] = np.nan
    verdict = gate(silent, right(0.6))
    assert (verdict.rows, verdict.missing) == (80, 20)
    assert verdict.scores["Ridge"]["accuracy"] == 0.5
    assert verdict.scores["version 3"]["accuracy"] == 0.375


def test_an_online_learner_that_missed_most_rows_is_left_out_and_hides_none() -> None:
    absent = np.full(100, np.nan)
    absent[:50] = LABELS[:50]
    verdict = gate(right(0.7), right(0.9), absent)
    assert verdict.promote == "Ridge"
    assert verdict.rows == 100
    assert "online" not in verdict.scores


def test_classes_are_compared_by_the_likeliest() -> None:
    shape = Shape(task=Task.MULTICLASS, numeric=("a",), categorical=(), classes=("x", "y", "z"))
    labels = np.tile([0.0, 1.0, 2.0], 20)
    champion = Contestant(name="old", role=Role.CHAMPION, outputs=np.tile([0.6, 0.4, 0.0], (60, 1)))
    candidate = Contestant(name="new", role=Role.CANDIDATE, outputs=np.eye(3)[labels.astype(int)])
    verdict = judge(shape, policy_of(Task.MULTICLASS, None, 0.0), labels, [champion, candidate])
    assert verdict.promote == "new"
    assert verdict.scores["new"]["accuracy"] == 1.0


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"metric: 'mae' is no metric for task = binary; expected one of accuracy"):
        policy_of(Task.BINARY, "mae", 0.0)


@given(champion=st.integers(0, 100), candidate=st.integers(0, 100), online=st.integers(0, 100), gain=st.floats(0, 0.5))
def test_who_is_promoted_beats_everybody(champion: int, candidate: int, online: int, gain: float) -> None:
    verdict = gate(right(champion / 100), right(candidate / 100), right(online / 100), gain=gain)
    accuracy = {name: scores["accuracy"] for name, scores in verdict.scores.items()}
    best = max(accuracy.values())
    assert (verdict.promote is None) == (not best - accuracy["version 3"] > gain)
    assert verdict.promote is None or accuracy[verdict.promote] == best
