"""Payment references are index entries, repeated denials are counted, views know holds and limits."""

from alembic import op

from infra.postgres.migrations import run_sql

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """The tables of the whole account; heads of the older schema are folded again once this is committed."""
    run_sql(op.get_bind(), "0005_whole_account.sql")
