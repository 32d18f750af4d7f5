"""An auditor recomputes the chain with the SQL of the store's page and none of our code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest

from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.shards import ShardMap
from infra.settings import REPOSITORY
from tests.infra.stored import charge, opened, rows, usage


def documented_query() -> str:
    """The one query of the page, as it is printed there."""
    page = (REPOSITORY / "infra/postgres/README.md").read_text()
    queries: list[str] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(queries) == 1
    return queries[0]


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    """A ledger in which two teams were granted credits and charged five times each."""
    shards = ShardMap(database_url)
    opened(shards, "acme", "globex")
    store = PostgresBatchStore(shards)
    for number in range(5):
        charge(store, [usage(team, f"u{number}") for team in ("acme", "globex")])
    store.close()
    yield shards
    shards.close()


def edited(database_url: str, statement: str) -> None:
    """Somebody with all rights changed what was written."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        assert connection.execute(statement.encode()).rowcount == 1


OF_ACME = "originator_id = (SELECT account_id FROM account_head WHERE team_id = 'acme')"
RENAMED = "convert_to(replace(convert_from(state, 'UTF8'), 'mira', 'nora'), 'UTF8')"


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("SELECT 1", []),
        (
            f"UPDATE ledger_events SET state = {RENAMED} WHERE originator_version = 4 AND {OF_ACME}",
            [("acme", "account", 4, "hash")],
        ),
        (
            f"DELETE FROM ledger_events WHERE originator_version = 6 AND {OF_ACME}",
            [("acme", "account", 7, "predecessor"), ("acme", "account", 7, "version")],
        ),
        (
            "UPDATE account_head SET chain_hash = sha256('') WHERE team_id = 'globex'",
            [("globex", "account", 7, "head")],
        ),
    ],
    ids=["sound", "edited", "dropped", "head"],
)
def test_the_documented_query_names_team_and_version_of_what_was_edited_i11(
    database_url: str, statement: str, found: list[tuple[str, str, int, str]]
) -> None:
    edited(database_url, statement)

    assert rows(database_url, documented_query()) == found
