"""Accounts whose heads an older version wrote are folded again: head and index, one account a transaction, resumable."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import psycopg
from psycopg import errors
from psycopg.rows import TupleRow

from domain.account.state import STATE_SCHEMA
from domain.errors import UnknownEventShape
from infra.postgres.heads import load_heads

PORTION_TEAMS = 200


class Refolded(msgspec.Struct):
    """How many accounts were folded again so far; teams that could not be: locked by another, or of a shape not known here."""

    accounts: int = 0
    busy: list[str] = []
    unreadable: list[str] = []


Progress = Callable[[Refolded], None]


def refold_older_heads(
    connection: psycopg.Connection[TupleRow], shards: int, progress: Progress = lambda _: None
) -> Refolded:
    """Every account that can be had now has a head of today's schema, and the index that goes with it.

    ``connection`` is in autocommit. What is done stays done when this is interrupted; an account that another transaction
    holds is left for the next run, or for whoever writes to it first. Raises: psycopg.OperationalError.
    """
    told = Refolded()
    for shard in range(shards):
        after = ""
        while teams := _older(connection, shard, after):
            for team_id in teams:
                _refold(connection, shard, team_id, told)
            after = teams[-1]
            progress(told)
    return told


def _older(connection: psycopg.Connection[TupleRow], shard: int, after: str) -> list[str]:
    # The schema is written out, so that the index of older heads is seen to fit.
    rows = connection.execute(
        f"SELECT team_id FROM account_head WHERE shard = %s AND state_schema < {int(STATE_SCHEMA)}"  # noqa: S608 - a constant
        " AND team_id > %s ORDER BY team_id LIMIT %s",
        (shard, after, PORTION_TEAMS),
    ).fetchall()
    return [row[0] for row in rows]


def _refold(connection: psycopg.Connection[TupleRow], shard: int, team_id: str, told: Refolded) -> None:
    try:
        with connection.transaction():
            load_heads(connection.cursor(), shard, [team_id], lock=True)
    except UnknownEventShape:
        told.unreadable.append(team_id)
    except errors.LockNotAvailable:
        told.busy.append(team_id)
    else:
        told.accounts += 1
