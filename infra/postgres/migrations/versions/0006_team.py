"""Teams have heads for their people and paperwork."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """A team's own stream has a head beside its account's."""
    run_sql(op.get_bind(), "0006_team.sql")
