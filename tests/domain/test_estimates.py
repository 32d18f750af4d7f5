"""An estimate is the charge without its effect: the same functions, the same lots, the same no."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from typing_extensions import override

from domain.account.decision import copy_of
from domain.account.estimating import PlannedUse, estimate, estimate_uses
from domain.account.events import CreditsCharged, LimitTerms
from domain.account.index import IndexOverlay
from domain.amounts import format_credits
from domain.commands import SetLimit, SuspendAccount
from tests.builders import AnAccount, a_catalogue, a_plan, micros, unit_card, when
from tests.projections.lives import Life

AT = "2026-11-03 12:00"


def used(units: int, **changes: Any) -> PlannedUse:
    return PlannedUse(
        **({"action": "image.generate", "meters": {"units": str(units)}, "member": "mira"} | changes)
    )


def told(team: AnAccount, *uses: PlannedUse, at: str = AT, mode: Any = "add") -> Any:
    return estimate_uses(team.account, team.catalogue, team.index, when(at), uses, mode)


def tiered_card() -> dict[str, Any]:
    """The first ten units of a period cost two credits each, the others one."""
    tiers = [{"up_to": "10", "price": "2"}, {"price": "1"}]
    terms = [{"model": "graduated", "meters": ["units"], "tiers": tiers}]
    return unit_card(rates=[{"action": "image.generate", "terms": terms}])


def frozen(index: IndexOverlay) -> IndexOverlay:
    """The index as it is now, whatever is put into it later."""
    kept = IndexOverlay()
    kept.usages = dict(index.usages)
    kept.entries = {kind: dict(entries) for kind, entries in index.entries.items()}
    return kept


class Watched(AnAccount):
    """An account whose every charge was estimated right before."""

    compared = 0

    @override
    def _keep(self, decision: Any) -> None:
        for event in decision.events:
            if isinstance(event, CreditsCharged) and event.hold_id is None:
                self._compare(event)
        super()._keep(decision)

    def _compare(self, charge: CreditsCharged) -> None:
        assert self._before is not None
        account, index = self._before
        use = PlannedUse(
            charge.action, charge.meters, charge.dimensions, charge.member, charge.project, charge.occurred_at
        )

        found = estimate_uses(account, self.catalogue, index, charge.recorded_at, [use]).uses[0]

        type(self).compared += 1
        assert found.priced is not None
        assert (found.amount_micros, found.lines, found.debt_micros) == (
            charge.amount_micros,
            charge.lines,
            charge.debt_micros,
        )
        assert (found.priced.card, found.priced.counters) == (charge.card, charge.counters)
        assert msgspec.json.decode(found.priced.price.computation) == msgspec.json.decode(charge.computation)
        assert [limit.used_after_micros for limit in found.limits] == [
            m.used_after_micros for m in charge.windows
        ]
        assert found.settled_after_micros == charge.settled_after_micros
        assert found.debt_after_micros == charge.debt_after_micros

    _before: Any = None

    @override
    def _decision(self, at: str) -> Any:
        if self._account is not None:
            self._before = copy_of(self._account), frozen(self.index)
        return super()._decision(at)


@pytest.mark.parametrize("seed", range(24))
def test_i10_an_estimate_at_a_version_equals_the_charge_at_it_lines_and_all(seed: int) -> None:
    before = Watched.compared

    Life(seed, Watched).live(120)

    assert Watched.compared > before, "no charge was compared"


def test_an_estimate_changes_nothing() -> None:
    team = AnAccount()
    team.bought("A", 10, "2026-11-01 01:00")
    before = msgspec.json.encode(team.account)

    told(team, used(3), used(30))

    assert msgspec.json.encode(team.account) == before


def test_tiers_windows_and_lots_move_along_the_list() -> None:
    team = AnAccount(catalogue=a_catalogue(tiered_card()))
    team.bought("A", 25, "2026-11-01 01:00")

    found = told(team, used(8), used(8), used(8))

    assert [format_credits(use.amount_micros) for use in found.uses] == ["16", "10", "8"]
    assert [format_credits(use.debt_micros) for use in found.uses] == ["0", "1", "8"]
    assert format_credits(found.amount_micros) == "34"
    assert [format_credits(use.available_after_micros) for use in found.uses] == ["9", "0", "0"]


def test_what_a_hold_would_be_denied_for_is_told_with_the_rule_and_its_numbers() -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 01:00")
    terms = LimitTerms(limit_id="miras", window="day", cap_micros=micros(5), member="mira")
    team.asked("2026-11-01 02:00", SetLimit(team_id="acme", limit=terms))

    first, second, other = told(team, used(4), used(4), used(4, member="noor")).uses

    assert first.denial is None
    assert (second.denial.rule, second.denial.limit_id, second.denial.used_micros) == (
        "limit",
        "miras",
        micros(4),
    )
    assert second.limits[0].is_passed
    assert other.denial is None
    assert second.denial == team_denial(team)


def team_denial(team: AnAccount) -> Any:
    """What the hold is really answered, once the first use is charged."""
    team.used("1", 4, occurred=AT)
    denial = team.denied(4, AT, member="mira")
    found = told(team, used(4)).uses[0].denial
    assert (found.rule, found.limit_id, found.requested_micros) == (
        denial.rule,
        denial.limit_id,
        denial.requested_micros,
    )
    return found


def test_a_suspended_account_is_told_as_the_refusal_that_a_hold_would_meet() -> None:
    team = AnAccount()
    team.asked("2026-11-01 02:00", SuspendAccount(team_id="acme", reason="unpaid"))

    found = told(team, used(1)).uses[0]

    assert found.refusal is not None
    assert found.refusal.code == "account_suspended"
    assert format_credits(found.amount_micros) == "1"


def test_replacing_a_period_begins_it_anew_with_its_allowance_its_tiers_and_empty_windows() -> None:
    catalogue = a_catalogue(tiered_card(), plans=[a_plan("studio", 30, limits=[_limit(20)])])
    team = AnAccount(catalogue=catalogue)
    team.planned("studio", "2026-11-01 00:00")
    team.used("1", 12, occurred="2026-11-02 00:00")

    added = told(team, used(5)).uses[0]
    replaced = told(team, used(5), used(12), mode="replace").uses

    assert format_credits(added.amount_micros) == "5"
    assert added.denial is not None
    assert [format_credits(use.amount_micros) for use in replaced] == ["10", "17"]
    assert [format_credits(use.debt_micros) for use in replaced] == ["0", "0"]
    assert [use.denial is None for use in replaced] == [True, False]
    assert format_credits(replaced[1].settled_after_micros) == "3"


def _limit(cap: int) -> dict[str, Any]:
    return {"limit_id": "cap", "window": "period", "hard": True, "cap": str(cap), "thresholds": []}


def test_one_use_alone_is_the_first_of_a_list_and_nothing_to_price_costs_nothing() -> None:
    team = AnAccount()
    alone = estimate(team.account, team.catalogue, team.index, when(AT), "image.generate", {"units": "0"}, {})

    assert (alone.priced, alone.amount_micros, alone.denial, alone.refusal) == (None, 0, None, None)


def test_late_work_is_estimated_in_the_windows_and_at_the_card_of_its_time() -> None:
    team = AnAccount()
    team.bought("A", 9, "2026-11-01 01:00", expires_at="2026-11-03 00:00")
    late = used(2, occurred_at=when(AT) - timedelta(days=1))

    found = told(team, late).uses[0]
    charge = team.used("late", 2, occurred="2026-11-02 12:00", recorded=AT)

    assert isinstance(charge, CreditsCharged)
    assert found.lines == charge.lines != []
