"""Works in a real database: one log and one transaction with the account; nobody edits them, or their texts, unseen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from threading import Event

import psycopg
import pytest
from eventsourcing.persistence import DataError, StoredEvent
from psycopg.rows import tuple_row

from domain import commands as c
from domain.errors import IdempotencyKeyReused, WorkRefused
from domain.ledger import Answer, Caller, Ledger
from domain.work.state import WORK_SCHEMA, Work, work_stream_id
from domain.work.texts import WorkText
from infra.postgres.application import LedgerApplication
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.mapper import WORK_SHAPES
from infra.postgres.read_models import Projector, StatementModel, read_events
from infra.postgres.shards import ShardMap
from infra.postgres.verification import Verified, verify
from infra.relay import RelayTopics, _Sender
from tests.infra.stored import rows
from tests.infra.test_chain_in_sql import documented_query

BRIEF = WorkText(goal="a poster of a fox", audience="visitors")
DRAFT = WorkText(prompts=["a fox, flat colours"], files=["draft/1.png"])
OF_POSTER = f"originator_id = '{work_stream_id('acme', 'poster')}'"


class Studio:
    """A ledger in a database, in which acme has an account and works."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shards = ShardMap(url, connections_max=8)
        self.ledger = Ledger(PostgresLedgerStore(self.shards))
        self._keys = count(1)
        self.do(c.OpenAccount(team_id="acme"))

    def do(self, command: c.Command, key: str | None = None) -> Answer:
        """The command has happened, under a fresh key by default."""
        return self.ledger.execute(command, Caller("mira", "operator"), key or f"key-{next(self._keys)}")

    def start(self, work_id: str = "poster") -> Answer:
        """A work has begun."""
        return self.do(c.StartWork(team_id="acme", work_id=work_id, brief=BRIEF))

    def save(self, step: str = "draft", work_id: str = "poster", key: str | None = None) -> Answer:
        """A step is saved."""
        return self.do(c.SaveWorkStep(team_id="acme", work_id=work_id, step=step, text=DRAFT), key)

    def work(self, work_id: str = "poster") -> Work:
        """The work as its head says."""
        with PostgresLedgerStore(self.shards).session("acme") as session:
            return session.load_work(work_id)

    def edit(self, statement: str) -> None:
        """What a superuser may do to the tables."""
        with psycopg.connect(self.url) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement.encode())

    def checked(self) -> list[tuple[str, int | None, str]]:
        """What `coffer verify` finds: table, version, what."""
        done: Verified = verify(self.shards)
        return [(each.table, each.version, each.what) for each in done.findings]


@pytest.fixture
def studio(database_url: str) -> Iterator[Studio]:
    """Acme with one work of two steps."""
    studio = Studio(database_url)
    studio.start()
    studio.save()
    studio.save("refine")
    yield studio
    studio.shards.close()


def test_a_work_is_read_back_as_it_was_decided_and_its_texts_lie_beside_the_log(studio: Studio) -> None:
    studio.do(c.SaveWork(team_id="acme", work_id="poster", result=WorkText(files=["poster.png"])))

    work = studio.work()
    texts = rows(studio.url, "SELECT version, step, member FROM work_context ORDER BY version")
    log = rows(studio.url, "SELECT string_agg(convert_from(state, 'UTF8'), '') FROM ledger_events")[0][0]

    assert (work.status, work.version, list(work.steps)) == ("saved", 4, ["draft", "refine"])
    assert texts == [(1, None, "mira"), (2, "draft", "mira"), (3, "refine", "mira"), (4, None, "mira")]
    assert "fox" not in log
    assert "poster.png" not in log
    assert studio.checked() == []


def test_i14_the_same_key_saves_once_also_through_the_database(studio: Studio) -> None:
    first, again = studio.save(key="same"), studio.save(key="same")

    assert (first.revision, again.revision, again.is_replayed) == (2, 2, True)
    assert studio.work().version == 4


def test_i15_a_refused_command_leaves_nothing_of_the_work(studio: Studio) -> None:
    before = rows(
        studio.url, "SELECT (SELECT count(*) FROM ledger_events), (SELECT count(*) FROM work_context)"
    )

    with pytest.raises(WorkRefused):
        studio.start()

    after = rows(
        studio.url, "SELECT (SELECT count(*) FROM ledger_events), (SELECT count(*) FROM work_context)"
    )
    assert after == before


def test_i11_the_published_query_recomputes_the_chains_of_works(studio: Studio) -> None:
    assert rows(studio.url, documented_query()) == []

    studio.edit(f"UPDATE ledger_events SET state = state || ' ' WHERE {OF_POSTER} AND originator_version = 2")

    assert ("acme", "work poster", 2, "hash") in [
        (team, stream, version, "hash") for team, stream, version, _ in rows(studio.url, documented_query())
    ]


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        ("UPDATE work_head SET version = 2", ("work_head", 2, "version")),
        ("UPDATE work_head SET chain_hash = sha256('')", ("work_head", 3, "chain_hash")),
        (
            "UPDATE work_head SET state = convert_to(replace(convert_from(state, 'UTF8'), 'mira', 'jo'), 'UTF8')",
            ("work_head", 3, "state"),
        ),
        (f"DELETE FROM ledger_events WHERE {OF_POSTER} AND originator_version = 3", None),
        ("DELETE FROM work_head", None),
        (
            "UPDATE work_context SET context = '{}' WHERE version = 2",
            ("work_context", 2, "digest of salt and text"),
        ),
        (
            (
                "INSERT INTO work_context SELECT shard, team_id, work_id, 9, step, member, salt, context"
                " FROM work_context WHERE version = 2"
            ),
            ("work_context", 9, "event"),
        ),
    ],
)
def test_i11_verify_names_whatever_is_edited_in_a_work(
    studio: Studio, edit: str, found: tuple[str, int, str] | None
) -> None:
    studio.edit(edit)

    findings = studio.checked()

    assert findings
    assert found is None or found in findings


def test_a_text_that_is_gone_is_no_difference(studio: Studio) -> None:
    studio.edit("DELETE FROM work_context")

    assert studio.checked() == []


def test_a_head_of_another_schema_is_folded_again_and_written_anew(studio: Studio) -> None:
    before = studio.work()
    studio.edit("UPDATE work_head SET state = '{}', state_schema = 0")

    assert studio.work() == before
    studio.save("third")

    assert rows(studio.url, "SELECT state_schema, version FROM work_head") == [(WORK_SCHEMA, 4)]
    assert studio.checked() == []


def test_projections_pass_works_over_and_never_wait_at_them(studio: Studio) -> None:
    shard = studio.shards.shard_of("acme")
    with studio.shards.connection_for(shard) as connection:
        connection.autocommit = True
        batch = Projector(StatementModel()).advance(connection, shard)

    assert batch is not None
    assert (batch.halted, batch.rows) == (None, 0)
    assert studio.checked() == []


def test_the_librarys_recorder_reads_works_and_refuses_to_write_them(studio: Studio) -> None:
    application = LedgerApplication(studio.shards, studio.shards.shard_of("acme"))
    events = application.recorder.select_events(work_stream_id("acme", "poster"))

    assert [event.topic for event in events] == ["WorkStarted.1", "WorkStepSaved.1", "WorkStepSaved.1"]
    with pytest.raises(DataError):
        application.recorder.insert_events(
            [StoredEvent(work_stream_id("acme", "poster"), 4, events[-1].topic, events[-1].state)]
        )


def test_the_relay_knows_whose_the_events_of_a_work_are(studio: Studio) -> None:
    sender = _Sender(studio.shards, "first", "nowhere:9092", RelayTopics(), Event(), 1.0, 100)
    shard = studio.shards.shard_of("acme")
    with studio.shards.connection_for(shard) as connection:
        cursor = connection.cursor(row_factory=tuple_row)
        events = read_events(cursor, shard, 0, None, 100)
        teams = sender._teams_of(cursor, shard, events)

    works = [event for event in events if event.topic in WORK_SHAPES]
    assert len(works) == 3
    assert {teams[event.stream] for event in works} == {"acme"}


def test_i23_after_an_erasure_no_digest_is_left_by_which_a_text_could_be_guessed(studio: Studio) -> None:
    step = c.SaveWorkStep(team_id="acme", work_id="poster", step="draft", text=DRAFT, member="jo")
    studio.do(step, "the text of jo")
    others = c.SaveWorkStep(team_id="acme", work_id="poster", step="draft", text=DRAFT)
    studio.do(others, "the text of mira")
    before = {row[0]: row[1] for row in rows(studio.url, "SELECT key, body_digest FROM idempotency")}

    told = studio.do(c.EraseContexts(team_id="acme", member="jo"))

    after = {row[0]: row[1] for row in rows(studio.url, "SELECT key, body_digest FROM idempotency")}
    assert [key for key in before if before[key] != after[key]] == ["the text of jo"]
    with pytest.raises(IdempotencyKeyReused):
        studio.do(step, "the text of jo")
    assert studio.do(others, "the text of mira").is_replayed
    assert told.version == 2
    assert studio.checked() == []
