"""How every connection to the database behaves: nothing waits for ever, and everyone is called by name."""

from __future__ import annotations

from typing import NamedTuple

import psycopg
from psycopg import errors
from psycopg.rows import TupleRow, tuple_row

from infra.settings import Settings

CONNECT_TIMEOUT_SECONDS = 10

FIRST = "first"
"""The name of the database that also holds what belongs to no shard: the catalogue, API keys, the list of all databases."""

NOT_REACHED = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
    errors.ReadOnlySqlTransaction,
)
"""What says that the server, or a lock on it, could not be had for now: nothing is wrong with the request."""


class ShardMoved(psycopg.OperationalError):
    """The shard does not live in the database that was asked. Nothing was written: read the map again, then repeat."""


class Timeouts(NamedTuple):
    """The bounds of every wait, in milliseconds: for a lock, for a statement, of a transaction that does nothing."""

    lock_milliseconds: int = 5_000
    statement_milliseconds: int = 30_000
    idle_in_transaction_milliseconds: int = 60_000

    @classmethod
    def of(cls, settings: Settings) -> Timeouts:
        """The bounds that the settings name."""
        return cls(
            settings.lock_timeout_milliseconds,
            settings.statement_timeout_milliseconds,
            settings.idle_in_transaction_timeout_milliseconds,
        )


def session_options(timeouts: Timeouts, more: str = "") -> str:
    """The server settings of a connection, in the form of libpq's `options`.

    Compilation (jit) is off: for statements this short it costs more than it saves, and it has made them seconds long.
    """
    return (
        f"-c lock_timeout={timeouts.lock_milliseconds}"
        f" -c statement_timeout={timeouts.statement_milliseconds}"
        f" -c idle_in_transaction_session_timeout={timeouts.idle_in_transaction_milliseconds}"
        f" -c jit=off -c timezone=UTC {more}"
    ).strip()


def connect(
    database_url: str, timeouts: Timeouts, application_name: str, more_options: str = ""
) -> psycopg.Connection[TupleRow]:
    """A connection of its own, owned by the caller; transactions begin with the first statement.

    Raises: psycopg.OperationalError when the server does not answer in time.
    """
    return psycopg.connect(
        database_url,
        row_factory=tuple_row,
        options=session_options(timeouts, more_options),
        application_name=application_name,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        # A peer that is gone without a word is noticed within half a minute, also while we wait for its answer.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=30_000,
    )
