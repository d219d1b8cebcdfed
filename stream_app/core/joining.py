"""What becomes of what people say about a prediction: the rules of the label join.

Pure: a prediction's standing and the next label go in, what changes comes out. Storage keeps the standing, and sees to
it that everything is decided once. Labels are heard in the order in which they arrived; where the prediction itself
comes among them makes no difference, since a label that waits for it keeps the time at which it came in.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from stream_app.core.schema import Schema
from stream_app.errors import InvalidRecord
from stream_app.model_settings import FeedbackSettings
from stream_app.values import Task

Label: TypeAlias = float | str | int | bool


class Outcome(StrEnum):
    """What became of one feedback; also the word in the answer to whoever gave it."""

    #: handed to `ground-truth`, to be learned
    LEARNED = "learned"
    #: waits for its prediction, or for other labels to settle with
    PENDING = "pending"
    #: kept, never learned: unsure, replaced or outvoted before anything was handed on, or one voice after a majority
    STORED = "stored"
    #: differs from what was handed on before: handed on as a correction
    CORRECTED = "corrected"
    #: says what is known already
    DUPLICATE = "duplicate"
    #: cannot be understood for this model, e.g. "wrong" without a label where there are three classes
    REFUSED = "refused"
    #: its prediction did not come in time
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """One feedback, as it was given."""

    #: the sender's id, or its coordinates; a repeat changes nothing
    feedback_id: str
    prediction_id: str
    #: correct, wrong or unsure; None when only a label was given
    verdict: str | None
    label: Label | None
    source: str | None
    #: seconds since the epoch
    given_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A label that somebody gave, spelled as its model spells it."""

    feedback_id: str
    label: Label
    source: str | None
    #: when it came in, seconds since the epoch
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far the label of one prediction has come."""

    #: what was handed on last, None: nothing yet
    handed_on: Label | None = None
    #: when what gathers is settled, seconds since the epoch; None: nothing gathers
    settle_at: float | None = None
    #: what gathers, in the order in which it came in
    gathered: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What one label, or the end of the time to settle, changes."""

    standing: Standing
    #: by feedback id
    outcomes: Mapping[str, Outcome]
    #: to be handed to `ground-truth`
    hand_on: Said | None = None
    #: whether another label was handed on before
    corrects: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the labels of one model are understood and settled."""

    schema: Schema
    feedback: FeedbackSettings

    def understand(self, predicted: Label, opinion: Opinion) -> Label | None:
        """Return the label that is meant, as the model spells it, None for unsure.

        Raises InvalidRecord for a label that is none of the model's, and for what says nothing or two things.
        """
        answer = self._spell(predicted)
        given = None if opinion.label is None else self._spell(opinion.label)
        if opinion.verdict is None and given is not None:
            return given
        meant = {"correct": self._correct, "wrong": self._wrong, "unsure": _unsure}.get(opinion.verdict or "")
        if meant is None:
            raise _refused(f"verdict is {opinion.verdict!r}, expected correct, wrong or unsure, or a label")
        return meant(answer, given)

    def _spell(self, label: Label) -> Label:
        """Return the label as the schema knows it: 1.0 is the class 1; raises InvalidRecord."""
        code = float(self.schema.encode_labels([label])[0])
        return code if self.schema.task is Task.REGRESSION else self.schema.classes[int(code)]

    def _correct(self, answer: Label, given: Label | None) -> Label:
        if given not in {None, answer}:
            raise _refused(f"verdict is 'correct' and label {given!r}, but the prediction was {answer!r}")
        return answer

    def _wrong(self, answer: Label, given: Label | None) -> Label:
        if given == answer:
            raise _refused(f"verdict is 'wrong' and label {given!r}, but that was the prediction")
        if given is not None:
            return given
        if self.schema.task is not Task.BINARY:
            raise _refused("verdict is 'wrong' without a label, expected the right answer with it")
        return next(label for label in self.schema.classes if label != answer)


def _unsure(_: Label, given: Label | None) -> None:
    if given is not None:
        raise _refused(f"verdict is 'unsure' and label {given!r}, expected no label with it")


def _refused(message: str) -> InvalidRecord:
    return InvalidRecord("bad_verdict", message)


def hear(policy: FeedbackSettings, standing: Standing, said: Said) -> Iterator[Ruling]:
    """Yield what the next label changes, one ruling after the other; the last one's standing is the new one.

    There are two when the time to settle was over before the label came in, whoever noticed it when.
    """
    if is_due(policy, standing, said.at):
        settled = settle(policy, standing)
        standing = settled.standing
        yield settled
    if standing.handed_on is not None:
        yield _hear_later(policy, standing.handed_on, said)
        return
    gathering = _gather(policy, standing, said)
    if _is_enough(policy, gathering):
        yield settle(policy, gathering)
    else:
        yield Ruling(standing=gathering, outcomes={said.feedback_id: Outcome.PENDING})


def is_due(policy: FeedbackSettings, standing: Standing, now: float) -> bool:
    """Return whether what gathers is to be settled now."""
    if standing.settle_at is None:
        return False
    return standing.settle_at <= now or _is_enough(policy, standing)


def settle(policy: FeedbackSettings, standing: Standing) -> Ruling:
    """Hand on one of the labels that gathered; those that say the same are duplicates, the others are stored."""
    if not standing.gathered:
        return Ruling(standing=replace(standing, settle_at=None), outcomes={})
    chosen = _chosen(policy, standing.gathered)
    outcomes = {
        said.feedback_id: Outcome.DUPLICATE if said.label == chosen.label else Outcome.STORED
        for said in standing.gathered
    }
    return Ruling(
        standing=Standing(handed_on=chosen.label),
        outcomes={**outcomes, chosen.feedback_id: Outcome.LEARNED},
        hand_on=chosen,
    )


def _gather(policy: FeedbackSettings, standing: Standing, said: Said) -> Standing:
    settle_at = said.at + policy.settle_s if standing.settle_at is None else standing.settle_at
    return replace(standing, settle_at=settle_at, gathered=(*standing.gathered, said))


def _is_enough(policy: FeedbackSettings, standing: Standing) -> bool:
    """Return whether nothing more has to gather: one label under `first`, so many for a majority."""
    needed = {"first": 1, "majority": policy.majority_of}.get(policy.policy)
    return needed is not None and len(standing.gathered) >= needed


def _chosen(policy: FeedbackSettings, gathered: Sequence[Said]) -> Said:
    if policy.policy == "last":
        return gathered[-1]
    if policy.policy == "first":
        return gathered[0]
    label = _majority([said.label for said in gathered])
    return next(said for said in gathered if said.label == label)


def _majority(labels: Sequence[Label]) -> Label:
    """Return the label that most said; of several, the one that came to that count first."""
    counts: Counter[Label] = Counter()
    winner = labels[0]
    for label in labels:
        counts[label] += 1
        if counts[label] > counts[winner]:
            winner = label
    return winner


def _hear_later(policy: FeedbackSettings, known: Label, said: Said) -> Ruling:
    """Rule on a label that came after one was handed on."""
    if said.label == known:
        return Ruling(standing=Standing(handed_on=known), outcomes={said.feedback_id: Outcome.DUPLICATE})
    if policy.policy == "majority":  # one voice does not outvote what several agreed on
        return Ruling(standing=Standing(handed_on=known), outcomes={said.feedback_id: Outcome.STORED})
    return Ruling(
        standing=Standing(handed_on=said.label),
        outcomes={said.feedback_id: Outcome.CORRECTED},
        hand_on=said,
        corrects=True,
    )
