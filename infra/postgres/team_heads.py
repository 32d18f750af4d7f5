"""A team's people and paperwork: read as its head says, written in the transaction that holds its account's lock."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.chain import GENESIS
from domain.team.applying import fold
from domain.team.decision import TeamDecision
from domain.team.state import TEAM_SCHEMA, Team, team_stream_id
from infra.postgres.appending import HeadMoved, NewEvent, Rows, chained
from infra.postgres.archived import refuse_archived
from infra.postgres.mapper import TEAM_SHAPES, decode_team, encode_json, topic_of


class TeamHead(NamedTuple):
    """A team as of its newest version, with what its next event is chained to."""

    team: Team
    chain_hash: bytes


def load_team_head(cursor: Cursor[TupleRow], shard: int, team_id: str) -> TeamHead:
    """The team as it stands; an empty one at version 0 before its first event.

    Raises: UnknownEventShape.
    """
    cursor.execute(
        "SELECT version, chain_hash, state, state_schema FROM team_head WHERE shard = %s AND team_id = %s",
        (shard, team_id),
        binary=True,
    )
    row = cursor.fetchone()
    if row is None:
        return TeamHead(Team(team_id=team_id), GENESIS)
    version, chain_hash, state, state_schema = row
    team = decode_team(state) if state_schema == TEAM_SCHEMA else fold_again(cursor, shard, team_id, version)
    assert (team.team_id, team.version) == (team_id, version), (
        f"the head of team {team_id!r} at {version} holds team {team.team_id!r} at {team.version}"
    )
    return TeamHead(team, chain_hash)


def fold_again(cursor: Cursor[TupleRow], shard: int, team_id: str, version: int) -> Team:
    """The team at a version, folded from its events: a head of another schema is not believed.

    Raises: UnknownEventShape; EventsArchived.
    """
    cursor.execute(
        "SELECT topic, state FROM ledger_events"
        " WHERE shard = %s AND originator_id = %s AND originator_version <= %s ORDER BY originator_version",
        (shard, team_stream_id(team_id), version),
        binary=True,
    )
    rows = cursor.fetchall()
    if len(rows) != version:
        refuse_archived(cursor.connection, shard, team_stream_id(team_id), 0, version)
    return fold(Team(team_id=team_id), (TEAM_SHAPES.decode(topic, state) for topic, state in rows))


def write_team_head(
    cursor: Cursor[TupleRow], shard: int, found: TeamHead, decision: TeamDecision
) -> Rows | None:
    """The head is as decided; returns the rows of the events, which the same transaction appends. None when nothing happened.

    Raises: HeadMoved; psycopg.errors.UniqueViolation when another writer wrote the first event.
    """
    team = decision.team
    if found.team.version != decision.expected_version:
        raise HeadMoved(
            f"the paperwork of team {team.team_id!r} is at version {found.team.version},"
            f" decided on {decision.expected_version}"
        )
    if not decision.events:
        return None
    events = [NewEvent(topic_of(type(event)), encode_json(event), None) for event in decision.events]
    stream_id = team_stream_id(team.team_id)
    rows, version, chain_hash = chained(shard, stream_id, decision.expected_version, found.chain_hash, events)
    assert team.version == version, f"the team is at {team.version}, its events end at {version}"
    values = (version, chain_hash, encode_json(team), TEAM_SCHEMA, team.recorded_at)
    if decision.expected_version == 0:
        cursor.execute(
            "INSERT INTO team_head (version, chain_hash, state, state_schema, recorded_at, shard, team_id, stream_id)"
            " VALUES (%s, %b, %b, %s, %s, %s, %s, %s)",
            (*values, shard, team.team_id, stream_id),
        )
        return Rows(rows)
    cursor.execute(
        "UPDATE team_head SET version = %s, chain_hash = %b, state = %b, state_schema = %s, recorded_at = %s"
        " WHERE shard = %s AND team_id = %s AND version = %s",
        (*values, shard, team.team_id, decision.expected_version),
    )
    if cursor.rowcount != 1:
        raise HeadMoved(f"the paperwork of team {team.team_id!r} moved from {decision.expected_version}")
    return Rows(rows)
