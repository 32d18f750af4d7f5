"""The books of a team close period by period: late grace after its end, once, whoever comes first; closed periods tile (I21)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import periods
from domain import zones as zones_module
from domain.account.applying import fold
from domain.account.calendar import LATE_GRACE
from domain.account.claims import claim_of
from domain.account.decision import Decision, due_id
from domain.account.due import next_due_at, pass_time
from domain.account.events import AccountClosed, AccountOpened, CreditsExpired, HoldExpired, PeriodClosed
from domain.account.funding import AskedLot, grant_credits
from domain.account.holding import Use, place_hold
from domain.account.index import EmptyIndex
from domain.account.opening import close_account, open_account, schedule_zone_change
from domain.errors import Malformed, PeriodRefused
from domain.invoices.document import canonical_invoice
from tests.builders import TESTER, AnAccount, when
from tests.domain.invoices.told import all_drafts, recorded
from tests.domain.paperwork import Bookkeeping, closed_early

MICROSECOND = timedelta(microseconds=1)


def closes(books: Bookkeeping) -> list[PeriodClosed]:
    return [event for event in books.events if isinstance(event, PeriodClosed)]


def named(books: Bookkeeping) -> list[tuple[str, str]]:
    """Each close by its label and the day of its instant."""
    return [(event.label, f"{event.effective_at:%Y-%m-%d}") for event in closes(books)]


def assert_tiled(books: Bookkeeping) -> None:
    """Closed periods touch, the open one follows the last of them, and each is claimed once."""
    found = closes(books)
    opened = books.events[0]
    assert isinstance(opened, AccountOpened)
    starts = [event.period_start for event in found] + [books.account.books_start]
    ends = [opened.books_start] + [event.period_end for event in found]
    assert starts == ends
    assert all(event.period_start < event.period_end < event.following_end for event in found)
    assert len({claim_of(event) for event in found}) == len({event.label for event in found}) == len(found)


# --- when ---


def test_a_period_closes_late_grace_after_its_end_and_not_a_moment_earlier() -> None:
    books = Bookkeeping("2026-11-05 10:00")
    books.at(when("2026-12-02 00:00") - MICROSECOND, pass_time)
    assert closes(books) == []
    assert next_due_at(books.account) == when("2026-12-02 00:00")

    books.at("2026-12-02 00:00", pass_time)

    (closed,) = closes(books)
    assert (closed.period_start, closed.period_end) == (when("2026-11-01 00:00"), when("2026-12-01 00:00"))
    assert (closed.label, closed.zone, closed.effective_at) == ("2026-11", "UTC", when("2026-12-02 00:00"))
    assert next_due_at(books.account) == when("2027-01-02 00:00")


def test_whoever_looks_late_closes_every_period_as_of_its_own_instant() -> None:
    daily, late = Bookkeeping("2026-11-05 10:00"), Bookkeeping("2026-11-05 10:00")
    for day in range(120):
        daily.at(when("2026-11-05 12:00") + timedelta(days=day), pass_time)
    late.at("2027-03-04 12:00", pass_time)

    assert named(late) == named(daily)
    assert named(late) == [
        ("2026-11", "2026-12-02"), ("2026-12", "2027-01-02"), ("2027-01", "2027-02-02"), ("2027-02", "2027-03-02"),
    ]  # fmt: skip
    assert [event.due_id for event in closes(late)] == [event.due_id for event in closes(daily)]


def by_usage(account: AnAccount) -> None:
    account.used("late", 1, occurred="2026-11-30 23:00", recorded="2026-12-02 00:00")


def by_tick(account: AnAccount) -> None:
    account.ticked("2026-12-02 00:00")


def by_command(account: AnAccount) -> None:
    account.granted("G", 1, "2026-12-02 00:00")


@pytest.mark.parametrize("first", [by_usage, by_tick, by_command])
@pytest.mark.parametrize("then", [by_usage, by_tick, by_command])
def test_a_period_closes_once_whoever_comes_first(
    first: Callable[[AnAccount], None], then: Callable[[AnAccount], None]
) -> None:
    account = AnAccount()

    first(account)
    if then is not first:
        then(account)

    (closed,) = account.events_of(PeriodClosed)
    assert account.events.index(closed) == 1
    assert closed.due_id == due_id("close", "acme", when("2026-11-01 00:00"))


def test_what_is_due_at_the_instant_of_a_close_comes_before_it() -> None:
    """Hold expiry, breakage, close: a lot of the period that expires with it is broken before the period closes."""
    account = AnAccount()
    account.granted("G", 10, "2026-11-02 00:00", expires_at="2026-12-01 00:00")
    account.granted("H", 10, "2026-11-02 00:00")
    account.held(5, "2026-12-01 12:00", lasts_seconds=12 * 3_600)

    account.ticked("2026-12-05 00:00")

    due = [event for event in account.events if getattr(event, "due_id", None)]
    assert [type(event) for event in due] == [HoldExpired, CreditsExpired, PeriodClosed]
    assert {event.effective_at for event in due} == {when("2026-12-02 00:00")}  # type: ignore[attr-defined]


def test_a_lot_that_becomes_effective_with_the_close_repays_before_it() -> None:
    account = AnAccount()
    account.used("u", 5, occurred="2026-11-10 00:00")
    account.granted("later", 9, "2026-11-11 00:00", effective_at="2026-12-02 00:00")

    account.ticked("2026-12-03 00:00")

    assert [type(event).__name__ for event in account.events[-2:]] == ["DebtRepaid", "PeriodClosed"]
    assert account.events[-1].debt_after_micros == 0  # type: ignore[attr-defined]


# --- early ---


def test_an_ended_period_may_be_closed_early_and_is_then_not_due_any_more() -> None:
    books, due = Bookkeeping("2026-11-05 10:00"), Bookkeeping("2026-11-05 10:00")
    due.at("2026-12-02 00:00", pass_time)

    books.at("2026-12-01 00:00", closed_early, "history is complete")
    books.at("2026-12-20 00:00", pass_time)

    (early,), (on_time,) = closes(books), closes(due)
    assert (early.due_id, early.period_end) == (on_time.due_id, on_time.period_end)
    assert (early.effective_at, early.reason) == (when("2026-12-01 00:00"), "history is complete")


def test_a_running_period_is_not_closed() -> None:
    books = Bookkeeping("2026-11-05 10:00")

    with pytest.raises(PeriodRefused, match="runs until 2026-12-01T00:00:00"):
        books.at(when("2026-12-01 00:00") - MICROSECOND, closed_early)
    assert closes(books) == []


def test_a_caller_may_say_which_period_it_means() -> None:
    books = Bookkeeping("2026-11-05 10:00", books_from=when("2026-09-20 00:00"))

    books.at("2026-11-05 11:00", lambda decision: closed_early(decision, when("2026-09-01 00:00")))
    with pytest.raises(PeriodRefused, match="oldest open period, which began at 2026-10-01"):
        books.at("2026-11-05 11:00", lambda decision: closed_early(decision, when("2026-09-01 00:00")))
    assert named(books) == [("2026-09", "2026-11-05")]


# --- books that begin before the account ---


def test_history_is_closed_late_grace_after_the_opening_oldest_first() -> None:
    books = Bookkeeping("2026-11-05 10:00", books_from=when("2026-08-20 00:00"), zone="Europe/Berlin")
    books.at(when("2026-11-06 10:00") - MICROSECOND, pass_time)
    assert closes(books) == []

    books.at("2026-11-06 10:00", pass_time)

    assert named(books) == [("2026-08", "2026-11-06"), ("2026-09", "2026-11-06"), ("2026-10", "2026-11-06")]
    assert closes(books)[0].period_start == when("2026-07-31 22:00")
    assert_tiled(books)


@pytest.mark.parametrize("books_from", ["2026-11-05 10:01", "2006-01-01 00:00"])
def test_books_begin_neither_in_the_future_nor_ages_ago(books_from: str) -> None:
    with pytest.raises(Malformed, match=r"books_from .* would be right"):
        Bookkeeping("2026-11-05 10:00", books_from=when(books_from))


def test_an_account_that_was_opened_before_there_were_books_has_them_from_then_on() -> None:
    opened = AccountOpened(
        recorded_at=when("2026-11-05 10:00"),
        actor=TESTER,
        team_id="acme",
        zone="Europe/Berlin",
        anchor_day=31,
        card_id="standard",
    )

    account, _ = fold(None, [opened])

    assert account is not None
    assert (account.books_start, account.books_end) == (when("2026-10-30 23:00"), when("2026-11-29 23:00"))
    assert account.issuer_id == "main"


# --- a closed account ---


def test_a_closed_account_closes_the_period_in_which_it_was_closed_and_no_other() -> None:
    books = Bookkeeping("2026-11-05 10:00")
    books.at("2026-12-10 10:00", close_account)

    books.at("2027-06-01 10:00", pass_time)

    assert [type(event) for event in books.events[1:]] == [PeriodClosed, AccountClosed, PeriodClosed]
    assert named(books) == [("2026-11", "2026-12-02"), ("2026-12", "2027-01-02")]
    assert next_due_at(books.account) is None
    with pytest.raises(PeriodRefused, match="was the last"):
        books.at("2027-06-01 10:00", closed_early)


# --- zones ---


def test_a_change_of_zone_moves_the_bounds_from_the_turn_on_and_no_two_periods_have_one_name() -> None:
    """West: clocks in New York still show 31 December when January begins as London had it."""
    books = Bookkeeping("2026-11-05 10:00", zone="Europe/London")
    books.at("2026-12-10 10:00", lambda decision: schedule_zone_change(decision, "America/New_York"))

    books.at("2027-04-01 10:00", pass_time)

    assert [(event.label, event.zone) for event in closes(books)] == [
        ("2026-11", "Europe/London"), ("2026-12", "Europe/London"), ("2027-01", "America/New_York"),
        ("2027-02", "America/New_York"),
    ]  # fmt: skip
    assert closes(books)[2].period_start == when("2027-01-01 00:00")
    assert closes(books)[2].period_end == when("2027-02-01 05:00")
    assert_tiled(books)


def moments(zone: str) -> Iterator[datetime]:
    """Instants about every change of a zone's clocks from 2025 to 2027, and noon of each tenth day."""
    name, step = ZoneInfo(zone), timedelta(days=10)
    at = datetime(2025, 1, 2, 12, tzinfo=UTC)
    while at < datetime(2027, 1, 1, tzinfo=UTC):
        yield at
        low, high = at, at + step
        if low.astimezone(name).utcoffset() != high.astimezone(name).utcoffset():
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                is_before = middle.astimezone(name).utcoffset() == at.astimezone(name).utcoffset()
                low, high = (middle, high) if is_before else (low, middle)
            yield from (low, high, high + timedelta(minutes=30), low - timedelta(minutes=30))
        at += step


def test_t3_in_every_zone_each_instant_is_in_one_closed_period_that_has_its_month() -> None:
    """I21, in all zones of the data: +05:45, half an hour of summer time, clocks that jump over midnight."""
    for zone in sorted(available_timezones()):
        if zone in {"localtime", "Factory"}:
            continue
        books = Bookkeeping("2025-01-01 15:00", zone=zone, books_from=when("2024-12-20 00:00"))
        books.at("2027-02-10 00:00", pass_time)
        assert_tiled(books)
        found = closes(books)
        for at in moments(zone):
            (label,) = [event.label for event in found if event.period_start <= at < event.period_end]
            assert label == f"{at.astimezone(ZoneInfo(zone)):%Y-%m}", (zone, at)


@pytest.mark.parametrize("anchor_day", range(1, 32))
def test_t4_every_anchor_tiles_48_months_and_no_day_is_in_two_of_them(anchor_day: int) -> None:
    """I21, over the 29th of February of 2028."""
    books = Bookkeeping("2026-01-31 23:00", anchor_day=anchor_day, zone="Europe/Berlin")
    books.at("2030-04-03 00:00", pass_time)
    found = closes(books)[:48]

    berlin, days = ZoneInfo("Europe/Berlin"), []
    for event in found:
        day = event.period_start.astimezone(berlin).date()
        while day < event.period_end.astimezone(berlin).date():
            days.append(day)
            day += timedelta(days=1)

    assert len(found) == 48
    assert_tiled(books)
    assert len(days) == len(set(days)) == (days[-1] - days[0]).days + 1
    assert datetime(2028, 2, 29).date() in days  # noqa: DTZ001 - a day


# --- zone data that changes ---


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Sets how many hours the clocks of every zone are ahead of UTC, as another version of the zone data would have them."""

    def forget() -> None:
        periods._latest.clear()
        periods._start.cache_clear()

    def set_to(hours: float) -> None:
        forget()
        for module in (periods, zones_module):
            monkeypatch.setattr(module, "zone_named", lambda _: timezone(timedelta(hours=hours)))

    yield set_to
    forget()


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1), (1, -10), (-11, 14), (0, 0.5)])
def test_t5_closed_periods_and_the_one_begun_keep_their_bounds_when_zone_rules_change(
    rules: Callable[[float], None], old: float, new: float
) -> None:
    """I8, I9: what was stored wins, the next period ends by the new rules, and nothing is skipped, twice, or a stub."""
    rules(old)
    books = Bookkeeping("2026-11-05 10:00", zone="Europe/Berlin")
    books.at("2026-12-05 10:00", pass_time)
    november = canonical_invoice(all_drafts(recorded(books.events))[0].document())

    rules(new)
    books.at("2027-03-10 10:00", pass_time)

    first, december, january, _ = closes(books)
    assert december.period_end == when("2027-01-01 00:00") - timedelta(hours=old)
    assert january.period_end == when("2027-02-01 00:00") - timedelta(hours=new)
    assert timedelta(days=27) < min(event.period_end - event.period_start for event in closes(books))
    assert_tiled(books)
    assert canonical_invoice(all_drafts(recorded(books.events))[0].document()) == november
    assert fold(None, books.events)[0] == books.account
    assert first.period_end == when("2026-12-01 00:00") - timedelta(hours=old)


# --- any story ---

STEPS = ("tick", "tick", "grant", "grant", "expiring", "hold", "close early", "zone", "nothing")


def step(books: Bookkeeping, what: str, at: datetime) -> None:
    """One thing that may happen."""

    def expiring(decision: Decision) -> None:
        grant_credits(decision, 5_000_000, asked=AskedLot(expires_at=decision.at + timedelta(days=20)))

    def moved(decision: Decision) -> None:
        if decision.account.zones[-1].since <= decision.at:
            other = decision.account.zones[-1].value == "Asia/Tokyo"
            schedule_zone_change(decision, "America/St_Johns" if other else "Asia/Tokyo")

    deciders: dict[str, Callable[[Decision], Any]] = {
        "tick": pass_time,
        "grant": lambda decision: grant_credits(decision, 1_000_000),
        "expiring": expiring,
        "hold": lambda decision: place_hold(decision, 1_000_000, Use("image.generate", None, None, None, None), 3_600),
        "close early": closed_early,
        "zone": moved,
    }  # fmt: skip
    if what in deciders:
        with suppress(PeriodRefused):
            books.at(at, deciders[what])


@settings(max_examples=120, deadline=None)
@given(
    zone=st.sampled_from(["UTC", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Kiritimati", "America/St_Johns"]),
    anchor_day=st.integers(1, 31),
    before=st.integers(0, 100),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 40 * 24)), max_size=25),
)  # fmt: skip
def test_i8_i21_whatever_happens_closes_tile_and_each_event_has_one_invoice(
    zone: str, anchor_day: int, before: int, steps: list[tuple[str, int]]
) -> None:
    opened = when("2026-02-10 07:30")
    terms = {"zone": zone, "anchor_day": anchor_day, "books_from": opened - timedelta(days=before)}
    books, watched = Bookkeeping("2026-02-10 07:30", **terms), Bookkeeping("2026-02-10 07:30", **terms)
    at = opened
    for what, hours in steps:
        for _ in range(3):
            at += timedelta(hours=hours) / 3
            watched.at(at, pass_time)
        step(books, what, at)
        step(watched, what, at)
    for each in (books, watched):
        each.at(at, pass_time)
        assert_tiled(each)
        assert fold(None, each.events)[0] == each.account
    # I19: extra looks change nothing, and every close is at its instant or was asked for between the end and that.
    assert [_told(event) for event in closes(books)] == [_told(event) for event in closes(watched)]
    for event in closes(books):
        due_at = max(event.period_end, opened) + LATE_GRACE
        assert event.effective_at == due_at or event.period_end <= event.effective_at < due_at
    drafts = all_drafts(recorded(books.events))
    starts = [draft.period.start for draft in drafts]
    assert starts == sorted(set(starts))
    sums = books.account.settled_micros - books.account.debt_micros
    assert drafts[-1].closing_micros == sums


def _told(event: PeriodClosed) -> tuple[object, ...]:
    return event.due_id, event.period_start, event.period_end, event.label, event.effective_at


def test_opening_in_the_middle_of_a_decision_closes_nothing_yet() -> None:
    decision = Decision(None, when("2026-11-05 10:00"), TESTER, EmptyIndex())
    open_account(decision, "acme", books_from=when("2025-11-05 10:00"))
    pass_time(decision)

    assert [type(event) for event in decision.events] == [AccountOpened]
