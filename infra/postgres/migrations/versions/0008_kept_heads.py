"""Accounts are kept as they were at some of their versions."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0008"
down_revision: str | None = "0007"


def upgrade() -> None:
    """There is room for what is kept; it is filled by and by."""
    run_sql(op.get_bind(), "0008_kept_heads.sql")
