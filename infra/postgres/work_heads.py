"""A team's works: read as their heads say, written in the transaction that holds the lock of its account."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.chain import GENESIS
from domain.work.applying import fold
from domain.work.decision import WorkDecision
from domain.work.state import WORK_SCHEMA, Work, work_stream_id
from infra.postgres.appending import HeadMoved, NewEvent, Rows, chained
from infra.postgres.archived import refuse_archived
from infra.postgres.mapper import WORK_SHAPES, decode_work, encode_json, topic_of


class WorkHead(NamedTuple):
    """A work as of its newest version, with what its next event is chained to."""

    work: Work
    chain_hash: bytes


def load_work_head(cursor: Cursor[TupleRow], shard: int, team_id: str, work_id: str) -> WorkHead:
    """The work as it stands; a new one at version 0 before its first event.

    Raises: UnknownEventShape.
    """
    cursor.execute(
        "SELECT version, chain_hash, state, state_schema FROM work_head"
        " WHERE shard = %s AND team_id = %s AND work_id = %s",
        (shard, team_id, work_id),
        binary=True,
    )
    row = cursor.fetchone()
    if row is None:
        return WorkHead(Work(team_id=team_id, work_id=work_id), GENESIS)
    version, chain_hash, state, state_schema = row
    work = (
        decode_work(state)
        if state_schema == WORK_SCHEMA
        else fold_again(cursor, shard, team_id, work_id, version)
    )
    assert (work.team_id, work.work_id, work.version) == (team_id, work_id, version), (
        f"the head of work {work_id!r} of {team_id!r} at {version} holds {work.work_id!r} of {work.team_id!r} at {work.version}"
    )
    return WorkHead(work, chain_hash)


def fold_again(cursor: Cursor[TupleRow], shard: int, team_id: str, work_id: str, version: int) -> Work:
    """The work at a version, folded from its events: a head of another schema is not believed.

    Raises: UnknownEventShape; EventsArchived.
    """
    stream_id = work_stream_id(team_id, work_id)
    cursor.execute(
        "SELECT topic, state FROM ledger_events"
        " WHERE shard = %s AND originator_id = %s AND originator_version <= %s ORDER BY originator_version",
        (shard, stream_id, version),
        binary=True,
    )
    rows = cursor.fetchall()
    if len(rows) != version:
        refuse_archived(cursor.connection, shard, stream_id, 0, version)
    return fold(
        Work(team_id=team_id, work_id=work_id), (WORK_SHAPES.decode(topic, state) for topic, state in rows)
    )


def write_work_head(
    cursor: Cursor[TupleRow], shard: int, found: WorkHead, decision: WorkDecision
) -> Rows | None:
    """The head is as decided and the texts are kept; returns the rows of the events, which the same transaction appends.

    None when nothing happened.
    Raises: HeadMoved; psycopg.errors.UniqueViolation when another writer wrote the first event.
    """
    work = decision.work
    if found.work.version != decision.expected_version:
        raise HeadMoved(
            f"work {work.work_id!r} of team {work.team_id!r} is at version {found.work.version},"
            f" decided on {decision.expected_version}"
        )
    if not decision.events:
        return None
    events = [NewEvent(topic_of(type(event)), encode_json(event), None) for event in decision.events]
    stream_id = work_stream_id(work.team_id, work.work_id)
    rows, version, chain_hash = chained(shard, stream_id, decision.expected_version, found.chain_hash, events)
    assert work.version == version, f"the work is at {work.version}, its events end at {version}"
    _keep_texts(cursor, shard, decision)
    values = (version, chain_hash, encode_json(work), WORK_SCHEMA, work.recorded_at)
    if decision.expected_version == 0:
        cursor.execute(
            "INSERT INTO work_head (version, chain_hash, state, state_schema, recorded_at, shard, team_id, work_id, stream_id)"
            " VALUES (%s, %b, %b, %s, %s, %s, %s, %s, %s)",
            (*values, shard, work.team_id, work.work_id, stream_id),
        )
        return Rows(rows)
    cursor.execute(
        "UPDATE work_head SET version = %s, chain_hash = %b, state = %b, state_schema = %s, recorded_at = %s"
        " WHERE shard = %s AND team_id = %s AND work_id = %s AND version = %s",
        (*values, shard, work.team_id, work.work_id, decision.expected_version),
    )
    if cursor.rowcount != 1:
        raise HeadMoved(
            f"work {work.work_id!r} of team {work.team_id!r} moved from {decision.expected_version}"
        )
    return Rows(rows)


def _keep_texts(cursor: Cursor[TupleRow], shard: int, decision: WorkDecision) -> None:
    work = decision.work
    cursor.executemany(
        "INSERT INTO work_context (shard, team_id, work_id, version, step, member, salt, context)"
        " VALUES (%s, %s, %s, %s, %s, %s, %b, %b)",
        [
            (shard, work.team_id, work.work_id, kept.version, kept.step, kept.member, kept.salt, kept.text)
            for kept in decision.texts
        ],
    )
