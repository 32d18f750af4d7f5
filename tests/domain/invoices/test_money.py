"""Money on an invoice: top-ups as paid, plan fees with tax, upgrades by days, what a bank took back; each currency for itself."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.account.events import CostBasis
from domain.commands import TopUpCredits
from domain.invoices.document import Invoice, Purchase
from domain.invoices.drafting import draft, money_due
from domain.invoices.money import percent_of, tax_on
from domain.invoices.reading import WholeHistory
from domain.issuer.details import IssuerDetails
from tests.builders import AnAccount, a_catalogue, a_plan, micros, unit_card
from tests.domain.invoices.told import all_drafts, recorded

ISSUER = IssuerDetails(
    name="Coffer GmbH", address_lines=["Weg 1", "10115 Berlin"], country="DE", tax_percent="19"
)
PLANS = (
    a_plan("starter", 30, price={"price_minor": 3_000, "currency": "EUR"}),
    a_plan("studio", 90, price={"price_minor": 9_100, "currency": "EUR"}),
    a_plan("cheap", 90, price={"price_minor": 100, "currency": "EUR"}),
    a_plan("dollars", 90, price={"price_minor": 9_000, "currency": "USD"}),
    a_plan("nothing", 0, price={"price_minor": 0, "currency": "EUR"}),
    a_plan("free", 5, price={"price_minor": 0, "currency": "EUR"}),
)


def a_team(at: str = "2026-11-01 00:00", **terms: object) -> AnAccount:
    return AnAccount(at, a_catalogue(unit_card(), plans=PLANS), **terms)


def bought(team: AnAccount, reference: str, price: int, tax: int, at: str, currency: str = "EUR") -> None:
    team.asked(
        at,
        TopUpCredits(
            team_id="acme",
            amount_micros=micros(100),
            payment_reference=reference,
            cost_basis=CostBasis(price, currency, tax),
        ),
    )


def invoices(team: AnAccount) -> dict[str, Invoice]:
    return {each.period.label: each.document(ISSUER) for each in all_drafts(recorded(team.events))}


def told(purchase: Purchase) -> tuple[str, str, int, int, str | None]:
    return purchase.kind, purchase.reference, purchase.net_minor, purchase.tax_minor, purchase.tax_percent


def totals(document: Invoice) -> dict[str, tuple[int, int, int, int, int]]:
    return {
        each.currency: (each.net_minor, each.tax_minor, each.gross_minor, each.paid_minor, each.due_minor)
        for each in document.totals
    }


def test_a_top_up_is_paid_with_the_tax_it_was_paid_with() -> None:
    team = a_team()
    bought(team, "pay-1", 1_000, 190, "2026-11-05 00:00")
    bought(team, "pay-2", 1_000, 70, "2026-11-06 00:00")
    bought(team, "pay-3", 1_000, 0, "2026-11-07 00:00")

    document = invoices(team)["2026-11"]

    assert [told(each) for each in document.purchases] == [
        ("top_up", "pay-1", 1_000, 190, "19"),
        ("top_up", "pay-2", 1_000, 70, None),
        ("top_up", "pay-3", 1_000, 0, "0"),
    ]
    assert all(each.is_paid for each in document.purchases)
    assert totals(document) == {"EUR": (3_000, 260, 3_260, 3_260, 0)}
    assert [(each.percent, each.net_minor, each.tax_minor) for each in document.taxes] == [
        ("0", 1_000, 0),
        ("19", 1_000, 190),
        (None, 1_000, 70),
    ]


def test_a_plan_costs_its_price_once_a_period_and_the_fee_is_due() -> None:
    team = a_team()
    team.planned("starter", "2026-11-20 00:00")
    team.ticked("2027-01-15 00:00")

    told_ = {label: [told(each) for each in document.purchases] for label, document in invoices(team).items()}

    fee = [("plan", "starter 1", 3_000, 570, "19")]
    assert told_ == {"2026-11": fee, "2026-12": fee, "2027-01": fee}
    assert totals(invoices(team)["2026-12"]) == {"EUR": (3_000, 570, 3_570, 0, 3_570)}
    assert [each.credits for each in invoices(team)["2026-11"].purchases] == ["30"]


def test_an_upgrade_now_costs_the_difference_by_the_days_left_rounded_down() -> None:
    team = a_team()
    team.planned("starter", "2026-11-01 00:00")
    team.planned("studio", "2026-11-20 12:00")

    document = invoices(team)["2026-11"]

    # 6,100 for 11 of 30 days is 2,236.66...; 19 % of 2,236 is 424.84.
    assert [told(each)[1:4] for each in document.purchases] == [
        ("starter 1", 3_000, 570),
        ("studio 1", 2_236, 425),
    ]
    assert (
        document.purchases[1].description
        == "Plan studio, version 1, instead of starter, version 1: 11 of 30 days"
    )
    assert document.purchases[1].credits == "22"


def test_the_days_of_an_upgrade_are_those_of_the_teams_calendar() -> None:
    team = a_team(zone="Pacific/Auckland")
    team.planned("starter", "2026-11-01 00:00")
    # Already the 21st in Auckland.
    team.planned("studio", "2026-11-20 12:00")

    assert "10 of 30 days" in invoices(team)["2026-11"].purchases[1].description


def test_an_upgrade_that_costs_less_gives_nothing_back_and_one_that_is_free_is_not_listed() -> None:
    team = a_team()
    team.planned("studio", "2026-11-01 00:00")
    team.planned("cheap", "2026-11-10 00:00")
    other = a_team()
    other.planned("free", "2026-11-01 00:00")

    assert [told(each)[1] for each in invoices(team)["2026-11"].purchases] == ["studio 1"]
    assert invoices(other)["2026-11"].purchases == []
    assert not all_drafts(recorded(other.events))[0].is_empty


def test_an_upgrade_to_a_plan_in_another_currency_costs_that_plans_price_for_the_days_left() -> None:
    team = a_team()
    team.planned("starter", "2026-11-01 00:00")
    team.planned("dollars", "2026-11-16 00:00")

    document = invoices(team)["2026-11"]

    assert totals(document) == {"EUR": (3_000, 570, 3_570, 0, 3_570), "USD": (4_500, 855, 5_355, 0, 5_355)}


def test_a_month_on_a_plan_that_costs_and_gives_nothing_has_nothing_to_invoice() -> None:
    team = a_team()
    team.planned("nothing", "2026-11-01 00:00")
    team.ticked("2027-01-15 00:00")

    assert all(each.is_empty for each in all_drafts(recorded(team.events)))


def test_a_plan_that_waits_for_the_turn_costs_from_there() -> None:
    team = a_team()
    team.planned("starter", "2026-11-01 00:00")
    team.planned("studio", "2026-11-10 00:00", "turn")
    team.ticked("2026-12-10 00:00")

    told_ = {
        label: [told(each)[1] for each in document.purchases] for label, document in invoices(team).items()
    }

    assert told_ == {"2026-11": ["starter 1"], "2026-12": ["studio 1"]}


def test_a_plan_whose_terms_came_long_ago_is_asked_for_by_its_version() -> None:
    team = a_team()
    team.planned("starter", "2026-11-02 00:00")
    team.ticked("2027-02-05 00:00")
    events = recorded(team.events)
    history = WholeHistory(events)
    january = next(each for each in history.books.closed if each.label == "2027-01")

    part = [each for each in events if each.event.recorded_at >= january.start]

    assert [sale.reference for sale in draft(part, january, history).sales] == ["starter 1"]


def test_a_top_up_that_a_bank_took_back_is_a_sale_undone() -> None:
    team = a_team()
    bought(team, "pay-1", 1_000, 190, "2026-11-05 00:00")
    team.used("u", 30, occurred="2026-11-10 00:00")
    team.charged_back("1", "2026-12-05 00:00")
    team.lost("1", "2026-12-20 00:00")

    december = invoices(team)["2026-12"]

    assert [told(each) for each in december.purchases] == [("charged_back", "pay-1", -1_000, -190, "19")]
    assert december.purchases[0].credits == "-100"
    assert totals(december) == {"EUR": (-1_000, -190, -1_190, -1_190, 0)}
    assert december.credits is not None
    assert (december.credits.charged_back, december.credits.closing) == ("100", "-30")


def test_each_currency_is_summed_for_itself_in_alphabetical_order() -> None:
    team = a_team()
    bought(team, "pay-1", 1_000, 0, "2026-11-05 00:00", "USD")
    bought(team, "pay-2", 700, 133, "2026-11-06 00:00", "EUR")
    bought(team, "pay-3", 500, 0, "2026-11-07 00:00", "JPY")

    document = invoices(team)["2026-11"]

    assert list(totals(document).items()) == [
        ("EUR", (700, 133, 833, 833, 0)),
        ("JPY", (500, 0, 500, 500, 0)),
        ("USD", (1_000, 0, 1_000, 1_000, 0)),
    ]
    assert [(each.currency, each.gross_minor) for each in money_due(document)] == [
        ("EUR", 833),
        ("JPY", 500),
        ("USD", 1_000),
    ]


@pytest.mark.parametrize(
    ("net", "percent", "tax"),
    [
        (1_000, "19", 190),
        (50, "19", 10),
        (45, "10", 5),
        (44, "10", 4),
        (333, "7.7", 26),
        (0, "19", 0),
        (9, "0", 0),
    ],
)
def test_tax_is_rounded_half_up(net: int, percent: str, tax: int) -> None:
    assert tax_on(net, percent) == tax


@given(st.integers(0, 10**12), st.integers(0, 9_999))
def test_tax_is_the_whole_number_nearest_to_the_exact_one(net: int, hundredths: int) -> None:
    percent = f"{hundredths // 100}.{hundredths % 100:02}"

    exact = Fraction(net) * Fraction(percent) / 100

    assert -Fraction(1, 2) < tax_on(net, percent) - exact <= Fraction(1, 2)
    assert percent_of(net, tax_on(net, percent), percent) == percent
