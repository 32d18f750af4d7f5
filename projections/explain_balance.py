"""Why a team has what it has: every lot with where it came from and what left it, and all that happened, summing exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from domain.account.events import AccountEvent, LotTerms, RecordedEvent
from domain.account.index import AccountIndex
from domain.account.lots import find
from domain.account.state import Hold
from domain.amounts import format_credits
from projections.balance import Balance, LotBalance, LotState, balance_as_booked
from projections.movements import NEWEST_DEFAULT, Happened, Months, Movements, movements_text
from projections.moves import lot_moves, sums_after
from projections.replay import Replay
from projections.words import (
    actor_words,
    credits_words,
    event_words,
    kind_words,
    lot_words,
    scope_words,
    signed,
    time_words,
)


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """The event by which a lot came to be."""

    version: int | None
    kind: str
    recorded_at: datetime
    by: str
    reason: str | None
    words: str


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """What all events of one kind brought into a lot, or (negative) took from it."""

    kind: str
    events: int
    change_micros: int


class LotExplained(msgspec.Struct, frozen=True, kw_only=True):
    """One lot: ``flows`` sum to ``remaining_micros``, which is what is held, available, withheld, lapsed and upcoming.

    ``came`` is the event that opened it; for a successor ``origin_came`` is the one that opened the first lot of its line.
    """

    lot_id: str
    origin_lot_id: str
    words: str
    state: LotState
    came: Came
    origin_came: Came | None
    flows: list[Flow]
    remaining_micros: int
    held_micros: int
    available_micros: int
    withheld_micros: int
    lapsed_micros: int
    upcoming_micros: int


class HeldIn(msgspec.Struct, frozen=True, kw_only=True):
    """What a hold sets aside in one lot."""

    lot_id: str
    held_micros: int


class HoldExplained(msgspec.Struct, frozen=True, kw_only=True):
    """One open hold: what it sets aside, in which lots, and for what."""

    hold_id: str
    held_micros: int
    made_at: datetime
    expires_at: datetime
    lines: list[HeldIn]
    words: str


class BalanceExplained(msgspec.Struct, frozen=True, kw_only=True):
    """A balance from the opening of the account to the instant ``at``.

    Sums: available = settled − held − withheld − lapsed − upcoming; ``lots`` make up settled and each part of it; ``holds`` make
    up held; ``happened`` makes up settled, held and debt. Facts that are due but not written yet are in it, without a version.
    """

    team_id: str
    version: int
    position: int
    at: datetime
    settled_micros: int
    available_micros: int
    unscoped_micros: int
    held_micros: int
    withheld_micros: int
    lapsed_micros: int
    upcoming_micros: int
    debt_micros: int
    lots: list[LotExplained]
    holds: list[HoldExplained]
    happened: Movements


class LotStory(msgspec.Struct):
    """How one lot came to be and what each kind of event changed in it: how many events, and their sum in micro-credits."""

    came: Came
    flows: dict[str, tuple[int, int]] = {}

    def add(self, kind: str, change_micros: int, events: int = 1) -> None:
        """One event more, or several."""
        events_before, sum_micros = self.flows.get(kind, (0, 0))
        self.flows[kind] = (events_before + events, sum_micros + change_micros)

    def followed_by(self, later: LotStory | None) -> LotStory:
        """The whole story of a lot of which ``later`` is the end."""
        whole = LotStory(self.came, dict(self.flows))
        for kind, (events, change_micros) in later.flows.items() if later else ():
            whole.add(kind, change_micros, events)
        return whole


LotStories = Mapping[str, LotStory]
"""The stories of lots by their ids."""


def take_lots(stories: dict[str, LotStory], event: AccountEvent, version: int | None) -> None:
    """The event counts in the story of every lot that it moves; ``version`` None when it is due and not written."""
    for lot_id, change_micros in lot_moves(event):
        story = stories.get(lot_id)
        if story is None:
            story = stories[lot_id] = LotStory(_came(event, version))
        story.add(type(event).__name__, change_micros)


class BalanceStory:
    """Plays a team's stream up to an instant and then tells its balance; memory grows with lots ever issued, not with usage.

    It begins where ``replay`` stands; ``months`` are the movements up to there.
    """

    def __init__(
        self, newest: int = NEWEST_DEFAULT, replay: Replay | None = None, months: Months | None = None
    ) -> None:
        self._replay = replay or Replay()
        # Told by the events alone: that the account has the same sums is what makes the explanation one.
        self._sums = self._replay.sums
        self._happened = Happened(newest, months)
        self._lots: dict[str, LotStory] = {}

    @property
    def index(self) -> AccountIndex:
        """The index as the events played have left it, without charges."""
        return self._replay.index

    @property
    def is_full(self) -> bool:
        """Whether enough was played to tell the newest movements one by one."""
        return self._happened.is_full

    @property
    def told_lots(self) -> set[str]:
        """The lots whose stories will be told: those with a remainder, and the first of their lines."""
        assert self._replay.account is not None, "nothing was played"
        terms = [lot.terms for lot in self._replay.account.lots]
        return {each.lot_id for each in terms} | {each.origin_lot_id for each in terms}

    def play(self, recorded: RecordedEvent) -> None:
        """The event belongs to what is explained."""
        before = self._sums
        self._replay.play(recorded)
        self._sums = sums_after(recorded.event, before)
        change = self._sums.less(before)
        self._happened.take(recorded.event, recorded.originator_version, change)
        take_lots(self._lots, recorded.event, recorded.originator_version)

    def told(
        self,
        at: datetime | None,
        position: int,
        index: AccountIndex | None = None,
        before: LotStories | None = None,
    ) -> BalanceExplained:
        """The explanation at the instant with everything due by then, or (None) right after the last event; asked for once.

        ``before`` are the stories of lots up to where this one begins.
        """
        account = self._replay.account
        assert account is not None, "nothing was played"
        version = account.version
        due: list[AccountEvent] = []
        if at is None:
            at = account.recorded_at
        else:
            at = max(at, account.recorded_at)
            account, due = self._replay.due(at, index)
        sums = self._sums
        for event in due:
            after = sums_after(event, sums)
            self._happened.take(event, None, after.less(sums))
            take_lots(self._lots, event, None)
            sums = after
        self._begin_lots(before or {})
        balance = balance_as_booked(account, at, position, version)
        told = self._explained(
            balance,
            [self._lot(lot, found.terms) for lot in balance.lots if (found := find(account, lot.lot_id))],
            [_hold(hold) for hold in account.holds],
        )
        _check(told)
        return told

    def _begin_lots(self, before: LotStories) -> None:
        for lot_id, story in before.items():
            self._lots[lot_id] = story.followed_by(self._lots.get(lot_id))

    def _lot(self, lot: LotBalance, terms: LotTerms) -> LotExplained:
        story = self._lots[lot.lot_id]
        origin = self._lots.get(lot.origin_lot_id) if lot.origin_lot_id != lot.lot_id else None
        return LotExplained(
            lot_id=lot.lot_id,
            origin_lot_id=lot.origin_lot_id,
            words=lot_words(terms),
            state=lot.state,
            came=story.came,
            origin_came=origin.came if origin else None,
            flows=[
                Flow(kind=kind, events=n, change_micros=micros) for kind, (n, micros) in story.flows.items()
            ],
            remaining_micros=lot.remaining_micros,
            held_micros=lot.held_micros,
            available_micros=lot.available_micros,
            withheld_micros=lot.withheld_micros,
            lapsed_micros=lot.lapsed_micros,
            upcoming_micros=lot.upcoming_micros,
        )

    def _explained(
        self, balance: Balance, lots: list[LotExplained], holds: list[HoldExplained]
    ) -> BalanceExplained:
        return BalanceExplained(
            team_id=balance.team_id,
            version=balance.version,
            position=balance.position,
            at=balance.at,
            settled_micros=balance.settled_micros,
            available_micros=balance.available_micros,
            unscoped_micros=balance.unscoped_micros,
            held_micros=balance.held_micros,
            withheld_micros=balance.withheld_micros,
            lapsed_micros=balance.lapsed_micros,
            upcoming_micros=balance.upcoming_micros,
            debt_micros=balance.debt_micros,
            lots=lots,
            holds=holds,
            happened=self._happened.told(),
        )


def balance_text(told: BalanceExplained) -> str:
    """The explanation as plain text of short lines, fit for a mail."""
    return "\n".join(_text(told)) + "\n"


def _check(told: BalanceExplained) -> None:
    """What is told sums exactly to what it explains; anything else is a bug and no explanation."""
    happened = told.happened
    assert happened.settled_change_micros == told.settled_micros, "what happened does not sum to settled"
    assert happened.held_change_micros == told.held_micros, "what happened does not sum to held"
    assert happened.debt_change_micros == told.debt_micros, "what happened does not sum to the debt"
    assert sum(hold.held_micros for hold in told.holds) == told.held_micros, "the holds do not sum to held"
    for lot in told.lots:
        assert sum(flow.change_micros for flow in lot.flows) == lot.remaining_micros, (
            f"what came into and left {lot.lot_id} does not sum to what is left of it"
        )


def _came(event: AccountEvent, version: int | None) -> Came:
    return Came(
        version=version,
        kind=type(event).__name__,
        recorded_at=event.recorded_at,
        by=actor_words(event) if version is not None else "the clock",
        reason=event.reason,
        words=event_words(event),
    )


def _hold(hold: Hold) -> HoldExplained:
    scope = scope_words(hold.member, hold.project, hold.action)
    return HoldExplained(
        hold_id=hold.hold_id,
        held_micros=hold.held_micros,
        made_at=hold.made_at,
        expires_at=hold.expires_at,
        lines=[HeldIn(lot_id=line.lot_id, held_micros=line.amount_micros) for line in hold.lines],
        words=f"{scope}, since {time_words(hold.made_at)}, until {time_words(hold.expires_at)}",
    )


def _text(told: BalanceExplained) -> Iterator[str]:
    yield f"Team {told.team_id} has {credits_words(told.available_micros)} available"
    yield f"  as of {time_words(told.at)}, version {told.version} of its account"
    yield f"  {_parts(told)}"
    if told.debt_micros:
        yield f"  debt: {credits_words(told.debt_micros)}, which new credit repays first"
    yield ""
    yield (
        "What is there, in the order in which it burns:"
        if told.lots
        else "There is no lot with anything left."
    )
    for lot in told.lots:
        yield from _lot_text(lot)
    if told.holds:
        yield "Set aside for running work:"
        yield from (
            f"  {format_credits(hold.held_micros)} by {hold.hold_id}: {hold.words}" for hold in told.holds
        )
    yield ""
    yield "How it came to that:"
    yield from movements_text(told.happened)
    sums = (("settled", told.settled_micros), ("held", told.held_micros), ("debt", told.debt_micros))
    yield f"  which is: {', '.join(f'{name} {format_credits(micros)}' for name, micros in sums)}"


def _parts(told: BalanceExplained) -> str:
    """Settled and what is taken off it, where there is anything."""
    off = (
        ("held for running work", told.held_micros),
        ("withheld by a bank dispute", told.withheld_micros),
        ("expired, not booked yet", told.lapsed_micros),
        ("not effective yet", told.upcoming_micros),
    )
    less = "".join(f" − {format_credits(micros)} {words}" for words, micros in off if micros)
    return f"{format_credits(told.settled_micros)} settled{less} = {format_credits(told.available_micros)}"


def _lot_text(lot: LotExplained) -> Iterator[str]:
    yield f"  {format_credits(lot.remaining_micros)} in {lot.lot_id}{_state(lot)}: {lot.words}"
    for came in (lot.origin_came, lot.came):
        if came is not None:
            yield f"    {came.words}, {_place(came)}"
    flows = ", ".join(
        f"{signed(flow.change_micros)} by {kind_words(flow.kind, flow.events)}" for flow in lot.flows
    )
    yield f"    {flows}: {format_credits(lot.remaining_micros)} left"


def _state(lot: LotExplained) -> str:
    rest = lot.remaining_micros - lot.held_micros
    told = [f"{format_credits(lot.held_micros)} held"] if lot.held_micros else []
    if lot.state != "open" and rest:
        told.append(f"{format_credits(rest)} {lot.state}")
    return f" ({', '.join(told)})" if told else ""


def _place(came: Came) -> str:
    why = f": {came.reason}" if came.reason else ""
    place = f"version {came.version}" if came.version else "due, not written yet"
    return f"{time_words(came.recorded_at)}, {place}, by {came.by}{why}"
