"""Periods close and invoices are issued of them."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0011"
down_revision: str | None = "0010"


def upgrade() -> None:
    """Issuers, documents and their read model have tables; closed periods that wait are found by an index."""
    run_sql(op.get_bind(), "0011_invoices.sql")
