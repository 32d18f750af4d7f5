"""The books of one account, kept from the stored bytes alone: where every credit came from and where it went."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from api.ports import StoredEvent

ISSUES = {"CreditsGranted", "CreditsToppedUp", "BalanceRaised", "AllowanceGranted"}
DRAWS = {"CreditsCharged", "HoldCaptured", "DebtRepaid", "BalanceLowered"}
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
ENDINGS = {"HoldReleased", "HoldExpired"}


class Books:
    """Every event is posted once, as JSON; nothing of the product's rules is asked."""

    def __init__(self) -> None:
        self.version = 0
        self.recorded_at = LONG_AGO
        self.lots: dict[str, Counter[str]] = defaultdict(Counter)
        self.origin: dict[str, str] = {}
        self.charged: Counter[str] = Counter()
        self.refunded: Counter[str] = Counter()
        self.debt = 0
        self.claims: Counter[str] = Counter()
        self.due: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.books_end = ""

    def post(self, stored: StoredEvent) -> None:
        """The event is in the books, and what it claims of itself is true."""
        event: dict[str, Any] = msgspec.json.decode(stored.state)
        kind = stored.topic.split(".")[0]
        self.version += 1
        assert stored.version == self.version, "I3: versions count up by one"
        recorded_at = instant(event["recorded_at"])
        assert recorded_at >= self.recorded_at, "I20: recorded times never decrease"
        assert instant(event.get("effective_at")) <= recorded_at or kind in {
            "ZoneChangeScheduled",
            "PlanAssigned",
        }, "I20: nothing is booked before it happened"
        self.recorded_at = recorded_at
        assert not has_float(event), "I22: integers only"
        self._move(kind, event)
        self._close(kind, event)
        if "settled_after_micros" in event:
            assert event["settled_after_micros"] == self.settled(), "I6: settled is the sum of the lots"
            assert event["debt_after_micros"] == self.debt, "I6: debt is what charges left and nothing repaid"
        for claim in [event[name] for name in ("due_id",) if event.get(name)]:
            self.due[claim] += 1
            assert self.due[claim] == 1, "I19: a due fact is booked once"
        if kind in {"CreditsCharged", "UsageWaived"}:
            self.claims[event["charge_id"]] += 1
            assert self.claims[event["charge_id"]] == 1, "I14: a usage record has one outcome"
        if kind in ENDINGS:
            self.ended[event["hold_id"]] += 1
            assert self.ended[event["hold_id"]] == 1, "I12: a hold resolves once"

    def settled(self) -> int:
        return sum(lot["left"] for lot in self.lots.values())

    def _move(self, kind: str, event: dict[str, Any]) -> None:
        lots = [event["lot"]] if event.get("lot") else []
        for lot in [*lots, *(event.get("lots") or [])]:
            self.origin[lot["lot_id"]] = lot["origin_lot_id"]
        if kind in ISSUES and event.get("lot"):
            self._put(event["lot"]["lot_id"], "issued", event["amount_micros"])
        elif kind in DRAWS:
            self._draw(kind, event)
        elif kind == "CreditsExpired":
            self._take(event["lot_id"], "expired", event["amount_micros"])
        elif kind in {"GrantVoided", "ChargebackLost"}:
            for lot_id, n in event.get("lines", []):
                self._take(lot_id, "voided", n)
            self.debt += event.get("drawn_micros", 0)
        elif kind == "CreditsRolledOver":
            for lot_id, to_lot_id, n, *_ in event.get("lines", []):
                self._take(lot_id, "moved", n)
                self._put(to_lot_id, "came", n)
        elif kind == "ChargeRefunded":
            self._refund(event)

    def _close(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "AccountOpened":
            self.books_end = event["books_start"]
        elif kind == "PeriodClosed":
            assert event["period_start"] == self.books_end, "I21: closed periods touch"
            self.books_end = event["period_end"]
            assert instant(self.books_end) <= instant(event["effective_at"]), "I21: only what ended is closed"

    def _draw(self, kind: str, event: dict[str, Any]) -> None:
        drawn = sum(n for _, n in event.get("lines", []))
        for lot_id, n in event.get("lines", []):
            self._take(lot_id, "used", n)
        if kind == "DebtRepaid":
            self.debt -= drawn
        if kind in {"CreditsCharged", "HoldCaptured"}:
            self.charged[event["charge_id"]] = event["amount_micros"]
            self.debt += event.get("debt_micros", 0)
        assert event["amount_micros"] == drawn + event.get("debt_micros", 0), "I1: lines sum to the total"

    def _refund(self, event: dict[str, Any]) -> None:
        total = 0
        for target, n, lot_id, drawn_lot_id, *_ in event.get("lines", []):
            total += n
            if target == "debt":
                self.debt -= n
                continue
            self.lots[drawn_lot_id]["used"] -= n
            if target == "voided":
                self.lots[drawn_lot_id]["voided"] += n
            else:
                self._put(lot_id, "came", n if lot_id != drawn_lot_id else 0)
                self.lots[lot_id]["left"] += n if lot_id == drawn_lot_id else 0
                self.lots[drawn_lot_id]["moved"] += n if lot_id != drawn_lot_id else 0
        assert total == event["amount_micros"], "I13: the lines of a refund sum to it"
        self.refunded[event["charge_id"]] += total
        assert self.refunded[event["charge_id"]] == event["refunded_after_micros"], "I13: refunds are counted"
        assert self.refunded[event["charge_id"]] <= self.charged[event["charge_id"]], "I13: never beyond"

    def _put(self, lot_id: str, how: str, n: int) -> None:
        assert n >= 0, "I2: amounts are never negative"
        self.lots[lot_id][how] += n
        self.lots[lot_id]["left"] += n

    def _take(self, lot_id: str, how: str, n: int) -> None:
        assert 0 < n <= self.lots[lot_id]["left"], "I2: nothing is drawn that is not there"
        self.lots[lot_id][how] += n
        self.lots[lot_id]["left"] -= n

    def check_conservation(self) -> None:
        """Per lot line, everything issued is used, expired, voided or left; nothing of it is negative."""
        lines: dict[str, Counter[str]] = defaultdict(Counter)
        for lot_id, lot in self.lots.items():
            assert min(lot.values(), default=0) >= 0, f"I2: {lot_id} {dict(lot)}"
            lines[self.origin[lot_id]].update(lot)
        for origin, line in lines.items():
            spent = line["used"] + line["expired"] + line["voided"] + line["left"]
            assert line["issued"] == spent, f"I1: line {origin} {dict(line)}"
            assert line["moved"] == line["came"], f"I1: line {origin} {dict(line)}"


def has_float(value: Any) -> bool:
    """Whether a number with a fraction is anywhere in a decoded document."""
    if isinstance(value, dict):
        return any(has_float(each) for each in value.values())
    if isinstance(value, list):
        return any(has_float(each) for each in value)
    return isinstance(value, float)


def instant(text: str | None) -> datetime:
    """A stored instant, long ago where there is none."""
    return datetime.fromisoformat(text) if text else LONG_AGO
