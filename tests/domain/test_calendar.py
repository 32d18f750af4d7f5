"""A team's own calendar: its periods and windows tile the time line (I21), also where it changed its zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from domain.account.calendar import STUB_MIN, card_id_at, period_at, window_at, zone_at
from domain.account.index import AccountIndex, EmptyIndex, IndexChange, IndexKind, IndexOverlay
from domain.account.state import DATED_MAX, Dated, TeamAccount
from domain.periods import period_bounds
from domain.terms import LimitWindow
from domain.times import instant_text
from domain.windows import LIFETIME_START, window_bounds

ZONES = sorted(available_timezones())
BERLIN, NEW_YORK, TOKYO = "Europe/Berlin", "America/New_York", "Asia/Tokyo"
MICROSECOND = timedelta(microseconds=1)
NO_INDEX = EmptyIndex()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def an_account(
    *zones: tuple[str, str], anchor_day: int = 1, cards: tuple[tuple[str, str], ...] = ()
) -> TeamAccount:
    """An account whose zones and cards count from the times given."""
    opened = utc("1970-01-01")
    return TeamAccount(
        team_id="team-1",
        anchor_day=anchor_day,
        zones=[Dated(utc(since), zone) for since, zone in zones],
        cards=[Dated(utc(since), card) for since, card in cards] or [Dated(opened, "standard")],
        opened_at=opened,
        books_start=opened,
        books_end=utc("1970-02-01"),
        recorded_at=opened,
        passed_at=opened,
    )


def changed(account: TeamAccount, index: IndexOverlay, at: datetime, zone: str) -> datetime:
    """The account's zone changes at the turn after ``at``, as a scheduled change does; gives the turn."""
    turn = period_at(account, index, at)[1]
    account.zones.append(Dated(turn, zone))
    if len(account.zones) > DATED_MAX:
        oldest = account.zones.pop(0)
        index.put(IndexChange("zone", instant_text(oldest.since), oldest.value.encode()))
    return turn


def test_a_team_that_never_moved_has_the_periods_and_windows_of_its_zone() -> None:
    account, at = an_account(("1970-01-01", BERLIN), anchor_day=15), utc("2026-10-25T12:00")

    assert zone_at(account, NO_INDEX, at) == BERLIN
    assert period_at(account, NO_INDEX, at) == period_bounds(at, BERLIN, 15)
    for window in get_args(LimitWindow):
        assert window_at(account, NO_INDEX, window, at) == window_bounds(window, at, BERLIN, 15)


def test_moving_west_leaves_no_stub_the_next_period_begins_with_the_change() -> None:
    # Berlin's turn is 5 hours before New York's: those hours belong to November.
    account = an_account(("1970-01-01", BERLIN), ("2026-10-31T23:00", NEW_YORK))

    assert period_at(account, NO_INDEX, utc("2026-10-31T22:59")) == (
        utc("2026-09-30T22:00"),
        utc("2026-10-31T23:00"),
    )
    november = (utc("2026-10-31T23:00"), utc("2026-12-01T05:00"))
    for at in ("2026-10-31T23:00", "2026-11-01T03:59", "2026-11-01T04:00", "2026-11-20T00:00"):
        assert period_at(account, NO_INDEX, utc(at)) == november
        assert window_at(account, NO_INDEX, "period", utc(at)) == november
    assert period_at(account, NO_INDEX, utc("2026-12-01T05:00"))[0] == utc("2026-12-01T05:00")


def test_moving_east_shortens_the_next_period_at_its_start() -> None:
    # November began in Tokyo 8 hours before it began in Berlin.
    account = an_account(("1970-01-01", BERLIN), ("2026-10-31T23:00", TOKYO))

    assert period_at(account, NO_INDEX, utc("2026-11-10T00:00")) == (
        utc("2026-10-31T23:00"),
        utc("2026-11-30T15:00"),
    )
    assert period_at(account, NO_INDEX, utc("2026-10-31T22:59"))[1] == utc("2026-10-31T23:00")


def test_windows_end_and_begin_with_the_change_and_a_lifetime_does_not() -> None:
    change = utc("2026-10-31T23:00")
    account = an_account(("1970-01-01", BERLIN), ("2026-10-31T23:00", NEW_YORK))

    assert window_at(account, NO_INDEX, "day", change) == (change, utc("2026-11-01T04:00"))
    assert window_at(account, NO_INDEX, "month", change) == (change, utc("2026-11-01T04:00"))
    assert window_at(account, NO_INDEX, "week", change) == (change, utc("2026-11-02T05:00"))
    assert window_at(account, NO_INDEX, "week", change - MICROSECOND) == (utc("2026-10-25T23:00"), change)
    assert window_at(account, NO_INDEX, "hour", change) == (change, utc("2026-11-01T00:00"))
    assert window_at(account, NO_INDEX, "lifetime", change) == (LIFETIME_START, None)


def test_the_first_zone_and_card_count_for_all_that_came_before() -> None:
    account = an_account(
        ("2026-01-10", BERLIN),
        ("2026-10-31T23:00", TOKYO),
        cards=(("2026-01-10", "standard"), ("2026-05-01", "pro")),
    )
    before = utc("2020-01-01")

    assert zone_at(account, NO_INDEX, before) == BERLIN
    assert card_id_at(account, NO_INDEX, before) == "standard"
    # Nothing changed at the opening, so nothing is cut there.
    assert period_at(account, NO_INDEX, utc("2026-01-10")) == (
        utc("2025-12-31T23:00"),
        utc("2026-01-31T23:00"),
    )


@pytest.mark.parametrize(
    ("at", "card"), [("2026-04-30T23:59:59.999999", "standard"), ("2026-05-01", "pro"), ("2027-01-01", "pro")]
)
def test_a_card_counts_from_its_own_instant(at: str, card: str) -> None:
    account = an_account(("1970-01-01", BERLIN), cards=(("1970-01-01", "standard"), ("2026-05-01", "pro")))

    assert card_id_at(account, NO_INDEX, utc(at)) == card


def test_zones_and_cards_of_long_ago_are_found_in_the_index() -> None:
    account, index, turns = an_account(("1970-01-01", BERLIN)), IndexOverlay(), []
    for number in range(DATED_MAX + 4):
        zone = (NEW_YORK, TOKYO, BERLIN)[number % 3]
        turns.append((changed(account, index, utc(f"{2010 + number}-03-15"), zone), zone))
    account.cards = [Dated(turn, f"card-{number}") for number, (turn, _) in enumerate(turns)][-DATED_MAX:]
    index.put(IndexChange("card", instant_text(turns[3][0]), b"card-3"))

    assert zone_at(account, index, utc("2009-01-01")) == BERLIN
    before = BERLIN
    for turn, zone in turns:
        assert zone_at(account, index, turn - MICROSECOND) == before
        assert zone_at(account, index, turn) == zone
        assert period_at(account, index, turn)[0] == turn == period_at(account, index, turn - MICROSECOND)[1]
        before = zone
    assert card_id_at(account, index, turns[4][0] - MICROSECOND) == "card-3"
    assert card_id_at(account, index, turns[4][0]) == "card-4"


class _NotAsked(EmptyIndex):
    """An index that nobody may ask."""

    @override
    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        raise AssertionError(f"{kind} was asked for")


def test_the_index_is_not_asked_for_what_the_state_knows() -> None:
    settled, moved = an_account(("1970-01-01", BERLIN)), an_account(("1970-01-01", BERLIN))
    for number in range(DATED_MAX - 1):
        changed(moved, IndexOverlay(), utc(f"{2010 + number}-03-15"), (TOKYO, BERLIN)[number % 2])

    assert zone_at(settled, _NotAsked(), utc("1990-01-01")) == BERLIN
    assert zone_at(moved, _NotAsked(), utc("2011-07-01")) == BERLIN


@settings(max_examples=250, deadline=None)
@given(
    zones=st.lists(st.sampled_from(ZONES), min_size=2, max_size=4),
    anchor=st.integers(1, 31),
    gaps=st.lists(st.integers(0, 200), min_size=3, max_size=3),
    offset_seconds=st.integers(-4 * 86_400, 40 * 86_400),
    window=st.sampled_from([each for each in get_args(LimitWindow) if each != "lifetime"]),
)
def test_periods_and_windows_tile_across_any_changes_of_zone(
    zones: list[str], anchor: int, gaps: list[int], offset_seconds: int, window: LimitWindow
) -> None:
    account, index = an_account(("1970-01-01", zones[0]), anchor_day=anchor), IndexOverlay()
    turn = utc("2025-11-20")
    for zone, gap in zip(zones[1:], gaps, strict=False):
        turn = changed(account, index, turn + timedelta(days=gap), zone)
        assert period_at(account, index, turn)[0] == turn
    at = turn + timedelta(seconds=offset_seconds)

    for asked in (window, "period"):
        start, end = _bounds(account, index, asked, at)
        assert start <= at < end
        for inside in (start, start + (end - start) / 2, end - MICROSECOND):
            assert _bounds(account, index, asked, inside) == (start, end)
        assert _bounds(account, index, asked, end)[0] == end
        assert _bounds(account, index, asked, start - MICROSECOND)[1] == start
    assert end - start > STUB_MIN, "the period of a change is never a stub"


def test_each_anchor_tiles_four_years_across_a_move() -> None:
    for anchor in range(1, 32):
        for zone in (
            NEW_YORK,
            TOKYO,
            "Pacific/Kiritimati",
            "Etc/GMT+12",
            "Asia/Kathmandu",
            "Australia/Lord_Howe",
        ):
            account = an_account(("1970-01-01", BERLIN), anchor_day=anchor)
            changed(account, IndexOverlay(), utc("2026-01-15T12:00"), zone)
            first = at = period_at(account, NO_INDEX, utc("2025-01-15T12:00"))[0]
            for _ in range(48):
                start, end = period_at(account, NO_INDEX, at)
                assert start == at
                assert timedelta(days=26) < end - start < timedelta(days=34)
                at = end
            began, ended = first.astimezone(ZoneInfo(BERLIN)), at.astimezone(ZoneInfo(zone))
            assert (ended.year, ended.month) == (began.year + 4, began.month)


def _bounds(
    account: TeamAccount, index: AccountIndex, window: LimitWindow, at: datetime
) -> tuple[datetime, datetime]:
    start, end = window_at(account, index, window, at)
    assert end is not None
    return start, end
