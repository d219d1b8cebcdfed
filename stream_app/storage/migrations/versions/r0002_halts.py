"""Partitions that nobody may read on in, since too many of their newest records were bad."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns of a halt; null in all of them is a partition that is read."""
    for name, kind in (
        ("halted_share", Float),
        ("halted_limit", Float),
        ("halted_offset", BigInteger),
        ("halted_at", Float),
    ):
        op.add_column("partition_positions", Column(name, kind, nullable=True))
