"""The statement knows holds."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0007"
down_revision: str | None = "0006"


def upgrade() -> None:
    """Rows of the statement name their hold and say what is set aside after them."""
    run_sql(op.get_bind(), "0007_statement_holds.sql")
