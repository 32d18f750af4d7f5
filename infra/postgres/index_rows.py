"""The rows of an account's index are as its changes say, whoever makes them: a command, a batch, a fold of all events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.account.index import IndexChange


def change_index(
    cursor: Cursor[TupleRow], shard: int, changes: Iterable[tuple[str, Sequence[IndexChange]]]
) -> None:
    """The entries of each (team, changes) are as the last change of each key says."""
    last = {(team_id, change.kind, change.key): change.entry for team_id, made in changes for change in made}
    kept = [(*name, entry) for name, entry in sorted(last.items()) if entry is not None]
    gone = [name for name, entry in sorted(last.items()) if entry is None]
    if kept:
        teams, kinds, keys, entries = zip(*kept, strict=True)
        cursor.execute(
            "INSERT INTO account_index (shard, team_id, kind, key, entry)"
            " SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::text[], %b::bytea[])"
            " ON CONFLICT (shard, team_id, kind, key) DO UPDATE SET entry = EXCLUDED.entry",
            (shard, list(teams), list(kinds), list(keys), list(entries)),
        )
    if gone:
        teams, kinds, keys = zip(*gone, strict=True)
        cursor.execute(
            "DELETE FROM account_index AS i USING unnest(%b::text[], %b::text[], %b::text[]) AS g (team_id, kind, key)"
            " WHERE i.shard = %s AND (i.team_id, i.kind, i.key) = (g.team_id, g.kind, g.key)",
            (list(teams), list(kinds), list(keys), shard),
        )
