"""The queue of retrains, as everybody but storage sees it; the rules of `ports` hold here too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from stream_app.values import Job, Partition

#: The switch of automatic retraining.
RETRAINING: Final = "retraining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What a retrain was requested with."""

    count: int
    #: where they are kept as they came
    file: str
    #: the log has them once it has passed these offsets
    end: Mapping[Partition, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingLine:
    """One line of the table `retraining_logs`; a request with samples has one, and so has every job."""

    id: int
    #: ISO 8601, UTC
    timestamp: str
    sample_count: int | None
    training_file: str | None
    #: STARTED, COMPLETED (the verdict is in `stdout`) or FAILED
    status: str
    stdout: str | None
    stderr: str | None


class Jobs(Protocol):
    """The leased queue of full retrains: at most one queued and one running per model."""

    def request(self, model: str, trigger: str, *, now: float, samples: Samples | None = None) -> tuple[Job, bool]:
        """Queue a retrain; if one is queued already return it and False: it waits for these samples too."""

    def claim(
        self, *, holder: str, now: float, lease_s: float, is_ready: Callable[[Job], bool] = lambda _: True
    ) -> Job | None:
        """Take the oldest ready job that is queued, or whose holder's lease ran out, and mark it running."""

    def renew(self, job_id: int, *, holder: str, now: float, lease_s: float) -> bool:
        """Extend the lease; False when it was lost: end the work."""

    def give_back(self, job: Job, *, holder: str, now: float) -> bool:
        """Let it be claimed again at once, with the job's `attempts` behind it; False when the lease was lost."""

    def finish(self, job: Job, *, holder: str, output: str = "") -> bool:
        """Store the end state and what it printed if the lease is still ours; False otherwise."""

    def lines(self, *, limit: int = 20) -> Sequence[RetrainingLine]:
        """Return the newest lines of the retraining logs, newest first."""

    def history(self, model: str | None = None, *, limit: int = 20) -> Sequence[Job]:
        """Return jobs, newest first."""


class Switches(Protocol):
    """What people turned on or off, for all processes and over restarts."""

    def is_on(self, name: str) -> bool:
        """Return how the switch was left; one that nobody touched is on."""

    def turn(self, name: str, *, on: bool, by: str, now: float) -> None:
        """Turn it; turning it again the same way only changes who did it last."""
