"""What a member wrote is forgotten: no byte of it is left in any table, in the topics of ours or in a log; what it cost stays."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
import pytest
from kafka import KafkaConsumer, TopicPartition

from domain.account.events import ContextErased
from domain.commands import EraseContexts, SaveWorkStep, StartWork
from domain.work.texts import WorkText
from infra.kafka.erasing import finish_erasures
from infra.postgres.verification import verify
from infra.topics import dead_letter_topic
from tests.infra.stored import rows
from tests.streams_on_kafka import Stream, usage_value

CANARY = "zebra-in-a-teacup-417"
CONTEXT = {"prompt": f"a {CANARY}", "files": [f"{CANARY}.png"]}


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
