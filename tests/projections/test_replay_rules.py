"""A replay at any version is the account as it was then."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.account.events import RecordedEvent
from domain.account.state import TeamAccount
from projections.replay import account_as_of, account_at_version, account_known_at, steps
from tests.builders import AnAccount, when
from tests.projections.streams import stream_of


class OneStream:
    """A source that holds one team's stream."""

    def __init__(self, events: list[RecordedEvent]) -> None:
        self._events = events

    def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        if team_id == "acme":
            yield from self._events[after:until]


def a_story() -> AnAccount:
    account = AnAccount()
    account.granted("A", 100, "2026-11-01 01:00", expires_at="2026-11-10 00:00")
    account.used("1", 30, occurred="2026-11-02 00:00")
    account.bought("B", 50, "2026-11-12 12:00")
    account.refunded("1", None, "2026-11-13 00:00")
    return account


def test_each_step_has_the_running_sums() -> None:
    told = [(step.kind, step.settled_after_micros // 10**6) for step in steps(stream_of(a_story().events))]

    assert told == [
        ("AccountOpened", 0), ("CreditsGranted", 100), ("CreditsCharged", 70), ("CreditsExpired", 0),
        ("CreditsToppedUp", 50), ("ChargeRefunded", 80),
    ]  # fmt: skip


def test_an_account_at_a_version_is_what_it_was_then() -> None:
    source = OneStream(stream_of(a_story().events))

    settled = [
        account.settled_micros // 10**6
        for version in range(1, 7)
        if (account := account_at_version(source, "acme", version)) is not None
    ]

    assert settled == [0, 100, 70, 0, 50, 80]


def test_a_version_that_has_not_come_is_no_account() -> None:
    source = OneStream(stream_of(a_story().events))

    assert account_at_version(source, "acme", 7) is None
    assert account_at_version(source, "nobody", 1) is None


def test_as_of_a_time_books_what_was_due_by_then() -> None:
    source = OneStream(stream_of(a_story().events))
    after_grace = when("2026-11-11 00:00")

    known = account_known_at(source, "acme", after_grace)
    as_of = account_as_of(source, "acme", after_grace)

    assert known is not None
    assert as_of is not None
    assert (known.settled_micros, as_of.settled_micros) == (70_000_000, 0)
    assert account_as_of(source, "acme", when("2026-10-01 00:00")) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["grant", "use", "buy", "tick"]), st.integers(1, 40)), max_size=12))
def test_j6_a_replay_in_two_parts_through_a_stored_state_equals_one_replay(
    story: list[tuple[str, int]],
) -> None:
    account = AnAccount()
    for step, (what, amount) in enumerate(story):
        at = f"2026-11-{step + 2:02d} 00:00"
        if what == "grant":
            account.granted(str(step), amount, at, expires_at=f"2026-11-{step + 4:02d} 00:00")
        elif what == "buy":
            account.bought(str(step), amount, at)
        elif what == "use":
            account.used(str(step), amount, occurred=at)
        else:
            account.ticked(at)
    source = OneStream(stream_of(account.events))

    whole = account_at_version(source, "acme", len(account.events))

    assert whole == account.account
    assert msgspec.json.decode(msgspec.json.encode(whole), type=TeamAccount) == whole
