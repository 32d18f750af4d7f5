"""What two ledgers of the same stream must agree on, however they got there: everything but the clock and the salt."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import psycopg

from domain.account.state import OpenTerms
from infra.local.producing import Tally

# The clock's, and the random salt's, whose digest stands for a context.
NOT_COMPARED = frozenset(
    {"recorded_at", "granted_at", "effective_at", "opened_at", "passed_at", "context_digest"}
)

LotVector = list[tuple[str, str, int]]
"""Lot id, source and what is left, in the order in which the lots burn."""


def lot_vectors(database_url: str) -> dict[str, tuple[LotVector, int]]:
    """The open lots of each team, and its debt."""
    vectors: dict[str, tuple[LotVector, int]] = {}
    for team, state in _rows(database_url, "SELECT team_id, state FROM account_head"):
        account = _account(state)
        lots = [
            (lot["terms"]["lot_id"], lot["terms"]["source"], lot["remaining_micros"])
            for lot in account.get("lots", [])
        ]
        vectors[team] = (lots, account.get("debt_micros", 0))
    return vectors


def heads_digest(database_url: str) -> str:
    """SHA-256 over the canonical states of all accounts, by team."""
    rows = _rows(database_url, "SELECT team_id, version, state FROM account_head ORDER BY team_id")
    return _digest([[team, version, _timeless(_account(state))] for team, version, state in rows])


def log_digest(database_url: str) -> str:
    """SHA-256 over the canonical events of all accounts, by account and version."""
    rows = _rows(
        database_url,
        "SELECT originator_id::text, originator_version, topic, state FROM ledger_events ORDER BY 1, 2",
    )
    return _digest([[*place, _timeless(json.loads(state))] for *place, state in rows])


def outcomes(database_url: str) -> Tally:
    """Records by outcome and reason, counted from events and outcome rows, not from the workers' own counts."""
    counted: Tally = {}
    rows = _rows(
        database_url,
        "SELECT CASE topic WHEN 'UsageWaived.1' THEN 'waived' ELSE 'charged' END,"
        " coalesce(convert_from(state, 'UTF8')::jsonb->>'waiver', ''), count(*) FROM ledger_events"
        " WHERE topic IN ('CreditsCharged.2', 'UsageWaived.1') GROUP BY 1, 2"
        " UNION ALL SELECT outcome, reason, count(*) FROM usage_outcome GROUP BY 1, 2 ORDER BY 1, 2",
    )
    for outcome, reason, count in rows:
        counted.setdefault(outcome, {})[reason] = count
    return counted


def offsets_with_an_outcome(database_url: str) -> list[tuple[int, int]]:
    """(partition, offset) once for every outcome that the ledger holds, in order."""
    rows = _rows(
        database_url,
        "SELECT (event->'origin'->>1)::int, (event->'origin'->>2)::bigint FROM"
        " (SELECT convert_from(state, 'UTF8')::jsonb AS event FROM ledger_events"
        " WHERE topic IN ('CreditsCharged.2', 'UsageWaived.1')) AS used"
        " UNION ALL SELECT part, kafka_offset FROM usage_outcome ORDER BY 1, 2",
    )
    return [(part, offset) for part, offset in rows]


def _rows(database_url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(query.encode()).fetchall()


def _account(state: bytes) -> Any:
    """The state of a head with every value of a lot under its name, so that it can be left out by name."""
    account = json.loads(state)
    del account["mac"]  # it seals the chain's hash too, and that differs with the times of the events
    account["lots"] = [
        {
            "terms": dict(zip(OpenTerms.__struct_encode_fields__, terms, strict=True)),
            "remaining_micros": remaining_micros,
            "held_or_withheld": rest,
        }
        for terms, remaining_micros, *rest in account.get("lots", [])
    ]
    return account


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if name not in NOT_COMPARED}
    if isinstance(value, list):
        return [_timeless(each) for each in value]
    return value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
