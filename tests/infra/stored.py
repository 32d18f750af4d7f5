"""Accounts in a real database, made through the commands and batches that production uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import count
from typing import Any

import psycopg

from consumers.batches import AccountAppend, OutcomeRow, PartitionAdvance, PartitionKey, UsageBatch
from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.catalogue import Catalogue
from domain.commands import Command, GrantCredits, OpenAccount
from domain.ledger import Answer, Caller, Ledger
from domain.usage import UsageRecord
from infra.postgres.batch_writer import PostgresBatchStore, PostgresBatchTransaction
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.shards import ShardMap
from tests.builders import TESTER, a_catalogue, a_usage_record, unit_card

PARTITION = PartitionKey("cluster-1", "topic-1", "credits.usage.v1", 3)
CALLER = Caller("tester", "operator")
_keys = count(1)


def execute(shards: ShardMap, command: Command, key: str | None = None) -> Answer:
    """The answer of a command under a key of its own."""
    return Ledger(PostgresLedgerStore(shards)).execute(command, CALLER, key or f"key-{next(_keys)}")


def told(shards: ShardMap, team_id: str, now: datetime, rule: Callable[[Decision], object]) -> Decision:
    """What a rule decided on the account at an instant of a story, stored as a command's effects are."""
    with PostgresLedgerStore(shards, clock=lambda _: now).session(team_id) as session:
        before = session.account.version if session.account else 0
        account = copy_of(session.account) if session.account else None
        decision = Decision(account, session.now, TESTER, session.index)
        rule(decision)
        session.save(
            decision.account,
            decision,
            before,
            principal=TESTER.id,
            key=f"told-{next(_keys)}",
            body_digest=b"",
            answer=b"",
        )
    return decision


def opened(shards: ShardMap, *teams: str, granted: int = 1_000) -> None:
    """The teams have accounts with one grant each."""
    for team in teams:
        execute(shards, OpenAccount(team_id=team))
        if granted:
            execute(shards, GrantCredits(team_id=team, amount_micros=granted * 1_000_000))


def usage(team: str, record_id: str, units: int = 1, **changes: Any) -> UsageRecord:
    """A usage record of the team."""
    return a_usage_record(record_id, units, occurred="2026-11-20 09:00", team=team, **changes)


def decided(
    transaction: PostgresBatchTransaction,
    records: Iterable[UsageRecord],
    catalogue: Catalogue | None = None,
    advances: Sequence[PartitionAdvance] = (),
    outcomes: Sequence[OutcomeRow] = (),
) -> UsageBatch:
    """The batch that charges the records, duplicates left out."""
    cards = catalogue or a_catalogue(unit_card())
    records = list(records)
    accounts = transaction.accounts({record.team_id for record in records})
    claims = transaction.claims({(record.team_id, record.usage_key()) for record in records})
    decisions: dict[str, Decision] = {}
    versions = {team: account.version for team, account in accounts.items()}
    for record in records:
        if record.usage_key() in claims:
            continue
        team = record.team_id
        if team not in decisions:
            decisions[team] = Decision(accounts[team], transaction.now, TESTER, transaction.index(team))
        charge_usage(decisions[team], record, cards)
    return UsageBatch(
        recorded_at=transaction.now,
        appends={
            team: AccountAppend(
                account=made.account,
                expected_version=versions[team],
                events=made.events,
                index_changes=made.index_changes,
            )
            for team, made in decisions.items()
            if made.events
        },
        outcomes=list(outcomes),
        advances=list(advances),
    )


def charge(
    store: PostgresBatchStore, records: Iterable[UsageRecord], *, left: bool = False, **more: Any
) -> UsageBatch:
    """The records are charged in one batch; returns what was written. ``left`` is left before its COMMIT is answered."""
    with store.overlapped() if left else store.transaction() as transaction:
        batch = decided(transaction, records, **more)
        transaction.write(batch)
    return batch


def advance(expected: int, upto: int, partition: PartitionKey = PARTITION) -> PartitionAdvance:
    """The partition moves on, every record of it charged."""
    return PartitionAdvance(partition, expected, upto, upto - expected, {"charged": {"": upto - expected}})


def rows(database_url: str, query: str, *parameters: object) -> list[Any]:
    """What plain SQL says, on a connection of its own."""
    with psycopg.connect(database_url) as connection:
        return connection.execute(query.encode(), parameters).fetchall()
