"""The database is brought to the newest revision: raw SQL, one statement at a time, one migrator at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from infra.postgres.connections import FIRST, Timeouts, connect
from infra.postgres.refolding import Progress, Refolded, refold_older_heads
from infra.settings import Settings

_HERE = Path(__file__).parent
# Any number does that nothing else in the database uses.
_MIGRATION_LOCK = 0x436F6666
_WAIT_FOR_OTHER_MIGRATOR = "60s"
# A migration that waits for a table blocks everyone who comes after it, so it gives up soon and may be run again.
_WAIT_FOR_TABLE = "5s"


class InstallationMismatch(RuntimeError):
    """The database was installed with another number of shards, under another name, or for another ledger: for good."""


class Membership(NamedTuple):
    """What a database is told that joins the ledger of another: shards come to live in it one by one."""

    name: str
    number: int
    installed_at: datetime


LETTERS_PER_DATABASE = 10**12
"""Dead letters are numbered from here times the number of their first database, so a number names one letter for ever."""


def migrate_all(
    databases: Mapping[str, str], shards: int | None = None, *, progress: Progress = lambda _: None
) -> Refolded:
    """Every database of the ledger, the first one first, is as ``migrate`` leaves it; new ones have joined, still without shards.

    Raises: InstallationMismatch.
    """
    (_, first), *others = databases.items()
    told = migrate(first, shards, progress=progress)
    for name, url in others:
        more = migrate(url, shards, progress=progress, member=_membership(first, name))
        told = Refolded(
            told.accounts + more.accounts, told.busy + more.busy, told.unreadable + more.unreadable
        )
    return told


def migrate(
    database_url: str,
    shards: int | None = None,
    *,
    progress: Progress = lambda _: None,
    revision: str = "head",
    member: Membership | None = None,
) -> Refolded:
    """The database has the newest tables and a log for each of its shards; running it again changes nothing.

    A ``member`` of the ledger of another database holds no shard until one is moved to it.
    Accounts whose heads are of an older schema are folded again after that, each in a transaction of its own; returns how many,
    and which could not be. ``shards`` is fixed by the first run; without it the setting COFFER_SHARDS counts. An older
    ``revision`` leaves the tables as they were then, and every account as it is.
    Raises: InstallationMismatch when the database was installed with another number of shards, or for another ledger.
    """
    wanted = Settings().shards if shards is None else shards
    with _only_migrator(database_url) as connection:
        config = Config()
        config.set_main_option("script_location", str(_HERE))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        _install(connection, wanted, member)
        if revision != "head":
            return Refolded()
        _check_name(connection, FIRST if member is None else member.name)
        with connect(database_url, Timeouts(), "coffer migrate") as own:
            own.autocommit = True
            return refold_older_heads(own, wanted, progress)


def run_sql(connection: Connection, file_name: str) -> None:
    """Every statement of the file beside this one was executed, each by itself."""
    raw = driver_connection(connection)
    for statement in statements(file_name):
        raw.execute(statement.encode())


def statements(file_name: str) -> list[str]:
    """The statements of an SQL file: each ends with a semicolon at the end of a line, outside the body of a function."""
    found, current = [], ""
    for line in (_HERE / file_name).read_text().splitlines():
        if line.lstrip().startswith("--") or not (current or line.strip()):
            continue
        current += f"{line}\n"
        if line.endswith(";") and current.count("$$") % 2 == 0:
            found.append(current.strip().removesuffix(";"))
            current = ""
    assert not current, f"{file_name} ends within a statement: {current[:80]!r}"
    return found


def driver_connection(connection: Connection) -> psycopg.Connection[tuple[object, ...]]:
    """The psycopg connection beneath; its `execute` without parameters leaves percent signs alone."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


@contextmanager
def _only_migrator(database_url: str) -> Iterator[Connection]:
    """A connection that holds the migration lock; others wait for it, at most a minute."""
    engine = create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        creator=lambda: psycopg.connect(database_url, application_name="coffer migrate"),
    )
    with engine.connect() as connection:
        raw = driver_connection(connection)
        raw.execute("SELECT set_config('lock_timeout', %s, false)", [_WAIT_FOR_OTHER_MIGRATOR])
        raw.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        raw.execute("SELECT set_config('lock_timeout', %s, false)", [_WAIT_FOR_TABLE])
        raw.commit()
        # The lock belongs to the session and ends with the connection.
        yield connection
    engine.dispose()


def _membership(first_url: str, name: str) -> Membership:
    """The number of the database of that name, given at its first joining, and the ledger that it joins."""
    with psycopg.connect(first_url, application_name="coffer migrate") as connection:
        connection.execute("LOCK TABLE ledger_database IN SHARE ROW EXCLUSIVE MODE")
        connection.execute(
            "INSERT INTO ledger_database (name, number) SELECT %s, max(number) + 1 FROM ledger_database"
            " ON CONFLICT DO NOTHING",
            [name],
        )
        row = connection.execute(
            "SELECT d.number, i.installed_at FROM ledger_database d CROSS JOIN installation i WHERE d.name = %s",
            [name],
        ).fetchone()
        assert row is not None
        return Membership(name, *row)


def _install(connection: Connection, shards: int, member: Membership | None) -> None:
    """The installation row and one log per shard exist, as many as asked for; in a member they wait for shards to come."""
    raw = driver_connection(connection)
    if member is None:
        raw.execute("INSERT INTO installation (shards) VALUES (%s) ON CONFLICT DO NOTHING", [shards])
    else:
        _join(raw, shards, member)
    row = raw.execute("SELECT shards, installed_at FROM installation").fetchone()
    assert row is not None
    if row[0] != shards:
        raw.rollback()
        raise InstallationMismatch(
            f"COFFER_SHARDS is {shards}, but this database was installed with {row[0]} shards, for good: set it to {row[0]}"
        )
    if member is not None and row[1] != member.installed_at:
        raw.rollback()
        raise InstallationMismatch(
            f"the database given as {member.name!r} holds a ledger of its own, installed at {row[1]}: an empty one would be right"
        )
    raw.execute(
        "INSERT INTO shard_log (shard) SELECT generate_series(0, %s - 1) ON CONFLICT DO NOTHING", [shards]
    )
    raw.commit()


def _join(raw: psycopg.Connection[tuple[object, ...]], shards: int, member: Membership) -> None:
    """The first time: no shard lives here, and dead letters are numbered apart from those of all other databases."""
    joined = raw.execute(
        "INSERT INTO installation (shards, installed_at, database_name) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [shards, member.installed_at, member.name],
    )
    if not joined.rowcount:
        return
    raw.execute(
        "INSERT INTO shard_log (shard, lives_here) SELECT generate_series(0, %s - 1), false", [shards]
    )
    raw.execute(
        sql.SQL("ALTER TABLE dead_letter ALTER COLUMN dead_letter_id RESTART WITH {}").format(
            sql.Literal(member.number * LETTERS_PER_DATABASE + 1)
        )
    )


def _check_name(connection: Connection, name: str) -> None:
    raw = driver_connection(connection)
    row = raw.execute("SELECT database_name FROM installation").fetchone()
    raw.commit()
    assert row is not None
    if row[0] != name:
        raise InstallationMismatch(
            f"the database given as {name!r} is called {row[0]!r}, for good: give it that name"
            " (COFFER_DATABASE_URL names the first one, COFFER_MORE_DATABASES the others)"
        )
