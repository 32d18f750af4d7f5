"""The oracle is asked the worked cases: what judges the ledger is itself right, in the same numbers."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from tests.domain.model import Model, ModelRefusal

ONE = 1_000_000
UNIT = {action: ("unit", "units", Fraction(1)) for action in ("image", "video")}
GRADUATED: Thing = {"image": ("graduated", "units", [(100, Fraction(1)), (None, Fraction(1, 2))])}
Thing = dict[str, Any]
COST = (1_000, "EUR", 0)


def at(text: str) -> datetime:
    """2026 unless it says so: "12-01 10:00"."""
    return datetime.fromisoformat(text if len(text) > 11 else f"2026-{text}")


class Team:
    """A model told in credits: lots A, B..., the clock is in each step."""

    def __init__(
        self, start: str = "11-01 00:00", zone: str = "UTC", anchor: int = 1, rates: Thing | None = None
    ) -> None:
        card = {
            "card_id": "standard",
            "version": 1,
            "effective": at("2020-01-01 00:00"),
            "rates": rates or UNIT,
        }
        self.model = Model(at(start), zone, anchor, [card])

    def do(self, when: str, command: str, *given: Any, **named: Any) -> Thing:
        return self.model.do(at(when), command, *given, **named)

    def bought(self, name: str, amount: float, when: str = "11-01 00:00", **terms: Any) -> None:
        dated = {key: at(term) if key in ("expires", "effective") else term for key, term in terms.items()}
        self.do(when, "top_up", name, int(amount * ONE), COST, **dated)

    def granted(self, name: str, amount: float, when: str, **terms: Any) -> None:
        dated = {key: at(term) if key in ("expires", "effective") else term for key, term in terms.items()}
        self.do(when, "grant", name, int(amount * ONE), **dated)

    def used(self, rid: str, units: Any, occurred: str, recorded: str | None = None, **more: Any) -> Thing:
        meters, action = {"units": str(units)}, more.pop("action", "image")
        return self.do(recorded or occurred, "use", rid, action, meters, at(occurred), **more)

    def refunded(self, rid: str, amount: int | None, when: str) -> None:
        self.do(when, "refund", rid, None if amount is None else amount * ONE)

    def held(self, name: str, amount: int, when: str, lasts: int = 3_600, **terms: Any) -> Thing:
        return self.do(when, "place_hold", name, "image", amount * ONE, lasts=lasts, **terms)

    def left(self, when: str) -> dict[str, float]:
        lots = self.model.look(at(when))["lots"]
        return {lot["name"].split("T00")[0]: lot["left"] / ONE for lot in lots}

    def part(self, when: str, name: str) -> float:
        return float(self.model.look(at(when))[name] / ONE)


def plan(allowance: int, cap: int = 0, plan_id: str = "p", **terms: Any) -> Thing:
    fixed = {"plan_id": plan_id, "version": 1, "card_id": "standard", "overdraft_cap": 0, "captures": {}}
    return fixed | {"allowance": allowance * ONE, "rollover_cap": cap * ONE, "limits": []} | terms


def limit(cap: int, window: str = "day", **terms: Any) -> Thing:
    scope: Thing = {"member": None, "project": None, "action": None, "hard": True, "thresholds": []}
    return scope | {"limit_id": "l", "cap": cap * ONE, "window": window} | terms


@pytest.mark.parametrize(("recorded", "left"), [("12-01 10:00", (70, 50)), ("12-03 10:00", (0, 20))])
def test_e1_late_usage(recorded: str, left: tuple[int, int]) -> None:
    team = Team()
    team.bought("A", 100, expires="12-01 00:00")
    team.bought("B", 50)
    team.used("u", 30, "11-30 23:50", recorded)
    lots = team.left(recorded)
    assert [lots.get("A", 0), lots["B"]] == [*left]
    assert team.part(recorded, "lapsed") == left[0]
    assert team.part("12-04 00:00", "settled") == left[1]


def test_e2b_a_lot_becoming_effective_repays() -> None:
    team = Team()
    team.used("u", 10, "11-05 10:00")
    team.granted("G", 10, "11-05 11:00", effective="11-06 00:00")
    assert (team.part("11-05 11:00", "upcoming"), team.part("11-07 00:00", "debt")) == (10, 0)
    assert team.left("11-07 00:00") == {}


def test_e3_a_hold_beside_debt() -> None:
    team = Team()
    team.bought("A", 100)
    team.held("h", 80, "11-05 10:00")
    team.used("u", 30, "11-05 10:01")
    parts = [team.part("11-05 10:02", part) for part in ("settled", "held", "available", "debt")]
    assert parts == [80, 80, 0, 10]
    team.do("11-05 10:03", "capture_hold", "h", "c", 50 * ONE)
    team.do("11-05 10:04", "release_hold", "h")
    assert (team.left("11-05 10:05"), team.part("11-05 10:05", "debt")) == ({"A": 20}, 0)


@pytest.mark.parametrize("way", ["capture", "usage 12:10", "usage 12:40"])
def test_e4_a_lot_expires_inside_a_hold(way: str) -> None:
    team = Team()
    team.bought("A", 50, expires="11-05 12:00")
    team.bought("B", 100)
    team.held("h", 40, "11-05 11:30")
    assert (team.part("11-05 12:00", "held"), team.part("11-05 12:00", "lapsed")) == (40, 10)
    if way == "capture":
        team.do("11-05 12:10", "capture_hold", "h", "c", 25 * ONE)
        assert (team.part("11-05 12:10", "held"), team.part("11-05 12:10", "lapsed")) == (15, 10)
    else:
        team.used("u", 25, "11-05 12:10", f"11-05 {way[6:]}", hold="h")
    assert team.part("11-05 12:41", "lapsed") == 25
    assert team.left("11-06 12:29") == {"A": 25, "B": 100}
    assert team.left("11-06 12:30") == {"B": 100}


def test_e4b_expiry_of_a_hold_repays_as_of_its_instant() -> None:
    team = Team()
    team.bought("A", 50, expires="11-05 11:00")
    team.held("h", 50, "11-05 09:00")
    team.used("u", 20, "11-05 09:30")
    assert (team.left("11-05 12:00"), team.part("11-05 12:00", "lapsed")) == ({"A": 30}, 30)
    assert team.part("11-05 12:00", "debt") == 0


@pytest.mark.parametrize("before", [False, True])
def test_e5_refunds_and_who_repaid_the_debt(before: bool) -> None:
    team = Team()
    team.bought("A", 30)
    team.used("u", 100, "11-05 10:00")
    if before:
        team.refunded("u", 80, "11-05 10:30")
    team.bought("B", 200, "11-05 11:00")
    if not before:
        assert team.left("11-05 11:00") == {"B": 130}
        team.refunded("u", 80, "11-05 12:00")
    assert team.left("11-05 12:00") == {"A": 10, "B": 200}
    team.refunded("u", 20, "11-05 12:01")
    with pytest.raises(ModelRefusal, match="refund_exceeds_charge"):
        team.refunded("u", 1, "11-05 12:02")


@pytest.mark.parametrize("split", [(20,), (10, 10), (1, 9, 3, 7)])
def test_e5c_each_line_repays_first(split: tuple[int, ...]) -> None:
    team = Team()
    team.bought("A", 10, priority=10)
    team.bought("B", 10)
    team.used("u", 20, "11-05 10:00")
    team.used("v", 10, "11-05 10:01")
    for amount in split:
        team.refunded("u", amount, "11-05 11:00")
    assert (team.left("11-05 11:00"), team.part("11-05 11:00", "debt")) == ({"A": 10}, 0)


@pytest.mark.parametrize(("when", "until"), [("12-10 09:00", "12-17 09:00"), ("12-01 12:00", "12-08 12:00")])
def test_e6_refund_to_an_expired_lot(when: str, until: str) -> None:
    team = Team()
    team.bought("A", 100, expires="12-01 00:00")
    team.used("u", 60, "11-20 10:00")
    team.refunded("u", 45, when)
    lots = {lot["left"] / ONE: lot["exp"] for lot in team.model.look(at(when))["lots"]}
    assert lots[45] == at(until)
    assert len(lots) == (2 if when < "12-02" else 1)
    assert team.part("12-10 09:00", "settled") == (
        45 if when > "12-02" else 45 * (at(until) > at("12-09 09:00"))
    )


def test_e7_graduated_does_not_depend_on_order() -> None:
    first, then = Team(rates=GRADUATED), Team(rates=GRADUATED)
    ours = [first.used(rid, units, "11-05 10:00")["amount"] / ONE for rid, units in (("p", 80), ("q", 120))]
    theirs = [then.used(rid, units, "11-05 10:00")["amount"] / ONE for rid, units in (("q", 120), ("p", 80))]
    assert (ours, theirs) == ([80, 70], [110, 40])


def test_e8_limits_in_berlin() -> None:
    team = Team("10-20 00:00", "Europe/Berlin")
    team.bought("A", 1_000, "10-20 00:00")
    team.do("10-20 00:00", "set_limit", limit(100, member="mira"))
    team.held("h", 80, "10-25 22:50", member="mira")
    denied = team.held("i", 30, "10-25 23:05", member="mira")
    told = {"outcome": "denied", "used": 0, "held": 80 * ONE, "limit": 100 * ONE, "requested": 30 * ONE}
    assert denied | told == denied
    team.used("u", 80, "10-25 23:10", "10-25 23:20", hold="h", member="mira")
    assert team.model.counted(team.model.limits["l"], at("10-25 23:20"))[2] == 80 * ONE
    assert team.model.counted(team.model.limits["l"], at("10-25 22:59"))[:3] == (
        at("10-24 22:00"),
        at("10-25 23:00"),
        0,
    )
    team.refunded("u", None, "10-27 12:00")
    assert [team.model.counted(team.model.limits["l"], at(f"10-{day} 12:00"))[2] for day in (25, 26, 27)] == [
        0
    ] * 3


@pytest.mark.parametrize("won", [True, False])
def test_e9_chargeback_won_and_lost(won: bool) -> None:
    team = Team()
    team.granted("G", 20, "11-01 00:00", priority=10)
    team.bought("T", 100)
    team.used("u", 70, "11-05 10:00")
    team.do("11-05 11:00", "chargeback", "T", "open")
    assert (team.part("11-05 11:00", "withheld"), team.part("11-05 11:00", "available")) == (50, 0)
    team.used("v", 10, "11-05 12:00")
    assert team.part("11-05 12:00", "debt") == 10
    team.do("11-05 13:00", "chargeback", "T", "won" if won else "lost")
    if won:
        assert (team.left("11-05 13:00"), team.part("11-05 13:00", "debt")) == ({"T": 40}, 0)
    else:
        assert (team.left("11-05 13:00"), team.part("11-05 13:00", "debt")) == ({}, 60)
        team.refunded("u", None, "11-05 14:00")
        assert (team.left("11-05 14:00"), team.part("11-05 14:00", "debt")) == ({"G": 10}, 0)


def test_e9c_lost_debt_is_repaid_at_once() -> None:
    team = Team()
    team.bought("A", 100, priority=10)
    team.bought("B", 100)
    team.used("u", 40, "11-05 10:00")
    team.do("11-05 11:00", "chargeback", "A", "open")
    team.do("11-05 12:00", "chargeback", "A", "lost")
    assert (team.left("11-05 12:00"), team.part("11-05 12:00", "debt")) == ({"B": 60}, 0)


@pytest.mark.parametrize(
    ("when", "left"),
    [
        ("12-01 12:00", {"allowance#1~2026-12-01": 30, "allowance#2": 100}),
        ("12-02 12:00", {"allowance#1~2026-12-01": 10, "allowance#2": 100}),
    ],
)
def test_e10_late_usage_and_rollover(when: str, left: dict[str, int]) -> None:
    team = Team()
    team.do("11-01 00:00", "assign_plan", plan(100, 50))
    team.used("u", 30, "11-05 10:00")
    assert team.left("12-01 11:00") == {"allowance#1": 20, "allowance#1~2026-12-01": 50, "allowance#2": 100}
    team.used("v", 40, "11-30 12:00", when)
    assert team.left(when) == left


def test_e10c_the_first_pass_draws_what_was_there_when_it_occurred() -> None:
    team = Team()
    team.do("11-01 00:00", "assign_plan", plan(100, 50))
    team.bought("P", 100)
    team.used("u", 100, "11-05 10:00")
    team.used("v", 40, "11-30 12:00", "12-01 12:00")
    assert team.left("12-01 12:00") == {"P": 60, "allowance#3": 100}


@pytest.mark.parametrize(("holds", "held"), [((80,), (50, 30, 20)), ((40, 40), (50, 30, 20))])
def test_e10d_e23_holds_roll_first(holds: tuple[int, ...], held: tuple[int, ...]) -> None:
    team = Team()
    team.do("11-01 00:00", "assign_plan", plan(100, 50))
    for number, amount in enumerate(holds):
        team.held(f"h{number}", amount, "11-30 23:30")
    lots = {
        lot["name"].split("T")[0]: (lot["left"], lot["held"])
        for lot in team.model.look(at("12-01 00:10"))["lots"]
    }
    moved, stayed, lapsed = (n * ONE for n in held)
    assert lots["allowance#1~2026-12-01"] == (moved, moved)
    assert lots["allowance#1"] == (stayed + lapsed, stayed)
    pins = [sorted(hold["pins"].values()) for hold in team.model.open_holds.values()]
    assert pins == ([[stayed, moved]] if len(holds) == 1 else [[0, 40 * ONE], [10 * ONE, 30 * ONE]])
    for number in range(len(holds)):
        team.do("12-01 00:20", "release_hold", f"h{number}")
    assert team.part("12-01 00:21", "lapsed") == 50
    assert team.part("12-01 00:21", "available") == 150


@pytest.mark.parametrize("correction_first", [False, True])
def test_e12_e24_corrections(correction_first: bool) -> None:
    team = Team()
    team.bought("A", 100)
    team.held("h", 50, "11-05 09:30")
    steps: list[Any] = [lambda: team.used("7", 20, "11-05 10:00", hold="h")["outcome"]]
    steps += [lambda: team.used("8", 20, "11-05 10:00", status="failed", corrects="7")["outcome"]]
    outcomes = [step() for step in (reversed(steps) if correction_first else steps)]
    assert outcomes == (["failed", "corrected"] if correction_first else ["charged", "failed"])
    assert team.part("11-05 10:00", "settled") == 100
    assert team.part("11-05 10:00", "held") == (0 if correction_first else 30)


def test_e13_burn_order() -> None:
    team = Team()
    team.bought("P", 50, priority=10)
    team.bought("Q", 50, expires="2027-01-05 00:00")
    team.bought("R", 50, action="video")
    team.granted("S", 50, "11-01 00:00", expires="2027-01-05 00:00")
    team.used("u", 170, "11-05 10:00", action="video")
    assert team.left("11-05 10:00") == {"Q": 30}


def test_e14_turns_of_anchor_31() -> None:
    team = Team("2027-01-31 10:00", anchor=31)
    team.do("2027-01-31 10:00", "assign_plan", plan(100))
    ends = [team.model.look(at("2027-01-31 10:00"))["period_end"]]
    for _ in range(3):
        ends.append(team.model.look(ends[-1])["period_end"])
        assert team.part(str(team.model.t), "available") == 100
    assert ends == [at(f"2027-{day} 00:00") for day in ("02-28", "03-31", "04-30", "05-31")]


def test_e15_upgrade_now() -> None:
    team = Team()
    team.do("11-01 00:00", "assign_plan", plan(300))
    assert team.do("11-11 15:00", "assign_plan", plan(600, plan_id="q"))["amount"] == 200 * ONE


def test_e16_holds_never_exceed_what_is_there() -> None:
    team = Team()
    team.bought("A", 500)
    outcomes = [team.held(f"h{n}", 75, "11-05 10:00", work=str(n))["outcome"] for n in range(20)]
    assert (outcomes.count("held"), team.part("11-05 10:00", "available")) == (6, 50)


def test_e17_thresholds_once_in_a_window() -> None:
    team = Team()
    team.do("11-01 00:00", "set_limit", limit(100, hard=False, thresholds=[50, 80, 100]))
    reached = [team.used(str(n), n, "11-05 10:00")["thresholds"] for n in (49, 2, 30, 31)]
    team.refunded("49", 40, "11-05 11:00")
    reached.append(team.used("40", 40, "11-05 12:00")["thresholds"])
    assert [[percent for _, percent, _ in each] for each in reached] == [[], [50], [80], [100], []]


def test_e18_duplicate_and_conflict() -> None:
    team = Team()
    outcomes = [team.used("7", units, "11-05 10:00")["outcome"] for units in (20, 20, 21)]
    assert (outcomes, team.part("11-05 10:00", "debt")) == (["charged", "duplicate", "conflict"], 20)


def test_e19_e20_quotes_bind_once_and_expire() -> None:
    team = Team()
    team.bought("A", 100)
    for name in ("q", "r"):
        team.do("11-05 10:00", "quote", name, "image", {"units": "12"}, timedelta(minutes=10))
    dearer = {"image": ("unit", "units", Fraction(2))}
    effective = at("11-05 10:05")
    team.model.cards.append(
        {"card_id": "standard", "version": 2, "effective": effective, "rates": dearer},
    )
    assert team.do("11-05 10:09", "place_hold", "h", "image", quote="q")["amount"] == 12 * ONE
    with pytest.raises(ModelRefusal, match="quote_used"):
        team.do("11-05 10:09", "place_hold", "i", "image", quote="q")
    with pytest.raises(ModelRefusal, match="quote_expired"):
        team.do("11-05 10:11", "place_hold", "i", "image", quote="r")
    assert team.used("u", 12, "11-05 10:12", hold="h")["amount"] == 12 * ONE


def test_e22_a_lost_chargeback_takes_successors_too() -> None:
    team = Team()
    team.bought("T", 100, expires="12-01 00:00")
    team.used("u", 60, "11-20 10:00")
    team.refunded("u", 45, "12-02 00:00")
    team.do("12-03 00:00", "chargeback", "T", "open")
    team.do("12-04 00:00", "chargeback", "T", "lost")
    assert (team.left("12-04 00:00"), team.part("12-04 00:00", "debt")) == ({}, 15)
