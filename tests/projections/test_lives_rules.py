"""Whatever an account has lived through, what is told of it sums exactly: statement, replay, explanations, differences."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest

from domain.account.events import CHARGES, ChargeRefunded, HoldDenied, LotTerms, RecordedEvent
from domain.errors import Malformed
from projections.balance import Balance, balance_as_booked
from projections.diff import AccountDiff, DiffStory, Moment
from projections.explain import ChargeExplained, explain_usage
from projections.explain_balance import BalanceExplained, BalanceStory
from projections.explain_denial import DenialExplained, DenialStory
from projections.moves import NOTHING, Sums, sums_after
from projections.replay import Replay, steps
from projections.statement import DIRECTIONS, rows_of
from tests.projections.lives import a_life
from tests.projections.streams import stream_of

SEEDS = range(20)
PARTS = ("settled", "available", "held", "withheld", "lapsed", "upcoming", "debt")


@cache
def life(seed: int) -> tuple[RecordedEvent, ...]:
    """One stream, lived once for all tests."""
    return tuple(stream_of(a_life(seed).events))


def known(stream: tuple[RecordedEvent, ...], moment: Moment) -> list[RecordedEvent]:
    return [recorded for recorded in stream if moment.includes(recorded)]


def balance_then(stream: tuple[RecordedEvent, ...], moment: Moment) -> Balance | None:
    """The balance by a fold of its own."""
    replay = Replay()
    for recorded in known(stream, moment):
        replay.play(recorded)
    if replay.account is None:
        return None
    account = replay.account
    if moment.at is None:
        return balance_as_booked(account, account.recorded_at, 0, account.version)
    at = max(moment.at, account.recorded_at)
    return balance_as_booked(replay.due(at)[0], at, 0, account.version)


def explained(stream: tuple[RecordedEvent, ...], moment: Moment, newest: int = 7) -> BalanceExplained:
    story = BalanceStory(newest)
    for recorded in known(stream, moment):
        story.play(recorded)
    return story.told(moment.at, 0)


def difference(stream: tuple[RecordedEvent, ...], before: Moment, after: Moment) -> AccountDiff:
    story, first = DiffStory(before, after), known(stream, before)
    for recorded in first:
        story.play(recorded)
    story.begin()
    for recorded in known(stream, after)[len(first) :]:
        story.play(recorded)
    return story.told()


def denial(stream: tuple[RecordedEvent, ...], version: int) -> DenialExplained:
    story = DenialStory(version)
    for recorded in stream:
        story.play(recorded)
    use = story.use()
    for recorded in stream[: version - 1]:
        if use is not None:
            use.play(recorded)
    return story.told(use, newest=3)


def some_moments(stream: tuple[RecordedEvent, ...], seed: int, number: int) -> list[Moment]:
    """Versions and instants, also before the opening, between events, and long after the last."""
    draw = random.Random(f"moments {seed}")
    first, last = stream[0].event.recorded_at, stream[-1].event.recorded_at
    whole = int((last - first).total_seconds())
    instants: list[datetime] = [
        first - timedelta(days=1),
        last + timedelta(days=40),
        *(first + timedelta(seconds=draw.randint(0, whole)) for _ in range(number)),
    ]
    versions = [draw.randint(1, len(stream)) for _ in range(number)]
    return [*(Moment(at=at) for at in instants), *(Moment(version=version) for version in versions)]


def test_the_lives_hold_every_event_that_moves_credits() -> None:
    kinds = {type(recorded.event).__name__ for seed in SEEDS for recorded in life(seed)}

    assert set(DIRECTIONS) <= kinds


@pytest.mark.parametrize("seed", SEEDS)
def test_i7_rows_move_the_sums_in_the_direction_of_their_kind_and_say_what_is_held(seed: int) -> None:
    replay, before, of_rows = Replay(), NOTHING, NOTHING
    for recorded in life(seed):
        account = replay.play(recorded)
        for row in rows_of(recorded, 0, "acme", before):
            now = Sums(row.settled_after_micros, row.debt_after_micros, row.held_after_micros)
            moved = (now.settled_micros - now.debt_micros) - (of_rows.settled_micros - of_rows.debt_micros)
            assert moved == DIRECTIONS[row.kind] * row.amount_micros  # type: ignore[index]
            of_rows = now
        before = sums_after(recorded.event, before)
        assert of_rows == before, "an event without a row moves nothing"
        assert of_rows == Sums(
            account.settled_micros, account.debt_micros, sum(hold.held_micros for hold in account.holds)
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_each_step_of_a_replay_has_the_balance_of_its_version(seed: int) -> None:
    stream = life(seed)
    for step in list(steps(stream))[::11]:
        replay = Replay()
        for recorded in stream[: step.version]:
            replay.play(recorded)
        assert replay.account is not None
        then = balance_as_booked(replay.account, step.recorded_at, 0, step.version)
        assert (
            step.settled_after_micros,
            step.available_after_micros,
            step.held_after_micros,
            step.debt_after_micros,
        ) == (then.settled_micros, then.available_micros, then.held_micros, then.debt_micros)


@pytest.mark.parametrize("seed", SEEDS)
def test_i6_an_explanation_sums_exactly_to_the_balance_it_explains(seed: int) -> None:
    stream = life(seed)
    for moment in some_moments(stream, seed, 6):
        then = balance_then(stream, moment)
        if then is None:
            continue
        told = explained(stream, moment)

        for part in PARTS:
            assert getattr(told, f"{part}_micros") == getattr(then, f"{part}_micros")
            in_lots = [getattr(lot, f"{part}_micros", None) for lot in told.lots]
            if part not in ("settled", "debt"):
                assert sum(micros or 0 for micros in in_lots) == getattr(then, f"{part}_micros")
        assert sum(lot.remaining_micros for lot in told.lots) == told.settled_micros
        assert all(sum(f.change_micros for f in lot.flows) == lot.remaining_micros for lot in told.lots)
        assert sum(hold.held_micros for hold in told.holds) == told.held_micros
        listed: list[Any] = [*told.happened.before, *told.happened.newest]
        for part in ("settled", "held", "debt"):
            assert sum(getattr(each, f"{part}_change_micros") for each in listed) == getattr(
                told, f"{part}_micros"
            )
        assert len(told.happened.newest) <= 7


@pytest.mark.parametrize("seed", SEEDS)
def test_a_difference_adds_up_exactly_whatever_was_due_and_not_written(seed: int) -> None:
    stream = life(seed)
    moments = some_moments(stream, seed, 6)
    pairs = [(a, b) for a in moments for b in moments if len(known(stream, a)) <= len(known(stream, b))]
    for before, after in pairs:
        then, now = balance_then(stream, before), balance_then(stream, after)
        if now is None or (then is not None and then.at > now.at):
            continue
        try:
            told = difference(stream, before, after)
        except Malformed:
            assert before.at is not None, "only an instant counts what is not written yet"
            assert after.version is not None
            continue

        changes = {part.part: part for part in told.parts}
        for part in PARTS:
            assert changes[part].before_micros == (getattr(then, f"{part}_micros") if then else 0)
            assert changes[part].after_micros == getattr(now, f"{part}_micros")
        for part in ("settled", "held", "debt"):
            summed = sum(getattr(kind, f"{part}_change_micros") for kind in told.between)
            assert summed == changes[part].change_micros


@pytest.mark.parametrize("seed", SEEDS)
def test_a_denial_is_explained_by_charges_and_holds_that_sum_to_its_numbers(seed: int) -> None:
    stream = life(seed)
    for recorded in stream:
        if not isinstance(recorded.event, HoldDenied):
            continue
        told = denial(stream, recorded.originator_version)

        assert told.contradictions == []
        assert told.short_micros > 0
        assert not told.rule.has_room
        assert told.ways


@pytest.mark.parametrize("seed", SEEDS)
def test_every_charge_is_explained_without_a_contradiction(seed: int) -> None:
    stream = life(seed)
    no_terms: dict[str, LotTerms] = {}
    for recorded in stream:
        if not isinstance(recorded.event, CHARGES):
            continue
        charge_id = recorded.event.charge_id
        refunds = [
            r for r in stream if isinstance(r.event, ChargeRefunded) and r.event.charge_id == charge_id
        ]
        told = explain_usage("acme", recorded, refunds, no_terms.get)

        assert not getattr(told, "contradictions", ["a waiver"])
        if isinstance(told, ChargeExplained):
            assert told.recomputed_micros == told.amount_micros
