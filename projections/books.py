"""A team's history as double entry: each event is postings that sum to zero, beside the balances that the account then claims.

Two derivations meet in every posting. The change comes from the event's own amounts and from running sums kept here; the
claimed balance comes from the account that ``domain.account.applying`` folds. Whoever adds up the changes and finds another
balance than the claimed one has found a mistake on one of the two sides. Amounts are micro-credits.

What is in a lot is in ``lot`` while nothing has a claim on it, in ``held`` while a hold sets it aside, in ``withheld`` while a
chargeback is open on its line. That a lot has lapsed or is upcoming is no event, so it is no posting either.
Source: reference "Independent oracle" (the posting table).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from domain.account import events as e
from domain.account.state import TeamAccount
from projections.replay import EventSource, Replay, effective_at

AccountKind = Literal[
    "lot",
    "held",
    "withheld",
    "debt",
    "difference",
    "issued",
    "adjusted",
    "breakage",
    "voided",
    "charged_back",
    "used",
]


class BookAccount(NamedTuple):
    """One account of a team's books; its balance is positive where credits came to it.

    ``lot`` (by lot id), ``held`` (hold id) and ``withheld`` (id of the line's first lot) are what the team has; ``debt`` is below
    zero by what it owes; ``issued`` (source), ``adjusted``, ``breakage``, ``voided`` and ``charged_back`` are where credits
    come from and go to without being used; ``used`` (action, period) is what charges took less what refunds gave back. The
    period is the calendar month, in UTC, in which the usage occurred. ``difference`` is met only where the total of an event is
    not what its parts come to; it is claimed to be zero, so that books in which it is met are refused.
    """

    kind: AccountKind
    name: str = ""
    period: str = ""


class Posting(NamedTuple):
    """What an account gains or (negative) loses, and the balance that it is claimed to have then; None: nothing is claimed."""

    account: BookAccount
    change_micros: int
    claimed_micros: int | None


class BookEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The postings of one event; of the books' end, which changes nothing and claims every balance, ``is_end``."""

    team_id: str
    version: int
    kind: str
    recorded_at: datetime
    effective_at: datetime
    postings: list[Posting]
    charge_id: str | None = None
    hold_id: str | None = None
    actor: str = ""
    reason: str | None = None
    is_end: bool = False


class NotFoldable(Exception):
    """An event breaks what it or an earlier one promised, so that no balance can be claimed after it."""

    def __init__(self, team_id: str, version: int, broken: str) -> None:
        super().__init__(f"team {team_id}, version {version}: {broken}")
        self.team_id, self.version = team_id, version


class Use(NamedTuple):
    """What a charge was for: an action in a calendar month of UTC, such as "2026-11"."""

    action: str
    period: str


def use_of(charge: e.Charge) -> Use:
    """The action and the month in which the usage occurred, whatever the team's zone or billing period."""
    return Use(charge.action, charge.occurred_at.astimezone(UTC).strftime("%Y-%m"))


def entries(source: EventSource, team_id: str, until: int | None = None) -> Iterator[BookEntry]:
    """The books of a team from its first event, then their end; nothing for a team without an account.

    The history is read twice, so that of all charges only those are remembered that were refunded: memory is bounded by what is
    open and by the number of refunds. Raises: NotFoldable.
    """
    last, refunded = 0, set()
    for recorded in source.events(team_id, until=until):
        last = recorded.originator_version
        if isinstance(recorded.event, e.ChargeRefunded):
            refunded.add(recorded.event.charge_id)
    keeper, replay = Bookkeeper(team_id, refunded), Replay(keeps_index=False)
    for recorded in source.events(team_id, until=last):
        try:
            account = replay.play(recorded)
        except (AssertionError, KeyError, ValueError) as broken:
            kind = type(recorded.event).__name__
            raise NotFoldable(team_id, recorded.originator_version, f"{kind}: {broken}") from broken
        yield from keeper.entries(recorded, account)
    if replay.account is not None:
        yield keeper.end(replay.account)


class _OwnLot:
    """What the books know of a lot with credits in it."""

    __slots__ = ("free_micros", "held_micros", "line")

    def __init__(self, line: str) -> None:
        self.line, self.free_micros, self.held_micros = line, 0, 0


class Bookkeeper:
    """Turns one team's events, in order, into postings; keeps running sums of its own for events that tell only a total."""

    def __init__(self, team_id: str, refunded: Iterable[str] = ()) -> None:
        self._team_id = team_id
        self._uses: dict[str, Use | None] = dict.fromkeys(refunded)
        self._lots: dict[str, _OwnLot] = {}
        self._holds: dict[str, dict[str, int]] = {}
        self._withheld: set[str] = set()
        self._changes: dict[BookAccount, int] = {}

    def entries(self, recorded: e.RecordedEvent, account: TeamAccount) -> Iterator[BookEntry]:
        """The entry of an event, none where no credits move; ``account`` is the account after it, for the claimed balances."""
        event = recorded.event
        post = _POST.get(type(event))
        if post is None:
            return
        self._changes = {}
        post(self, event)
        if any(self._changes.values()):
            claims = claims_of(account, self._changes)
            postings = [Posting(each, change, claims.get(each)) for each, change in self._changes.items()]
            yield self._entry(recorded, postings)
        self._forget()

    def end(self, account: TeamAccount) -> BookEntry:
        """What every account with anything in it is claimed to have, be it in these books or in the account's state."""
        places = dict.fromkeys([*self._open(), *open_accounts(account), BookAccount("debt")])
        claims = claims_of(account, places)
        return BookEntry(
            team_id=self._team_id,
            version=account.version,
            kind="end",
            recorded_at=account.recorded_at,
            effective_at=account.recorded_at,
            postings=[Posting(each, 0, claims.get(each)) for each in places],
            is_end=True,
        )

    def _entry(self, recorded: e.RecordedEvent, postings: list[Posting]) -> BookEntry:
        event = recorded.event
        return BookEntry(
            team_id=self._team_id,
            version=recorded.originator_version,
            kind=type(event).__name__,
            recorded_at=event.recorded_at,
            effective_at=effective_at(event),
            postings=postings,
            charge_id=getattr(event, "charge_id", None),
            hold_id=getattr(event, "hold_id", None),
            actor=event.actor.id,
            reason=event.reason,
        )

    def _open(self) -> Iterator[BookAccount]:
        yield from (self._place(lot_id) for lot_id in self._lots)
        yield from (BookAccount("held", hold_id) for hold_id in self._holds)

    def _forget(self) -> None:
        """Only what is open is remembered."""
        for lot_id in [each for each, lot in self._lots.items() if not (lot.free_micros or lot.held_micros)]:
            del self._lots[lot_id]

    # --- the two halves of an entry ---

    def _post(self, account: BookAccount, change_micros: int) -> None:
        self._changes[account] = self._changes.get(account, 0) + change_micros

    def _differs(self, said_micros: int, found_micros: int) -> None:
        """The total that the event says is posted; what its parts come to differently is shown, and refused by its claim."""
        if said_micros != found_micros:
            self._post(BookAccount("difference"), found_micros - said_micros)

    def _own(self, lot_id: str, line: str = "") -> _OwnLot:
        lot = self._lots.get(lot_id)
        if lot is None:
            lot = self._lots[lot_id] = _OwnLot(line or lot_id)
        return lot

    def _place(self, lot_id: str) -> BookAccount:
        """Where the credit of a lot is that no hold sets aside."""
        line = self._own(lot_id).line
        return BookAccount("withheld", line) if line in self._withheld else BookAccount("lot", lot_id)

    def _move(self, lot_id: str, change_micros: int) -> None:
        self._post(self._place(lot_id), change_micros)
        self._own(lot_id).free_micros += change_micros

    def _hold(self, hold_id: str, lot_id: str, change_micros: int) -> None:
        """The hold's own lines change; its posting is made from what the event says."""
        lines = self._holds.setdefault(hold_id, {})
        lines[lot_id] = lines.get(lot_id, 0) + change_micros
        self._own(lot_id).held_micros += change_micros
        if not lines[lot_id]:
            del lines[lot_id]
        if not lines:
            del self._holds[hold_id]

    # --- credits that come ---

    def issued(self, event: e.CreditsGranted | e.CreditsToppedUp) -> None:
        """A lot came from its source."""
        self._own(event.lot.lot_id, event.lot.origin_lot_id)
        self._post(BookAccount("issued", event.lot.source), -event.amount_micros)
        self._move(event.lot.lot_id, event.amount_micros)

    def allowed(self, event: e.AllowanceGranted) -> None:
        """An allowance came, if there is one."""
        if event.lot is not None:
            self._own(event.lot.lot_id, event.lot.origin_lot_id)
            self._post(BookAccount("issued", event.lot.source), -event.amount_micros)
            self._move(event.lot.lot_id, event.amount_micros)

    def raised(self, event: e.BalanceRaised) -> None:
        """A person raised the balance."""
        self._own(event.lot.lot_id, event.lot.origin_lot_id)
        self._post(BookAccount("adjusted"), -event.amount_micros)
        self._move(event.lot.lot_id, event.amount_micros)

    # --- credits that are used, and come back ---

    def charged(self, event: e.CreditsCharged) -> None:
        """Usage took from its hold, then from lots; the rest is owed."""
        from_hold = event.hold_lines if event.hold_id in self._holds else []
        self._used(event, event.hold_id or "", from_hold)

    def captured(self, event: e.HoldCaptured) -> None:
        """A request took from its hold, then from lots; the rest is owed."""
        self._used(event, event.hold_id, event.hold_lines)

    def _used(self, event: e.Charge, hold_id: str, from_hold: list[e.LotLine]) -> None:
        use = use_of(event)
        if event.charge_id in self._uses:
            self._uses[event.charge_id] = use
        self._taken(event.lines, [e.HoldLine(hold_id, *_told(line)) for line in from_hold])
        self._owe(event.debt_micros)
        self._post(BookAccount("used", *use), event.amount_micros)

    def _taken(self, lines: Iterable[e.LotLine], from_holds: Iterable[e.HoldLine]) -> None:
        """The lines leave their lots; the part of them that holds set aside leaves those holds."""
        for held in from_holds:
            self._hold(held.hold_id, held.lot_id, -held.amount_micros)
            self._post(BookAccount("held", held.hold_id), -held.amount_micros)
            # The lot's line says all that left it: what came out of the hold did not come out of the rest of the lot.
            self._move(held.lot_id, held.amount_micros)
        for line in lines:
            self._move(line.lot_id, -line.amount_micros)

    def _owe(self, micros: int) -> None:
        if micros:
            self._post(BookAccount("debt"), -micros)

    def refunded(self, event: e.ChargeRefunded) -> None:
        """A charge came back: to lots, to what is owed; of a voided grant, to nobody."""
        for terms in event.lots:
            self._own(terms.lot_id, terms.origin_lot_id)
        self._post(BookAccount("used", *(self._uses.get(event.charge_id) or ())), -event.amount_micros)
        for line in event.lines:
            if line.target == "debt":
                self._owe(-line.amount_micros)
            elif line.target == "voided":
                self._post(BookAccount("voided"), line.amount_micros)
            else:
                self._move(line.lot_id, line.amount_micros)

    def repaid(self, event: e.DebtRepaid) -> None:
        """Lots paid what was owed."""
        self._owe(-event.amount_micros)
        self._taken(event.lines, ())

    # --- credits that go without being used ---

    def expired(self, event: e.CreditsExpired) -> None:
        """What was left of a lot is breakage."""
        self._move(event.lot_id, -event.amount_micros)
        self._post(BookAccount("breakage"), event.amount_micros)

    def voided(self, event: e.GrantVoided) -> None:
        """What was left of a grant is void, also in holds."""
        self._taken(event.lines, event.holds)
        self._post(BookAccount("voided"), event.amount_micros)

    def lowered(self, event: e.BalanceLowered) -> None:
        """A person lowered the balance."""
        self._taken(event.lines, ())
        self._post(BookAccount("adjusted"), event.amount_micros)

    # --- credits that move within ---

    def rolled(self, event: e.CreditsRolledOver) -> None:
        """Lots gave to their successors; credit that was held stays in its hold."""
        for terms in event.lots:
            self._own(terms.lot_id, terms.origin_lot_id)
        for line in event.lines:
            self._rolled_line(line.lot_id, line.hold_id, -line.amount_micros)
            self._rolled_line(line.to_lot_id, line.hold_id, line.amount_micros)
        self._differs(event.amount_micros, sum(line.amount_micros for line in event.lines))

    def _rolled_line(self, lot_id: str, hold_id: str, change_micros: int) -> None:
        if not hold_id:
            self._move(lot_id, change_micros)
            return
        self._hold(hold_id, lot_id, change_micros)
        self._post(BookAccount("held", hold_id), change_micros)

    def held(self, event: e.CreditsHeld) -> None:
        """A hold sets credits aside."""
        for line in event.lines:
            self._move(line.lot_id, -line.amount_micros)
            self._hold(event.hold_id, line.lot_id, line.amount_micros)
        self._post(BookAccount("held", event.hold_id), event.amount_micros)

    def let_go(self, event: e.HoldReleased | e.HoldExpired) -> None:
        """What a hold had still set aside is back in its lots."""
        lines = dict(self._holds.get(event.hold_id, {}))
        for lot_id, micros in lines.items():
            self._hold(event.hold_id, lot_id, -micros)
            self._move(lot_id, micros)
        self._post(BookAccount("held", event.hold_id), -event.amount_micros)
        self._differs(-event.amount_micros, -sum(lines.values()))

    # --- chargebacks ---

    def charged_back(self, event: e.ChargebackOpened) -> None:
        """What is left of a line and in no hold is withheld."""
        line = self._line(event.origin_lot_id)
        for lot_id, lot in line:
            self._post(BookAccount("lot", lot_id), -lot.free_micros)
        self._withheld.add(event.origin_lot_id)
        self._post(BookAccount("withheld", event.origin_lot_id), event.withheld_micros)
        self._differs(event.withheld_micros, sum(lot.free_micros for _, lot in line))

    def won(self, event: e.ChargebackWon) -> None:
        """What was withheld is back in its lots."""
        for lot_id, lot in self._line(event.origin_lot_id):
            self._post(BookAccount("withheld", event.origin_lot_id), -lot.free_micros)
            self._post(BookAccount("lot", lot_id), lot.free_micros)
        self._withheld.discard(event.origin_lot_id)

    def lost(self, event: e.ChargebackLost) -> None:
        """What was left of a line is gone, also from holds; what had been drawn from it is owed."""
        self._taken(event.lines, event.holds)
        self._post(BookAccount("charged_back"), event.voided_micros + event.drawn_micros)
        self._owe(event.drawn_micros)
        self._withheld.discard(event.origin_lot_id)

    def _line(self, origin_lot_id: str) -> list[tuple[str, _OwnLot]]:
        return [(lot_id, lot) for lot_id, lot in self._lots.items() if lot.line == origin_lot_id]


def _told(line: e.LotLine) -> tuple[str, int]:
    return line.lot_id, line.amount_micros


_POST: Mapping[type[e.AccountEvent], Callable[[Bookkeeper, Any], None]] = {
    e.CreditsGranted: Bookkeeper.issued,
    e.CreditsToppedUp: Bookkeeper.issued,
    e.AllowanceGranted: Bookkeeper.allowed,
    e.BalanceRaised: Bookkeeper.raised,
    e.CreditsCharged: Bookkeeper.charged,
    e.HoldCaptured: Bookkeeper.captured,
    e.ChargeRefunded: Bookkeeper.refunded,
    e.DebtRepaid: Bookkeeper.repaid,
    e.CreditsExpired: Bookkeeper.expired,
    e.GrantVoided: Bookkeeper.voided,
    e.BalanceLowered: Bookkeeper.lowered,
    e.CreditsRolledOver: Bookkeeper.rolled,
    e.CreditsHeld: Bookkeeper.held,
    e.HoldReleased: Bookkeeper.let_go,
    e.HoldExpired: Bookkeeper.let_go,
    e.ChargebackOpened: Bookkeeper.charged_back,
    e.ChargebackWon: Bookkeeper.won,
    e.ChargebackLost: Bookkeeper.lost,
}


# --- what the account claims ---


def claims_of(account: TeamAccount, places: Iterable[BookAccount]) -> dict[BookAccount, int]:
    """The balance that the account's state gives each of these; nothing for those of which the state keeps none."""
    return {place: claim(account, place.name) for place in places if (claim := _CLAIMS.get(place.kind))}


def open_accounts(account: TeamAccount) -> Iterator[BookAccount]:
    """The accounts in which there is something by the account's state."""
    for lot in account.lots:
        if lot.withheld_since is not None:
            yield BookAccount("withheld", lot.terms.origin_lot_id)
        elif lot.remaining_micros > lot.held_micros:
            yield BookAccount("lot", lot.terms.lot_id)
    yield from (BookAccount("held", hold.hold_id) for hold in account.holds if hold.lines)


def _lot_claim(account: TeamAccount, lot_id: str) -> int:
    return sum(lot.free_micros for lot in account.lots if lot.terms.lot_id == lot_id)


def _held_claim(account: TeamAccount, hold_id: str) -> int:
    return sum(hold.held_micros for hold in account.holds if hold.hold_id == hold_id)


def _withheld_claim(account: TeamAccount, origin_lot_id: str) -> int:
    return sum(
        lot.remaining_micros - lot.held_micros
        for lot in account.lots
        if lot.terms.origin_lot_id == origin_lot_id and lot.withheld_since is not None
    )


_CLAIMS: Mapping[AccountKind, Callable[[TeamAccount, str], int]] = {
    "lot": _lot_claim,
    "held": _held_claim,
    "withheld": _withheld_claim,
    "debt": lambda account, _: -account.debt_micros,
    "difference": lambda _, __: 0,
}
