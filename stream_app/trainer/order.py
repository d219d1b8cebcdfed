"""What crosses the border between the trainer and the process of one retrain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from stream_app.core.schema import Schema
from stream_app.model_settings import ModelSettings
from stream_app.ports import Clock, Stores
from stream_app.values import Floats, Ints, Job, JobStatus

#: A trainer that is silent for so long loses its job.
LEASE_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """A model that may be retrained."""

    #: with features and classes filled in
    settings: ModelSettings
    schema: Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One retrain to do."""

    job: Job
    trainee: Trainee
    #: rows with seq <= this are read
    through_seq: int
    #: who holds the job's lease
    holder: str


class OnlineOutputs(Protocol):
    """What the online learner said at the time, folded again."""

    def __call__(self, model: str, *, after: int, through: int) -> tuple[Ints, Ints, Floats]:
        """Return (seq int64[n], pos int64[n], outputs float64[n] or [n, classes]) for after < seq <= through.

        Rows that were not learned online are left out.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a retrain works with, opened in its own process."""

    stores: Stores
    online_outputs: OnlineOutputs
    #: where artifacts are, and the public key in PEM: all that a subscriber has to load the result with
    artifact_place: str
    public_key: str
    clock: Clock
    #: the operator's own types that a stored model may hold, dotted
    trusted: tuple[str, ...] = ()


#: Opens the tools. It is pickled by reference and called in the new process.
Opening: TypeAlias = Callable[[], Tools]
#: Asked several times a second while a retrain runs; False: it must end.
MayGoOn: TypeAlias = Callable[[], bool]
#: Hears in a few words what is being done.
Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a retrain ended that came to a verdict."""

    #: succeeded or rejected
    status: JobStatus
    reason: str
    #: the version that it registered for promotion
    version: int | None = None
    #: JSON-able numbers; "request" is the id of the promotion request, if there is one
    verdict: Mapping[str, Any] = field(default_factory=dict)
