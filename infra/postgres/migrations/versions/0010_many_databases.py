"""A ledger may live in several databases."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0010"
down_revision: str | None = "0009"


def upgrade() -> None:
    """Each database says which shards live in it; so far all of them do."""
    run_sql(op.get_bind(), "0010_many_databases.sql")
