"""Each event is on one invoice: that of the period it serves, or the oldest one still open when it was recorded."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from domain.invoices.assigning import BillingPeriod, Books
from domain.invoices.drafting import draft
from domain.invoices.reading import WholeHistory, needed_since
from tests.builders import AnAccount, micros, when
from tests.domain.invoices.told import documents, recorded


def test_e11_late_usage_and_its_refund_are_adjustments_of_the_next_invoice() -> None:
    team = AnAccount("2026-11-01 00:00")
    team.bought("A", 100, "2026-11-02 00:00")
    team.used("november", 30, occurred="2026-11-20 12:00")
    team.ticked("2026-12-03 00:00")
    november = documents(team.events)["2026-11"]

    team.used("late", 12, occurred="2026-11-28 12:00", recorded="2026-12-05 12:00")
    team.refunded("late", None, "2026-12-10 12:00")

    invoices = documents(team.events)
    assert invoices["2026-11"] == november
    told = [(each.period_label, each.kind, each.amount) for each in invoices["2026-12"].adjustments]
    assert told == [("2026-11", "usage", "12"), ("2026-11", "refund", "-12")]
    assert invoices["2026-12"].lines == []
    credits_ = invoices["2026-12"].credits
    assert credits_ is not None
    assert (credits_.opening, credits_.used, credits_.refunded, credits_.closing) == ("70", "12", "12", "70")


def test_usage_within_late_grace_is_on_the_invoice_of_its_own_period() -> None:
    team = AnAccount("2026-11-01 00:00")
    team.used("eve", 5, occurred="2026-11-30 23:59", recorded="2026-12-01 23:00")
    team.used("first", 7, occurred="2026-12-01 00:00", recorded="2026-12-01 23:00")
    team.ticked("2027-01-05 00:00")

    invoices = documents(team.events)

    assert [line.amount for line in invoices["2026-11"].lines] == ["5"]
    assert [line.amount for line in invoices["2026-12"].lines] == ["7"]
    assert not invoices["2026-12"].adjustments


def test_r4_the_cut_is_the_version_of_the_close() -> None:
    """Recorded just before the close: on the invoice. Just after: an adjustment of the next."""
    team = AnAccount("2026-11-01 00:00")
    team.used("before", 1, occurred="2026-11-30 12:00", recorded="2026-12-01 23:59")
    team.used("after", 2, occurred="2026-11-30 12:00", recorded="2026-12-02 00:00")

    invoices = documents(team.events)

    assert [line.amount for line in invoices["2026-11"].lines] == ["1"]
    assert [each.amount for each in invoices["2026-12"].adjustments] == ["2"]


def test_a_refund_is_on_the_invoice_of_its_charge_while_that_period_is_open() -> None:
    team = AnAccount("2026-11-01 00:00")
    team.bought("A", 50, "2026-11-02 00:00")
    team.used("x", 9, occurred="2026-11-30 12:00")
    team.refunded("x", 4, "2026-12-01 12:00")
    team.refunded("x", 5, "2026-12-02 12:00")

    invoices = documents(team.events)

    assert [(line.kind, line.amount) for line in invoices["2026-11"].lines] == [
        ("usage", "9"),
        ("refund", "-4"),
    ]
    assert [(each.period_label, each.amount) for each in invoices["2026-12"].adjustments] == [
        ("2026-11", "-5")
    ]


def test_usage_from_before_the_books_names_the_period_that_its_calendar_has() -> None:
    team = AnAccount("2026-11-10 00:00", zone="Europe/Berlin", anchor_day=15)
    team.used("old", 3, occurred="2026-09-20 12:00", recorded="2026-11-12 12:00")

    (document,) = documents(team.events).values()

    (adjustment,) = document.adjustments
    assert adjustment.period_label == "2026-09"
    assert adjustment.period_start == "2026-09-14T22:00:00.000000Z"
    assert adjustment.period_end == "2026-10-14T22:00:00.000000Z"


def test_history_that_is_brought_in_later_is_on_the_invoices_of_its_own_months() -> None:
    team = AnAccount("2026-11-10 00:00", books_from=when("2026-08-03 00:00"))
    team.granted("G", 100, "2026-11-10 01:00")
    for month, units in (("08", 1), ("09", 2), ("10", 4), ("07", 8)):
        team.used(month, units, occurred=f"2026-{month}-20 12:00", recorded="2026-11-10 02:00")
    team.ticked("2026-12-05 00:00")

    invoices = documents(team.events)

    used = {label: each.credits.used for label, each in invoices.items() if each.credits is not None}
    assert used == {"2026-08": "9", "2026-09": "2", "2026-10": "4", "2026-11": "0", "2026-12": "0"}
    assert [each.period_label for each in invoices["2026-08"].adjustments] == ["2026-07"]
    closing = {label: each.credits.closing for label, each in invoices.items() if each.credits is not None}
    assert closing == {"2026-08": "-9", "2026-09": "-11", "2026-10": "-15", "2026-11": "85", "2026-12": "85"}


def test_periods_from_before_the_books_tile_and_are_named_by_counting_back() -> None:
    first = BillingPeriod(when("2026-03-30 22:00"), when("2026-04-29 22:00"), "Europe/Berlin", "2026-03", 9)
    team = AnAccount("2026-04-05 00:00", zone="Europe/Berlin", anchor_day=31)
    books = Books(team.account, team.index, [first])

    found = [books.period_of(when("2026-03-30 21:59"))]
    while len(found) < 50:
        found.append(books.period_of(found[-1].start - timedelta(microseconds=1)))

    assert found[0].end == first.start
    assert all(later.start == earlier.end for later, earlier in pairwise(found))
    assert [each.label for each in found[:4]] == ["2026-02", "2026-01", "2025-12", "2025-11"]
    assert [f"{each.start:%d %H:%M}" for each in found[:3]] == ["28 22:00", "30 22:00", "30 22:00"]
    for each in found:
        assert books.period_of(each.start) == books.period_of(each.end - timedelta(seconds=1)) == each


def test_usage_at_the_very_end_and_its_refund_are_on_the_next_invoice() -> None:
    team = AnAccount("2026-11-01 00:00")
    team.bought("A", 50, "2026-11-02 00:00")
    team.used("x", 9, occurred="2026-12-01 00:00")
    team.refunded("x", 4, "2026-12-01 12:00")
    team.ticked("2027-01-05 00:00")

    invoices = documents(team.events)

    assert invoices["2026-11"].lines == []
    assert [line.amount for line in invoices["2026-12"].lines] == ["9", "-4"]


def test_usage_minutes_ahead_of_the_clock_is_on_the_invoice_of_its_period_which_asks_for_it() -> None:
    team = AnAccount("2026-11-01 00:00")
    team.bought("A", 50, "2026-11-02 00:00")
    team.used("x", 9, occurred="2026-12-01 00:00", recorded="2026-11-30 23:00:00")
    team.ticked("2027-01-05 00:00")
    events = recorded(team.events)
    december = WholeHistory(events).books.closed[1]

    needed = [each for each in events if each.event.recorded_at >= needed_since(december.start)]

    (line,) = draft(needed, december, WholeHistory(events), opening_micros=micros(50)).lines
    assert (line.amount, december.label) == ("9", "2026-12")
