"""The rules of the label join: what is understood, what is handed on, and what can make no difference."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.joining import Opinion, Outcome, Rules, Ruling, Said, Standing, hear, is_due, settle
from stream_app.core.schema import Schema
from stream_app.errors import InvalidRecord
from stream_app.model_settings import FeedbackSettings
from stream_app.values import Task

BINARY = Schema(task=Task.BINARY, target="y", fields=(), classes=(0, 1))
WORDS = Schema(task=Task.BINARY, target="y", fields=(), classes=("no", "yes"))
COLOURS = Schema(task=Task.MULTICLASS, target="y", fields=(), classes=("red", "green", "blue"))
PRICES = Schema(task=Task.REGRESSION, target="y", fields=(), classes=())
SETTLE_S = 10.0
policies = st.builds(
    FeedbackSettings,
    policy=st.sampled_from(["first", "last", "majority"]),
    settle_s=st.just(SETTLE_S),
    majority_of=st.integers(1, 4),
)
#: Labels, each with the seconds since the one before.
courses = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from([0.0, 1.0, 4.0, 11.0])), max_size=8)


def understand(schema: Schema, predicted: Any, verdict: str | None, label: Any = None) -> Any:  # noqa: ANN401 - any label
    opinion = Opinion(feedback_id="f", prediction_id="p", verdict=verdict, label=label, source=None, given_at=0.0)
    return Rules(schema=schema, feedback=FeedbackSettings()).understand(predicted, opinion)


@pytest.mark.parametrize(
    ("schema", "predicted", "verdict", "label", "meant"),
    [
        (BINARY, 1, "correct", None, 1),
        (BINARY, 1, "correct", 1.0, 1),
        (BINARY, 1, "wrong", None, 0),
        (BINARY, 0, "wrong", 1, 1),
        (BINARY, 1, None, 0, 0),
        (BINARY, 1, "unsure", None, None),
        (WORDS, "no", "wrong", None, "yes"),
        (COLOURS, "red", "correct", None, "red"),
        (COLOURS, "red", "wrong", "blue", "blue"),
        (PRICES, 3, "correct", None, 3.0),
        (PRICES, 3.0, "correct", 3, 3.0),
        (PRICES, 3.0, "wrong", 4, 4.0),
    ],
)
def test_what_is_meant(schema: Schema, predicted: Any, verdict: str | None, label: Any, meant: Any) -> None:  # noqa: ANN401 - a table
    found = understand(schema, predicted, verdict, label)
    assert (type(found), found) == (type(meant), meant)


@pytest.mark.parametrize(
    ("schema", "predicted", "verdict", "label", "reason"),
    [
        (BINARY, 1, None, None, "expected correct, wrong or unsure, or a label"),
        (BINARY, 1, "perhaps", None, "verdict is 'perhaps'"),
        (BINARY, 1, "correct", 0, "'correct' and label 0, but the prediction was 1"),
        (BINARY, 1, "wrong", 1.0, "'wrong' and label 1, but that was the prediction"),
        (BINARY, 1, "unsure", 0, "'unsure' and label 0, expected no label"),
        (BINARY, 1, None, "1", "is str '1', expected one of"),
        (BINARY, 1, None, True, "is bool 'True', expected one of"),
        (COLOURS, "red", "wrong", None, "expected the right answer with it"),
        (COLOURS, "red", None, "mauve", "expected one of"),
        (PRICES, 3.0, "wrong", None, "expected the right answer with it"),
        (PRICES, 3.0, None, float("nan"), "expected a number"),
        (PRICES, 3.0, None, 1e300, "expected a number"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    schema: Schema,
    predicted: Any,  # noqa: ANN401 - any label
    verdict: str | None,
    label: Any,  # noqa: ANN401 - any label
    reason: str,
) -> None:
    with pytest.raises(InvalidRecord, match=reason):
        understand(schema, predicted, verdict, label)


class Course:
    """What became of labels heard one after the other."""

    def __init__(self, policy: FeedbackSettings) -> None:
        self.policy = policy
        self.standing = Standing()
        self.outcomes: dict[str, Outcome] = {}
        self.handed_on: list[tuple[Any, bool]] = []

    def hear(self, said: Said) -> None:
        for ruling in hear(self.policy, self.standing, said):
            self._apply(ruling)

    def poll(self, now: float) -> None:
        if is_due(self.policy, self.standing, now):
            self._apply(settle(self.policy, self.standing))

    def _apply(self, ruling: Ruling) -> None:
        self.standing = ruling.standing
        self.outcomes |= ruling.outcomes
        if ruling.hand_on is not None:
            self.handed_on.append((ruling.hand_on.label, ruling.corrects))

    @property
    def story(self) -> tuple[list[Outcome], list[tuple[Any, bool]], Standing]:
        return list(self.outcomes.values()), self.handed_on, self.standing


def spoken(course: Sequence[tuple[str, float]]) -> list[Said]:
    at, said = 100.0, []
    for number, (label, pause_s) in enumerate(course):
        at += pause_s
        said.append(Said(feedback_id=f"f{number}", label=label, source=None, at=at))
    return said


def heard(policy: FeedbackSettings, said: Sequence[Said]) -> Course:
    course = Course(policy)
    for each in said:
        course.hear(each)
    return course


@given(policies, courses, st.floats(0, 3.9))
def test_it_makes_no_difference_when_somebody_looks_for_what_is_due(
    policy: FeedbackSettings, course: list[tuple[str, float]], later_s: float
) -> None:
    said = spoken(course)
    polled, unpolled = Course(policy), heard(policy, said)
    for each in said:
        polled.poll(each.at)
        polled.hear(each)
        polled.poll(each.at)
    assert polled.story == unpolled.story
    end = (said[-1].at if said else 0.0) + SETTLE_S + later_s
    polled.poll(end)
    unpolled.poll(end)
    assert polled.story == unpolled.story


@given(policies, courses)
def test_exactly_one_label_is_learned_and_each_correction_changes_what_is_known(
    policy: FeedbackSettings, course: list[tuple[str, float]]
) -> None:
    told = heard(policy, spoken(course))
    told.poll(float("inf"))
    outcomes = list(told.outcomes.values())
    assert len(outcomes) == len(course)
    assert set(outcomes) <= {Outcome.LEARNED, Outcome.CORRECTED, Outcome.DUPLICATE, Outcome.STORED}
    assert outcomes.count(Outcome.LEARNED) == bool(course)
    labels = [label for label, _ in told.handed_on]
    assert [corrects for _, corrects in told.handed_on] == [i > 0 for i in range(len(labels))]
    assert len(labels) == bool(course) + outcomes.count(Outcome.CORRECTED)
    assert labels == [label for label, _ in groupby(labels)]
    assert told.standing == Standing(handed_on=labels[-1] if labels else None)


@given(courses)
def test_first_hands_on_each_change_of_mind(course: list[tuple[str, float]]) -> None:
    told = heard(FeedbackSettings(policy="first"), spoken(course))
    assert [label for label, _ in told.handed_on] == [label for label, _ in groupby(label for label, _ in course)]


@given(courses)
def test_last_learns_the_newest_label_of_its_time_whatever_came_before(course: list[tuple[str, float]]) -> None:
    said = spoken(course)
    told = heard(FeedbackSettings(policy="last", settle_s=SETTLE_S), said)
    told.poll(float("inf"))
    in_time = [each.label for each in said if each.at < said[0].at + SETTLE_S]
    assert [label for label, corrects in told.handed_on if not corrects] == in_time[-1:]


@given(courses, st.integers(1, 4))
def test_a_majority_is_that_of_the_first_few_labels_in_time_and_stays(
    course: list[tuple[str, float]], majority_of: int
) -> None:
    said = spoken(course)
    told = heard(FeedbackSettings(policy="majority", settle_s=SETTLE_S, majority_of=majority_of), said)
    told.poll(float("inf"))
    votes = [each.label for each in said if each.at < said[0].at + SETTLE_S][:majority_of]
    most = max(map(votes.count, votes), default=0)
    reached = [label for i, label in enumerate(votes) if votes[: i + 1].count(label) == most]
    assert told.handed_on == [(label, False) for label in reached[:1]]


@given(policies, courses, st.randoms(use_true_random=False))
def test_who_says_it_and_from_where_decides_nothing(
    policy: FeedbackSettings,
    course: list[tuple[str, float]],
    rng: Any,  # noqa: ANN401 - hypothesis gives one
) -> None:
    said = spoken(course)
    names = [f"x{rng.randrange(10**9)}-{i}" for i in range(len(said))]
    others = [Said(feedback_id=n, label=s.label, source="other", at=s.at) for n, s in zip(names, said, strict=True)]
    mine, theirs = heard(policy, said), heard(policy, others)
    assert list(mine.outcomes.values()) == list(theirs.outcomes.values())
    assert mine.handed_on == theirs.handed_on


def test_a_policy_that_was_changed_meanwhile_settles_what_gathered() -> None:
    gathering = heard(FeedbackSettings(policy="last", settle_s=SETTLE_S), spoken([("a", 0), ("b", 1)]))
    assert is_due(FeedbackSettings(policy="first"), gathering.standing, 101.0)
    told = [
        r.hand_on.label
        for r in hear(FeedbackSettings(policy="first"), gathering.standing, spoken([("b", 2)])[0])
        if r.hand_on
    ]
    assert told == ["a", "b"]
