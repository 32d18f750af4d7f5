"""${message}."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}


def upgrade() -> None:
    """What is true after this revision."""
    run_sql(op.get_bind(), "${up_revision}.sql")
