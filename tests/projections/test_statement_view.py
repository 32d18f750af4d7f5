"""The statement's view keeps one contract, in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.usage import usage_key
from infra.postgres.read_models import PostgresStatement
from infra.postgres.shards import ShardMap
from projections.statement import (
    PAGE_ROWS_MAX,
    StatementFilter,
    StatementRow,
    StatementRows,
    StatementView,
)
from tests.builders import when
from tests.projections.ledgers import tamper

Written = Callable[[Iterable[StatementRow], int], StatementView]
FIRST = when("2026-11-01 00:00")
MEMBERS = ("mira", "noor", None)
PROJECTS = ("film", "poster", None)
KINDS = ("CreditsCharged", "UsageWaived", "CreditsGranted")


def a_row(version: int, shard: int, team_id: str = "acme", **changes: object) -> StatementRow:
    """A row that differs from its neighbours in a way that the version tells."""
    row = StatementRow(
        shard,
        team_id,
        version,
        KINDS[version % 3],
        FIRST + timedelta(hours=version),
        FIRST + timedelta(hours=version // 2),
        version * 1_000_000,
        500,
        7,
        usage_key(team_id, "s", str(version)) if version % 3 != 2 else None,
        f"lot-{version}" if version % 3 == 2 else None,
        ("image.generate", "video.generate")[version % 2],
        MEMBERS[version % 3],
        PROJECTS[version % 2],
        "work-1" if version % 5 == 0 else None,
        "step-1" if version % 5 == 0 else None,
        "tester",
        "operator",
        None if version % 4 else "because",
    )
    return row._replace(**changes)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "postgres"])
def written(request: pytest.FixtureRequest) -> Written:
    """Makes a view of these rows, complete up to a position."""
    if request.param == "memory":
        return in_memory
    shards: ShardMap = request.getfixturevalue("shards")
    return lambda rows, position: on_postgres(shards, rows, position)


def in_memory(rows: Iterable[StatementRow], position: int) -> StatementView:
    view = StatementRows()
    rows = list(rows)
    view.write(rows[0].shard if rows else 0, rows, position)
    return view


def on_postgres(shards: ShardMap, rows: Iterable[StatementRow], position: int) -> StatementView:
    tamper(shards, 0, "TRUNCATE statement_entry, tracking")
    for row in rows:
        charge = UUID(hex=row.charge_id) if row.charge_id else None
        values = [charge if name == "charge_id" else value for name, value in row._asdict().items()]
        tamper(shards, 0, f"INSERT INTO statement_entry VALUES ({', '.join(['%s'] * len(values))})", *values)
        tamper(
            shards, 0,
            "INSERT INTO tracking VALUES (%s, 'statement', %s) ON CONFLICT DO NOTHING", row.shard, position,
        )  # fmt: skip
    return PostgresStatement(shards)


@pytest.fixture
def shard() -> int:
    """The shard of team acme among eight."""
    from domain.shards import shard_of

    return shard_of("acme", 8)


def versions(view: StatementView, **asked: object) -> list[int]:
    return [row.version for row in view.page("acme", **asked).rows]  # type: ignore[arg-type]


def test_rows_come_back_as_they_were_written(written: Written, shard: int) -> None:
    rows = [a_row(version, shard) for version in range(2, 9)]

    page = written(rows, 12).page("acme", newest_first=False)

    assert page.rows == rows
    assert (page.position, page.more) == (12, False)


def test_newest_first_unless_asked_otherwise(written: Written, shard: int) -> None:
    view = written([a_row(version, shard) for version in (2, 3, 5)], 9)

    assert versions(view) == [5, 3, 2]
    assert versions(view, newest_first=False) == [2, 3, 5]


def test_pages_follow_one_another_without_a_gap_in_both_directions(written: Written, shard: int) -> None:
    view = written([a_row(version, shard) for version in range(2, 12)], 12)
    for newest_first in (True, False):
        seen: list[int] = []
        after: int | None = None
        while True:
            page = view.page("acme", after=after, limit=3, newest_first=newest_first)
            seen += [row.version for row in page.rows]
            if not page.more:
                break
            after = page.rows[-1].version

        assert seen == sorted(range(2, 12), reverse=newest_first)


def test_a_team_sees_only_its_own_rows(written: Written, shard: int) -> None:
    view = written([a_row(2, shard), a_row(3, shard, team_id="beta")], 3)

    assert versions(view) == [2]
    assert view.page("nobody").rows == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (StatementFilter(member="mira"), [3, 6, 9]),
        (StatementFilter(project="poster"), [3, 5, 7, 9]),
        (StatementFilter(action="image.generate"), [2, 4, 6, 8, 10]),
        (StatementFilter(work="work-1"), [5, 10]),
        (StatementFilter(lot_id="lot-5"), [5]),
        (StatementFilter(charge_id=usage_key("acme", "s", "4")), [4]),
        (StatementFilter(kinds=frozenset({"UsageWaived", "CreditsCharged"})), [3, 4, 6, 7, 9, 10]),
        (StatementFilter(kinds=frozenset()), []),
        (StatementFilter(recorded_from=FIRST + timedelta(hours=4)), [4, 5, 6, 7, 8, 9, 10]),
        (StatementFilter(recorded_until=FIRST + timedelta(hours=4)), [2, 3]),
        (StatementFilter(occurred_from=FIRST + timedelta(hours=4)), [8, 9, 10]),
        (StatementFilter(occurred_until=FIRST + timedelta(hours=2)), [2, 3]),
        (StatementFilter(member="mira", project="poster"), [3, 9]),
        (StatementFilter(member="nobody'; DROP TABLE statement_entry; --"), []),
    ],
)
def test_a_filter_shows_what_it_says(
    written: Written, shard: int, asked: StatementFilter, found: list[int]
) -> None:
    view = written([a_row(version, shard) for version in range(2, 11)], 12)

    assert versions(view, asked=asked, newest_first=False) == found


def test_more_says_whether_a_further_row_matches(written: Written, shard: int) -> None:
    view = written([a_row(version, shard) for version in range(2, 8)], 12)
    asked = StatementFilter(member="mira")

    assert view.page("acme", asked=asked, limit=1).more
    assert not view.page("acme", asked=asked, limit=2).more


@pytest.mark.parametrize("limit", [-1, 0, 10**9])
def test_i24_a_limit_is_taken_within_its_bounds(written: Written, shard: int, limit: int) -> None:
    view = written([a_row(version, shard) for version in (2, 3)], 3)

    assert len(view.page("acme", limit=limit).rows) == min(max(1, limit), 2)
    assert PAGE_ROWS_MAX == 1_000


optional_time = st.none() | st.integers(0, 12).map(lambda hours: FIRST + timedelta(hours=hours))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    member=st.sampled_from([None, "mira", "noor", "nobody"]),
    project=st.sampled_from([None, "film"]),
    kinds=st.none() | st.frozensets(st.sampled_from(KINDS)),
    recorded_from=optional_time,
    occurred_until=optional_time,
    after=st.none() | st.integers(0, 14),
    limit=st.integers(1, 12),
    newest_first=st.booleans(),
)
def test_any_question_has_the_same_answer_in_memory_and_on_postgres(
    both: tuple[StatementView, StatementView],
    member: str | None,
    project: str | None,
    kinds: frozenset[str] | None,
    recorded_from: datetime | None,
    occurred_until: datetime | None,
    after: int | None,
    limit: int,
    newest_first: bool,
) -> None:
    asked = StatementFilter(
        member=member,
        project=project,
        kinds=kinds,
        recorded_from=recorded_from,
        occurred_until=occurred_until,
    )
    memory, postgres = (
        view.page("acme", asked=asked, after=after, limit=limit, newest_first=newest_first) for view in both
    )

    assert memory == postgres


@pytest.fixture
def both(shards: ShardMap, shard: int) -> tuple[StatementView, StatementView]:
    """The same rows in both views."""
    rows = [a_row(version, shard) for version in range(2, 13)]
    return in_memory(rows, 13), on_postgres(shards, rows, 13)
