"""Teams whose months close, in a real database; a closer as a process that may be killed at any of its places."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from domain.account.charging import charge_usage
from domain.account.decision import Decision
from domain.account.events import CostBasis
from domain.account.funding import grant_credits, top_up_credits
from domain.account.opening import open_account
from domain.actors import Actor
from domain.invoices.document import Invoice, canonical_invoice
from domain.issuer.details import IssuerDetails
from domain.ticking import tick
from infra.closing import Closed, Closer
from infra.failpoints import VARIABLE
from infra.postgres.due_teams import DueTeams
from infra.postgres.issuer_heads import write_details
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.shards import ShardMap
from infra.tick import tick_due_teams
from tests.builders import a_catalogue, a_usage_record, micros, unit_card, when
from tests.infra.stored import rows, told

ROOT = Path(__file__).resolve().parents[2]
OPENED = when("2026-11-02 08:00")
CLOSED = when("2026-12-02 06:00")
"""November is over since more than late grace."""

OPERATOR = Actor("olga", "operator")
CATALOGUE = a_catalogue(unit_card())
SELLER = IssuerDetails(
    name="Coffer SE",
    address_lines=["Kai 7", "20457 Hamburg"],
    country="DE",
    tax_id="DE123456789",
    prefix="CO-",
    tax_percent="19",
)


def a_seller(shards: ShardMap, issuer_id: str = "main") -> None:
    """The issuer has details."""
    write_details(shards, msgspec.structs.replace(SELLER, issuer_id=issuer_id), OPERATOR)


def a_team(
    shards: ShardMap, team: str, *, at: datetime = OPENED, issuer: str = "main", bought: int = 100
) -> None:
    """The team has an account, sold to by the issuer, and has bought so many credits at ten cents each."""
    told(
        shards,
        team,
        at,
        lambda decision: open_account(decision, team, "UTC", 1, "standard", issuer_id=issuer),
    )
    if bought:
        basis = CostBasis(price_minor=bought * 10, currency="EUR", tax_minor=bought * 2)
        told(
            shards,
            team,
            at,
            lambda decision: top_up_credits(
                decision, micros(bought), payment_reference=f"pay-{team}", cost_basis=basis
            ),
        )


def grant(shards: ShardMap, team: str, amount: int, at: datetime) -> None:
    """The team has more credits."""
    told(shards, team, at, lambda decision: grant_credits(decision, micros(amount)))


def used(
    shards: ShardMap, team: str, record_id: str, units: int, occurred: str, recorded: str | None = None
) -> None:
    """The team used so many units then, which the ledger was told at once, or later."""

    def charge(decision: Decision) -> None:
        charge_usage(decision, a_usage_record(record_id, units, occurred=occurred, team=team), CATALOGUE)

    told(shards, team, when(recorded or occurred), charge)


def months(shards: ShardMap, teams: Sequence[str]) -> None:
    """Each team bought 100 credits in November and used some of them: the first 1, the second 2, and so on."""
    for number, team in enumerate(teams, 1):
        a_team(shards, team)
        used(shards, team, f"{team}-1", number, "2026-11-20 09:00")


def printed(document: Invoice) -> bytes:
    """What stands for a PDF where nobody looks at it."""
    return b"%PDF- of " + hashlib.sha256(canonical_invoice(document)).hexdigest().encode()


def ticked(shards: ShardMap, now: datetime = CLOSED) -> None:
    """What is due by then is booked on every team."""
    store = PostgresLedgerStore(shards, clock=lambda _: now)
    tick_due_teams(store, DueTeams(shards, clock=lambda _: now))


def close_one(shards: ShardMap, team: str, now: datetime = CLOSED) -> None:
    """What is due by then is booked on the team."""
    tick(PostgresLedgerStore(shards, clock=lambda _: now), team)


def invoiced(shards: ShardMap, now: datetime = CLOSED, *, ticking: bool = True) -> Closed:
    """What a closer did whose clock says so, after the tick whose part it is."""
    if ticking:
        ticked(shards, now)
    return Closer(shards, printed, clock=lambda _: now).run()


def numbers(url: str) -> list[tuple[str, str]]:
    """Every number given out, in order, with the team that has it, as the issuers' streams say."""
    return rows(
        url,
        "SELECT d ->> 'invoice', d ->> 'team_id' FROM (SELECT originator_id, originator_version,"
        " convert_from(state, 'UTF8')::jsonb AS d FROM ledger_events WHERE topic = 'InvoiceNumbered.1') AS e"
        " ORDER BY d ->> 'issuer_id', originator_id, originator_version",
    )


def documents(url: str) -> list[tuple[str, str, bool]]:
    """Every document on file: its number, its team, whether its PDF is stored."""
    return rows(url, "SELECT invoice, team_id, pdf IS NOT NULL FROM invoice_document ORDER BY invoice")


def issued_events(url: str) -> list[tuple[str, str]]:
    """Every invoice as the accounts' streams say: its number and its period."""
    return rows(
        url,
        "SELECT d ->> 'invoice', d ->> 'label' FROM (SELECT convert_from(state, 'UTF8')::jsonb AS d FROM ledger_events"
        " WHERE topic = 'InvoiceIssued.1') AS e ORDER BY 1",
    )


def start_closer(
    url: str, *, more: str = "", failpoint: str = "", now: datetime = CLOSED
) -> subprocess.Popen[str]:
    """A closer in a process of its own, which dies at the place."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.infra.invoicing", url, more, now.isoformat()],
        cwd=ROOT,
        env=os.environ | {VARIABLE: failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def gapless(found: Iterable[str], prefix: str = "CO-2026-") -> bool:
    """Whether these numbers of a year are 1 to as many as there are."""
    return sorted(found) == [f"{prefix}{number:06d}" for number in range(1, len(list(found)) + 1)]


def main(url: str, more: str, now: str) -> None:
    """One pass of a closer, whose clock stands."""
    shards = ShardMap(url, others={"east": more} if more else None)
    invoiced(shards, datetime.fromisoformat(now))
    shards.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
