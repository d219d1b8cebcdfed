"""What becomes of what people say about a prediction: the rules of the label join."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Label: TypeAlias = float | str | int | bool


class Outcome(StrEnum):
    """What became of one feedback; also the word in the answer to whoever gave it."""

    #: handed to `ground-truth`, to be learned
    LEARNED = "learned"
    #: waits for its prediction, or for other labels to settle with
    PENDING = "pending"
    #: unsure: kept, never learned
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
