"""Predictions and their feedback, API keys, the audit log, retraining logs and switches, as first released."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text, text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

metadata = MetaData()

_Id = BigInteger().with_variant(Integer, "sqlite")

predictions = Table(
    "predictions",
    metadata,
    Column("prediction_id", String(64), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", String(40), nullable=False),
    Column("digest", String(64), nullable=True),
    Column("output", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("known_label", Text, nullable=False),
    Column("features", Text, nullable=False),
    Column("served_at", Float, nullable=False),
    Column("settle_at", Float, nullable=True),
    Column("settled_label", Text, nullable=True),
)
Index("predictions_served_at", predictions.c.served_at)
Index(
    "predictions_settling",
    predictions.c.settle_at,
    sqlite_where=text("settle_at IS NOT NULL"),
    postgresql_where=text("settle_at IS NOT NULL"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("feedback_id", String(400), nullable=False, unique=True),
    Column("prediction_id", String(64), nullable=False, index=True),
    Column("verdict", String(10), nullable=True),
    Column("label", Text, nullable=True),
    Column("source", String(128), nullable=True),
    Column("given_at", Float, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("outcome", String(12), nullable=False),
)
Index(
    "feedback_pending",
    feedback.c.received_at,
    sqlite_where=text("outcome = 'pending'"),
    postgresql_where=text("outcome = 'pending'"),
)

label_origins = Table(
    "label_origins",
    metadata,
    Column("incarnation", String(32), primary_key=True),
    Column("handed_on", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("secret_sha256", String(64), nullable=False),
    Column("name", String(100), nullable=False),
    Column("scopes", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=True),
    Column("revoked_at", Float, nullable=True),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(60), nullable=False),
    Column("model", String(64), nullable=True),
    Column("details", Text, nullable=False),
)

retraining_logs = Table(
    "retraining_logs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("timestamp", Text, nullable=True),
    Column("sample_count", Integer, nullable=True),
    Column("training_file", Text, nullable=True),
    Column("status", Text, nullable=True),
    Column("stdout", Text, nullable=True),
    Column("stderr", Text, nullable=True),
)

retraining_log_jobs = Table(
    "retraining_log_jobs",
    metadata,
    Column("log_id", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", BigInteger, nullable=False, index=True),
)

switches = Table(
    "switches",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("is_on", Integer, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("changed_by", String(200), nullable=False),
)


def upgrade() -> None:
    """Create the tables; a job may wait for positions of the log, and events of the outbox are found beside labels."""
    metadata.create_all(op.get_bind(), checkfirst=False)
    op.add_column("jobs", Column("wait_for", Text, nullable=True))
    events = text("sent_at IS NULL AND type <> 'io.stream_app.label.joined.v1'")
    op.create_index("outbox_unsent_events", "outbox", ["id"], sqlite_where=events, postgresql_where=events)
