"""One account to which everything happens that can happen to an account, a day at a time, so that each day tells of one thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from domain import commands as c
from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.erasing import record_erasure
from domain.account.events import AccountEvent, AutoTopUpRequested, CostBasis, LimitTerms, RecordedEvent
from domain.usage import usage_key
from tests.builders import SOURCE, AnAccount, a_catalogue, a_plan, micros, unit_card
from tests.domain import paperwork

TEAM = "acme"
PRICE = CostBasis(1_000, "EUR", 190)


class Histories:
    """Histories in memory, as ``projections.replay.EventSource``."""

    def __init__(self, events: Mapping[str, Sequence[AccountEvent]]) -> None:
        self._events = events

    def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """As the port says."""
        for version, event in enumerate(self._events.get(team_id, ()), 1):
            if version > after and (until is None or version <= until):
                yield RecordedEvent(None, version, event)


def rich_account() -> AnAccount:
    """The account, closed at last."""
    plans = [a_plan("starter", 40, 15), a_plan("studio", 90, 200)]
    team = AnAccount("2026-09-26 08:00", a_catalogue(unit_card(), plans=plans))
    _plan_and_holds(team)
    _debt_and_refunds(team)
    _chargebacks(team)
    _by_hand(team)
    _paperwork(team)
    _invoices(team)
    return team


def _plan_and_holds(team: AnAccount) -> None:
    team.planned("starter", "2026-09-27 08:00")
    limit = LimitTerms(limit_id="day", window="day", hard=True, cap_micros=micros(500), thresholds=[1, 100])
    team.asked("2026-09-28 08:00", c.SetLimit(team_id=TEAM, limit=limit))
    team.used(
        "first", "2.345678", occurred="2026-09-29 07:00", recorded="2026-09-29 08:00", action="video.generate"
    )
    # Over the turn: the hold rolls with its credit, and only then runs out.
    team.held(12, "2026-09-30 20:00", lasts_seconds=80_000)
    team.ticked("2026-10-01 00:00")
    team.ticked("2026-10-02 08:00")
    hold = team.held(5, "2026-10-03 08:00", lasts_seconds=3_600)
    team.asked("2026-10-03 08:10", c.ExtendHold(team_id=TEAM, hold_id=hold, lasts_seconds=86_400))
    team.captured(hold, 2, "2026-10-04 07:00")
    team.released(hold, "2026-10-04 08:05")
    team.used("late", "0.5", occurred="2026-10-03 12:00", recorded="2026-10-04 09:00", hold_id=hold)
    hold = team.held(4, "2026-10-05 08:00")
    team.used("held", 3, occurred="2026-10-05 08:30", hold_id=hold)
    team.used("over", 3, occurred="2026-10-05 08:40", hold_id=hold)
    team.denied(4_000, "2026-10-06 08:00")


def _debt_and_refunds(team: AnAccount) -> None:
    team.granted("gift", 10, "2026-10-07 08:00", expires_at="2026-10-09 08:00")
    team.used("debt", 200, occurred="2026-10-08 08:00")
    team.refunded("debt", 3, "2026-10-08 09:00", "at once")
    team.bought("a", 500, "2026-10-09 09:00", expires_at="2026-12-20 00:00")
    team.refunded("debt", 187, "2026-10-11 08:00")
    team.refunded("first", None, "2026-10-12 08:00", "again")
    team.ticked("2026-10-20 08:00")
    team.used("wrong", 1, occurred="2026-10-21 08:00", status="failed", corrects="unseen")
    dispute = c.OpenChargeDispute(
        team_id=TEAM, charge_ids=[usage_key(TEAM, SOURCE, "over")], evidence="it never ran"
    )
    opened = team.asked("2026-10-22 08:00", dispute).fields["dispute_id"]
    team.asked("2026-10-23 08:00", c.RejectChargeDispute(team_id=TEAM, dispute_id=opened, reason="it did"))
    opened = team.asked("2026-10-24 08:00", dispute).fields["dispute_id"]
    team.asked("2026-10-25 08:00", c.UpholdChargeDispute(team_id=TEAM, dispute_id=opened, reason="no; [sic]"))


def _chargebacks(team: AnAccount) -> None:
    hold = team.held(30, "2026-11-05 07:00", lasts_seconds=86_000)
    team.charged_back("a", "2026-11-05 08:00")
    team.released(hold, "2026-11-05 09:00")
    team.won("a", "2026-11-06 08:00")
    team.used("from a", 150, occurred="2026-11-07 08:00")
    team.bought("b", 60, "2026-11-09 08:00", priority=1)
    team.used("from b", 20, occurred="2026-11-10 08:00")
    team.held(15, "2026-11-11 07:00", lasts_seconds=86_000)
    team.charged_back("b", "2026-11-11 08:00")
    team.refunded("from b", 5, "2026-11-11 09:00", "while contested")
    team.lost("b", "2026-11-12 06:00")


def _by_hand(team: AnAccount) -> None:
    team.granted("v", 25, "2026-11-13 08:00", priority=0)
    team.used("from v", 10, occurred="2026-11-14 08:00")
    team.held(5, "2026-11-15 07:00", lasts_seconds=86_000)
    lot_id = next(lot_id for lot_id, name in team.names.items() if name == "v")
    team.asked("2026-11-15 08:00", c.VoidGrant(team_id=TEAM, lot_id=lot_id, reason="given by mistake"))
    team.refunded("from v", None, "2026-11-16 08:00", "of void")
    ways: list[tuple[int, Literal["raise", "lower"]]] = [(17, "raise"), (18, "lower")]
    for day, way in ways:
        command = c.AdjustBalance(
            team_id=TEAM,
            direction=way,
            amount_micros=micros("7.000001"),
            reason='counted: [2026-01-01] again, "so"; 100 %\nß',
        )
        team.asked(f"2026-11-{day} 08:00", command)


def _paperwork(team: AnAccount) -> None:
    later = c.RequestTopUp(team_id=TEAM, payment_reference="later", amount_micros=micros(5), cost_basis=PRICE)
    team.asked("2026-11-20 08:00", later)
    failed = c.FailTopUp(team_id=TEAM, payment_reference="later", failure="card declined")
    team.asked("2026-11-20 09:00", failed)
    auto = c.ConfigureAutoTopUp(
        team_id=TEAM,
        enabled=True,
        threshold_micros=micros(4_000),
        amount_micros=micros(100),
        cost_basis=PRICE,
        money_cap_minor=100_000,
    )
    team.asked("2026-11-21 08:00", auto)
    team.used("low", 1, occurred="2026-11-21 09:00")
    (request,) = team.events_of(AutoTopUpRequested)
    failed = c.FailTopUp(team_id=TEAM, payment_reference=request.payment_reference, failure="no money")
    team.asked("2026-11-21 09:05", failed)
    team.asked("2026-11-22 08:00", c.RemoveLimit(team_id=TEAM, limit_id="day"))
    team.asked("2026-11-22 09:00", c.WithdrawQuote(team_id=TEAM, quote_id="quote-1"))
    team.asked("2026-11-23 08:00", c.ScheduleZoneChange(team_id=TEAM, zone="Europe/Berlin"))
    team.asked("2026-11-24 08:00", c.SuspendAccount(team_id=TEAM, reason="unpaid"))
    team.asked("2026-11-24 09:00", c.ResumeAccount(team_id=TEAM, reason="paid"))
    team.planned("studio", "2026-12-02 08:00", "turn")
    team.ticked("2027-01-05 08:00")
    team.decided("2027-01-05 09:00", lambda decision: record_erasure(decision, "mira", 3, 2))
    team.asked("2027-01-06 08:00", c.CloseAccount(team_id=TEAM, reason="moved away"))


def _invoices(team: AnAccount) -> None:
    """September to January, after all is over: paid in part, given up, void, credited, and one with nothing on it."""

    def decided(decision: Decision) -> None:
        pass_time(decision)
        september = paperwork.issued(decision, 1, paperwork.due(400), year=2027)
        october = paperwork.issued(decision, 2, paperwork.due(500), year=2027)
        paperwork.omitted(decision)
        decision.reason = "moved away"
        paperwork.paid(decision, september, 100)
        paperwork.given_up(decision, september)
        paperwork.voided(decision, october, 3)
        paperwork.credited(decision, september, 4, paperwork.note_line(50))

    team.decided("2027-02-05 08:00", decided)
