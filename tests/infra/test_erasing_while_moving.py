"""What a member wrote is forgotten while a shard moves between databases: no byte is left in either, nothing else is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from itertools import count
from threading import Thread
from typing import Any

import psycopg
import pytest

from domain.commands import Command, EraseContexts, SaveWorkStep, StartWork
from domain.ledger import Answer, Ledger
from domain.work.texts import WorkText
from infra.failpoints import OF_MOVES
from infra.postgres import moving
from infra.postgres.erasures import Erasures
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.moving import MoveFailed, move
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import ProjectorLoop, read_models
from tests.flows.test_erasing import tables_with
from tests.infra.test_two_servers import second_server, shards, template, told, urls
from tests.infra.two_servers import CALLER, PARTITIONS, TEAMS, Feed, Urls, consume, start

__all__ = ["second_server", "shards", "template", "urls"]

CANARY = "zebra-in-a-teacup-417"
MEMBER = "member-1"
"""Who the records of the feed name."""


class Studio:
    """A team whose shard lives in the first database, with usage, a work and a dead letter of a member's."""

    def __init__(self, urls: Urls, shards: ShardMap) -> None:
        self.urls = urls
        self.shards = shards
        self.team = next(team for team in TEAMS if shards.home_of(shards.shard_of(team)) == "first")
        self.shard = shards.shard_of(self.team)
        self.feed = Feed(24)
        self._keys = count(1)
        consume(urls, self.feed)
        self.say(
            StartWork(
                team_id=self.team, work_id="cup", brief=WorkText(goal=CANARY, audience="all"), member=MEMBER
            )
        )
        text = WorkText(prompts=[CANARY])
        self.say(SaveWorkStep(team_id=self.team, work_id="cup", step="draft", text=text, member=MEMBER))
        self.write_letter()

    def say(self, command: Command) -> Answer:
        """The command has happened."""
        return Ledger(PostgresLedgerStore(self.shards)).execute(command, CALLER, f"said {next(self._keys)}")

    def erase(self) -> None:
        """The member's contexts are erased; letters and copies are not yet."""
        self.say(EraseContexts(team_id=self.team, member=MEMBER))

    def finish(self) -> int:
        """Letters and copies are erased as well; returns how many letters were."""
        # As another process would: with a map of its own.
        own = ShardMap(self.urls.first, others={"east": self.urls.east})
        try:
            return Erasures(own).erase_letters(Erasures(own).unfinished())
        finally:
            own.close()

    def move(self, to: str = "east") -> None:
        """The shard lives there."""
        assert move(self.shards, self.shard, to, read_models()).done

    def write_letter(self) -> None:
        """A record of the team that could not be charged is among the letters of the shard."""
        key = PARTITIONS[self.shard]
        value = json.dumps({"member": MEMBER, "context": {"prompt": CANARY}}).encode()
        with psycopg.connect(self.urls[0 if self.shards.home_of(self.shard) == "first" else 1]) as connection:
            connection.execute(
                "INSERT INTO dead_letter (shard, cluster_id, topic_id, topic, part, kafka_offset, arrived_at, outcome, reason,"
                " detail, record_key, record_value, record_headers, recorded_at)"
                " VALUES (%s, %s, %s, %s, %s, 1000, now(), 'parked', 'unknown_price', %s, %s, %s, '[]', now())",
                (self.shard, *key, CANARY, self.team.encode(), value),
            )

    def contexts(self, database: str, member: str = MEMBER) -> int:
        """How many contexts of usage of the member lie in that database, whether the shard lives there or not."""
        with psycopg.connect(self.urls[0 if database == "first" else 1]) as connection:
            row = connection.execute(
                "SELECT count(*) FROM usage_context WHERE team_id = %s AND member = %s", (self.team, member)
            ).fetchone()
        assert row is not None
        return int(row[0])

    def check_forgotten(self) -> None:
        """No byte is left in either database, and everything else agrees."""
        assert [tables_with(url, CANARY) for url in self.urls] == [[], []]
        assert [self.contexts(name) for name in ("first", "east")] == [0, 0]
        self.check_sound()

    def check_sound(self) -> None:
        """Chains, heads, totals and statements agree in both databases, and contexts of others are all there."""
        ProjectorLoop(self.shards).catch_up()
        assert verify(self.shards).findings == []
        kept = told(
            self.urls,
            "SELECT count(*) FROM usage_context JOIN shard_log USING (shard) WHERE lives_here"
            f" AND team_id <> '{self.team}'",
        )
        places = ((part, offset) for part in range(len(PARTITIONS)) for offset in range(self.feed.length))
        of_others = {
            said[:2] for said in (self.feed.said(*place) for place in places) if said[0] != self.team
        }
        assert sum(int(str(number)) for (number,) in kept) == len(of_others)


@pytest.fixture
def studio(urls: Urls, shards: ShardMap) -> Studio:
    studio = Studio(urls, shards)
    assert studio.contexts("first") > 0
    assert {"work_context", "dead_letter"} <= set(tables_with(urls.first, CANARY))
    return studio


@pytest.fixture
def beside() -> Iterator[Callable[[Callable[[], object]], Thread]]:
    """Begins work beside the test; at the end it has ended well."""
    threads: list[Thread] = []
    failed: list[BaseException] = []

    def begin(work: Callable[[], object]) -> Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
                failed.append(error)

        threads.append(Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield begin
    for thread in threads:
        thread.join(30)
    assert failed == []


def after(monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[], object]) -> None:
    """The first time that a move has done this, something else happens before it goes on."""
    done = getattr(moving._Moving, name)
    met = count()

    def then(self: Any, *values: Any) -> Any:
        result = done(self, *values)
        if next(met) == 0:
            work()
        return result

    monkeypatch.setattr(moving._Moving, name, then)


def test_i23_erased_before_a_move_nothing_is_left_where_the_shard_was(studio: Studio) -> None:
    studio.erase()
    studio.move()

    assert studio.finish() == 2  # The letter, and its copy that the shard left behind.

    studio.check_forgotten()


def test_i23_erased_after_a_move_the_copies_left_behind_are_gone_too(studio: Studio) -> None:
    studio.move()
    studio.erase()

    assert studio.contexts("first") > 0
    studio.finish()

    studio.check_forgotten()
    with psycopg.connect(studio.urls.first) as connection:
        left = connection.execute(
            "SELECT count(*) FROM idempotency WHERE team_id = %s AND position('\"work_version\"'::bytea IN answer) > 0",
            (studio.team,),
        ).fetchone()
    assert left == (0,), "by the digest of a request its text could be guessed"


def test_i23_erased_while_contexts_are_copied_nothing_comes_along(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, "_copy_log", studio.erase)

    studio.move()
    studio.finish()

    studio.check_forgotten()


def test_i23_letters_erased_while_writers_wait_for_a_move_are_erased_where_they_went(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, beside: Callable[[Callable[[], object]], Thread]
) -> None:
    studio.erase()
    finishing: list[Thread] = []

    def finish() -> None:
        finishing.append(beside(studio.finish))
        finishing[0].join(1.0)

    # Letters were copied just now, and nobody but the mover sees the copy yet.
    after(monkeypatch, "_copy_other_positions", finish)

    studio.move()
    finishing[0].join(30)

    studio.check_forgotten()


def test_i23_a_portion_that_is_copied_while_it_is_erased_and_never_finished_leaves_nothing(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, beside: Callable[[Callable[[], object]], Thread]
) -> None:
    finishing: list[Thread] = []

    def erase() -> None:
        studio.erase()
        finishing.append(beside(studio.finish))
        finishing[0].join(1.0)

    def give_up(self: object) -> None:
        raise MoveFailed("the mover is gone, for good")

    after(monkeypatch, "_copy_contexts", erase)
    monkeypatch.setattr(moving._Moving, "_copy_read_models", give_up)
    with pytest.raises(MoveFailed):
        studio.move()
    finishing[0].join(30)

    studio.check_forgotten()


def test_what_is_written_after_an_erasure_moves_with_the_shard_whenever_the_erasure_is_finished(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.erase()
    studio.feed = Feed(48)
    consume(studio.urls, studio.feed)
    written = studio.contexts("first")
    assert written > 0
    # The copies are not where the shard lives, so whoever finishes the erasure takes them away.
    after(monkeypatch, "_copy_log", studio.finish)

    studio.move()

    assert studio.contexts("east") == written
    assert [tables_with(url, CANARY) for url in studio.urls] == [[], []]
    studio.check_sound()


@pytest.mark.parametrize("place", OF_MOVES)
def test_i23_a_move_that_was_killed_anywhere_leaves_nothing_of_what_is_erased_then(
    studio: Studio, place: str
) -> None:
    dying = start("move", studio.urls, studio.shard, "east", failpoint=place)
    said = dying.communicate(timeout=60)[0]
    assert dying.returncode == -signal.SIGKILL, said
    if place == "shard.after_leaving":
        # Nobody accepts a command for it until the move goes on.
        studio.move()
    studio.shards.refresh()
    studio.erase()
    studio.finish()

    assert [tables_with(url, CANARY) for url in studio.urls] == [[], []]
    studio.move()

    studio.check_forgotten()
