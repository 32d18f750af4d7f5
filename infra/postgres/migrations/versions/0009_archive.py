"""Events of closed months may leave for files."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0009"
down_revision: str | None = "0008"


def upgrade() -> None:
    """Archives are written down, claims outlive their events, and the log has one door."""
    run_sql(op.get_bind(), "0009_archive.sql")
