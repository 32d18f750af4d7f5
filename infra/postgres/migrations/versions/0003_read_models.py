"""Projections can be halted, and a charge is found in the statement."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Tracking says where a projection halted and why; the statement has an index by charge."""
    run_sql(op.get_bind(), "0003_read_models.sql")
