"""Lines: one per action, project, member and rate; sums are exact, and a unit price stands only where there is one."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.account.events import CreditsCharged
from domain.invoices.document import Line
from domain.invoices.lines import LineSums
from tests.builders import AnAccount, a_catalogue, micros, unit_card
from tests.domain.invoices.told import all_drafts, recorded


def lines_of(card: dict[str, Any], *uses: dict[str, Any]) -> list[Line]:
    """The lines of an invoice of this usage, priced by this card."""
    team = AnAccount("2026-11-01 00:00", a_catalogue(card))
    for number, use in enumerate(uses):
        team.used(f"u{number}", occurred=f"2026-11-10 12:{number:02}", **use)
    return all_drafts(recorded(team.events))[0].lines


def card_of(*terms: dict[str, Any], **rate: Any) -> dict[str, Any]:
    """A card on which ``image.generate`` costs these terms."""
    meters = {name: "unit" for term in terms for name in term.get("meters", [])}
    return unit_card(
        rates=[{"action": "image.generate", "terms": list(terms)} | rate],
        meters=meters,
        dimensions={"model": "a size"},
    )


PER_UNIT = {"model": "unit", "meters": ["units"], "price": "0.25"}
BY_MODEL = [{"kind": "table", "dimension": "model", "values": {"small": "1", "large": "4"}}]


def shown(line: Line) -> tuple[str | None, str | None, bool]:
    return line.unit_meter, line.unit_price, line.is_average


def test_there_is_one_line_for_each_action_project_member_and_rate() -> None:
    lines = lines_of(
        unit_card(),
        {"units": 2},
        {"units": 3},
        {"units": 4, "action": "video.generate"},
        {"units": 5, "project": "film"},
        {"units": 6, "member": None},
    )

    told = [(each.action, each.project, each.member, each.charges, each.amount) for each in lines]
    assert told == [
        ("image.generate", None, None, 1, "6"),
        ("image.generate", None, "mira", 2, "5"),
        ("image.generate", "film", "mira", 1, "5"),
        ("video.generate", None, "mira", 1, "4"),
    ]
    assert {(each.card, each.card_version) for each in lines} == {("standard", 1)}


def test_a_new_version_of_the_card_is_another_line() -> None:
    first, second = unit_card(), unit_card(effective_at="2026-11-15T00:00:00Z")
    team = AnAccount("2026-11-01 00:00", a_catalogue(first, second))
    team.used("a", 1, occurred="2026-11-14 12:00")
    team.used("b", 1, occurred="2026-11-16 12:00")

    draft_ = all_drafts(recorded(team.events))[0]

    assert [(each.card_version, each.amount) for each in draft_.lines] == [(1, "1"), (2, "1")]
    assert [(each.card_id, each.version) for each in draft_.cards] == [("standard", 1), ("standard", 2)]


def test_a_price_that_all_charges_share_is_the_unit_price_multipliers_included() -> None:
    card = card_of(PER_UNIT, multipliers=BY_MODEL)
    large = {"dimensions": {"model": "large"}}

    (line,) = lines_of(card, {"units": "1.5", **large}, {"units": "3", **large})

    assert shown(line) == ("units", "1", False)
    assert (line.quantities, line.amount) == ({"units": "4.5"}, "4.5")


def test_charges_of_different_prices_have_an_average_that_is_marked_as_one() -> None:
    card = card_of(PER_UNIT, multipliers=BY_MODEL)

    (line,) = lines_of(
        card,
        {"units": "1", "dimensions": {"model": "small"}},
        {"units": "2", "dimensions": {"model": "large"}},
    )

    assert shown(line) == ("units", "0.75", True)


def test_an_average_is_rounded_half_up_at_nine_places() -> None:
    tiers = [{"up_to": "1", "price": "1"}, {"price": "0"}]

    (line,) = lines_of(card_of({"model": "graduated", "meters": ["units"], "tiers": tiers}), {"units": 3})

    assert shown(line) == ("units", "0.333333333", True)


def test_a_flat_price_is_for_one_charge() -> None:
    (line,) = lines_of(card_of({"model": "flat", "price": "2"}), {"units": 3}, {"units": 9})

    assert (shown(line), line.charges, line.amount) == ((None, "2", False), 2, "4")


def test_several_meters_have_no_unit_price() -> None:
    second = {"model": "unit", "meters": ["steps"], "price": "1"}

    (line,) = lines_of(card_of(PER_UNIT, second), {"meters": {"units": "4", "steps": "2"}})

    assert shown(line) == (None, None, False)
    assert (line.quantities, line.amount) == ({"steps": "2", "units": "4"}, "3")


def test_where_the_minimum_decided_the_amount_the_price_is_an_average() -> None:
    (line,) = lines_of(card_of(PER_UNIT, minimum="1"), {"units": 2})

    assert shown(line) == ("units", "0.5", True)


def test_a_price_whose_decimals_never_end_is_shown_as_an_average() -> None:
    third = {"model": "unit", "meters": ["units"], "price": "1", "per": "3"}

    (line,) = lines_of(card_of(third), {"units": 3}, {"units": 3})

    assert shown(line) == ("units", "0.333333333", True)


def test_a_refund_is_a_line_of_its_own_that_counts_each_charge_once() -> None:
    team = AnAccount("2026-11-01 00:00")
    team.bought("A", 100, "2026-11-01 01:00")
    for name in ("a", "b"):
        team.used(name, 10, occurred="2026-11-10 12:00")
    for amount in (2, 3):
        team.refunded("a", amount, "2026-11-11 12:00")
    team.refunded("b", 4, "2026-11-11 12:00")

    used, refunded = all_drafts(recorded(team.events))[0].lines

    assert (used.kind, used.charges, used.amount) == ("usage", 2, "20")
    assert (refunded.kind, refunded.charges, refunded.amount) == ("refund", 2, "-9")
    assert (refunded.quantities, refunded.unit_price) == ({}, None)


def test_a_capture_by_request_is_a_line_without_a_rate() -> None:
    team = AnAccount("2026-11-01 00:00")
    team.bought("A", 100, "2026-11-01 01:00")
    hold = team.held(10, "2026-11-02 00:00")
    charge = team.captured(hold, 4, "2026-11-02 00:10")
    team.refunded_charge(charge, 1, "2026-11-02 00:20")

    used, refunded = all_drafts(recorded(team.events))[0].lines

    assert (used.card, used.card_version, used.quantities, used.amount) == (None, None, {}, "4")
    assert (refunded.card, refunded.amount) == (None, "-1")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["0.333333333", "1", "2.000000001", "11"]),
            st.sampled_from([None, "mira", "noor"]),
            st.sampled_from([None, "film", "poster"]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_r6_charges_on_tiers_of_a_third_sum_over_all_lines_to_the_price_of_all_usage(
    uses: list[tuple[str, str | None, str | None]],
) -> None:
    tiers = [
        {"up_to": "7", "price": "0.333333"},
        {"up_to": "31.5", "price": "0.166667"},
        {"price": "0.000001"},
    ]
    card = card_of({"model": "graduated", "meters": ["units"], "tiers": tiers})

    lines = lines_of(card, *({"units": units, "member": who, "project": what} for units, who, what in uses))

    quantity = sum((Fraction(units) for units, *_ in uses), Fraction(0))
    in_tiers = (
        min(quantity, Fraction(7)),
        max(min(quantity, Fraction("31.5")) - 7, Fraction(0)),
        max(quantity - Fraction("31.5"), Fraction(0)),
    )
    price = sum(
        (part * Fraction(tier["price"]) for part, tier in zip(in_tiers, tiers, strict=True)), Fraction(0)
    )
    assert sum(micros(line.amount) for line in lines) == ceil(price * 1_000_000)
    assert sum(Fraction(line.quantities["units"]) for line in lines) == quantity
    assert sum(line.charges for line in lines) == len(uses)


def test_r6_twenty_thousand_lines_of_a_third_sum_without_any_error() -> None:
    third = card_of({"model": "unit", "meters": ["units"], "price": "1", "per": "3"})
    team = AnAccount("2026-11-01 00:00", a_catalogue(third))
    charge = team.used("u", 1, occurred="2026-11-10 12:00")
    assert isinstance(charge, CreditsCharged)
    sums = LineSums()

    for number in range(20_000):
        sums.charge(msgspec.structs.replace(charge, member=f"member-{number}"), None)

    amounts = [micros(line.amount) for line in sums.lines()]
    assert len(amounts) == 20_000
    assert sum(amounts) == sums.total_micros == 20_000 * 333_334
