"""The protocols between rooms: what one room needs of another, and nothing about how it is done.

All storage calls block; callers on an event loop run them in a thread. Every call that writes on behalf of
an owner takes the owner's `epoch` and raises `Fenced`, having written nothing, once another epoch exists.
A store that is away raises `Outage`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from stream_app.job_ports import Jobs, Switches
from stream_app.values import (
    ControlEntry,
    ExpiredBytes,
    FoldReport,
    JobStatus,
    Partition,
    StoredArtifact,
    Tenure,
    Version,
    VersionStatus,
    Window,
)

#: Seconds since the epoch. Passed in, so that tests own the time.
Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to deliver."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    #: None lets Kafka's default (murmur2 of the key) choose
    partition: int | None = None
    #: milliseconds since the epoch; None: the time of sending
    timestamp_ms: int | None = None


class Deliver(Protocol):
    """Hands messages to Kafka."""

    def __call__(self, messages: Sequence[Outgoing]) -> None:
        """Send in order and return once all are acknowledged by all replicas; raise Outage otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A pickled state whose digest and HMAC have been verified."""

    seq: int
    fold_digest: str
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFile:
    """A Parquet file of the log, for outside readers."""

    path: str
    first_seq: int
    last_seq: int
    rows: int
    sha256: str
    size: int


class WindowLog(Protocol):
    """The fenced window log: the only truth."""

    def take_over(self, model: str, *, owner: str, schema_json: str, start: Mapping[Partition, int]) -> Tenure:
        """Move the epoch on by one and return where the log stands; create the model if it is new.

        `schema_json` and `start` (first offsets to read) are used at creation only; afterwards the stored
        schema is returned and the caller compares.
        """

    def commit(self, window: Window) -> None:
        """Make the window durable, then move the model's seq to `window.header.seq` in one transaction.

        1. write the rows as Parquet and fsync file and folder, or encode them inline when small
        2. one transaction: epoch and seq checked, header, positions, origin marks, control requests answered
        Raises Fenced if epoch or seq moved on.
        """

    def apply_effects(self, model: str, *, epoch: int, effects: "Effects") -> None:
        """Store what folding window `effects.report.seq` caused, in one transaction that moves effects_seq by one.

        Raises Fenced. If effects of that seq are stored already with other metrics or another probe hash,
        raises Corrupt.
        """

    def windows(self, model: str, *, after: int = 0, through: int | None = None) -> Iterator[Window]:
        """Yield the committed windows with after < seq <= through in order; rows verified against their digest."""

    def schema(self, model: str) -> str:
        """Return the schema's JSON as frozen at the model's creation, in whose columns the rows are."""

    def oldest(self, model: str) -> int:
        """Return the seq of the oldest window that retention left, 1 when there is none."""

    def table(self, model: str, *, after: int = 0, through: int | None = None) -> pa.Table:
        """Return the same rows as one Arrow table in (seq, pos) order, in the columns of the window files."""

    def rows_digest(self, model: str, *, through: int) -> tuple[int, str]:
        """Return row count and chained digest of all rows with seq <= through, without reading them."""

    def positions(self, model: str) -> Mapping[Partition, int]:
        """Return the next offset to read of each partition that the model has read."""

    def metrics(self, model: str, *, after: int = 0, newest: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the metrics rows with seq > after in order, each with `seq` and `probe_hash`; or the newest few."""

    def files(self, model: str) -> Sequence[WindowFile]:
        """Return the files that hold the rows; small windows still inline are written out first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Why nobody reads on in a partition: too many of its newest records were bad."""

    #: of bad records among the newest ones, above `limit`
    share: float
    #: what dead_letters.max_share was
    limit: float
    #: everything below was dealt with
    offset: int
    #: seconds since the epoch
    at: float


class PartitionLog(Protocol):
    """Positions of input that belongs to no model's log, fenced like a model."""

    def take_over(self, partition: Partition, *, owner: str) -> tuple[int, int]:
        """Move the partition's epoch on and return (epoch, next offset to read)."""

    def advance(self, partition: Partition, *, epoch: int, position: int, dead_lettered: int, forwarded: int) -> None:
        """Move the position after awaited delivery, and add to the counts; raises Fenced."""

    def halt(self, partition: Partition, *, epoch: int, halt: Halt, events: Mapping[str, tuple[str, bytes]]) -> None:
        """Store that nobody may read on, and owe `learning-events` these (type, value) by model; raises Fenced."""

    def halted(self, partition: Partition) -> Halt | None:
        """Return why nobody may read on, None when somebody may."""

    def resume(self, partition: Partition, *, epoch: int) -> None:
        """Let the partition be read on; raises Fenced."""

    def counts(self) -> Mapping[Partition, tuple[int, int]]:
        """Return (dead-lettered, forwarded) by partition."""

    def incarnation(self, topic: str) -> str | None:
        """Return the incarnation of the topic that was last read, None if it was never read."""

    def record_incarnation(self, topic: str, incarnation: str, *, partitions: int) -> int:
        """Store the incarnation now read; return the number of partitions at its first sight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A serving state to announce; it becomes an outbox row in the transaction that makes it true."""

    #: "3" or "1.57"
    version: str
    #: builds the event's payload once its promotion_seq is known
    event: Callable[[int], bytes]
    artifact: StoredArtifact
    algorithm: str
    #: newest window that it has learned
    trained_through: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What one folded window changes outside the fold."""

    report: FoldReport
    #: a promotion or rollback that holds from this window on: the version and its publication
    promoted: tuple[int, Publication] | None = None
    #: (CloudEvents type, payload) of events for `learning-events`
    events: tuple[tuple[str, bytes], ...] = ()


class Publications(Protocol):
    """Publishing the state of the online model between windows."""

    def publish(self, model: str, *, epoch: int, at_seq: int, publication: Publication) -> int:
        """Store a snapshot and its outbox row if effects_seq is still `at_seq`; return its promotion_seq."""

    def last(self, model: str) -> tuple[int, float, int] | None:
        """Return (trained_through, published_at, promotion_seq) of the newest publication."""


class ControlRequests(Protocol):
    """Requests that wait for an owner."""

    def ask(self, model: str, kind: str, body: Mapping[str, Any], *, by: str) -> int:
        """Store a request and return its id; raises NotFound for an unknown model."""

    def waiting(self, model: str) -> Sequence[tuple[int, str, Mapping[str, Any]]]:
        """Return (id, kind, body) of unanswered requests, oldest first."""

    def answer(self, request_id: int) -> ControlEntry | None:
        """Return how a request was answered, None while it waits."""

    def answered_in(self, request_id: int) -> int | None:
        """Return the window that carries the answer to a request, None while it waits."""


class Checkpoints(Protocol):
    """Folded states, verified before anybody unpickles them."""

    def save(self, model: str, *, epoch: int, seq: int, fold_digest: str, state: bytes) -> None:
        """Write, fsync, rename, then insert the row if the epoch is ours and effects_seq >= seq; raises Fenced."""

    def newest(self, model: str, *, through: int | None = None) -> Iterator[Checkpoint]:
        """Yield checkpoints newest first; one whose digest or HMAC fails is set aside and reported, not yielded."""

    def pin(self, model: str, seq: int) -> None:
        """Keep the checkpoint of `seq` whatever its age: later folds start from it."""


class ArtifactStore(Protocol):
    """Signed bytes under names that no client chooses."""

    def put(self, path: str, content: bytes) -> StoredArtifact:
        """Write durably, never over an existing artifact with other bytes; return digest, size and signature."""

    def get(self, artifact: StoredArtifact) -> bytes:
        """Return the bytes after checking size, digest and signature; raises Corrupt, or Outage if absent."""

    def delete(self, path: str) -> None:
        """Remove the artifact if it is there."""

    def remove_orphans(self, model: str, *, known: Collection[str], before: float) -> int:
        """Remove what was last put before that time and is at none of the known paths; return how many."""


class Registry(Protocol):
    """Versions of models and their lineage."""

    def register(self, version: Version) -> Version:
        """Insert with the model's next number (the given number is ignored); numbers are never used twice."""

    def versions(self, model: str) -> Sequence[Version]:
        """Return all versions, newest first."""

    def version(self, model: str, number: int) -> Version:
        """Return one version; raises NotFound."""

    def set_status(self, model: str, number: int, status: VersionStatus) -> None:
        """Move a version to `rejected` or `retired`; promotion is the owner's alone."""

    def champion(self, model: str) -> tuple[int, int]:
        """Return (version number, promotion_seq) of what serves now, (0, 0) before the first publication."""

    def previous(self, model: str) -> int | None:
        """Return the version that served before the one that serves now, None if no other ever did."""

    def models(self) -> Sequence[Mapping[str, Any]]:
        """Return name, epoch, seq, effects_seq, champion, promotion_seq, created_at of every model."""

    def expired_versions(self, model: str, *, keep: int) -> Sequence[ExpiredBytes]:
        """Return versions whose bytes may go: not among the newest `keep`, not serving, in no open request."""

    def expired_snapshots(self, model: str, *, keep: int, newer_than: float) -> Sequence[ExpiredBytes]:
        """Return snapshots whose bytes may go: neither among the newest `keep` nor published after `newer_than`."""

    def artifact_paths(self, model: str) -> frozenset[str]:
        """Return where the bytes of every version and snapshot of the model are or were."""

    def mark_deleted(self, expired: Sequence[ExpiredBytes], *, now: float) -> None:
        """Note that these bytes were deleted; delete the bytes first, a repeat does no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message that a transaction owes to Kafka."""

    id: int
    model: str
    #: CloudEvents id: the same at each repetition
    event_id: str
    type: str
    topic: str
    key: bytes
    value: bytes
    created_at: float


class Outbox(Protocol):
    """Messages owed to Kafka, in order."""

    def unsent(self, *, limit: int = 1000) -> Sequence[OutboxMessage]:
        """Return what was not yet sent, oldest first, but joined labels behind everything else."""

    def mark_sent(self, ids: Sequence[int], *, now: float) -> None:
        """Note that these were acknowledged by the broker."""

    def pointers(self) -> Sequence[OutboxMessage]:
        """Return the current model-updated message of every model, to be asserted again by a new relay."""

    def note(self, model: str, type_: str, value: bytes, *, now: float) -> None:
        """Add an event for `learning-events` outside of an owner's transaction (retrain started, failed …)."""

    def forget_sent(self, *, before: float) -> int:
        """Delete what was sent before that time, but never a model's current pointer; return how many."""


class Leases(Protocol):
    """Who does a job that only one process may do."""

    def acquire(self, name: str, *, holder: str, now: float, lease_s: float) -> bool:
        """Take or renew the lease; False while somebody else holds it."""

    def release(self, name: str, *, holder: str) -> None:
        """Give it back early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """All of storage, as the composition root hands it to the rooms above."""

    log: WindowLog
    partitions: PartitionLog
    publications: Publications
    control: ControlRequests
    checkpoints: Checkpoints
    artifacts: ArtifactStore
    registry: Registry
    jobs: Jobs
    outbox: Outbox
    leases: Leases
    switches: Switches


class Observer(Protocol):
    """Hears frozen facts; metrics and logs are listeners."""

    def __call__(self, fact: str, /, *, amount: float = 1.0, **labels: str) -> None:
        """Take note that `fact` (a metric's name without prefix and suffix) happened or has this amount."""


@dataclass(slots=True)
class Recorder:
    """An observer that remembers, for tests and summaries."""

    facts: list[tuple[str, float, dict[str, str]]] = field(default_factory=list)

    def __call__(self, fact: str, /, *, amount: float = 1.0, **labels: str) -> None:
        """Remember the fact."""
        self.facts.append((fact, amount, labels))


#: Statuses of a job that has ended.
ENDED: frozenset[JobStatus] = frozenset(
    {JobStatus.SUCCEEDED, JobStatus.REJECTED, JobStatus.FAILED, JobStatus.CANCELLED}
)
