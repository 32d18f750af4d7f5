"""What must hold of a team whatever it lived through, judged on its stored bytes and on copies of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec

from domain.account.applying import apply, opened
from domain.account.charging import charge_usage
from domain.account.decision import Decision, account_id, copy_of
from domain.account.due import next_due_at, pass_time
from domain.account.events import ACCOUNT_EVENTS, AccountEvent, AccountOpened, CreditsCharged
from domain.account.index import IndexChange, IndexOverlay, TopUp
from domain.account.refunding import refund_charge
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.catalogue import Catalogue
from domain.chain import GENESIS, event_hash
from domain.errors import LedgerError
from domain.usage import UsageRecord
from tests.memory_store import Kept
from tests.simulation.books import Books, require
from tests.simulation.stories import SOURCE

Ways = tuple[Callable[..., object], Callable[..., object]]
LAWYER = Actor("lawyer", "operator")
AMOUNT_MAX = 2**62
_DECODERS = {each.TOPIC: msgspec.json.Decoder(each).decode for each in ACCOUNT_EVENTS}


class Refolded:
    """The account as its stored bytes make it, event by event, with its books and its index; it knows no head."""

    def __init__(self) -> None:
        self.account: TeamAccount | None = None
        self.books = Books()
        self.entries: dict[tuple[str, str], bytes | None] = {}
        self.hash = GENESIS
        self.taken = 0

    def catch_up(self, team_id: str, team: Kept) -> None:
        """Every stored event is taken: I3, I6, I11, I20 and all that the books say. Raises: Wrong."""
        account = account_id(team_id).bytes
        for stored in team.events[self.taken :]:
            self.taken += 1
            require(stored.version == self.taken, "I3", "versions do not count up", stored.version)
            digest = event_hash(self.hash, account, stored.version, stored.topic, stored.state)
            require(
                stored.previous_hash == self.hash and stored.hash == digest, "I11", "chain", stored.version
            )
            self.hash = digest
            event = _DECODERS[stored.topic](stored.state)
            self._apply(event)
            self.books.take(event)

    def _apply(self, event: AccountEvent) -> None:
        if self.account is None:
            assert isinstance(event, AccountOpened), "the first event opens the account"
            self.account = opened(event)
            return
        for change in apply(self.account, event):
            self.entries[change.kind, change.key] = change.entry

    def compare(self, team: Kept) -> None:
        """I9: the fold is the head and the index; I1, I2, I12: the books agree with it lot by lot. Raises: Wrong."""
        account = self.account
        assert account is not None
        ours, head = msgspec.json.encode(account), msgspec.json.encode(team.account)
        require(ours == head, "I9", "the fold of the stored bytes is not the head", ours, head)
        kept = {
            (kind, key): entry
            for kind, entries in team.index.entries.items()
            for key, entry in entries.items()
        }
        require(self.entries == kept, "I9", "the fold of the stored bytes is not the index")
        require(account.version == self.taken, "I3", "the head is at another version", account.version)
        self.books.balance()
        open_lots = {
            lot.terms.lot_id: (lot.remaining_micros, lot.held_micros, lot.terms.expires_at)
            for lot in account.lots
        }
        booked = {
            lot_id: (lot.left, lot.held, lot.expires_at)
            for lot_id, lot in self.books.lots.items()
            if lot.left
        }
        require(open_lots == booked, "I1", "lots are not what the events add up to", open_lots, booked)
        require(account.debt_micros == self.books.debt, "I6", "debt is not what the events add up to")
        holds = {hold.hold_id: {n.lot_id: n.amount_micros for n in hold.lines} for hold in account.holds}
        pins = {
            hold_id: {lot_id: n for lot_id, n in hold.pins.items() if n}
            for hold_id, hold in self.books.holds.items()
            if hold.ended is None
        }
        require(holds == pins, "I12", "open holds are not what the events add up to", holds, pins)


def no_idle_credit(account: TeamAccount, at: datetime) -> None:
    """I27: beside debt there is no free unscoped credit that is open. Raises: Wrong."""
    if not account.debt_micros:
        return
    for lot in account.lots:
        terms = lot.terms
        is_open = terms.effective_at <= at and (terms.expires_at is None or at < terms.expires_at)
        is_free = lot.remaining_micros > lot.held_micros and lot.withheld_since is None
        is_idle = is_open and is_free and terms.action is None and terms.project is None
        require(not is_idle, "I27", "idle credit beside debt", terms.lot_id, account.debt_micros)


def whole_numbers(team: Kept) -> None:
    """I22: no stored byte is part of a float, and no number is beyond 2^62. Raises: Wrong."""
    for stored in team.events:
        waiting: list[Any] = [msgspec.json.decode(stored.state)]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, int | float):
                is_whole = isinstance(value, int) and (abs(value) <= AMOUNT_MAX)
                require(is_whole, "I22", "a number is no whole one within 2^62", stored.version, value)


# --- on copies ---


class Copy:
    """A copy of a team, on which anything may be tried."""

    def __init__(self, team: Kept, sold: Catalogue) -> None:
        self.account, self.index, self.sold = copy_of(team.account), IndexOverlay(team.index), sold
        self.events: list[AccountEvent] = []
        self.changes: list[IndexChange] = []

    def decide(self, at: datetime, rule: Callable[[Decision], object]) -> None:
        """The rule's decision stands."""
        decision = Decision(copy_of(self.account), at, LAWYER, self.index)
        rule(decision)
        self.account = decision.account
        self.events += decision.events

    def vector(self) -> dict[str, Any]:
        """Debt, and of every open lot what is left, what is held and when it expires."""
        lots = {
            lot.terms.lot_id: (lot.remaining_micros, lot.held_micros, lot.terms.expires_at)
            for lot in self.account.lots
        }
        return {"debt": self.account.debt_micros} | lots


def extra_looks_change_nothing(team: Kept, sold: Catalogue, at: datetime, rng: Random) -> None:
    """Looked at once or at any instants before, the account is the same but for when things were written down. Raises: Wrong."""
    since = team.account.recorded_at
    once, often = Copy(team, sold), Copy(team, sold)
    once.decide(at, pass_time)
    instants = {since + (at - since) * rng.random() for _ in range(2)}
    due = next_due_at(team.account)
    is_due = due is not None and due <= at
    require(bool(once.events) == is_due, "I18", "what is due is not when it is said to be", due, at)
    if due is not None and since <= due <= at:
        instants.add(due)
    for instant in sorted(instants):
        often.decide(instant, pass_time)
    often.decide(at, pass_time)
    require(len(once.events) == len(often.events), "I9", "extra looks make other events")
    require(timeless(once.account) == timeless(often.account), "I9", "extra looks change the account")
    events = len(often.events)
    often.decide(at, pass_time)
    require(len(often.events) == events, "I19", "a second look at the same instant does something")


def timeless(account: TeamAccount) -> bytes:
    """The account but for the instants at which somebody looked."""
    account = copy_of(account)
    account.recorded_at = account.passed_at = account.opened_at
    return msgspec.json.encode(account)


def a_refund_restores(team: Kept, sold: Catalogue, at: datetime, rng: Random) -> None:
    """I13: charged and refunded in full, whether at once or in parts, every lot is as it was. Raises: Wrong."""
    if team.account.status == "closed":
        return
    copy = Copy(team, sold)
    copy.decide(at, pass_time)
    before = copy.vector()
    record = UsageRecord(
        team_id=team.account.team_id,
        source=SOURCE,
        id=f"tried {at.isoformat()}",
        occurred_at=at,
        arrived_at=at,
        action=rng.choice(["image.generate", "video.generate"]),
        status="succeeded",
        meters={"units": str(rng.randint(1, 300))},
        dimensions={},
        member="mira",
        project=rng.choice([None, "atlas"]),
    )
    copy.decide(at, lambda decision: charge_usage(decision, record, sold))
    charge = next(event for event in copy.events if isinstance(event, CreditsCharged))
    parts, left = [], charge.amount_micros
    while left:
        parts.append(left if rng.random() < 0.3 else rng.randint(1, left))
        left -= parts[-1]
    for number, part in enumerate(parts):
        copy.decide(at, _refund(charge.charge_id, part, f"tried{number}"))
    after = copy.vector()
    require(after == before, "I13", "charge and refund leave another lot vector", before, after, parts)


def _refund(charge_id: str, amount: int, refund_id: str) -> Callable[[Decision], object]:
    return lambda decision: refund_charge(decision, charge_id, amount, refund_id)


def splits_equal_one_refund(team: Kept, sold: Catalogue, at: datetime, rng: Random, charge_id: str) -> None:
    """I13: what is left of an old charge comes back the same way at once and in any parts. Raises: Wrong."""
    whole, split = Copy(team, sold), Copy(team, sold)
    try:
        whole.decide(at, lambda decision: refund_charge(decision, charge_id, None, "whole"))
    except LedgerError:
        return
    left = sum(getattr(e, "amount_micros", 0) for e in whole.events if getattr(e, "refund_id", "") == "whole")
    number = 0
    while left:
        part = left if rng.random() < 0.3 else rng.randint(1, left)
        number, left = number + 1, left - part
        split.decide(at, _refund(charge_id, part, f"part{number}"))
    ours, theirs = whole.vector(), split.vector()
    require(ours == theirs, "I13", "a refund in parts is another than one", charge_id, ours, theirs)


def a_chargeback_won_changes_nothing(
    team: Kept, sold: Catalogue, at: datetime, rng: Random, contested: set[str], how: Ways
) -> None:
    """Opened and won, a chargeback leaves all as it was, but for the time withheld added to expiries. Raises: Wrong."""
    entries, gone = team.index.entries.get("top_up", {}), team.index.entries.get("line", {})
    paid = {key: msgspec.json.decode(entry, type=TopUp) for key, entry in entries.items() if entry}
    settled = [key for key, each in paid.items() if each.status == "settled" and each.lot_id not in gone]
    settled = [key for key in settled if key not in contested]
    if not settled or team.account.status == "closed":
        return
    reference = rng.choice(sorted(settled))
    copy = Copy(team, sold)
    copy.decide(at, pass_time)
    due = next_due_at(copy.account)
    later = at + timedelta(seconds=rng.choice([0, 1, 3_600, 40 * 86_400]))
    if copy.account.debt_micros or (due is not None and due <= later):
        later = at
    before = copy.vector()
    copy.decide(at, lambda decision: how[0](decision, reference))
    copy.decide(later, lambda decision: how[1](decision, reference))
    after = copy.vector()
    for lot_id, value in before.items():
        if (
            lot_id != "debt"
            and lot_id.split("@")[0].split("~")[0] == paid[reference].lot_id
            and value[2] is not None
        ):
            before[lot_id] = (value[0], value[1], value[2] + (later - at))
    require(after == before, "chargeback", "opened and won is not the identity", reference, before, after)
