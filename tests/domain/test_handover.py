"""What a work cost by step, and whether it may be handed over: one list at one version, signed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from domain import commands as c
from domain.errors import UnknownWork
from domain.handover import Handover
from domain.ledger import Answer, Caller, Ledger
from domain.terms import LimitTerms
from domain.work.costs import StepCost, cost_of
from domain.work.events import HandoverChecked, PlannedUse
from domain.work.texts import WorkText
from infra.signing import SigningKey, is_signed, key_id_of
from tests.builders import SOURCE, a_usage_record, micros, unit_card
from tests.memory_store import MemoryLedger

KEY = SigningKey(b"a secret for signing, of thirty-two bytes at least")
BRIEF = WorkText(goal="a poster", audience="visitors")
WHEN = "2026-11-01 12:00"


class Studio:
    """Team acme with 100 credits and a work that is estimated at 12 credits, all of them for its draft."""

    def __init__(self) -> None:
        self.memory = MemoryLedger()
        self.memory.publish(unit_card())
        self._ledger = Ledger(self.memory, self.memory.current, (), KEY)
        self._asked = 0
        self.do(c.OpenAccount(team_id="acme"))
        self.do(c.GrantCredits(team_id="acme", amount_micros=micros(100), reason="a start"))
        self.do(c.AddMember(team_id="acme", member="olga", role="owner"))
        use = PlannedUse(action="image.generate", meters={"units": "4"}, step="draft", times=3)
        self.do(c.StartWork(team_id="acme", work_id="poster", brief=BRIEF, planned=[use]))

    def do(self, command: c.Command) -> Answer:
        self._asked += 1
        return self._ledger.execute(command, Caller("mira", "operator"), f"key-{self._asked}")

    def use(self, record_id: str, units: str | int, **changes: Any) -> None:
        changes = {"work": "poster", "step": "draft", **changes}
        self.memory.use(a_usage_record(record_id, units, occurred=WHEN, **changes))

    def refund(self, record_id: str, amount: str) -> None:
        from domain.usage import usage_key

        charge = usage_key("acme", SOURCE, record_id)
        self.do(c.RefundCharge(team_id="acme", charge_id=charge, amount_micros=micros(amount), reason="poor"))

    def cost(self, work_id: str = "poster") -> tuple[StepCost, dict[str, StepCost]]:
        with self.memory.session("acme") as session:
            work = session.load_work(work_id)
            moves = session.work_moves(work_id)
        told = cost_of(work, moves, self.memory.teams["acme"].account.holds)
        return told.total, {each.step: each for each in told.steps}

    def check(self, units: str | None = "4") -> tuple[Handover, HandoverChecked]:
        use = None if units is None else PlannedUse(action="image.generate", meters={"units": units})
        answer = self.do(c.CheckHandover(team_id="acme", work_id="poster", next_use=use))
        event = self.memory.teams["acme"].work_events["poster"][-1]
        assert isinstance(event, HandoverChecked)
        assert answer.outcome == ("passed" if event.passes else "failed")
        return msgspec.json.decode(event.document, type=Handover), event

    def failed(self, units: str | None = "4") -> dict[str, str]:
        return {each.check: each.why for each in self.check(units)[0].checks if not each.passes}


@pytest.fixture
def studio() -> Studio:
    return Studio()


def test_a_work_costs_what_was_charged_less_refunds_by_step_and_failures_cost_nothing(studio: Studio) -> None:
    studio.use("r1", 4)
    studio.use("r2", 5, status="failed")
    studio.use("r3", 6, step="refine")
    studio.use("r4", 1, step=None)
    studio.use("r5", 50, work="other")
    studio.use("r6", 0, step="refine")
    studio.refund("r3", "2.5")
    studio.refund("r5", "1")

    total, steps = studio.cost()

    assert list(steps) == ["", "draft", "refine"]
    assert (steps["draft"].net_micros, steps["draft"].failures) == (micros(4), 1)
    refine = steps["refine"]
    assert (refine.charged_micros, refine.refunded_micros, refine.waived) == (micros(6), micros("2.5"), 1)
    assert steps[""].net_micros == micros(1)
    assert (total.net_micros, total.charges, total.failures) == (micros("8.5"), 3, 1)
    assert (total.estimate_micros, steps["draft"].estimate_micros) == (micros(12), micros(12))


def test_work_that_is_paid_from_its_hold_counts_once_and_an_open_hold_is_told(studio: Studio) -> None:
    told = studio.do(
        c.PlaceHold(
            team_id="acme", action="image.generate", amount_micros=micros(10), work="poster", step="draft"
        )
    )
    assert studio.cost()[0].held_micros == micros(10)
    studio.use("r1", 4, hold_id=told.hold_id)

    total, steps = studio.cost()

    assert (total.net_micros, total.charges) == (micros(4), 1)
    assert (steps["draft"].holds, total.held_micros) in {(0, 0), (1, micros(6))}


def test_a_capture_of_a_works_hold_is_a_charge_of_the_work(studio: Studio) -> None:
    told = studio.do(
        c.PlaceHold(
            team_id="acme", action="image.generate", amount_micros=micros(10), work="poster", step="draft"
        )
    )
    assert told.hold_id is not None
    studio.do(c.CaptureHold(team_id="acme", hold_id=told.hold_id, amount_micros=micros(7)))

    total, steps = studio.cost()

    assert (total.charged_micros, steps["draft"].charges) == (micros(7), 1)


def test_a_work_that_only_usage_names_has_a_cost_and_no_estimate(studio: Studio) -> None:
    studio.use("r1", 3, work="sketches")

    total, steps = studio.cost("sketches")

    assert (total.net_micros, total.estimate_micros, list(steps)) == (micros(3), None, ["draft"])


def test_a_sound_work_passes_and_the_list_says_all_of_it_at_one_version(studio: Studio) -> None:
    studio.use("r1", 4)

    told, event = studio.check()

    assert [each.check for each in told.checks] == ["charges", "limits", "invoices", "roles", "next_action"]
    assert (told.passes, told.total.net, told.total.estimated) == (True, "4", "12")
    assert told.account_version == event.account_version == studio.memory.teams["acme"].account.version
    assert (told.team_version, told.work_version) == (1, 1)
    assert [(each.member, each.role, "set_limit" in each.may) for each in told.members] == [
        ("olga", "owner", True)
    ]
    assert told.next_action is not None
    assert told.next_action.amount == "4"


def test_an_open_hold_of_the_work_fails_its_charges(studio: Studio) -> None:
    studio.do(c.PlaceHold(team_id="acme", action="image.generate", amount_micros=micros(10), work="poster"))

    assert studio.failed() == {"charges": "1 holds with 10 credits are open: what it costs is not settled"}


def test_a_limit_near_its_cap_fails_and_names_who_may_raise_it(studio: Studio) -> None:
    studio.do(
        c.SetLimit(team_id="acme", limit=LimitTerms(limit_id="day", window="day", cap_micros=micros(10)))
    )
    studio.use("r1", 8)

    told, _ = studio.check("1")

    line = next(each for each in told.checks if each.check == "limits")
    assert (line.passes, line.why, line.who) == (False, "used to 80 % or more: day", ["olga"])
    assert [(each.limit_id, each.used, each.cap, each.is_near) for each in told.limits] == [
        ("day", "8", "10", True)
    ]


def test_what_comes_next_fails_when_nothing_covers_it_or_it_has_no_price(studio: Studio) -> None:
    assert set(studio.failed("101")) == {"next_action"}
    told = studio.do(
        c.CheckHandover(
            team_id="acme",
            work_id="poster",
            next_use=PlannedUse(action="sculpture.print", meters={"units": "1"}),
        )
    )
    assert told.outcome == "failed"
    assert studio.failed(None) == {}


def test_s6_whoever_has_the_public_key_sees_whether_a_document_is_as_it_was_signed(studio: Studio) -> None:
    _, event = studio.check()
    document, signature = event.document.encode(), bytes.fromhex(event.signature)

    assert event.key_id == KEY.key_id == key_id_of(KEY.public_key)
    assert is_signed(KEY.public_key, document, signature)
    assert not is_signed(KEY.public_key, document.replace(b'"passes":true', b'"passes":null', 1), signature)
    assert not is_signed(SigningKey(b"another").public_key, document, signature)
    assert not is_signed(KEY.public_key, document, bytes(64))
    canonical = json.dumps(json.loads(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical.encode() == document


def test_what_was_never_started_is_not_handed_over(studio: Studio) -> None:
    with pytest.raises(UnknownWork):
        studio.do(c.CheckHandover(team_id="acme", work_id="sketches"))


def test_i14_the_same_key_answers_the_check_of_then_and_signs_nothing_new(studio: Studio) -> None:
    ask = c.CheckHandover(team_id="acme", work_id="poster")
    ledger = Ledger(studio.memory, studio.memory.current, (), KEY)
    first = ledger.execute(ask, Caller("mira", "operator"), "once")
    studio.use("r1", 4)

    again = ledger.execute(ask, Caller("mira", "operator"), "once")

    assert (again.work_version, again.is_replayed) == (first.work_version, True)
    assert len(studio.memory.teams["acme"].work_events["poster"]) == 2
