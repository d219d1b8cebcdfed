"""The tables of the database, each column with a word where its name does not say it.

SQLAlchemy Core on SQLite (default) and PostgreSQL. Times are seconds since the epoch, documents are JSON
text. What must be fenced is fenced by a column in the WHERE of its UPDATE, never by a lock held in memory.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

#: SQLite gives rowids only to INTEGER keys.
_Id = BigInteger().with_variant(Integer, "sqlite")

models = Table(
    "models",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("epoch", BigInteger, nullable=False),  # moved on by each take-over
    Column("seq", BigInteger, nullable=False),  # newest committed window
    Column("effects_seq", BigInteger, nullable=False),  # newest window whose effects are stored
    Column("promotion_seq", BigInteger, nullable=False),  # newest publication
    Column("champion", Integer, nullable=False),  # version that serves, 0 before the first publication
    Column("next_version", Integer, nullable=False),
    Column("owner", String(200), nullable=False),  # host:pid, for people
    Column("schema_json", Text, nullable=False),  # frozen at creation
    Column("created_at", Float, nullable=False),
)

windows = Table(
    "windows",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("closed_at", Float, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("rows_digest", String(64), nullable=False),  # of the canonical rows, "" without rows
    Column("rows_total", BigInteger, nullable=False),  # rows of this window and all before it, retained or not
    Column("chain", String(64), nullable=False),  # sha256 over the rows_digests so far; survives retention
    Column("header", Text, nullable=False),  # the rest of WindowHeader
    Column("file", String(300), nullable=True),  # names window_files.path; null: inline or header only
    Column("inline", LargeBinary, nullable=True),  # Parquet bytes of a small window
)

# What is still to be merged, without looking at every window there ever was.
Index(
    "windows_inline",
    windows.c.model,
    windows.c.seq,
    sqlite_where=text("inline IS NOT NULL"),
    postgresql_where=text("inline IS NOT NULL"),
)

window_files = Table(
    "window_files",
    metadata,
    Column("path", String(300), primary_key=True),  # relative to the storage root
    Column("model", String(64), nullable=False, index=True),
    Column("epoch", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("replaced_at", Float, nullable=True),  # set when a merge took its place: delete when unread
)

reader_leases = Table(
    "reader_leases",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False, index=True),
    Column("holder", String(200), nullable=False),
    Column("began", Float, nullable=False),
    Column("until", Float, nullable=False),  # replaced files outlive every lease that began before
)

positions = Table(
    "positions",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("incarnation", String(64), primary_key=True),
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

origin_marks = Table(
    "origin_marks",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("origin", String(400), primary_key=True),  # incarnation/topic/partition
    Column("offset", BigInteger, nullable=False),
    Column("index", Integer, nullable=False),
)

partition_positions = Table(
    "partition_positions",
    metadata,
    Column("incarnation", String(64), primary_key=True),
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", String(200), nullable=False),  # host:pid, for people
    Column("next_offset", BigInteger, nullable=False),
    Column("dead_lettered", BigInteger, nullable=False),
    Column("forwarded", BigInteger, nullable=False),
    Column("halted_share", Float, nullable=True),  # of bad records at which it was halted; null: it is read
    Column("halted_limit", Float, nullable=True),  # the limit then
    Column("halted_offset", BigInteger, nullable=True),
    Column("halted_at", Float, nullable=True),
)

topics = Table(
    "topics",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("incarnation", String(64), primary_key=True),
    Column("partitions", Integer, nullable=False),  # at first sight: a model's home stays when topics grow
    Column("first_seen_at", Float, nullable=False),
    Column("last_read_at", Float, nullable=False),
)

control_requests = Table(
    "control_requests",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False, index=True),
    Column("kind", String(40), nullable=False),
    Column("body", Text, nullable=False),
    Column("requested_by", String(200), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("answered_seq", BigInteger, nullable=True),  # window that carries the answer; null: waits
    Column("accepted", Integer, nullable=True),
    Column("reason", Text, nullable=True),
)

metrics = Table(
    "metrics",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("probe_hash", String(64), nullable=False),
    Column("quarantined", Text, nullable=True),
    Column("body", Text, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("fold_digest", String(64), nullable=False),
    Column("path", String(300), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("hmac", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("pinned", Integer, nullable=False),
    Column("broken", Text, nullable=True),  # why it was set aside
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("algorithm", String(200), nullable=False),
    Column("status", String(10), nullable=False),
    Column("artifact", Text, nullable=True),  # StoredArtifact
    Column("metrics", Text, nullable=False),
    Column("trained_through", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("rows_digest", String(64), nullable=False),
    Column("parent", Integer, nullable=False),
    Column("trigger", String(20), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("bytes_deleted_at", Float, nullable=True),  # lineage outlives the bytes
)

publications = Table(
    "publications",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("promotion_seq", BigInteger, primary_key=True),
    Column("version", String(40), nullable=False),  # "3" or "1.57"
    Column("algorithm", String(200), nullable=False),
    Column("artifact", Text, nullable=False),
    Column("trained_through", BigInteger, nullable=False),
    Column("published_at", Float, nullable=False),
    Column("bytes_deleted_at", Float, nullable=True),
    UniqueConstraint("model", "version", "promotion_seq"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False),
    Column("event_id", String(100), nullable=False, unique=True),
    Column("type", String(80), nullable=False),
    Column("topic", String(249), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("promotion_seq", BigInteger, nullable=True),  # of model-updated messages
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float, nullable=True),
)
#: What the relay sends before joined labels: found without looking at a backlog of those.
EVENTS_UNSENT = "sent_at IS NULL AND type <> 'io.stream_app.label.joined.v1'"
Index(
    "outbox_unsent_events",
    outbox.c.id,
    sqlite_where=text(EVENTS_UNSENT),
    postgresql_where=text(EVENTS_UNSENT),
)
Index("outbox_unsent", outbox.c.id, sqlite_where=text("sent_at IS NULL"), postgresql_where=text("sent_at IS NULL"))

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("model", String(64), nullable=False, index=True),
    Column("trigger", String(20), nullable=False),
    Column("status", String(10), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("started_at", Float, nullable=True),
    Column("finished_at", Float, nullable=True),
    Column("attempts", Integer, nullable=False),
    Column("holder", String(200), nullable=True),
    Column("lease_until", Float, nullable=True),
    Column("through_seq", BigInteger, nullable=True),
    Column("version", Integer, nullable=True),
    Column("reason", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("wait_for", Text, nullable=True),  # positions of ground-truth that the log must have passed first
)
# Single flight: the database itself refuses a second queued and a second running job of a model.
Index(
    "jobs_one_queued",
    jobs.c.model,
    unique=True,
    sqlite_where=text("status = 'queued'"),
    postgresql_where=text("status = 'queued'"),
)
Index(
    "jobs_one_running",
    jobs.c.model,
    unique=True,
    sqlite_where=text("status = 'running'"),
    postgresql_where=text("status = 'running'"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("until", Float, nullable=False),
)
