"""What a member wrote is erased everywhere, also where it cannot be in one transaction."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0015"
down_revision: str | None = "0014"


def upgrade() -> None:
    """Erasures have a table, which says how far each has come."""
    run_sql(op.get_bind(), "0015_erasures.sql")
