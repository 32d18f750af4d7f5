"""Exchanges with the server that nobody waits for in between: statements in a row, and a COPY with the COMMIT behind it.

libpq sends and receives without blocking; so the server works while the next batch is decided. Whatever else uses the connection
must wait until the exchange has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import psycopg
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import TupleRow

from infra.failpoints import hit

# In the numbers that PostgreSQL has for times, as in its binary form.
_NOW = b"SELECT (extract(epoch FROM clock_timestamp() - '2000-01-01+00'::timestamptz) * 1000000)::bigint"


class Statement(NamedTuple):
    """A statement that a connection knows by name; its parameters are $1, $2, ..., and travel in binary."""

    name: bytes
    text: bytes
    types: Sequence[int]


def know(connection: psycopg.Connection[TupleRow], statements: Iterable[Statement]) -> None:
    """The connection knows the statements by their names, and no others: psycopg forgets all of them at a rollback."""
    connection.prepare_threshold = None
    for name, text, types in statements:
        connection.pgconn.send_prepare(name, text, types)
        _raise_first(connection, connection.wait(generators.execute(connection.pgconn)))


class Row(NamedTuple):
    """What a statement answered: how many rows it changed or returned, and the values of those returned, in binary."""

    rows: int
    values: list[tuple[bytes | None, ...]]


class Exchange:
    """Statements that the server works through in their order while we go on; ``finish`` waits for all answers.

    It begins a transaction where none is open.
    """

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        is_idle = self._pgconn.transaction_status == TransactionStatus.IDLE
        self._pgconn.enter_pipeline_mode()
        self._begins = is_idle
        if is_idle:
            self._pgconn.send_query_params(b"BEGIN", None)

    def send(self, statement: Statement, *values: bytes) -> None:
        """The statement is on its way."""
        self._pgconn.send_query_prepared(statement.name, values, [Format.BINARY] * len(values), Format.BINARY)
        self._pgconn.flush()

    def finish(self) -> list[Row]:
        """The answers, in the order of the statements.

        Raises: psycopg.Error of the first statement that failed; those after it did nothing.
        """
        self._pgconn.pipeline_sync()
        answers = self._connection.wait(_answers(self._pgconn))
        self._pgconn.exit_pipeline_mode()
        _raise_first(self._connection, answers)
        return [_row(answer) for answer in answers[self._begins :]]


class CommitUnderWay:
    """Rows by COPY and the COMMIT behind them, sent; ``finish`` waits for the answer.

    What fails before the COMMIT is sent is raised at once: psycopg.Error. ``ended_at`` is in the end when the server had the
    rows, in microseconds of its clock; None without rows.
    """

    def __init__(self, connection: psycopg.Connection[TupleRow], copy: bytes, data: Sequence[bytes]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self.ended_at: int | None = None
        if data:
            self._pgconn.send_query(copy + b"; " + _NOW + b"; COMMIT")
            answers = connection.wait(generators.execute(self._pgconn))
            _raise_first(connection, answers)
            assert answers[-1].status == ExecStatus.COPY_IN, "the server waits for rows"
            for each in data:
                self._pgconn.put_copy_data(each)
        hit("batch.before_commit")
        # From here on nobody knows what the server heard: whatever happens is told by ``finish``.
        with suppress(psycopg.OperationalError):
            if data:
                self._pgconn.put_copy_end()
            else:
                self._pgconn.send_query(b"COMMIT")
            # Two to four megabytes go at once. The rest is waited for: locks must not depend on what we do next.
            connection.wait(generators.send(self._pgconn))

    def finish(self) -> None:
        """The transaction is committed.

        Raises: psycopg.Error; then ``is_known_to_have_failed`` says whether it is known that nothing was committed.
        """
        answers = self._connection.wait(generators.execute(self._pgconn))
        _raise_first(self._connection, answers)
        if not answers:
            raise psycopg.OperationalError("the connection was lost before COMMIT was answered")
        *_, committed = answers
        assert committed.command_status == b"COMMIT", f"COMMIT was answered by {committed.command_status!r}"
        for answer in answers:
            if answer.ntuples:
                self.ended_at = int(answer.get_value(0, 0) or 0)

    @property
    def is_known_to_have_failed(self) -> bool:
        """Whether the server itself said so, and is there to say more: COMMIT is the last thing it was asked."""
        return self._pgconn.transaction_status in {TransactionStatus.INERROR, TransactionStatus.IDLE}


def _answers(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """What came before the end of the pipeline."""
    yield from generators.send(pgconn)
    answers: list[PGresult] = []
    while True:
        answer = yield from generators.fetch(pgconn)
        if answer is None:
            continue
        if answer.status == ExecStatus.PIPELINE_SYNC:
            return answers
        answers.append(answer)


def _raise_first(connection: psycopg.Connection[TupleRow], answers: Sequence[PGresult]) -> None:
    for answer in answers:
        if answer.status == ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(answer, encoding=connection.info.encoding)


def _row(answer: PGresult) -> Row:
    values = [
        tuple(answer.get_value(row, column) for column in range(answer.nfields))
        for row in range(answer.ntuples)
    ]
    return Row(answer.command_tuples or 0, values)
