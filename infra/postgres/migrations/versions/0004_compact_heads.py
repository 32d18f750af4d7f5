"""Heads keep lots as lists of values, and stay in their rows."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """The views read lots by place; a head is neither compressed nor moved aside."""
    run_sql(op.get_bind(), "0004_compact_heads.sql")
