"""What serving and the label join need of storage; the rules of `ports` hold here too."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stream_app.core.joining import Opinion, Outcome
from stream_app.messages import PredictionMade
from stream_app.values import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A position of input that belongs to no model's log, to be stored in the transaction that deals with it."""

    partition: Partition
    epoch: int
    position: int
    dead_lettered: int = 0


class PredictionStore(Protocol):
    """Predictions, what people said of them, and the join of the two.

    Both sides may come first, more than once, and from several processes at once: each call is one transaction
    that stores what it was given, decides by `core.joining`, and owes `ground-truth` what is to be learned.
    """

    def take_predictions(self, predictions: Sequence[PredictionMade], *, moved: Moved | None = None) -> None:
        """Store predictions and join the feedback that waits for them; a repeat changes nothing. Raises Fenced."""

    def take_feedback(self, opinions: Sequence[Opinion], *, moved: Moved | None = None) -> Sequence[Outcome]:
        """Store feedback and return what became of each, in order; a repeat gets its first answer. Raises Fenced."""

    def prediction(self, prediction_id: str) -> PredictionMade | None:
        """Return a stored prediction, None if there is none (yet)."""

    def settle(self, *, limit: int = 1_000) -> int:
        """Hand on the labels whose time to settle is over; return how many predictions were settled."""

    def expired(self, *, limit: int = 1_000) -> Sequence[tuple[int, Opinion]]:
        """Return feedback that waited too long, or is beyond the bound, with the ids to forget it by."""

    def forget(self, ids: Collection[int]) -> None:
        """Mark such feedback as expired, once its dead letters are delivered."""

    def sweep(self, *, limit: int = 1_000) -> int:
        """Delete predictions older than they are kept for, with their feedback; return how many."""

    def counts(self, model: str | None = None) -> Mapping[str, int]:
        """Return how many predictions are stored, and how much feedback by outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """Who may do what; the secret itself is nowhere."""

    id: str
    name: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class ApiKeys(Protocol):
    """The keys of the HTTP API."""

    def create(self, name: str, scopes: Collection[str], *, now: float, expires_at: float | None) -> tuple[str, ApiKey]:
        """Return the key as its owner has to send it, told this once, and what is stored of it."""

    def verify(self, key: str, *, now: float) -> ApiKey | None:
        """Return whose key it is, None for one that is unknown, wrong, expired or revoked; constant in time."""

    def revoke(self, key_id: str, *, now: float) -> None:
        """Refuse it from now on; raises NotFound."""

    def all(self) -> Sequence[ApiKey]:
        """Return all keys, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """Something that somebody changed."""

    at: float
    actor: str
    action: str
    model: str | None
    details: Mapping[str, object]


class Audit(Protocol):
    """Who changed what, when."""

    def note(self, deed: Deed) -> None:
        """Add it."""

    def newest(self, *, limit: int = 100) -> Sequence[Deed]:
        """Return the newest deeds, newest first."""
