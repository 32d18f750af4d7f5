"""Lots: the burn order, what may be drawn at an instant, and how drawing, setting aside and giving back change them."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from domain.account.events import LotLine, LotTerms
from domain.account.state import Lot, TeamAccount, open_terms

NEVER = datetime.max.replace(tzinfo=UTC)


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


def pays_for(terms: LotTerms, action: str, project: str | None) -> bool:
    """Whether the lot's scope covers the use."""
    return (terms.action is None or terms.action == action) and (
        terms.project is None or terms.project == project
    )


def draw(
    account: TeamAccount,
    amount_micros: int,
    instants: tuple[datetime, ...],
    action: str,
    project: str | None,
    before: Iterable[LotLine] = (),
) -> list[LotLine]:
    """The lot lines of free credit that cover ``amount_micros`` for one use, in the order drawn; they may cover less.

    One pass per instant, each in burn order: first the lots open when the use occurred, then those open when it is recorded.
    ``before`` is free credit that this use has taken already. Nothing is changed.
    """
    lines: list[LotLine] = []
    left = amount_micros
    taken_before: dict[str, int] = {}
    for line in before:
        taken_before[line.lot_id] = taken_before.get(line.lot_id, 0) + line.amount_micros
    for at in instants:
        if left <= 0:
            break
        drawn = {line.lot_id for line in lines} if lines else ()
        for lot in account.lots:
            terms = lot.terms
            if (
                (terms.action is None or terms.action == action)
                and (terms.project is None or terms.project == project)
                and terms.effective_at <= at
                and (terms.expires_at is None or at < terms.expires_at)
                and terms.lot_id not in drawn
                and lot.withheld_since is None
            ):
                free = lot.remaining_micros - lot.held_micros
                if taken_before:
                    free -= taken_before.get(terms.lot_id, 0)
                if free >= left:
                    lines.append(LotLine(terms.lot_id, left))
                    return lines
                if free > 0:
                    lines.append(LotLine(terms.lot_id, free))
                    left -= free
    return lines


def available_micros(account: TeamAccount, at: datetime, action: str, project: str | None) -> int:
    """What may be spent on such a use at the instant: free credit of the lots open then."""
    return sum(
        lot.free_micros
        for lot in account.lots
        if is_open_at(lot.terms, at) and pays_for(lot.terms, action, project)
    )


def unscoped_micros(account: TeamAccount, at: datetime) -> int:
    """What may be spent on anything at the instant."""
    return sum(
        lot.free_micros for lot in account.lots if is_unscoped(lot.terms) and is_open_at(lot.terms, at)
    )


def draw_unscoped(account: TeamAccount, amount_micros: int, at: datetime) -> list[LotLine]:
    """The lines of free credit in unscoped lots open at ``at`` that cover the amount, in burn order; they may cover less."""
    return _first_lines(
        account.lots, amount_micros, lambda lot: is_unscoped(lot.terms) and is_open_at(lot.terms, at)
    )


def _first_lines(lots: list[Lot], amount_micros: int, is_meant: Callable[[Lot], bool]) -> list[LotLine]:
    lines: list[LotLine] = []
    left = amount_micros
    for lot in lots:
        if left <= 0:
            break
        if lot.free_micros > 0 and is_meant(lot):
            taken = min(lot.free_micros, left)
            lines.append(LotLine(lot.terms.lot_id, taken))
            left -= taken
    return lines


def from_lines(account: TeamAccount, lines: Iterable[LotLine], amount_micros: int) -> list[LotLine]:
    """What of the lines covers the amount, in the burn order of their lots; it may cover less."""
    by_lot = {line.lot_id: line.amount_micros for line in lines}
    taken: list[LotLine] = []
    left = amount_micros
    for lot in account.lots:
        held = by_lot.get(lot.terms.lot_id, 0)
        if held and left > 0:
            taken.append(LotLine(lot.terms.lot_id, min(held, left)))
            left -= taken[-1].amount_micros
    return taken


def repaying(account: TeamAccount, at: datetime) -> list[LotLine]:
    """The lines by which unscoped lots open at ``at`` repay today's debt, in burn order; empty when there is none."""
    return draw_unscoped(account, account.debt_micros, at)


def total(lines: Iterable[LotLine]) -> int:
    """The sum of lines."""
    return sum(line.amount_micros for line in lines)


def less(lines: Iterable[LotLine], taken: Iterable[LotLine]) -> list[LotLine]:
    """The lines without what was taken from the same lots; a lot with nothing left has no line."""
    gone = {line.lot_id: line.amount_micros for line in taken}
    left = [LotLine(line.lot_id, line.amount_micros - gone.get(line.lot_id, 0)) for line in lines]
    return [line for line in left if line.amount_micros]


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


def take(account: TeamAccount, lines: Iterable[LotLine]) -> list[LotTerms]:
    """The lines are drawn; returns the terms of the lots that this emptied, which are open no more."""
    closed: list[LotTerms] = []
    for line in lines:
        lot_id, amount = line.lot_id, line.amount_micros
        for lot in account.lots:
            if lot.terms.lot_id == lot_id:
                break
        else:
            raise AssertionError(f"{lot_id} is not open")
        lot.remaining_micros = remaining = lot.remaining_micros - amount
        account.settled_micros -= amount
        assert remaining >= lot.held_micros >= 0, f"{lot_id} would be below zero"
        if not remaining:
            account.lots.remove(lot)
            closed.append(lot.terms)
    return closed


def set_aside(account: TeamAccount, lines: Iterable[LotLine]) -> None:
    """Free credit of these lots is held."""
    for line in lines:
        lot = find(account, line.lot_id)
        assert lot is not None, f"{line.lot_id} is not open"
        lot.held_micros += line.amount_micros
        assert lot.held_micros <= lot.remaining_micros, f"{line.lot_id} would be held beyond what it has"


def set_free(account: TeamAccount, lines: Iterable[LotLine], at: datetime) -> None:
    """Credit of these lots is held no more; a hold was on each of them until ``at``."""
    for line in lines:
        lot = find(account, line.lot_id)
        assert lot is not None, f"{line.lot_id} is not open"
        lot.held_micros -= line.amount_micros
        assert lot.held_micros >= 0, f"{line.lot_id} would be held below zero"
        if lot.held_until is None or lot.held_until < at:
            lot.held_until = at
