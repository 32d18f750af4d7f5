"""Works and contexts are listed and searched from any place on, each page as quick as the first, and none is met twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from api.ports import ContextFound, ContextQuery
from domain.commands import SaveWorkStep, StartWork
from domain.work.texts import WorkText
from infra.postgres.shards import ShardMap
from infra.works import _OF_MEMBERS, _OF_NOBODY, WorkDesk
from tests.infra.stored import execute, opened

MEMBERS = (None, "jo", "mira", "Özgür~1")


class Archive:
    """Acme's contexts of usage, written by some members and by nobody, and two works; those of another team beside them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shards = ShardMap(url)
        self.desk = WorkDesk(self.shards)
        opened(self.shards, "acme", "borealis")
        for work_id in ("cup", "poster"):
            brief = WorkText(goal="a fox", audience="all")
            execute(self.shards, StartWork(team_id="acme", work_id=work_id, brief=brief, member="mira"))
            text = WorkText(prompts=["a fox", "a cow"])
            execute(
                self.shards,
                SaveWorkStep(team_id="acme", work_id=work_id, step="draft", text=text, member="jo"),
            )
        for team in ("acme", "borealis"):
            self.write(team, 60)

    def write(self, team: str, contexts: int, first: int = 1) -> None:
        """So many contexts, of which every third has a fox in it."""
        shard = self.shards.shard_of(team)
        rows = [
            (
                shard,
                UUID(int=number * 7919 % 100_003 + (1 << 64 if team == "acme" else 0)),
                team,
                MEMBERS[number % len(MEMBERS)],
                b"salt",
                json.dumps({"prompt": f"a {'FOX' if number % 3 == 0 else 'cow'} {number}"}).encode(),
            )
            for number in range(first, first + contexts)
        ]
        with psycopg.connect(self.url) as connection:
            connection.cursor().executemany("INSERT INTO usage_context VALUES (%s, %s, %s, %s, %s, %s)", rows)

    def found(self, words: str = "fox", member: str | None = None, **bounds: int) -> list[list[ContextFound]]:
        """The pages of a search, to its end."""
        pages: list[list[ContextFound]] = []
        after: str | None = None
        while len(pages) < 200:
            told = self.desk.search("acme", ContextQuery(words, None, member), after=after, **bounds)
            pages.append(told.found)
            if told.place is None:
                return pages
            assert told.place != after
            after = told.place
        raise AssertionError("the search has no end")


@pytest.fixture
def archive(database_url: str) -> Iterator[Archive]:
    archive = Archive(database_url)
    yield archive
    archive.shards.close()


def test_a_search_finds_what_stands_anywhere_in_this_team_alone(archive: Archive) -> None:
    (all_of_it,) = archive.found(limit=1_000)

    assert len(all_of_it) == 4 + 20
    assert [(each.work_id, each.work_version) for each in all_of_it[:4]] == [
        ("cup", 1),
        ("cup", 2),
        ("poster", 1),
        ("poster", 2),
    ]
    assert {each.member for each in all_of_it} == set(MEMBERS)
    assert len({each.charge_id for each in all_of_it}) == 20 + 1
    (of_jo,) = archive.found(member="jo", limit=1_000)
    assert of_jo == [each for each in all_of_it if each.member == "jo"]


@pytest.mark.parametrize("limit", [1, 2, 7, 24, 25])
def test_pages_are_the_whole_search_whatever_their_length(archive: Archive, limit: int) -> None:
    (all_of_it,) = archive.found(limit=1_000)

    pages = archive.found(limit=limit)

    assert [each for page in pages for each in page] == all_of_it
    assert all(len(page) == limit for page in pages[:-1])
    assert [each for page in archive.found(limit=limit, member="mira") for each in page] == [
        each for each in all_of_it if each.member == "mira"
    ]


@pytest.mark.parametrize("looked", [1, 5, 64, 1_000])
def test_a_page_looks_at_no_more_than_it_may_and_goes_on_from_there(archive: Archive, looked: int) -> None:
    (all_of_it,) = archive.found(limit=1_000)

    pages = archive.found(limit=1_000, looked_max=looked)

    assert [each for page in pages for each in page] == all_of_it
    assert len(pages) == -(-64 // looked)


def test_nothing_is_met_twice_or_missed_when_others_are_erased_meanwhile(archive: Archive) -> None:
    (all_of_it,) = archive.found(limit=1_000)
    first = archive.desk.search("acme", ContextQuery("fox"), limit=10)
    with psycopg.connect(archive.url) as connection:
        connection.execute("DELETE FROM work_context WHERE member = 'mira'")
        connection.execute("DELETE FROM usage_context WHERE member = 'mira'")

    rest = archive.desk.search("acme", ContextQuery("fox"), after=first.place, limit=1_000)

    assert first.found == all_of_it[:10]
    assert rest.found == [each for each in all_of_it[10:] if each.member != "mira"]


def test_words_with_signs_of_patterns_are_sought_as_they_stand(archive: Archive) -> None:
    with psycopg.connect(archive.url) as connection:
        connection.execute(
            "UPDATE usage_context SET context = %s WHERE usage_key = (SELECT usage_key FROM usage_context"
            " WHERE team_id = 'acme' AND member IS NULL LIMIT 1)",
            (json.dumps({"prompt": '50% of a_b\\c "said" é'}).encode(),),
        )

    for words in ("50%", "a_b", "b\\c", '"said"', "É"):
        assert sum(map(len, archive.found(words))) == 1, words
    for words in ("5%f", "axb"):
        assert sum(map(len, archive.found(words))) == 0, words


def test_every_page_is_found_by_the_index_of_members(archive: Archive) -> None:
    archive.write("acme", 10_000, first=61)
    values = {
        "shard": archive.shards.shard_of("acme"),
        "team": "acme",
        "member": None,
        "pattern": "%fox%",
        "first": "jo",
        "second": str(UUID(int=0)),
    }
    with psycopg.connect(archive.url) as connection:
        connection.execute("ANALYZE usage_context")
        for query in (_OF_MEMBERS, _OF_NOBODY):
            told = connection.execute(f"EXPLAIN {query} LIMIT 100".encode(), values).fetchall()
            plan = "\n".join(line for (line,) in told)
            assert "usage_context_member" in plan


def test_works_are_listed_from_any_of_them_on(archive: Archive) -> None:
    for number in range(3):
        brief = WorkText(goal="more", audience="all")
        execute(archive.shards, StartWork(team_id="acme", work_id=f"work-{number}", brief=brief))
    names = ["cup", "poster", "work-0", "work-1", "work-2"]

    told = [archive.desk.works("acme", after=after, limit=2) for after in ("", "poster", "work-1", "work-2")]

    assert [[each.work_id for each in page.works] for page in told] == [names[:2], names[2:4], names[4:], []]
    assert [page.more for page in told] == [True, True, False, False]
