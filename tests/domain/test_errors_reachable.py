"""Every way the ledger says no is documented, and somebody who asks for the wrong thing meets it: a scene for each code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from domain import commands as c
from domain import errors
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.events import CostBasis
from domain.account.funding import AskedLot, grant_credits
from domain.account.holding import Use, place_hold
from domain.account.index import IndexOverlay
from domain.account.invoicing import omit_invoice
from domain.account.quoting import quote_usage
from domain.account.state import OPEN_HOLDS_MAX, OPEN_LOTS_MAX
from domain.amounts import AMOUNT_MAX
from domain.asking import EVERY_HOLD, Reach
from domain.errors import LedgerError
from domain.issuer.deciding import require_details
from domain.issuer.state import Issuer
from domain.ledger import ANY_VERSION, Answer, Caller, Ledger, OnlyAt, SecondPerson
from domain.plans import load_plan
from domain.quotes import sign_quote
from domain.terms import LimitTerms
from domain.usage import usage_key
from domain.work.texts import WorkText
from tests.builders import SOURCE, TESTER, a_plan, a_usage_record, micros, unit_card
from tests.domain import paperwork
from tests.memory_store import MemoryLedger

KEY = b"a key that signs quotes, of thirty-two bytes at least"
PAID = CostBasis(500, "EUR", 95)
CHARGE = usage_key("acme", SOURCE, "r1")
WHEN = "2026-11-01 12:00"


class Desk:
    """Asks the ledger for things, as an operator of team acme, which has 100 credits."""

    def __init__(self) -> None:
        self.memory = MemoryLedger()
        self.memory.publish(unit_card())
        self._ledger = Ledger(self.memory, self.memory.current, [KEY])
        self._asked = 0
        self.ask(c.OpenAccount, anchor_day=1)
        self.ask(c.GrantCredits, amount_micros=micros(100), reason="a start")

    def ask(
        self, kind: Callable[..., c.Command], *, by: str = "ann", key: str | None = None, **fields: Any
    ) -> Answer:
        self._asked += 1
        command = kind(**{"team_id": "acme", **fields})
        return self._ledger.execute(command, Caller(by, "operator"), key or f"key-{self._asked}")

    def ask_as(
        self,
        by: str,
        acting_as: str,
        kind: Callable[..., c.Command],
        *,
        only_at: OnlyAt = ANY_VERSION,
        reach: Reach = EVERY_HOLD,
        **fields: Any,
    ) -> Answer:
        self._asked += 1
        alone = SecondPerson("grant_credits", micros(100)) if acting_as == "support" else None
        caller = Caller(by, acting_as, second_person=alone, reach=reach)
        return self._ledger.execute(kind(team_id="acme", **fields), caller, f"key-{self._asked}", only_at)

    def use(self, record_id: str = "r1", units: str | int = 30, **changes: Any) -> None:
        self.memory.use(a_usage_record(record_id, units, occurred=WHEN, **changes))

    def hold(self, amount: str | int = 10, **fields: Any) -> str:
        told = self.ask(c.PlaceHold, action="image.generate", amount_micros=micros(amount), **fields)
        assert told.hold_id is not None
        return told.hold_id

    def bought(self) -> None:
        self.ask(c.TopUpCredits, amount_micros=micros(50), payment_reference="pay-1", cost_basis=PAID)

    def requested(self) -> None:
        self.ask(c.RequestTopUp, amount_micros=micros(50), payment_reference="pay-1", cost_basis=PAID)

    def limit(self, **terms: Any) -> None:
        said = {"limit_id": "day", "window": "day", "cap_micros": micros(20), **terms}
        self.ask(c.SetLimit, limit=LimitTerms(**said))

    def quote(self, team: str = "acme") -> str:
        quote = quote_usage(
            self.memory.teams[team].account,
            self.memory.catalogue,
            IndexOverlay(),
            self.memory.now,
            "quote-1",
            action="image.generate",
            meters={"units": "12"},
            dimensions={},
        )
        return sign_quote(quote, KEY)

    def plan(self, plan_id: str, allowance: int, **changes: Any) -> None:
        self.memory.publish_plan(a_plan(plan_id, allowance, **changes))

    def decide_many(self, times: int, decide: Callable[[Decision], object]) -> None:
        """So many steps in one decision: what a bound is about takes a while, one command at a time."""
        team = self.memory.teams["acme"]
        decision = Decision(copy_of(team.account), self.memory.now, TESTER, IndexOverlay(team.index))
        for _ in range(times):
            decide(decision)
        self.memory.write("acme", decision)

    def invoiced(self) -> Decision:
        """A decision after the invoice of the first period, over EUR 4.00; the second period waits for its invoice."""
        self.pass_by(days=70)
        team = self.memory.teams["acme"]
        decision = Decision(copy_of(team.account), self.memory.now, TESTER, IndexOverlay(team.index))
        pass_time(decision)
        paperwork.issued(decision, 1, paperwork.due(400))
        return decision

    def pass_by(self, **time: float) -> None:
        self.memory.now += timedelta(**time)


Scene = Callable[[Desk], None]
SCENES: dict[str, Scene] = {}


def scene(code: str) -> Callable[[Scene], Scene]:
    """The function asks for something that is refused with this code, by its last step."""

    def told(play: Scene) -> Scene:
        assert code not in SCENES
        SCENES[code] = play
        return play

    return told


def leaves(root: type[LedgerError] = LedgerError) -> Iterator[type[LedgerError]]:
    """Every class that is raised as itself: those of the domain with nothing of the domain below, and Malformed."""
    below = [each for each in root.__subclasses__() if each.__module__ == "domain.errors"]
    if not below or root is errors.Malformed:
        yield root
    for each in below:
        yield from leaves(each)


@scene("malformed")
def _(desk: Desk) -> None:
    desk.hold(0)


@scene("unknown_team")
def _(desk: Desk) -> None:
    desk.ask(c.GrantCredits, team_id="nobody", amount_micros=1, reason="x")


@scene("unknown_charge")
def _(desk: Desk) -> None:
    desk.ask(c.RefundCharge, charge_id="0" * 32, reason="x")


@scene("unknown_action")
def _(desk: Desk) -> None:
    desk.use(action="music.generate")


@scene("unknown_price")
def _(desk: Desk) -> None:
    sizes = {"kind": "table", "dimension": "size", "values": {"plain": "1"}}
    card = unit_card(effective_at="2026-11-01T12:00:00Z", dimensions={"size": "size of the picture"})
    card["rates"][0]["multipliers"] = [sizes]
    desk.memory.publish(card)
    desk.use(dimensions={"size": "huge"})


@scene("price_out_of_range")
def _(desk: Desk) -> None:
    desk.use(units=AMOUNT_MAX)


@scene("account_already_open")
def _(desk: Desk) -> None:
    desk.ask(c.OpenAccount)


@scene("account_closed")
def _(desk: Desk) -> None:
    desk.ask(c.CloseAccount, reason="moved")
    desk.ask(c.GrantCredits, amount_micros=1, reason="x")


@scene("refund_exceeds_charge")
def _(desk: Desk) -> None:
    desk.use()
    desk.ask(c.RefundCharge, charge_id=CHARGE, amount_micros=micros(31), reason="x")


@scene("nothing_to_refund")
def _(desk: Desk) -> None:
    desk.use(status="failed")
    desk.ask(c.RefundCharge, charge_id=CHARGE, reason="x")


@scene("lot_terms_refused")
def _(desk: Desk) -> None:
    desk.ask(c.GrantCredits, amount_micros=1, expires_at=desk.memory.now, reason="x")


@scene("amount_out_of_range")
def _(desk: Desk) -> None:
    desk.ask(c.GrantCredits, amount_micros=AMOUNT_MAX, reason="x")


@scene("too_many_corrections_awaited")
def _(desk: Desk) -> None:
    for number in range(1_001):
        desk.use(f"correction-{number}", status="failed", corrects=f"never-{number}")


@scene("too_many_lots")
def _(desk: Desk) -> None:
    desk.decide_many(
        OPEN_LOTS_MAX - 1, lambda decision: grant_credits(decision, 1, "promotional", AskedLot())
    )
    desk.ask(c.GrantCredits, amount_micros=1, reason="x")


@scene("account_suspended")
def _(desk: Desk) -> None:
    desk.ask(c.SuspendAccount, reason="unpaid")
    desk.hold()


@scene("account_not_suspended")
def _(desk: Desk) -> None:
    desk.ask(c.ResumeAccount, reason="x")


@scene("unknown_hold")
def _(desk: Desk) -> None:
    desk.ask(c.ReleaseHold, hold_id="hold-9")


@scene("hold_not_open")
def _(desk: Desk) -> None:
    hold = desk.hold()
    desk.ask(c.ReleaseHold, hold_id=hold)
    desk.ask(c.CaptureHold, hold_id=hold, amount_micros=1)


@scene("hold_terms_refused")
def _(desk: Desk) -> None:
    desk.hold(lasts_seconds=86_401)


@scene("too_many_holds")
def _(desk: Desk) -> None:
    use = Use("image.generate")
    desk.decide_many(OPEN_HOLDS_MAX, lambda decision: place_hold(decision, 1, use, 60))
    desk.hold()


@scene("capture_exceeds_hold")
def _(desk: Desk) -> None:
    desk.plan("strict", 10, captures={"image.generate": "reject"})
    desk.ask(c.AssignPlan, plan_id="strict")
    desk.ask(c.CaptureHold, hold_id=desk.hold(), amount_micros=micros(11))


@scene("insufficient_credits")
def _(desk: Desk) -> None:
    desk.ask(c.CaptureHold, hold_id=desk.hold(), amount_micros=micros(101))


@scene("limit_exceeded")
def _(desk: Desk) -> None:
    desk.limit()
    desk.ask(c.CaptureHold, hold_id=desk.hold(), amount_micros=micros(21))


@scene("unknown_limit")
def _(desk: Desk) -> None:
    desk.ask(c.RemoveLimit, limit_id="day")


@scene("limit_terms_refused")
def _(desk: Desk) -> None:
    desk.limit()
    desk.limit(window="week")


@scene("too_many_limits")
def _(desk: Desk) -> None:
    for number in range(201):
        desk.limit(limit_id=f"limit-{number}")


@scene("unknown_plan")
def _(desk: Desk) -> None:
    desk.ask(c.AssignPlan, plan_id="studio")


@scene("plan_refused")
def _(desk: Desk) -> None:
    desk.plan("studio", 300, card_id="nobody-has-this")


@scene("plan_change_refused")
def _(desk: Desk) -> None:
    desk.plan("pro", 600)
    desk.plan("studio", 300)
    desk.ask(c.AssignPlan, plan_id="pro")
    desk.ask(c.AssignPlan, plan_id="studio")


@scene("zone_change_refused")
def _(desk: Desk) -> None:
    desk.ask(c.ScheduleZoneChange, zone="UTC")


@scene("unknown_lot")
def _(desk: Desk) -> None:
    desk.ask(c.VoidGrant, lot_id="lot-9", reason="x")


@scene("nothing_to_void")
def _(desk: Desk) -> None:
    desk.ask(c.VoidGrant, lot_id="lot-2", reason="x")
    desk.ask(c.VoidGrant, lot_id="lot-2", reason="x")


@scene("adjustment_refused")
def _(desk: Desk) -> None:
    desk.ask(c.AdjustBalance, direction="lower", amount_micros=micros(101), reason="x")


@scene("unknown_adjustment")
def _(desk: Desk) -> None:
    desk.ask(c.ApproveAdjustment, adjustment_id="adjustment-9")


@scene("second_person_needed")
def _(desk: Desk) -> None:
    proposed = desk.ask(c.AdjustBalance, direction="raise", amount_micros=micros(1_001), reason="x")
    desk.ask(c.ApproveAdjustment, adjustment_id=proposed.adjustment_id)


@scene("unknown_payment")
def _(desk: Desk) -> None:
    desk.ask(c.OpenChargeback, payment_reference="pay-1")


@scene("payment_not_settled")
def _(desk: Desk) -> None:
    desk.requested()
    desk.ask(c.OpenChargeback, payment_reference="pay-1")


@scene("payment_refused")
def _(desk: Desk) -> None:
    desk.bought()
    desk.ask(c.FailTopUp, payment_reference="pay-1", failure="card_declined")


@scene("payment_reference_used")
def _(desk: Desk) -> None:
    desk.bought()
    desk.bought()


@scene("chargeback_refused")
def _(desk: Desk) -> None:
    desk.bought()
    desk.ask(c.WinChargeback, payment_reference="pay-1")


@scene("auto_top_up_refused")
def _(desk: Desk) -> None:
    desk.ask(c.ConfigureAutoTopUp, enabled=True)


@scene("unknown_dispute")
def _(desk: Desk) -> None:
    desk.ask(c.UpholdChargeDispute, dispute_id="dispute-9", reason="x")


@scene("dispute_refused")
def _(desk: Desk) -> None:
    desk.use()
    desk.ask(c.OpenChargeDispute, charge_ids=[CHARGE], evidence="it never arrived")
    desk.ask(c.OpenChargeDispute, charge_ids=[CHARGE], evidence="it never arrived")


@scene("too_many_disputes")
def _(desk: Desk) -> None:
    for number in range(101):
        desk.use(f"record-{number}", "0.001")
        charge = usage_key("acme", SOURCE, f"record-{number}")
        desk.ask(c.OpenChargeDispute, charge_ids=[charge], evidence="it never arrived")


@scene("quote_expired")
def _(desk: Desk) -> None:
    quote = desk.quote()
    desk.pass_by(minutes=10)
    desk.ask(c.PlaceHold, action="image.generate", quote=quote)


@scene("quote_used")
def _(desk: Desk) -> None:
    quote = desk.quote()
    desk.ask(c.PlaceHold, action="image.generate", quote=quote)
    desk.ask(c.PlaceHold, action="image.generate", quote=quote)


@scene("quote_withdrawn")
def _(desk: Desk) -> None:
    quote = desk.quote()
    desk.ask(c.WithdrawQuote, quote_id="quote-1")
    desk.ask(c.PlaceHold, action="image.generate", quote=quote)


@scene("quote_not_ours")
def _(desk: Desk) -> None:
    desk.ask(c.OpenAccount, team_id="other")
    desk.ask(c.PlaceHold, action="image.generate", quote=desk.quote("other"))


@scene("period_refused")
def _(desk: Desk) -> None:
    desk.ask(c.ClosePeriod)


@scene("unknown_invoice")
def _(desk: Desk) -> None:
    desk.ask(c.MarkUncollectible, invoice="CO-2026-000001", reason="insolvent")


@scene("nothing_to_invoice")
def _(desk: Desk) -> None:
    decision = desk.invoiced()
    waits = paperwork.waiting(decision)
    omit_invoice(decision, waits)
    omit_invoice(decision, waits)


@scene("invoice_refused")
def _(desk: Desk) -> None:
    decision = desk.invoiced()
    paperwork.given_up(decision, "CO-2026-000001")


@scene("invoice_void")
def _(desk: Desk) -> None:
    decision = desk.invoiced()
    decision.reason = "made out to the wrong company"
    paperwork.voided(decision, "CO-2026-000001", 2)
    paperwork.paid(decision, "CO-2026-000001", 100)


@scene("other_currency")
def _(desk: Desk) -> None:
    paperwork.paid(desk.invoiced(), "CO-2026-000001", 100, currency="USD")


@scene("credit_note_refused")
def _(desk: Desk) -> None:
    decision = desk.invoiced()
    decision.reason = "an outage"
    paperwork.credited(decision, "CO-2026-000001", 2, paperwork.note_line(401))


@scene("unknown_issuer")
def _(desk: Desk) -> None:
    require_details(Issuer(issuer_id="main"))


@scene("unknown_member")
def _(desk: Desk) -> None:
    desk.ask(c.RemoveMember, member="mira")


@scene("unknown_work")
def _(desk: Desk) -> None:
    desk.ask(c.SaveWorkStep, work_id="poster", step="draft", text=WorkText(prompts=["a fox"]))


@scene("work_refused")
def _(desk: Desk) -> None:
    for _ in range(2):
        desk.ask(c.StartWork, work_id="poster", brief=WorkText(goal="a poster", audience="visitors"))


@scene("not_allowed")
def _(desk: Desk) -> None:
    hold_id = desk.hold()
    only_video = Reach(frozenset({"video.generate"}))
    desk.ask_as("key-1", "ingest", c.ReleaseHold, hold_id=hold_id, reach=only_video)


@scene("role_too_low")
def _(desk: Desk) -> None:
    desk.ask(c.AddMember, member="adam", role="admin")
    desk.ask_as("member:adam", "admin", c.AddMember, member="eve", role="admin")


@scene("unknown_key")
def _(desk: Desk) -> None:
    desk.ask(c.RevokeKey, key_id="000000000000")


@scene("key_refused")
def _(desk: Desk) -> None:
    desk.ask(c.AddMember, member="mira", role="member")
    for _ in range(3):
        desk.ask(c.CreateKey, member="mira")


@scene("unknown_act")
def _(desk: Desk) -> None:
    desk.ask(c.ApproveAct, act_id="act-1")


@scene("act_refused")
def _(desk: Desk) -> None:
    desk.ask_as("sam", "support", c.GrantCredits, amount_micros=micros(500))


@scene("version_passed")
def _(desk: Desk) -> None:
    desk.ask_as("ann", "operator", c.SuspendAccount, only_at=OnlyAt(version=1))


@scene("member_refused")
def _(desk: Desk) -> None:
    desk.ask(c.AddMember, member="olga", role="owner")
    desk.ask(c.RemoveMember, member="olga")


@scene("unknown_payment_method")
def _(desk: Desk) -> None:
    desk.ask(c.RemovePaymentMethod)


@scene("card_number_refused")
def _(desk: Desk) -> None:
    method = c.PaymentMethod(
        token="4111111111111111", brand="visa", last_four="1111", expires_month=1, expires_year=2029
    )
    desk.ask(c.SetPaymentMethod, method=method)


@scene("idempotency_key_reused")
def _(desk: Desk) -> None:
    desk.ask(c.GrantCredits, amount_micros=1, reason="x", key="k")
    desk.ask(c.GrantCredits, amount_micros=2, reason="x", key="k")


@scene("rate_card_refused")
def _(desk: Desk) -> None:
    desk.memory.publish(unit_card(rates=[]))


@scene("unknown_event_shape")
def _(desk: Desk) -> None:
    load_plan(msgspec.json.encode({"written": "by a later version"}), version=1)


LEAVES: list[type[LedgerError]] = sorted(leaves(), key=lambda leaf: leaf.code)
CODES = [each.code for each in LEAVES]


def test_every_code_has_a_scene_and_no_scene_is_left_over() -> None:
    assert sorted(SCENES) == CODES
    assert len(CODES) == len(set(CODES))


@pytest.mark.parametrize("code", CODES)
def test_the_code_is_met_by_its_scene_and_says_what_would_be_right(code: str) -> None:
    """What it says is a sentence for whoever asked."""
    desk = Desk()

    with pytest.raises(LedgerError) as refused:
        SCENES[code](desk)

    error = refused.value
    assert (error.code, type(error) in LEAVES) == (code, True)
    assert len(error.detail) > 20
    assert all(isinstance(value, str | int) for value in error.asked.values())


def test_a_refusal_leaves_the_account_as_it_was() -> None:
    """I15: whatever is refused, the log ends where it ended before the refused step."""
    for code in ("hold_not_open", "limit_exceeded", "quote_used", "second_person_needed", "dispute_refused"):
        desk = Desk()
        steps: list[int] = []
        ask = desk.ask

        def watched(
            *asked: Any, ask: Any = ask, desk: Desk = desk, steps: list[int] = steps, **more: Any
        ) -> Answer:
            steps.append(sum(desk.memory.positions.values()))
            told: Answer = ask(*asked, **more)
            return told

        desk.ask = watched  # type: ignore[method-assign]
        with pytest.raises(LedgerError):
            SCENES[code](desk)
        assert sum(desk.memory.positions.values()) == steps[-1], code


@pytest.mark.parametrize("each", LEAVES, ids=CODES)
def test_every_error_says_what_it_means(each: type[LedgerError]) -> None:
    assert each.__doc__
    assert each.__doc__.strip().split("\n")[0].endswith((".", ";")) or ";" in each.__doc__
    assert each.code == each.code.lower()
