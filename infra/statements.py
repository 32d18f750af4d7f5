"""A team's statement of account for a range of time, with the sums before and after it, as CSV, PDF or HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from psycopg.rows import tuple_row

from domain.account.state import in_force
from domain.errors import Malformed, UnknownTeam
from infra.postgres.heads import load_heads
from infra.postgres.issuer_heads import read_issuer
from infra.postgres.ledger_store import database_clock
from infra.postgres.read_models import PostgresStatement
from infra.postgres.shards import ShardMap
from infra.postgres.team_heads import load_team_head
from projections.statement import StatementFilter, StatementRow

if TYPE_CHECKING:
    from infra.forms.statements import StatementHeader

StatementForm = Literal["csv", "html", "pdf"]
PAGE_ROWS = 500


class Statement(NamedTuple):
    """What a statement of account tells, ready for a form; rows are read as they are asked for."""

    header: StatementHeader
    rows: Callable[[], Iterator[StatementRow]]


def statement_of(shards: ShardMap, team_id: str, since: datetime, until: datetime) -> Statement:
    """The statement of what was recorded from ``since`` (included) to ``until`` (excluded), as far as the read model has come.

    Raises: Malformed for a range that ends before it begins; UnknownTeam.
    """
    # Fonts and languages are loaded by whoever prints, and by nobody else.
    from infra.forms.statements import StatementHeader

    if until <= since:
        raise Malformed(
            "until is not after from: a range includes its start and excludes its end", field="until"
        )
    view = PostgresStatement(shards)
    shard = shards.shard_of(team_id)
    with shards.connection_for(shard) as connection:
        cursor = connection.cursor(row_factory=tuple_row)
        head = load_heads(cursor, shard, [team_id], lock=False).get(team_id)
        if head is None:
            raise UnknownTeam(f"team {team_id!r} has no account: open one first", team_id=team_id)
        now = database_clock(cursor)
        customer = load_team_head(cursor, shard, team_id).team.billing_details
    opening = _last_before(view, team_id, since)
    closing = _last_before(view, team_id, until)
    issuer = read_issuer(shards, head.account.issuer_id).details
    header = StatementHeader(
        team_id=team_id,
        since=since,
        until=until,
        zone=in_force(head.account.zones, min(until, now)),
        opening_settled_micros=opening.settled_after_micros if opening else 0,
        opening_debt_micros=opening.debt_after_micros if opening else 0,
        closing_settled_micros=closing.settled_after_micros if closing else 0,
        closing_debt_micros=closing.debt_after_micros if closing else 0,
        version=closing.version if closing else 0,
        made_at=now,
        locale=customer.locale if customer else None,
        issuer=issuer.name if issuer else None,
        customer=customer.name if customer else None,
    )
    last = closing.version if closing else 0
    return Statement(header, lambda: _rows(view, team_id, since, until, last))


def statement_form(statement: Statement, form: StatementForm) -> Iterable[bytes]:
    """The statement in that form, piece by piece. Raises: TooLongToPrint for a PDF or page of too many rows."""
    from infra.forms import statements as forms

    if form == "csv":
        return forms.statement_csv(statement.header, statement.rows())
    rows: list[StatementRow] = []
    for row in statement.rows():
        rows.append(row)
        # One more than can be printed is enough to say so.
        if len(rows) > forms.PRINTED_ROWS_MAX:
            break
    printed = forms.statement_pdf if form == "pdf" else forms.statement_html
    return [printed(statement.header, rows)]


def _last_before(view: PostgresStatement, team_id: str, at: datetime) -> StatementRow | None:
    page = view.page(team_id, asked=StatementFilter(recorded_until=at), limit=1, newest_first=True)
    return page.rows[0] if page.rows else None


def _rows(
    view: PostgresStatement, team_id: str, since: datetime, until: datetime, last: int
) -> Iterator[StatementRow]:
    """Rows up to the version whose sums close the statement, also when more are projected meanwhile."""
    asked = StatementFilter(recorded_from=since, recorded_until=until)
    after: int | None = None
    while True:
        page = view.page(team_id, asked=asked, after=after, limit=PAGE_ROWS, newest_first=False)
        yield from (row for row in page.rows if row.version <= last)
        if not page.more:
            return
        after = page.rows[-1].version
