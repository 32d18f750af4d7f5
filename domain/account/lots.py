"""Lots: the burn order, what may be drawn at an instant, and how drawing and giving back change them."""

from __future__ import annotations

from bisect import insort
from datetime import UTC, datetime

from domain.account.events import LotLine, LotTerms
from domain.account.state import Lot, TeamAccount, open_terms

NEVER = datetime.max.replace(tzinfo=UTC)
_NONE: frozenset[str] = frozenset()


def burn_order(lot: Lot) -> tuple[int, int, datetime, bool, datetime, datetime, int, str]:
    """The total, published order in which lots burn.

    Priority ↑, narrower scope first (action and project, action, project, team), earliest expiry (never last), included and
    promotional before purchased, effective ↑, granted ↑, then the lot's number and id.
    """
    terms = lot.terms
    scope = (terms.project is None) + 2 * (terms.action is None)
    return (
        terms.priority,
        scope,
        terms.expires_at or NEVER,
        terms.source == "purchased",
        terms.effective_at,
        terms.granted_at,
        terms.number,
        terms.lot_id,
    )


def is_open_at(terms: LotTerms, at: datetime) -> bool:
    """Whether the lot is within ``[effective_at, expires_at)``."""
    return terms.effective_at <= at and (terms.expires_at is None or at < terms.expires_at)


def is_unscoped(terms: LotTerms) -> bool:
    """Whether the lot pays for any use, and so may repay debt."""
    return terms.action is None and terms.project is None


def draw(
    account: TeamAccount, amount_micros: int, instants: tuple[datetime, ...], action: str, project: str | None
) -> list[LotLine]:
    """The lot lines that cover ``amount_micros`` for one use, in the order drawn; they may cover less.

    One pass per instant, each in burn order: first the lots open when the use occurred, then those open when it is recorded.
    Nothing is changed.
    """
    lines: list[LotLine] = []
    left = amount_micros
    for at in instants:
        if left <= 0:
            break
        drawn = {line.lot_id for line in lines} if lines else _NONE
        for lot in account.lots:
            terms = lot.terms
            if (
                (terms.action is None or terms.action == action)
                and (terms.project is None or terms.project == project)
                and terms.effective_at <= at
                and (terms.expires_at is None or at < terms.expires_at)
                and terms.lot_id not in drawn
                and lot.remaining_micros > 0
            ):
                taken = min(lot.remaining_micros, left)
                lines.append(LotLine(terms.lot_id, taken))
                left -= taken
                if not left:
                    break
    return lines


def repaying(account: TeamAccount, at: datetime) -> list[LotLine]:
    """The lines by which unscoped lots open at ``at`` repay today's debt, in burn order; empty when there is none."""
    lines: list[LotLine] = []
    left = account.debt_micros
    for lot in account.lots:
        if not left:
            break
        if lot.remaining_micros and is_unscoped(lot.terms) and is_open_at(lot.terms, at):
            taken = min(lot.remaining_micros, left)
            lines.append(LotLine(lot.terms.lot_id, taken))
            left -= taken
    return lines


def find(account: TeamAccount, lot_id: str) -> Lot | None:
    """The open lot of that id."""
    for lot in account.lots:
        if lot.terms.lot_id == lot_id:
            return lot
    return None


def issue(account: TeamAccount, terms: LotTerms, amount_micros: int) -> Lot:
    """A lot stands open in its place of the burn order and its credits are settled."""
    lot = Lot(open_terms(terms), amount_micros)
    insort(account.lots, lot, key=burn_order)
    account.settled_micros += amount_micros
    return lot


def take(account: TeamAccount, lines: list[LotLine]) -> list[LotTerms]:
    """The lines are drawn; returns the terms of the lots that this emptied, which are open no more."""
    closed: list[LotTerms] = []
    for line in lines:
        lot = find(account, line.lot_id)
        assert lot is not None, f"{line.lot_id} is not open"
        lot.remaining_micros -= line.amount_micros
        account.settled_micros -= line.amount_micros
        assert lot.remaining_micros >= 0, f"{line.lot_id} would be below zero"
        if not lot.remaining_micros:
            account.lots.remove(lot)
            closed.append(lot.terms)
    return closed
