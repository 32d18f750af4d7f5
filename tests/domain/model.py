"""The account's rules once more, in plain dicts and lists, sharing no code with the product: slow, whole, obvious.

Nothing is ever dropped here: every lot, repayment and counter is kept for ever, and every look walks through all instants.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Any

GRACE = timedelta(hours=24)
FAR = datetime.max  # noqa: DTZ901 - the model keeps plain UTC


class ModelRefusal(Exception):
    """The model says no."""


class Model:
    """One team, told in micro-credits and naive UTC instants."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.lots: list[dict[str, Any]] = []
        self.debt = 0
        self.repayments: list[dict[str, Any]] = []
        self.records: dict[str, dict[str, Any]] = {}
        self.awaited: dict[str, str] = {}
        self.units: dict[tuple[int, int], Fraction] = {}
        self.issues = 0

    # What can be drawn, and in which order.

    def order(self, lot: dict[str, Any]) -> tuple[Any, ...]:
        narrow = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}
        scope = narrow[lot["action"] is not None, lot["project"] is not None]
        bought = 1 if lot["source"] == "purchased" else 0
        return (lot["priority"], scope, lot["exp"] or FAR, bought, lot["eff"], lot["granted"], lot["key"])

    def open_at(self, t: datetime) -> list[dict[str, Any]]:
        lots = [x for x in self.lots if x["left"] and x["eff"] <= t and (x["exp"] is None or t < x["exp"])]
        return sorted(lots, key=self.order)

    # Time.

    def pass_to(self, t: datetime) -> None:
        instants = {x["exp"] + GRACE for x in self.lots if x["exp"]} | {x["eff"] for x in self.lots}
        for instant in sorted(i for i in instants if self.now <= i <= t):
            for lot in self.lots:
                if lot["exp"] and lot["exp"] + GRACE == instant and lot["left"]:
                    lot["broken"] += lot["left"]
                    lot["left"] = 0
            self.repay(instant)
        self.now = t

    def repay(self, t: datetime) -> None:
        for lot in self.open_at(t):
            if lot["action"] is None and lot["project"] is None and self.debt:
                n = min(lot["left"], self.debt)
                lot["left"] -= n
                self.debt -= n
                self.repayments.append({"lot": lot, "left": n})

    # Commands.

    def issue(self, t: datetime, amount: int, source: str, priority: int, **terms: Any) -> None:
        eff = terms["eff"] or t
        if eff < t or (terms["exp"] is not None and terms["exp"] <= eff):
            raise ModelRefusal
        self.pass_to(t)
        self.issues += 1
        self.lots.append(
            {
                "left": amount,
                "issued": amount,
                "broken": 0,
                "source": source,
                "priority": priority,
                "action": terms["action"],
                "project": terms["project"],
                "eff": eff,
                "exp": terms["exp"],
                "granted": t,
                "key": (self.issues, ()),
            }
        )
        self.repay(t)

    def price(self, action: str, units: Fraction, occurred: datetime) -> int | None:
        if not units:
            return None
        if action == "image.generate":
            return ceil(units * 1_000_000)
        month = (occurred.year, occurred.month)
        before = self.units.get(month, Fraction(0))
        self.units[month] = before + units
        return self.tiers(before + units) - self.tiers(before)

    def tiers(self, units: Fraction) -> int:
        return ceil((min(units, Fraction(100)) + max(units - 100, Fraction(0)) / 2) * 1_000_000)

    def use(
        self,
        t: datetime,
        rid: str,
        status: str,
        corrects: str | None,
        action: str,
        project: str | None,
        units: Fraction,
        occurred: datetime,
    ) -> str:
        """What becomes of a record not seen before."""
        self.pass_to(t)
        corrected_by = self.awaited.pop(rid, None)
        if status != "succeeded":
            self.correct(t, corrects, rid)
            return self.waive(rid, "failed")
        if corrected_by is not None:
            return self.waive(rid, "corrected")
        amount = self.price(action, units, occurred)
        if amount is None:
            return self.waive(rid, "nothing_to_price")
        lines: list[tuple[dict[str, Any] | None, int]] = []
        left = amount
        for instant in (occurred, t):
            for lot in self.open_at(instant):
                if lot["action"] in (None, action) and lot["project"] in (None, project) and left:
                    n = min(left, lot["left"])
                    lot["left"] -= n
                    left -= n
                    lines.append((lot, n))
        self.debt += left
        lines.append((None, left))
        self.records[rid] = {"amount": amount, "lines": lines, "refunded": 0, "outcome": "charged"}
        return "charged"

    def waive(self, rid: str, outcome: str) -> str:
        self.records[rid] = {"amount": 0, "lines": [], "refunded": 0, "outcome": outcome}
        return outcome

    def correct(self, t: datetime, corrects: str | None, rid: str) -> None:
        if corrects is not None and corrects not in self.records:
            self.awaited.setdefault(corrects, rid)
        elif corrects is not None:
            record = self.records[corrects]
            self.give_back(t, record, record["amount"] - record["refunded"])

    def refund(self, t: datetime, rid: str, amount: int | None) -> None:
        record = self.records.get(rid)
        if record is None or record["outcome"] != "charged":
            raise ModelRefusal
        left = record["amount"] - record["refunded"]
        amount = left if amount is None else amount
        if amount <= 0 or amount > left:
            raise ModelRefusal
        self.pass_to(t)
        self.give_back(t, record, amount)

    def give_back(self, t: datetime, record: dict[str, Any], amount: int) -> None:
        passed = 0
        start, end = record["refunded"], record["refunded"] + amount
        for lot, n in reversed(record["lines"]):
            part = min(end, passed + n) - max(start, passed)
            passed += n
            if part <= 0:
                continue
            if lot is None:
                lowered = min(part, self.debt)
                self.debt -= lowered
                self.return_to_repayers(t, part - lowered)
            else:
                self.put(t, lot, part)
        record["refunded"] = end

    def return_to_repayers(self, t: datetime, amount: int) -> None:
        for repayment in reversed(self.repayments):
            n = min(amount, repayment["left"])
            if n:
                repayment["left"] -= n
                amount -= n
                self.put(t, repayment["lot"], n)
        assert not amount, "a debt line was never repaid"

    def put(self, t: datetime, lot: dict[str, Any], amount: int) -> None:
        if lot["exp"] is not None and lot["exp"] <= t:
            key = (lot["key"][0], (*lot["key"][1], t))
            heirs = [x for x in self.lots if x["key"] == key]
            if not heirs:
                heir = lot | {
                    "left": 0,
                    "issued": 0,
                    "broken": 0,
                    "key": key,
                    "granted": t,
                    "eff": t,
                    "exp": t + timedelta(days=7),
                }
                self.lots.append(heir)
                heirs = [heir]
            lot = heirs[0]
        lot["left"] += amount
        self.repay(t)
