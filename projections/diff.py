"""What changed on an account between two instants or versions, part by part, adding up exactly.

At an instant an account is as the ledger knew it then, with everything booked that was due by then: facts due at the first side
that were written later are counted there once and not again between. At a version it is right after that event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from domain.account.events import AccountEvent, RecordedEvent
from domain.account.index import AccountIndex
from domain.account.lots import find
from domain.account.state import TeamAccount
from domain.amounts import format_credits
from domain.errors import Malformed
from projections.balance import Balance, balance_as_booked
from projections.explain_balance import Flow
from projections.holds import HoldBalance, holds_of
from projections.limits import LimitBalance, limits_as_booked
from projections.movements import Happened, KindSum, changes_text
from projections.moves import NOTHING, Sums, lot_moves, sums_after
from projections.replay import Replay
from projections.words import credits_words, kind_words, lot_words, scope_words, signed, time_words

PARTS = ("settled", "available", "held", "withheld", "lapsed", "upcoming", "debt")


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One side: after a version, or as the ledger knew the account at an instant; exactly one of them is given."""

    version: int | None = None
    at: datetime | None = None

    def includes(self, recorded: RecordedEvent) -> bool:
        """Whether the event was there then."""
        if self.version is not None:
            return recorded.originator_version <= self.version
        assert self.at is not None, "a moment is a version or an instant"
        return recorded.event.recorded_at <= self.at


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """Where one side stands: the account's version, and the instant for which it is told (None before there was an account)."""

    version: int
    at: datetime | None


class PartDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the balance; ``change`` = after − before."""

    part: str
    before_micros: int
    after_micros: int
    change_micros: int


class LotDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One lot with another remainder or another state; ``flows`` sum to ``change_micros``."""

    lot_id: str
    words: str
    before_micros: int
    after_micros: int
    change_micros: int
    state_before: str | None
    state_after: str | None
    flows: list[Flow]


class HoldDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One hold that sets aside another amount, or was made or ended between."""

    hold_id: str
    before_micros: int
    after_micros: int
    change_micros: int
    words: str


class LimitDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that was set, removed, or stands otherwise; None for the side on which it does not hold."""

    limit_id: str
    before: LimitBalance | None
    after: LimitBalance | None


class TermDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One term of the account that reads otherwise."""

    term: str
    before: str
    after: str


class AccountDiff(msgspec.Struct, frozen=True, kw_only=True):
    """Two sides of one account and what lies between.

    Sums: ``between`` makes up the change of settled, held and debt; ``lots`` that of settled; ``holds`` that of held. The other
    parts of settled also change by time alone.
    """

    team_id: str
    before: Side
    after: Side
    parts: list[PartDiff]
    lots: list[LotDiff]
    holds: list[HoldDiff]
    limits: list[LimitDiff]
    terms: list[TermDiff]
    between: list[KindSum]
    events: int
    position: int


class _Seen(msgspec.Struct, frozen=True):
    """All that is compared of one side."""

    side: Side
    balance: Balance | None
    lots: dict[str, tuple[int, str, str]]
    holds: dict[str, HoldBalance]
    limits: dict[str, LimitBalance]
    terms: dict[str, str]
    sums: Sums


_NEVER = _Seen(Side(version=0, at=None), None, {}, {}, {}, {}, NOTHING)


class DiffStory:
    """Plays a team's stream to the later moment, from its first event or from where ``replay`` stands, which is not beyond the
    earlier moment; memory grows with what changed between.

    ``begin`` is called once all that the first moment knows was played, ``told`` at the end; each may ask the index for charges.
    """

    def __init__(
        self, before: Moment, after: Moment, now: datetime | None = None, replay: Replay | None = None
    ) -> None:
        self._before, self._after, self._now = before, after, now
        self._replay = replay or Replay()
        self._seen: _Seen | None = None
        self._counted_already = 0
        self._sums = NOTHING
        self._between = Happened(newest=0)
        self._events = 0
        self._flows: dict[str, dict[str, tuple[int, int]]] = {}

    @property
    def index(self) -> AccountIndex:
        """The index as the events played have left it, without charges."""
        return self._replay.index

    def play(self, recorded: RecordedEvent) -> None:
        """The event belongs to the first side, or lies between."""
        self._replay.play(recorded)
        if self._seen is not None:
            self._events += 1
            self._take(recorded.event, recorded.originator_version)

    def told(self, position: int = 0, index: AccountIndex | None = None) -> AccountDiff:
        """The difference, once every event up to the later moment was played.

        Raises: Malformed when the first side counts facts that were due then and are written after the second, a version.
        """
        before = self._seen
        assert before is not None, "the first side was seen"
        account = self._replay.account
        assert account is not None, "nothing was played"
        at, passed, due = self._passed(self._after, account, index)
        for event in due:
            self._take(event, None)
        if self._counted_already:
            raise Malformed("from is later than to: what was due at from is written after to", field="from")
        after = _see(passed, at, account.version, position, self._replay, due, index)
        told = AccountDiff(
            team_id=account.team_id,
            before=before.side,
            after=after.side,
            parts=_parts(before.balance, after.balance),
            lots=list(self._lots(before, after)),
            holds=list(_holds(before.holds, after.holds)),
            limits=list(_limits(before.limits, after.limits)),
            terms=list(_terms(before.terms, after.terms)),
            between=self._between.by_kind(),
            events=self._events,
            position=position,
        )
        _check(told)
        return told

    def begin(self, index: AccountIndex | None = None) -> None:
        """What was played is the first side; what follows lies between."""
        account = self._replay.account
        if account is None:
            self._seen = _NEVER
            return
        at, passed, due = self._passed(self._before, account, index)
        self._seen = _see(passed, at, account.version, 0, self._replay, due, index)
        self._sums = self._seen.sums
        # What was due then is written first of all that follows, whoever comes next: it is counted on this side already.
        self._counted_already = len(due)

    def _take(self, event: AccountEvent, version: int | None) -> None:
        if self._counted_already:
            self._counted_already -= 1
            return
        after = sums_after(event, self._sums)
        self._between.take(event, version, after.less(self._sums))
        self._sums = after
        kind = type(event).__name__
        for lot_id, change_micros in lot_moves(event):
            flows = self._flows.setdefault(lot_id, {})
            events, moved = flows.get(kind, (0, 0))
            flows[kind] = (events + 1, moved + change_micros)

    def _passed(
        self, moment: Moment, account: TeamAccount, index: AccountIndex | None
    ) -> tuple[datetime, TeamAccount, list[AccountEvent]]:
        """The instant for which a side is told, the account then, and what was due by then and not written."""
        if moment.at is None:
            return account.recorded_at, account, []
        at = max(moment.at if self._now is None else min(moment.at, self._now), account.recorded_at)
        passed, due = self._replay.due(at, index)
        return at, passed, due

    def _lots(self, before: _Seen, after: _Seen) -> Iterator[LotDiff]:
        for lot_id in sorted(before.lots.keys() | after.lots.keys() | self._flows.keys()):
            then, then_state, then_words = before.lots.get(lot_id, (0, None, None))
            now, state, words = after.lots.get(lot_id, (0, None, None))
            flows = self._flows.get(lot_id, {})
            if then == now and then_state == state and not flows:
                continue
            yield LotDiff(
                lot_id=lot_id,
                words=words or then_words or "came and went between",
                before_micros=then,
                after_micros=now,
                change_micros=now - then,
                state_before=then_state,
                state_after=state,
                flows=[
                    Flow(kind=kind, events=n, change_micros=micros) for kind, (n, micros) in flows.items()
                ],
            )


def diff_text(told: AccountDiff) -> str:
    """The difference as plain text of short lines, fit for a mail."""
    return "\n".join(_text(told)) + "\n"


def _see(
    passed: TeamAccount,
    at: datetime,
    version: int,
    position: int,
    replay: Replay,
    due: list[AccountEvent],
    index: AccountIndex | None,
) -> _Seen:
    balance = balance_as_booked(passed, at, position, version)
    sums = replay.sums
    for event in due:
        sums = sums_after(event, sums)
    lots: dict[str, tuple[int, str, str]] = {
        lot.lot_id: (lot.remaining_micros, lot.state, lot_words(found.terms))
        for lot in balance.lots
        if (found := find(passed, lot.lot_id)) is not None
    }
    return _Seen(
        Side(version=version, at=at),
        balance,
        lots,
        {hold.hold_id: hold for hold in holds_of(passed)},
        {limit.limit_id: limit for limit in limits_as_booked(passed, index or replay.index, at)},
        _told_terms(passed),
        sums,
    )


def _told_terms(account: TeamAccount) -> dict[str, str]:
    plan, pending, auto = account.plan, account.pending_plan, account.auto_top_up
    return {
        "status": account.status,
        "zone": account.zone,
        "rate card": account.card_id,
        "plan": f"{plan.plan_id} version {plan.version}" if plan else "none",
        "next plan": f"{pending.plan.plan_id} from {time_words(pending.effective_at)}" if pending else "none",
        "period ends": time_words(account.period_end) if account.period_end else "no plan",
        "automatic top-up": "on" if auto and auto.terms.enabled and not auto.stopped else "off",
        "open disputes": ", ".join(sorted(account.disputes)) or "none",
        "open chargebacks": ", ".join(sorted(account.chargebacks)) or "none",
    }


def _parts(before: Balance | None, after: Balance | None) -> list[PartDiff]:
    told = []
    for part in PARTS:
        then = getattr(before, f"{part}_micros") if before else 0
        now = getattr(after, f"{part}_micros") if after else 0
        told.append(PartDiff(part=part, before_micros=then, after_micros=now, change_micros=now - then))
    return told


def _holds(before: dict[str, HoldBalance], after: dict[str, HoldBalance]) -> Iterator[HoldDiff]:
    for hold_id in sorted(before.keys() | after.keys()):
        then, now = before.get(hold_id), after.get(hold_id)
        then_micros, now_micros = (each.held_micros if each else 0 for each in (then, now))
        if then is not None and now is not None and then_micros == now_micros:
            continue
        hold = now or then
        assert hold is not None, "a hold is on one side at least"
        what = "made" if then is None else "ended" if now is None else "changed"
        scope = scope_words(hold.member, hold.project, hold.action)
        yield HoldDiff(
            hold_id=hold_id,
            before_micros=then_micros,
            after_micros=now_micros,
            change_micros=now_micros - then_micros,
            words=f"{what}, for {scope}",
        )


def _limits(before: dict[str, LimitBalance], after: dict[str, LimitBalance]) -> Iterator[LimitDiff]:
    for limit_id in sorted(before.keys() | after.keys()):
        then, now = before.get(limit_id), after.get(limit_id)
        if then != now:
            yield LimitDiff(limit_id=limit_id, before=then, after=now)


def _terms(before: dict[str, str], after: dict[str, str]) -> Iterator[TermDiff]:
    for term, now in after.items():
        then = before.get(term, "no account")
        if then != now:
            yield TermDiff(term=term, before=then, after=now)


def _check(told: AccountDiff) -> None:
    """What is told adds up; anything else is a bug and no difference."""
    changes = {part.part: part.change_micros for part in told.parts}
    of_kinds: dict[str, Callable[[KindSum], int]] = {
        "settled": lambda kind: kind.settled_change_micros,
        "held": lambda kind: kind.held_change_micros,
        "debt": lambda kind: kind.debt_change_micros,
    }
    for part, change_of in of_kinds.items():
        assert sum(map(change_of, told.between)) == changes[part], f"what happened does not add up to {part}"
    assert sum(lot.change_micros for lot in told.lots) == changes["settled"], "lots do not add up to settled"
    assert sum(hold.change_micros for hold in told.holds) == changes["held"], "holds do not add up to held"
    for lot in told.lots:
        assert sum(flow.change_micros for flow in lot.flows) == lot.change_micros, (
            f"{lot.lot_id} does not add up"
        )


def _text(told: AccountDiff) -> Iterator[str]:
    yield f"Team {told.team_id}: {_side(told.before)} → {_side(told.after)}, {told.events} events between"
    yield ""
    for part in told.parts:
        if part.before_micros or part.after_micros or part.part in ("settled", "available"):
            then, now = format_credits(part.before_micros), format_credits(part.after_micros)
            yield f"  {part.part}: {then} → {now} ({signed(part.change_micros)})"
    yield ""
    yield "What happened between:" if told.between else "Nothing moved credits between."
    for kind in told.between:
        change = changes_text(kind.settled_change_micros, kind.held_change_micros, kind.debt_change_micros)
        yield f"  {kind_words(kind.kind, kind.events)}: {change}"
    yield from _headed("Lots:", map(_lot_text, told.lots))
    yield from _headed("Holds:", map(_hold_text, told.holds))
    yield from _headed("Limits:", map(_limit_text, told.limits))
    yield from _headed("Terms:", (f"{each.term}: {each.before} → {each.after}" for each in told.terms))


def _headed(head: str, lines: Iterator[str]) -> Iterator[str]:
    """The lines under their head, if there are any."""
    for place, line in enumerate(lines):
        if not place:
            yield head
        yield f"  {line}"


def _side(side: Side) -> str:
    return f"version {side.version} at {time_words(side.at)}" if side.at else "before its opening"


def _lot_text(lot: LotDiff) -> str:
    flows = ", ".join(
        f"{signed(flow.change_micros)} by {kind_words(flow.kind, flow.events)}" for flow in lot.flows
    )
    states = f", {lot.state_before} → {lot.state_after}" if lot.state_before != lot.state_after else ""
    amounts = f"{format_credits(lot.before_micros)} → {format_credits(lot.after_micros)} ({signed(lot.change_micros)})"
    return f"{lot.lot_id}: {amounts}{states}{': ' + flows if flows else ''}"


def _hold_text(hold: HoldDiff) -> str:
    return (
        f"{hold.hold_id} {hold.words}: {format_credits(hold.before_micros)} → {format_credits(hold.after_micros)}"
        f" ({signed(hold.change_micros)})"
    )


def _limit_text(limit: LimitDiff) -> str:
    return f"{limit.limit_id}: {_limit_side(limit.before)} → {_limit_side(limit.after)}"


def _limit_side(limit: LimitBalance | None) -> str:
    if limit is None:
        return "not set"
    held = f" and {format_credits(limit.held_micros)} held" if limit.held_micros else ""
    return (
        f"{format_credits(limit.used_micros)} used{held} of {credits_words(limit.cap_micros)}"
        f" since {time_words(limit.window_start)}"
    )
