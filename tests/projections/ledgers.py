"""Small real ledgers in PostgreSQL: teams with a seeded life, written by the store's own door."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from copy import copy, deepcopy
from datetime import datetime, timedelta
from typing import Any

import msgspec
from typing_extensions import override

from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.account.events import AccountEvent, CostBasis, CreditsCharged
from domain.account.funding import AskedLot, grant_credits, top_up_credits
from domain.account.index import IndexOverlay
from domain.account.opening import open_account
from domain.account.refunding import refund_charge
from domain.account.state import TeamAccount
from domain.amounts import MICROS_PER_CREDIT
from domain.catalogue import Catalogue
from domain.errors import LedgerError
from domain.usage import Origin
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.shards import ShardMap
from tests.builders import TESTER, AnAccount, a_catalogue, a_usage_record, unit_card, when

CATALOGUE: Catalogue = a_catalogue(unit_card())


class ATeam:
    """A team whose decisions are written to a ledger one by one."""

    def __init__(
        self, shards: ShardMap, team_id: str, streamed: bool = False, at: str = "2026-11-01 00:00"
    ) -> None:
        self._store = PostgresLedgerStore(shards)
        self._streamed = streamed
        self._saves = 0
        self.team_id = team_id
        self.at: datetime = when(at)
        self._index = IndexOverlay()
        self._account: TeamAccount | None = None
        self._decide(lambda decision: open_account(decision, team_id))

    def on(self, shards: ShardMap) -> ATeam:
        """The same team on a copy of its ledger."""
        twin = copy(self)
        twin._store = PostgresLedgerStore(shards)
        twin._index, twin._account = deepcopy(self._index), deepcopy(self._account)
        return twin

    @property
    def version(self) -> int:
        assert self._account is not None
        return self._account.version

    def live(self, seed: int, steps: int) -> None:
        """So many decisions, drawn from the seed: grants that expire, top-ups, usage of every kind, refunds."""
        draw = random.Random(f"{seed} {self.team_id}")
        charges: list[str] = []
        for step in range(steps):
            self.at += timedelta(hours=draw.randint(1, 20))
            what = draw.choices(["use", "fail", "nothing", "grant", "buy", "refund"], [10, 2, 1, 3, 2, 2])[0]
            amount = draw.randint(1, 60) * MICROS_PER_CREDIT
            if what == "grant":
                self.grant(amount, self.at + timedelta(days=draw.randint(1, 6)))
            elif what == "buy":
                self.buy(amount, f"pay-{seed}-{step}")
            elif what == "refund" and charges:
                self.refund(draw.choice(charges), draw.choice([None, MICROS_PER_CREDIT]))
            else:
                charges += self.use(f"r{seed}-{step}", what, draw.randint(1, 40), self._origin(step))

    def _origin(self, step: int) -> Origin | None:
        return Origin("usage", step % 4, step) if self._streamed else None

    def grant(self, amount_micros: int, expires_at: datetime | None = None) -> None:
        self._decide(
            lambda decision: grant_credits(decision, amount_micros, asked=AskedLot(expires_at=expires_at))
        )

    def buy(self, amount_micros: int, reference: str) -> None:
        basis = CostBasis(100, "EUR")
        self._decide(
            lambda d: top_up_credits(d, amount_micros, payment_reference=reference, cost_basis=basis)
        )

    def refund(self, charge_id: str, amount_micros: int | None) -> None:
        try:
            self._decide(
                lambda d: refund_charge(d, charge_id, amount_micros, f"{charge_id[:8]}-{self.version}")
            )
        except LedgerError:
            # All of it was refunded before: a refused command leaves no trace.
            return

    def use(
        self, record_id: str, what: str = "use", units: int = 1, origin: Origin | None = None
    ) -> list[str]:
        """The charge id, if it was charged."""
        record = a_usage_record(
            record_id,
            0 if what == "nothing" else units,
            occurred="2026-11-01 00:00",
            team=self.team_id,
            status="failed" if what == "fail" else "succeeded",
            origin=origin,
        )
        record = msgspec.structs.replace(record, occurred_at=self.at, arrived_at=self.at)
        events = self._decide(lambda decision: charge_usage(decision, record, CATALOGUE))
        return [event.charge_id for event in events if isinstance(event, CreditsCharged)]

    def _decide(self, command: Callable[[Decision], object]) -> Sequence[AccountEvent]:
        decision = Decision(copy_of(self._account) if self._account else None, self.at, TESTER, self._index)
        command(decision)
        account = decision.account
        self._saves += 1
        with self._store.session(self.team_id) as session:
            session.save(
                account,
                decision,
                account.version - len(decision.events),
                principal="tests",
                key=f"{self.team_id} {self._saves}",
                body_digest=b"",
                answer=b"",
            )
        self._account = account
        return decision.events


class AStoredAccount(AnAccount):
    """Team acme, told as in memory and written to a ledger as well."""

    def __init__(self, shards: ShardMap, at: str = "2026-11-01 00:00", **terms: Any) -> None:
        self._store = PostgresLedgerStore(shards)
        self._saves = 0
        super().__init__(at, **terms)

    @override
    def _keep(self, decision: Decision) -> None:
        """As in memory; what was decided stands in the ledger."""
        super()._keep(decision)
        self._saves += 1
        with self._store.session("acme") as session:
            session.save(
                decision.account,
                decision,
                decision.account.version - len(decision.events),
                principal="tests",
                key=f"acme {self._saves}",
                body_digest=b"",
                answer=b"",
            )


def a_ledger(
    shards: ShardMap,
    teams: Iterable[str] = ("acme", "beta", "gamma"),
    steps: int = 40,
    seed: int = 1,
    streamed: bool = False,
) -> dict[str, ATeam]:
    """Teams that have each lived through so many decisions; ``streamed`` usage names partitions 0 to 3 of ``usage``."""
    living = {team_id: ATeam(shards, team_id, streamed) for team_id in teams}
    more_life(living, steps, seed)
    return living


def more_life(teams: dict[str, ATeam], steps: int, seed: int) -> None:
    """The teams go on living."""
    for team in teams.values():
        team.live(seed, steps)


def tamper(shards: ShardMap, shard: int, statement: str, *values: object) -> int:
    """The statement is executed behind the product's back, by a superuser with every trigger off; how many rows it changed."""
    with shards.own_connection_for(shard) as connection:
        connection.execute("SET session_replication_role = replica")
        return connection.execute(statement.encode(), values).rowcount
