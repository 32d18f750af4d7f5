"""What a member wrote is forgotten: no byte of it is left in any table, in the topics of ours or in a log; what it cost stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from kafka import KafkaConsumer, TopicPartition

from domain.account.events import ContextErased
from domain.bundles import Checked
from domain.commands import EraseContexts, SaveWorkStep, StartWork
from domain.work.texts import WorkText
from infra.bundles import check_bundle, write_bundle
from infra.checkpoints import CheckpointOnFile, Checkpoints
from infra.kafka.erasing import finish_erasures
from infra.postgres.read_models import PostgresStatement
from infra.postgres.verification import verify
from infra.postgres.witnessing import compare_leaves
from infra.project import ProjectorLoop
from infra.relay import Relay, RelayTopics
from infra.signing import SigningKey
from infra.topics import dead_letter_topic
from tests.conftest import MakeTopic
from tests.infra.stored import rows
from tests.infra.test_chain_in_sql import documented_query
from tests.streams_on_kafka import Stream, usage_value

CANARY = "zebra-in-a-teacup-417"
CONTEXT = {"prompt": f"a {CANARY}", "files": [f"{CANARY}.png"]}
KEY = SigningKey(b"the key of this ledger, thirty-two bytes or more")


def tables_with(url: str, words: str) -> list[str]:
    """The tables of which a row holds the words, as text or as bytes."""
    found: list[str] = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            row = connection.execute(
                f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE %s OR t::text LIKE %s".encode(),
                (f"%{words}%", f"%{words.encode().hex()}%"),
            ).fetchone()
            if row and row[0]:
                found.append(table)
    return sorted(found)


def values_in(stream: Stream, topic: str) -> list[bytes]:
    """What a reader from the beginning finds in the topic: keys, values and headers, one text for each record."""
    consumer = KafkaConsumer(bootstrap_servers=stream.bootstrap, enable_auto_commit=False)
    partitions = [TopicPartition(topic, each) for each in consumer.partitions_for_topic(topic) or ()]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    found: list[bytes] = []
    while any(consumer.position(each) < ends[each] for each in partitions):
        for records in consumer.poll(timeout_ms=500).values():
            found += [
                b"|".join([each.key or b"", each.value or b"", *(value or b"" for _, value in each.headers)])
                for each in records
            ]
    consumer.close()
    return found


@pytest.fixture
def told(stream: Stream) -> Stream:
    """Mira wrote the words in every place that takes text; jo has a record that was not charged, too."""
    stream.command(
        StartWork(team_id="acme", work_id="cup", brief=WorkText(goal=CANARY, audience="all"), member="mira")
    )
    text = WorkText(prompts=[CANARY], links=[f"https://example.org/{CANARY}"])
    stream.command(SaveWorkStep(team_id="acme", work_id="cup", step="draft", text=text, member="mira"))
    mira: dict[str, Any] = {"member": "mira", "context": CONTEXT, "work": "cup", "step": "draft"}
    stream.use("charged", 4, **mira)
    stream.use("failed", 4, status="failed", **mira)
    stream.use("parked", 4, action="nobody.sells_it", **mira)
    stream.use("unknown", 4, team="nobody", member="mira", context={"prompt": "a cow"})
    stream.use("repeated", 4, **mira)
    stream.use("repeated", 5, **mira)
    stream.send(usage_value(4, **mira)[:-1], [("ce_subject", b"acme")])
    stream.send(usage_value(4, **(mira | {CANARY: 1})), [("ce_subject", b"acme")])
    stream.use("of-jo", 4, action="nobody.sells_it", member="jo", context={"prompt": "a fox"})
    stream.work()
    return stream


def test_i23_forgetting_a_member_leaves_no_byte_of_what_was_written(
    told: Stream, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = dead_letter_topic(told.topic)
    assert {"usage_context", "work_context", "dead_letter"} <= set(tables_with(told.database_url, CANARY))
    assert any(CANARY.encode() in each for each in values_in(told, letters))
    used, before = told.used(), verify(told.shards)

    answer = told.command(EraseContexts(team_id="acme", member="mira", reason="asked for it"))
    told.work()

    assert tables_with(told.database_url, CANARY) == []
    assert not [each for each in values_in(told, letters) if CANARY.encode() in each]
    assert any(b"a fox" in each for each in values_in(told, letters))
    assert CANARY not in capsys.readouterr().out
    assert told.used() == used
    after = verify(told.shards)
    assert (before.findings, after.findings) == ([], [])
    told_so = rows(told.database_url, "SELECT state FROM ledger_events WHERE topic = 'ContextErased.1'")
    event = msgspec.json.decode(told_so[0][0], type=ContextErased)
    assert (event.member, event.contexts, event.work_texts) == ("mira", 3, 2)
    assert answer.version > 1


class Books:
    """Checkpoints and bundles of the team, in files."""

    def __init__(self, told: Stream, directory: Path) -> None:
        self._shards = told.shards
        self._directory = directory
        self._checkpoints = Checkpoints(directory / "checkpoints")

    def checkpoint(self) -> CheckpointOnFile:
        """One more."""
        return self._checkpoints.make(self._shards, KEY)

    def bundle(self, name: str) -> Path:
        """A bundle of the team as of now, against the newest checkpoint."""
        out = self._directory / name
        write_bundle(self._shards, "acme", KEY, self._checkpoints.newest(), out)
        return out

    def with_words(self) -> list[str]:
        """The files that have the words in them."""
        files = [each for each in self._directory.rglob("*") if each.is_file()]
        assert files
        return [each.name for each in files if CANARY.encode() in each.read_bytes()]


def checked(bundle: Path) -> Checked:
    """What somebody finds who has the file and the public key."""
    told = check_bundle(bundle, [KEY.public_key])
    assert told.differences == []
    return told


def test_i11_i23_after_an_erasure_chain_totals_statements_and_bundles_still_verify(
    told: Stream, tmp_path: Path
) -> None:
    books = Books(told, tmp_path)
    ProjectorLoop(told.shards).catch_up()
    statement = PostgresStatement(told.shards)
    balance = "SELECT team_id, settled_micros, debt_micros FROM account_balance ORDER BY 1"
    witnessed = books.checkpoint()
    before = books.bundle("before")
    lines, sums = statement.page("acme").rows, rows(told.database_url, balance)
    covered = checked(before)

    told.command(EraseContexts(team_id="acme", member="mira", reason="asked for it"))
    told.work()
    ProjectorLoop(told.shards).catch_up()
    after = books.bundle("after")

    assert verify(told.shards).findings == []
    assert rows(told.database_url, documented_query()) == []
    assert (statement.page("acme").rows, rows(told.database_url, balance)) == (lines, sums)
    assert len(lines) > 0
    # One made before says what it said; one made after proves the same events, and the erasure is newer than the checkpoint.
    assert checked(before) == covered
    assert covered.unwitnessed == 0
    assert sum(each.verified for each in checked(after).streams) == sum(
        each.verified for each in covered.streams
    )
    assert checked(after).unwitnessed == 1
    assert compare_leaves(told.shards, witnessed.checked_leaves()).astray == []
    books.checkpoint()
    assert checked(books.bundle("witnessed")).unwitnessed == 0
    assert books.with_words() == []


def test_i23_neither_our_topics_nor_any_line_of_a_log_ever_has_a_word_of_a_context(
    told: Stream, topic: MakeTopic, capfd: pytest.CaptureFixture[str], run_directory: Path
) -> None:
    outgoing = RelayTopics(topic(1, "ledger"), topic(1, "alerts"))
    mira: dict[str, Any] = {"member": "mira", "context": CONTEXT, "work": "cup", "step": "draft"}
    told.use("charged by a process", 4, **mira)
    told.use("parked by a process", 4, action="nobody.sells_it", **mira)
    assert told.spawn().wait(60) == 0
    told.command(EraseContexts(team_id="acme", member="mira"))
    assert told.spawn().wait(60) == 0

    Relay(told.shards, told.bootstrap, outgoing).catch_up()

    sent = values_in(told, outgoing.ledger)
    assert any(b"ContextErased" in each for each in sent)
    assert not [each for each in sent + values_in(told, outgoing.alerts) if CANARY.encode() in each]
    assert not [each for each in values_in(told, dead_letter_topic(told.topic)) if CANARY.encode() in each]
    assert tables_with(told.database_url, CANARY) == []
    said = capfd.readouterr()
    assert '"event"' in said.err
    assert CANARY not in said.out + said.err
    logs = [each for each in run_directory.rglob("log") if each.is_file()]
    assert not [each.name for each in logs if CANARY.encode() in each.read_bytes()]


def test_other_members_other_teams_and_what_was_found_of_offsets_stay(told: Stream) -> None:
    told.command(EraseContexts(team_id="acme", member="mira"))
    told.work()

    letters = rows(
        told.database_url, "SELECT status, detail = 'erased', count(*) FROM dead_letter GROUP BY 1, 2"
    )
    outcomes = told.state.totals([told.topic])

    # Of the team that nobody knows the letter stays: it is not acme's mira.
    assert sorted(letters) == [("erased", True, 3), ("open", False, 2)]
    assert sum(outcomes["parked"].values()) == 3
    assert "a fox" in str(
        rows(told.database_url, "SELECT convert_from(record_value, 'UTF8') FROM dead_letter")
    )


def test_an_erasure_that_was_killed_halfway_is_finished_by_whoever_comes_next(told: Stream) -> None:
    told.command(EraseContexts(team_id="acme", member="mira"))
    told.letters.erasures.erase_letters(told.letters.erasures.unfinished())

    assert finish_erasures(told.letters.erasures, told.bootstrap) == 1
    assert finish_erasures(told.letters.erasures, told.bootstrap) == 0
    told.work()

    assert tables_with(told.database_url, CANARY) == []
    letters = values_in(told, dead_letter_topic(told.topic))
    assert not [each for each in letters if CANARY.encode() in each]
    assert {b"a fox" in each for each in letters} == {True, False}
