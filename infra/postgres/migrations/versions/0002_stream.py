"""Second readings of the stream: holes that were filled, dead letters retried, records that crash a worker."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """The columns and the table of second readings exist."""
    run_sql(op.get_bind(), "0002_stream.sql")
