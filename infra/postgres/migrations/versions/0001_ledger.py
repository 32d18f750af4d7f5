"""The first tables: ledger, consumed offsets, read models, catalogue."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """The tables of the first release exist."""
    run_sql(op.get_bind(), "0001_ledger.sql")
    run_sql(op.get_bind(), "0001_catalogue.sql")
