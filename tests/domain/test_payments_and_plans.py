"""Top-ups, automatic top-ups, chargebacks, voids, adjustments, disputes and plans beyond the worked cases."""

from __future__ import annotations

from typing import Any

import pytest

from domain.account.events import (
    AllowanceGranted,
    AutoTopUpFailed,
    AutoTopUpRequested,
    ChargeRefunded,
    CostBasis,
    CreditsExpired,
    CreditsToppedUp,
    TopUpFailed,
)
from domain.commands import (
    AdjustBalance,
    CloseAccount,
    ConfigureAutoTopUp,
    FailTopUp,
    GrantCredits,
    OpenChargeback,
    OpenChargeDispute,
    RejectChargeDispute,
    RequestTopUp,
    ResumeAccount,
    ScheduleZoneChange,
    SuspendAccount,
    TopUpCredits,
    UpholdChargeDispute,
    VoidGrant,
)
from domain.errors import (
    AccountClosed,
    AccountNotSuspended,
    AccountSuspended,
    AdjustmentRefused,
    AutoTopUpRefused,
    ChargebackRefused,
    DisputeRefused,
    NothingToRefund,
    NothingToVoid,
    PaymentNotSettled,
    PaymentReferenceUsed,
    PaymentRefused,
    PlanChangeRefused,
    UnknownCharge,
    UnknownDispute,
    UnknownLot,
    UnknownPayment,
    UnknownPlan,
    ZoneChangeRefused,
)
from domain.usage import usage_key
from tests.builders import SOURCE, AnAccount, a_catalogue, a_plan, micros, unit_card, when

NOON = "2026-11-10 12:00"
EUR_10 = CostBasis(1_000, "EUR", 190)


def asked(**changes: Any) -> RequestTopUp:
    terms: dict[str, Any] = {"amount_micros": micros(100), "payment_reference": "p", "cost_basis": EUR_10}
    return RequestTopUp(team_id="acme", **(terms | changes))


def settled(**changes: Any) -> TopUpCredits:
    terms: dict[str, Any] = {"amount_micros": micros(100), "payment_reference": "p", "cost_basis": EUR_10}
    return TopUpCredits(team_id="acme", **(terms | changes))


def failed(reference: str = "p") -> FailTopUp:
    return FailTopUp(team_id="acme", payment_reference=reference, failure="card declined")


def test_a_top_up_brings_credit_when_its_payment_is_settled_and_once() -> None:
    team = AnAccount()
    team.asked(NOON, asked())
    assert team.settled() == "0"

    team.names["lot-3"] = "T"
    team.asked(NOON, settled())

    assert team.settled() == "100"
    for again in (settled(), asked()):
        with pytest.raises(PaymentReferenceUsed):
            team.asked(NOON, again)
    with pytest.raises(PaymentRefused, match="settled"):
        team.asked(NOON, failed())


def test_a_payment_settles_for_what_was_requested() -> None:
    team = AnAccount()
    team.asked(NOON, asked())

    with pytest.raises(PaymentRefused, match="requested for 100"):
        team.asked(NOON, settled(amount_micros=micros(101)))
    with pytest.raises(PaymentRefused):
        team.asked(NOON, settled(cost_basis=CostBasis(1, "EUR")))


def test_a_failed_payment_brings_nothing_until_it_settles_after_all() -> None:
    team = AnAccount()
    team.asked(NOON, asked())

    team.asked(NOON, failed())

    assert [event.failure for event in team.events_of(TopUpFailed)] == ["card declined"]
    with pytest.raises(PaymentRefused, match="failed"):
        team.asked(NOON, failed())
    with pytest.raises(UnknownPayment):
        team.asked(NOON, failed("never"))
    team.names["lot-4"] = "T"
    team.asked(NOON, settled())
    assert team.settled() == "100"


def automatic(**changes: Any) -> ConfigureAutoTopUp:
    terms: dict[str, Any] = {
        "threshold_micros": micros(20),
        "amount_micros": micros(100),
        "cost_basis": EUR_10,
        "money_cap_minor": 3_000,
    }
    return ConfigureAutoTopUp(team_id="acme", enabled=True, **(terms | changes))


def a_team_that_tops_up(**changes: Any) -> AnAccount:
    team = AnAccount()
    team.bought("A", 50, "2026-11-01 00:00")
    team.asked("2026-11-01 00:00", automatic(**changes))
    return team


def requests(team: AnAccount) -> list[AutoTopUpRequested]:
    return team.events_of(AutoTopUpRequested)


def test_auto_top_up_is_off_unless_it_is_configured() -> None:
    team = AnAccount()
    team.bought("A", 50, "2026-11-01 00:00")

    team.used("u", 50, occurred=NOON)

    assert requests(team) == []


def test_auto_top_up_asks_once_when_less_than_the_threshold_is_left() -> None:
    team = a_team_that_tops_up()
    team.used("1", 30, occurred=NOON)
    assert requests(team) == []

    team.used("2", 1, occurred=NOON)
    team.used("3", 1, occurred=NOON)
    team.held(10, NOON)

    [request] = requests(team)
    assert (request.amount_micros, request.available_micros) == (micros(100), micros(19))
    team.names[f"lot-{team.account.version + 1}"] = "T"
    team.asked(NOON, settled(payment_reference=request.payment_reference))
    assert team.account.auto_top_up is not None
    assert team.account.auto_top_up.in_flight is None


def test_auto_top_up_spends_no_more_than_its_money_cap_in_a_window() -> None:
    team = a_team_that_tops_up()
    for number in range(6):
        team.used(f"u{number}", 100, occurred=NOON)
        if len(requests(team)) > number:
            team.names[f"lot-{team.account.version + 1}"] = f"T{number}"
            team.asked(NOON, settled(payment_reference=requests(team)[-1].payment_reference))

    assert [request.spent_minor for request in requests(team)] == [1_190, 2_380]
    team.used("december", 100, occurred="2026-12-01 00:00")
    assert requests(team)[-1].spent_minor == 1_190


def test_auto_top_up_waits_longer_after_each_failure_keeps_its_claim_and_stops() -> None:
    team = a_team_that_tops_up(money_cap_minor=100_000)
    at = ["2026-11-10 12:00", "2026-11-10 12:10", "2026-11-10 12:30"]
    for number, instant in enumerate(at):
        team.used(f"u{number}", 40, occurred=instant)
        team.asked(instant, failed(requests(team)[-1].payment_reference))
        team.used(f"early{number}", 1, occurred=instant)
        assert len(requests(team)) == number + 1

    failures = team.events_of(AutoTopUpFailed)
    assert [each.retry_at for each in failures] == [when(at[1]), when(at[2]), None]
    assert [each.spent_minor for each in requests(team)] == [1_190, 2_380, 3_570]
    team.used("later", 40, occurred="2026-11-20 12:00")
    assert len(requests(team)) == 3
    team.asked("2026-11-20 12:00", automatic(money_cap_minor=100_000))
    team.used("again", 1, occurred="2026-11-20 12:00")
    assert len(requests(team)) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"threshold_micros": 0},
        {"amount_micros": 0},
        {"cost_basis": None},
        {"money_cap_minor": 1_189},
        {"failures_max": 0},
    ],
)
def test_auto_top_up_needs_all_its_terms(change: dict[str, Any]) -> None:
    with pytest.raises(AutoTopUpRefused):
        AnAccount().asked(NOON, automatic(**change))


def test_r3_a_chargeback_won_is_the_identity_but_for_the_time_added() -> None:
    team = AnAccount()
    team.bought("T", 100, "2026-11-01 00:00", expires_at="2026-12-01 00:00")
    team.used("u", 40, occurred="2026-11-05 00:00")
    before = team.left()
    team.charged_back("T", "2026-11-10 00:00")
    assert team.parts("2027-06-01 00:00") == {"settled": "60", "withheld": "60"}

    team.won("T", "2027-06-01 00:00")

    assert team.left() == before
    assert team.expiry("T") == when("2027-06-22 00:00")
    assert team.events_of(CreditsExpired) == []


def test_r3_a_lot_that_had_lapsed_keeps_its_grace_while_withheld() -> None:
    team = AnAccount()
    team.bought("T", 100, "2026-11-01 00:00", expires_at="2026-11-10 00:00")
    team.charged_back("T", "2026-11-10 06:00")
    team.won("T", "2026-11-20 06:00")

    team.ticked("2026-12-01 00:00")

    [expired] = team.events_of(CreditsExpired)
    assert (expired.amount_micros, expired.effective_at) == (micros(100), when("2026-11-21 00:00"))


def test_r3_a_hold_keeps_its_credit_while_a_chargeback_is_open_and_loses_it_with_it() -> None:
    team = AnAccount()
    team.bought("T", 100, "2026-11-01 00:00")
    hold = team.held(60, NOON)
    team.charged_back("T", NOON)
    assert team.parts(NOON) == {"settled": "100", "held": "60", "withheld": "40"}
    team.captured(hold, 10, NOON)

    team.lost("T", NOON)

    assert team.parts(NOON) == {"debt": "10"}
    assert team.account.holds[0].lines == []


def test_a_chargeback_is_opened_once_for_a_payment_that_settled() -> None:
    team = AnAccount()
    team.bought("T", 100, "2026-11-01 00:00")
    team.asked(NOON, asked())
    for command in ("charged_back", "won", "lost"):
        with pytest.raises(UnknownPayment):
            getattr(team, command)("never", NOON)
    with pytest.raises(ChargebackRefused, match="none was opened"):
        team.won("T", NOON)
    team.charged_back("T", NOON)
    with pytest.raises(ChargebackRefused, match="open"):
        team.charged_back("T", NOON)
    team.won("T", NOON)
    for command in ("charged_back", "won", "lost"):
        with pytest.raises(ChargebackRefused, match="won"):
            getattr(team, command)("T", NOON)
    with pytest.raises(PaymentNotSettled):
        team.asked(NOON, OpenChargeback(team_id="acme", payment_reference="p"))


def test_a_voided_grant_is_gone_with_its_successors_and_from_holds_and_refunds_return_nothing() -> None:
    team = AnAccount()
    team.granted("G", 100, "2026-11-01 00:00", expires_at="2026-11-10 00:00")
    team.used("u", 60, occurred="2026-11-05 00:00")
    team.refunded("u", 20, "2026-11-10 06:00")
    team.held(15, "2026-11-10 06:00")
    assert team.left() == {"G": "40", "G'": "20"}

    team.asked("2026-11-10 06:00", VoidGrant(team_id="acme", lot_id="lot-2", reason="by mistake"))

    assert team.parts("2026-11-10 06:00") == {}
    team.refunded("u", 30, "2026-11-10 07:00")
    assert team.parts("2026-11-10 07:00") == {}
    assert [line.target for line in team.events_of(ChargeRefunded)[-1].lines] == ["voided"]
    with pytest.raises(NothingToVoid, match="already"):
        team.asked(NOON, VoidGrant(team_id="acme", lot_id="lot-2", reason="again"))


def test_only_what_was_granted_can_be_voided() -> None:
    team = AnAccount()
    team.bought("T", 100, "2026-11-01 00:00")

    with pytest.raises(NothingToVoid, match="bought"):
        team.asked(NOON, VoidGrant(team_id="acme", lot_id="lot-2", reason="no"))
    with pytest.raises(UnknownLot):
        team.asked(NOON, VoidGrant(team_id="acme", lot_id="lot-9", reason="no"))


def test_raised_credit_is_unscoped_never_expires_and_repays_debt() -> None:
    team = AnAccount()
    team.used("u", 10, occurred=NOON)

    team.asked(
        NOON, AdjustBalance(team_id="acme", direction="raise", amount_micros=micros(25), reason="goodwill")
    )

    assert (team.left(), team.debt()) == ({"raised": "15"}, "0")
    assert team.expiry("raised") is None


def test_lowering_draws_unscoped_credit_in_burn_order_and_never_beyond() -> None:
    team = AnAccount()
    team.bought("V", 50, "2026-11-01 00:00", action="video.generate")
    team.granted("G", 20, "2026-11-01 00:00", expires_at="2026-12-01 00:00")
    team.bought("T", 30, "2026-11-01 00:00")
    team.held(5, NOON, action="text.generate")

    def lower(amount: int) -> AdjustBalance:
        return AdjustBalance(
            team_id="acme", direction="lower", amount_micros=micros(amount), reason="double grant"
        )

    with pytest.raises(AdjustmentRefused, match="at most the 45"):
        team.asked(NOON, lower(46))
    team.asked(NOON, lower(40))
    assert team.left() == {"V": "50", "G": "5", "T": "5"}


def test_an_adjustment_needs_a_reason() -> None:
    for direction in ("raise", "lower"):
        with pytest.raises(AdjustmentRefused, match="reason"):
            AnAccount().asked(NOON, AdjustBalance(team_id="acme", direction=direction, amount_micros=1))


def contested(team: AnAccount, *ids: str, at: str = NOON) -> str:
    command = OpenChargeDispute(
        team_id="acme", charge_ids=[usage_key("acme", SOURCE, each) for each in ids], evidence="black images"
    )
    return team.asked(at, command).fields["dispute_id"]


def test_a_dispute_upheld_refunds_what_is_left_of_each_charge() -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00")
    team.used("u", 30, occurred=NOON)
    team.used("v", 20, occurred=NOON)
    team.refunded("u", 10, NOON)
    dispute = contested(team, "u", "v")

    given = team.asked(NOON, UpholdChargeDispute(team_id="acme", dispute_id=dispute, reason="true"))

    assert given.fields["amount_micros"] == micros(40)
    assert team.left() == {"A": "100"}
    with pytest.raises(DisputeRefused, match="upheld"):
        team.asked(NOON, RejectChargeDispute(team_id="acme", dispute_id=dispute, reason="no"))


def test_a_dispute_rejected_leaves_the_charges_and_they_may_be_contested_again() -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00")
    team.used("u", 30, occurred=NOON)
    dispute = contested(team, "u")
    with pytest.raises(DisputeRefused, match="open dispute"):
        contested(team, "u")

    team.asked(NOON, RejectChargeDispute(team_id="acme", dispute_id=dispute, reason="all is well"))

    assert team.left() == {"A": "70"}
    assert contested(team, "u") != dispute


def test_only_charges_can_be_contested() -> None:
    team = AnAccount()
    team.used("failed", 30, occurred=NOON, status="failed")

    with pytest.raises(UnknownCharge):
        contested(team, "never")
    with pytest.raises(NothingToRefund):
        contested(team, "failed")
    with pytest.raises(UnknownDispute):
        team.asked(NOON, UpholdChargeDispute(team_id="acme", dispute_id="dispute-1", reason="?"))


def on_plans(*plans: dict[str, Any], **terms: Any) -> AnAccount:
    return AnAccount(catalogue=a_catalogue(unit_card(), plans=plans), **terms)


SMALL, LARGE = a_plan("small", 300, 50), a_plan("large", 600, 10)


def test_a_downgrade_takes_effect_at_the_turn_under_the_ending_plans_cap() -> None:
    team = on_plans(SMALL, LARGE)
    team.planned("large", "2026-11-01 00:00")

    with pytest.raises(PlanChangeRefused, match="downgrade"):
        team.planned("small", NOON)
    team.planned("small", NOON, "turn")
    team.ticked("2026-12-01 00:00")

    assert team.left() == {"L1": "590", "L1'": "10", "L2": "300"}
    assert team.account.plan is not None
    assert (team.account.plan.plan_id, team.account.pending_plan) == ("small", None)


def test_rolled_credit_does_not_roll_again() -> None:
    team = on_plans(SMALL)
    team.planned("small", "2026-11-01 00:00")
    team.ticked("2026-12-01 00:00")

    team.ticked("2027-01-03 00:00")

    assert team.left() == {"L1": "0", "L2": "0", "L2'": "50", "L3": "300"}


def test_rolled_credit_does_not_roll_again_where_the_cap_would_have_room() -> None:
    team = on_plans(a_plan("tiny", 30, 50))
    team.planned("tiny", "2026-11-01 00:00")

    team.ticked("2027-01-01 00:00")

    assert team.left() == {"L1": "0", "L1'": "30", "L2": "0", "L2'": "30", "L3": "30"}
    assert team.parts("2027-01-01 00:00") == {"settled": "90", "available": "60", "lapsed": "30"}


def test_granted_and_bought_credit_stays_as_it_is_at_the_turn() -> None:
    team = on_plans(SMALL)
    team.planned("small", "2026-11-01 00:00")
    team.granted("G", 20, "2026-11-01 00:00", expires_at="2026-12-20 00:00")
    team.bought("T", 30, "2026-11-01 00:00")

    team.ticked("2026-12-05 00:00")

    assert team.left() == {"L1": "0", "L1'": "50", "L2": "300", "G": "20", "T": "30"}


def test_a_first_plan_may_wait_for_the_turn() -> None:
    team = on_plans(SMALL, anchor_day=15)
    team.planned("small", NOON, "turn")
    assert team.left() == {}

    team.ticked("2026-11-15 00:00")

    assert team.left() == {"L1": "300"}


def with_a_dear_plan() -> AnAccount:
    """A team that may take the plan "dear", on whose card a unit costs three credits."""
    dear = unit_card(
        card_id="dear",
        rates=[{"action": "image.generate", "terms": [{"model": "unit", "meters": ["units"], "price": "3"}]}],
    )
    return AnAccount(catalogue=a_catalogue(unit_card(), dear, plans=[a_plan("dear", 100, card_id="dear")]))


@pytest.mark.parametrize("looked", [(), ("2026-12-01 00:00",), ("2026-12-02 09:00", "2026-12-02 10:00")])
def test_a_plan_that_waits_for_the_turn_prices_usage_after_it_whoever_looked(looked: tuple[str, ...]) -> None:
    team = with_a_dear_plan()
    team.planned("dear", NOON, "turn")
    for at in looked:
        team.ticked(at)

    after: Any = team.used("after", 1, occurred="2026-12-01 00:00", recorded="2026-12-02 10:00")
    before: Any = team.used("before", 1, occurred="2026-11-30 23:59", recorded="2026-12-02 10:00")

    assert (before.amount_micros, after.amount_micros) == (micros(1), micros(3))


def test_a_plan_prices_by_its_card_from_the_day_it_takes_effect() -> None:
    team = with_a_dear_plan()
    team.planned("dear", "2026-11-05 00:00")

    before: Any = team.used("before", 1, occurred="2026-11-04 00:00", recorded=NOON)
    after: Any = team.used("after", 1, occurred="2026-11-05 00:00", recorded=NOON)

    assert (before.amount_micros, after.amount_micros) == (micros(1), micros(3))


def test_months_that_nobody_looked_at_turn_one_after_the_other() -> None:
    looked, slept = on_plans(SMALL), on_plans(SMALL)
    for team in (looked, slept):
        team.planned("small", "2026-11-01 00:00")
        team.used("u", 290, occurred="2026-11-20 00:00")
    for month in ("2026-12", "2027-01", "2027-02"):
        for day in range(1, 28):
            looked.ticked(f"{month}-{day:02} 13:00")

    slept.ticked("2027-02-27 13:00")

    assert slept.left() == looked.left()
    assert [type(event) for event in slept.events] == [type(event) for event in looked.events]
    assert len(slept.events_of(AllowanceGranted)) == 4


def test_plans_are_published_and_changed_for_another() -> None:
    team = on_plans(SMALL)
    with pytest.raises(UnknownPlan):
        team.planned("never", NOON)
    team.planned("small", NOON)
    for when_ in ("now", "turn"):
        with pytest.raises(PlanChangeRefused, match="already"):
            team.planned("small", NOON, when_)


def test_suspension_takes_no_new_plan_and_ends_once() -> None:
    team = on_plans(SMALL)
    with pytest.raises(AccountNotSuspended):
        team.asked(NOON, ResumeAccount(team_id="acme"))
    team.asked(NOON, SuspendAccount(team_id="acme"))

    with pytest.raises(AccountSuspended):
        team.planned("small", NOON)
    with pytest.raises(AccountSuspended):
        team.asked(NOON, asked())
    with pytest.raises(AccountSuspended):
        team.asked(NOON, SuspendAccount(team_id="acme"))

    team.asked(NOON, GrantCredits(team_id="acme", amount_micros=1))
    team.asked(NOON, ResumeAccount(team_id="acme"))
    team.planned("small", NOON)


def test_a_closed_account_has_no_turn_and_takes_no_command_but_time_passes() -> None:
    team = on_plans(SMALL)
    team.planned("small", "2026-11-01 00:00")
    team.asked(NOON, CloseAccount(team_id="acme"))

    team.ticked("2027-01-01 00:00")

    assert len(team.events_of(AllowanceGranted)) == 1
    assert [event.amount_micros for event in team.events_of(CreditsExpired)] == [micros(300)]
    with pytest.raises(AccountClosed):
        team.asked(NOON, GrantCredits(team_id="acme", amount_micros=1))


def test_a_zone_changes_once_at_a_time_and_to_another() -> None:
    team = AnAccount()
    with pytest.raises(ZoneChangeRefused, match="already"):
        team.asked(NOON, ScheduleZoneChange(team_id="acme", zone="UTC"))
    given = team.asked(NOON, ScheduleZoneChange(team_id="acme", zone="Asia/Tokyo"))

    assert given.fields["effective_at"] == when("2026-12-01 00:00")
    with pytest.raises(ZoneChangeRefused, match="takes effect"):
        team.asked(NOON, ScheduleZoneChange(team_id="acme", zone="Europe/Berlin"))


def test_a_top_up_settled_is_one_event_with_its_cost_basis() -> None:
    team = AnAccount()
    team.names["lot-2"] = "T"

    team.asked(NOON, settled())

    [bought] = team.events_of(CreditsToppedUp)
    assert bought.lot.cost_basis == EUR_10
