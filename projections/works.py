"""What the statement says of a work: its rows as moves of the work, those of refunds under the step of their charge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from domain.work.costs import MoveKind, WorkMove
from projections.statement import StatementRow

KINDS: Mapping[str, MoveKind] = {
    "CreditsCharged": "charged",
    "HoldCaptured": "charged",
    "ChargeRefunded": "refunded",
    "UsageWaived": "waived",
}
"""The rows of the statement that concern a work."""


class CostRow(NamedTuple):
    """What a cost is made from, of a row of the statement, under its names."""

    kind: str
    version: int
    recorded_at: datetime
    charge_id: str | None
    work: str | None
    step: str | None
    action: str | None
    amount_micros: int
    reason: str | None


def cost_row(row: StatementRow) -> CostRow:
    """The part of a row that a cost is made from."""
    return CostRow._make(getattr(row, name) for name in CostRow._fields)


def moves_of(rows: Iterable[CostRow], work_id: str) -> list[WorkMove]:
    """The moves of a work among rows in the order of the stream: what names it, and refunds of what does."""
    charged: dict[str, CostRow] = {}
    moves: list[WorkMove] = []
    for row in rows:
        if row.charge_id is None or row.kind not in KINDS:
            continue
        if row.work == work_id:
            charged[row.charge_id] = row
        elif row.kind != "ChargeRefunded" or row.charge_id not in charged:
            continue
        moves.append(_move(row, charged[row.charge_id]))
    return moves


def _move(row: CostRow, named: CostRow) -> WorkMove:
    kind = KINDS[row.kind]
    if kind == "waived" and row.reason == "failed":
        kind = "failed"
    return WorkMove(
        kind,
        row.version,
        row.recorded_at,
        row.charge_id or "",
        named.step or "",
        named.action or "",
        row.amount_micros,
    )
