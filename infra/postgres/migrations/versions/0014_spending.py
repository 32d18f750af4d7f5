"""What teams spend by day, action, member, project and work."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0014"
down_revision: str | None = "0013"


def upgrade() -> None:
    """The spending read model has a table; its projection fills it from the first event on."""
    run_sql(op.get_bind(), "0014_spending.sql")
