"""I8 over whole lives: each event on exactly one invoice, every sum exact, and the same document from the part that is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.account.events import CHARGES, Charge, ChargeRefunded, RecordedEvent
from domain.amounts import parse_credits
from domain.invoices import sorting
from domain.invoices.document import Adjustment, Line
from domain.invoices.drafting import draft
from domain.invoices.reading import WholeHistory, needed_since
from domain.invoices.sorting import NotTied
from domain.invoices.tracing import charges_of_line, invoice_of, line_of
from tests.builders import AnAccount
from tests.domain.invoices.told import all_drafts, closed_drafts, closes, documents, recorded
from tests.projections.lives import a_life

seeds = st.integers(0, 100_000)


def signed(text: str) -> int:
    return -parse_credits(text[1:], "amount") if text.startswith("-") else parse_credits(text, "amount")


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_i8_invoices_and_drafts_sum_to_settled_less_debt(seed: int) -> None:
    life = a_life(seed)

    drafts = all_drafts(recorded(life.events))

    assert drafts[0].opening_micros == 0
    assert drafts[-1].closing_micros == life.account.settled_micros - life.account.debt_micros
    for before, after in pairwise(drafts):
        assert (before.period.end, before.closing_micros) == (after.period.start, after.opening_micros)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_i8_the_lines_of_an_invoice_sum_to_what_it_says_was_used_less_refunded(seed: int) -> None:
    for each in all_drafts(recorded(a_life(seed).events)):
        document = each.document()
        credits_ = document.credits
        assert credits_ is not None

        lines: list[Line | Adjustment] = [*document.lines, *document.adjustments]

        assert sum(signed(line.amount) for line in lines) == signed(credits_.used) - signed(credits_.refunded)
        assert [line.line for line in lines] == list(range(1, len(lines) + 1))
        came = sum(
            signed(part)
            for part in (
                credits_.opening,
                credits_.granted,
                credits_.topped_up,
                credits_.raised,
                credits_.refunded,
            )
        )
        gone = sum(
            signed(part)
            for part in (
                credits_.lowered,
                credits_.used,
                credits_.expired,
                credits_.voided,
                credits_.charged_back,
            )
        )
        assert came - gone == signed(credits_.closing)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_r4_every_charge_and_refund_is_on_exactly_one_line_and_both_ways_agree(seed: int) -> None:
    events = recorded(a_life(seed).events)
    history = WholeHistory(events)
    charges = {each.event.charge_id: each.event for each in events if isinstance(each.event, CHARGES)}
    found: Counter[int] = Counter()

    for each in all_drafts(events):
        document = each.document()
        lines: list[Line | Adjustment] = [*document.lines, *document.adjustments]
        for line in lines:
            key = line_of(document, line.line)
            assert key is not None
            on_line = list(charges_of_line(events, each.period, history, key))
            assert sum(part.amount_micros for part in on_line) == signed(line.amount)
            assert len({part.charge.charge_id for part in on_line}) == line.charges
            for part in on_line:
                found[part.version] += 1
                where = invoice_of(
                    part.charge, part.version, history.books, is_refund=part.refund_id is not None
                )
                assert (where.period.start, where.line) == (each.period.start, key)

    wanted = {
        each.originator_version for each in events if isinstance(each.event, (*CHARGES, ChargeRefunded))
    }
    assert found == Counter(dict.fromkeys(wanted, 1))
    assert charges or not wanted


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_an_invoice_needs_only_what_was_recorded_since_shortly_before_its_period(seed: int) -> None:
    events = recorded(a_life(seed).events)
    history = WholeHistory(events)

    for whole in all_drafts(events):
        since = needed_since(whole.period.start)
        part = [each for each in events if each.event.recorded_at >= since]
        assert draft(part, whole.period, history) == whole or not any(
            each.originator_version <= whole.version for each in part
        )


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_r4_an_invoice_is_the_same_whatever_was_recorded_after_its_close(seed: int) -> None:
    events = recorded(a_life(seed).events)
    history = WholeHistory(events)

    for period, whole in zip(closes(events), closed_drafts(events), strict=True):
        assert period.closed_version is not None
        known = events[: period.closed_version]
        assert draft(known, period, WholeHistory(known)) == whole
        assert draft(events, period._replace(zone="", closed_version=None), history) == whole


def test_an_event_that_was_changed_or_left_out_is_not_invoiced() -> None:
    team = AnAccount("2026-11-01 00:00")
    team.bought("A", 100, "2026-11-02 00:00")
    for n in range(5):
        team.used(f"u{n}", 3, occurred=f"2026-11-1{n} 12:00")
    team.ticked("2026-12-05 00:00")
    events = recorded(team.events)
    (period,) = closes(events)

    without_one = [each for each in events if each.originator_version != 4]
    dearer = [
        RecordedEvent("acme", 4, msgspec.structs.replace(each.event, amount_micros=1))
        if each.originator_version == 4
        else each
        for each in events
    ]

    for wrong in (without_one, dearer):
        with pytest.raises(NotTied, match="settled credits less debt at"):
            draft(wrong, period, WholeHistory(events))
    with pytest.raises(
        NotTied, match="opens with 0 micro-credits by its events, the one before closed with 7"
    ):
        draft(events, period, WholeHistory(events), opening_micros=7)


def test_a_period_in_which_nothing_happened_is_empty() -> None:
    team = AnAccount("2026-09-01 00:00")
    team.granted("G", 5, "2026-09-02 00:00")
    team.ticked("2026-12-05 00:00")

    told = {each.period.label: each.is_empty for each in all_drafts(recorded(team.events))}

    assert told == {"2026-09": False, "2026-10": True, "2026-11": True, "2026-12": True}
    october = documents(team.events)["2026-10"].credits
    assert october is not None
    assert (october.opening, october.closing) == ("5", "5")


def test_the_charges_of_many_refunds_are_asked_for_a_portion_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    team = AnAccount("2026-11-01 00:00")
    team.bought("A", 100, "2026-11-02 00:00")
    for n in range(7):
        team.used(f"u{n}", 3, occurred=f"2026-11-1{n} 12:00")
        team.refunded(f"u{n}", 1, "2026-11-20 00:00")
    events = recorded(team.events)
    history = WholeHistory(events)
    asked: list[int] = []

    class Counting:
        """The same history, which notes how many charges are asked for together."""

        team_id, books, top_ups, plan = history.team_id, history.books, history.top_ups, history.plan

        def charges(self, charge_ids: Collection[str]) -> Mapping[str, Charge]:
            asked.append(len(charge_ids))
            return history.charges(charge_ids)

    monkeypatch.setattr(sorting, "PORTION_REFUNDS", 3)
    (_, line) = draft(events, history.books.oldest_open, Counting()).lines

    assert asked == [3, 3, 1]
    assert (line.charges, line.amount) == (7, "-7")
