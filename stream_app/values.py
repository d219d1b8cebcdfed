"""The vocabulary inside a process: frozen values, each field with a word on it.

Rows are kept as a struct of arrays, not as objects: a window of 20,000 rows is a handful of arrays, and
checks, files, scores and learning each touch it with a few vectorised calls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Objects: TypeAlias = NDArray[np.object_]


class Task(StrEnum):
    """What a model predicts."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class RowKind(IntEnum):
    """What a row of the log is to the learners."""

    #: learned online and used by retrains
    RECORD = 0
    #: arrived after the allowed lateness: used by retrains, not learned online
    LATE = 1
    #: a later, different label for an event already learned: applied by retrains and rebuilds
    CORRECTION = 2
    #: content removed on request; only the coordinates remain
    ERASED = 3


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Partition:
    """One partition of one incarnation of a topic; a recreated topic is another incarnation."""

    #: Kafka's topic id, or the cluster id of an embedded broker
    incarnation: str
    topic: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive fetched records of one partition, as columns of equal length.

    Offsets rise but may have gaps (transactions, compaction): compute nothing from neighbours.
    """

    partition: Partition
    offsets: Sequence[int]
    #: None where the producer sent no key
    keys: Sequence[bytes | None]
    #: None is a tombstone
    values: Sequence[bytes | None]
    #: per record, the (name, value) pairs in wire order
    headers: Sequence[Sequence[tuple[str, bytes]]]
    #: Kafka timestamps, milliseconds since the epoch
    timestamps_ms: Sequence[int]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.offsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The canonical features of n records, columns in the schema's order."""

    #: float64[n, k]; NaN is an explicit missing value
    numeric: Floats
    #: object[n, m] of str; None is an explicit missing value
    categorical: Objects

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.numeric)

    def take(self, chosen: slice | NDArray[Any]) -> "Features":
        """Return the chosen records (a slice, a boolean mask or positions), in their order."""
        return Features(numeric=self.numeric[chosen], categorical=self.categorical[chosen])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Canonical rows of one window, in recorded order: what is committed is exactly what is learned.

    All rows of a window come from one partition, the model's home. A column that is None is absent: no row
    of the window has a value there. Inside a column, None or NaN marks a single absent value.
    """

    partition: Partition
    #: int64[n], Kafka offsets
    offsets: Ints
    #: int64[n], index inside a message that was a JSON array, else 0
    indexes: Ints
    #: int64[n], milliseconds since the epoch
    occurred_at_ms: Ints
    #: int8[n] of RowKind
    kinds: NDArray[np.int8]
    features: Features
    #: float64[n]: class index for classification, the value for regression
    labels: Floats
    #: the producer's own id; absent means that the coordinates are the id
    event_ids: Sequence[str | None] | None = None
    prediction_ids: Sequence[str | None] | None = None
    #: where a forwarded record first was: "incarnation/topic/partition/offset/index"
    origins: Sequence[str | None] | None = None
    #: provenance, e.g. "feedback", as the producer named it
    sources: Sequence[str | None] | None = None
    #: version that served the prediction which this record answers
    served_versions: Sequence[str | None] | None = None
    #: float64[n]: P(positive class), class index or value that was really served; NaN when none was
    served_outputs: Floats | None = None
    #: float64[n]: the newest label that was known when that prediction was served; NaN when none was
    served_known_labels: Floats | None = None
    #: outputs of batch contenders by version, computed before the commit: float64[n], or [n, classes]
    outputs: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets)


class Closing(StrEnum):
    """Why a window was closed."""

    SIZE = "size"
    AGE = "age"
    PROGRESS = "progress"
    CONTROL = "control"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the records that a window covers."""

    learned: int = 0
    late: int = 0
    corrections: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    #: always 0, since who forwards counts it by partition; the headers of stored windows have it
    forwarded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlEntry:
    """A decision in the log; it holds after the last row of its window."""

    #: id of the request that asked for it
    request_id: int
    #: "promote", "rollback", "add_contender", "drop_contender"
    kind: str
    #: what it is about, e.g. {"version": 3, "parent": 1}
    body: Mapping[str, Any]
    accepted: bool
    #: why it was refused, or where it came from
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowHeader:
    """The row of the database that makes a window exist."""

    model: str
    epoch: int
    #: consecutive from 1 for each model
    seq: int
    #: seconds since the epoch; the only clock that the fold knows
    closed_at: float
    closing: Closing
    #: the next offset to read of each partition that this window moved
    positions: Mapping[Partition, int]
    #: highest "offset/index" already taken in of each origin partition ("incarnation/topic/partition")
    origin_marks: Mapping[str, tuple[int, int]]
    counts: Counts
    #: sha256 of the model's schema
    schema_id: str
    #: sha256 of the settings, library versions and fold revision that shape the state
    fold_digest: str
    #: sha256 of the rows, "" when there are none; survives merging of files
    rows_digest: str
    control: tuple[ControlEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A header and its rows; a header-only window carries progress or control entries."""

    header: WindowHeader
    rows: Rows | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """What taking a model over returns: the epoch that fences all others, and where the log stands."""

    model: str
    epoch: int
    #: newest committed window, 0 before the first
    seq: int
    #: newest window whose effects are stored; seq or seq - 1
    effects_seq: int
    #: the schema's JSON as frozen at the model's creation
    schema_json: str
    #: next offset to read, by partition
    positions: Mapping[Partition, int]
    #: highest "offset/index" already taken in of each origin partition
    origin_marks: Mapping[str, tuple[int, int]]
    #: version that serves: {"version": int, "promotion_seq": int}; version 0 before the first publication
    champion: int = 0
    promotion_seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A change that a detector found."""

    #: position in the log
    seq: int
    pos: int
    #: "error", or a feature's name
    feature: str
    detector: str
    #: mean of the watched quantity before and after
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldReport:
    """What folding one window found out: facts only, the owner turns them into effects."""

    seq: int
    #: the metrics row: JSON-able, equal at each repetition of the fold
    metrics: Mapping[str, Any]
    #: sha256 of the outputs of every online contender on the probe set
    probe_hash: str
    drifts: tuple[Drift, ...] = ()
    #: why the window was quarantined, None when it was not
    quarantined: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArtifact:
    """Bytes in the artifact store, as an event or a row names them."""

    #: relative to the artifact store that the reader was configured with
    path: str
    #: lower-case hex
    sha256: str
    size: int
    #: base64 of the Ed25519 signature over the digest and the path
    signature: str


class VersionStatus(StrEnum):
    """Where a registered version stands."""

    GATED = "gated"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A registered version of a model, with its lineage."""

    model: str
    #: consecutive from 1; version 1 is the online learner
    number: int
    #: "online" or "batch"
    kind: str
    algorithm: str
    status: VersionStatus
    #: None for the online learner, whose bytes are snapshots
    artifact: StoredArtifact | None
    metrics: Mapping[str, Any]
    #: rows with seq <= this trained it
    trained_through: int
    row_count: int
    #: chained digest of those rows
    rows_digest: str
    #: champion at the time of the gate
    parent: int
    trigger: str
    #: seconds since the epoch
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiredBytes:
    """Stored bytes that retention lets go; the row that describes them stays."""

    model: str
    #: "3" or "1.57"
    version: str
    #: publication of a snapshot; None for a version
    promotion_seq: int | None
    artifact: StoredArtifact


class JobStatus(StrEnum):
    """Where a retrain job stands; a rejected one ended well, but its candidate does not serve."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One full retrain, from request to verdict."""

    id: int
    model: str
    #: volume, age, cron, performance, drift, data_change or manual
    trigger: str
    status: JobStatus
    requested_at: float
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    #: rows with seq <= this are read; named when the job starts
    through_seq: int | None = None
    #: the version it registered
    version: int | None = None
    #: why it ended as it did, in words
    reason: str = ""
    #: numbers behind the verdict
    verdict: Mapping[str, Any] = field(default_factory=dict)
    #: it starts once the log has passed these offsets: the samples that it was requested with are in by then
    after: Mapping[Partition, int] = field(default_factory=dict)
