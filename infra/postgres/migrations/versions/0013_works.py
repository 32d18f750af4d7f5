"""Works have streams of their own, and what people write along them can be erased."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0013"
down_revision: str | None = "0012"


def upgrade() -> None:
    """Works and their texts have tables; contexts are found by team and member, statement rows by work."""
    run_sql(op.get_bind(), "0013_works.sql")
