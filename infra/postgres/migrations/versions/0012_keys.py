"""API keys are bound to teams, actions and scopes."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0012"
down_revision: str | None = "0011"


def upgrade() -> None:
    """A key says what it is bound to, and when it was used last."""
    run_sql(op.get_bind(), "0012_keys.sql")
