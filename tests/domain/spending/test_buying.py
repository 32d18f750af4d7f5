"""What the top-up of a plan costs, by which price that is known, and who may buy it: alone, or with somebody who approves."""

from __future__ import annotations

from typing import Any

from domain.account.events import CostBasis
from domain.commands import ConfigureAutoTopUp, TopUpCredits
from domain.spending.authority import who_may, who_may_approve, who_may_ask
from domain.spending.buying import Buying, buying_of, known_price
from domain.spending.planning import plan_spending
from domain.team.state import Member, Team
from domain.volumes import VolumeLine
from tests.builders import AnAccount, a_catalogue, a_plan, micros, unit_card, when

AT = "2026-11-03 12:00"
CAP = 10_000


def a_team(*names: str) -> Team:
    """Members who are called by their role, and a number where there are several."""
    roles: Any = {name: name.rstrip("12") for name in names}
    return Team(team_id="acme", members={name: Member(role, when(AT)) for name, role in roles.items()})


EVERYBODY = a_team("owner", "admin1", "admin2", "member", "viewer")


def paid(account: AnAccount, amount: str, price_minor: int, tax_minor: int, at: str, reference: str) -> None:
    basis = CostBasis(price_minor, "EUR", tax_minor)
    account.asked(
        at,
        TopUpCredits(
            team_id="acme", amount_micros=micros(amount), payment_reference=reference, cost_basis=basis
        ),
    )


def told(account: AnAccount, amount: str = "70", team: Team = EVERYBODY) -> Buying:
    found = buying_of(team, known_price(account.account, account.index), micros(amount))
    assert found is not None
    return found


def test_the_last_top_up_prices_the_next_rounded_up_to_a_minor_unit_tax_apart() -> None:
    """500 credits for 40.00 and 7.60 tax: 70 are 5.60 and 1.064, so 1.07."""
    account = AnAccount()
    paid(account, "100", 9_900, 0, "2026-11-01 01:00", "dear")
    paid(account, "500", 4_000, 760, "2026-11-01 02:00", "a-cheap-one")
    paid(account, "5", 0, 0, "2026-11-01 03:00", "nothing")

    found = told(account)

    assert (found.price_minor, found.tax_minor, found.currency) == (560, 107, "EUR")
    assert found.price is not None
    assert (found.price.basis, found.price.reference) == ("last_top_up", "a-cheap-one")
    assert found.why == "as was paid last, by a-cheap-one: 500 credits for 4000 and 760 tax EUR minor units"


def test_what_automatic_top_up_is_set_to_comes_first_and_the_plan_last() -> None:
    catalogue = a_catalogue(unit_card(), plans=[a_plan("studio", 40)])
    account = AnAccount(catalogue=catalogue)
    nothing = told(account)
    account.planned("studio", "2026-11-01 00:00")
    plan = told(account)
    paid(account, "500", 4_000, 760, "2026-11-01 02:00", "paid")
    last = told(account)
    auto = ConfigureAutoTopUp(
        team_id="acme",
        enabled=True,
        threshold_micros=micros(1),
        amount_micros=micros(100),
        cost_basis=CostBasis(700, "EUR"),
        money_cap_minor=5_000,
    )
    account.asked("2026-11-01 03:00", auto)
    automatic = told(account)
    account.asked("2026-11-01 04:00", ConfigureAutoTopUp(team_id="acme", enabled=False))

    assert [each.price and each.price.basis for each in (nothing, plan, last, automatic, told(account))] == [
        None,
        "plan",
        "last_top_up",
        "auto_top_up",
        "last_top_up",
    ]
    # 10.00 for 40 credits; 40.00 for 500; 7.00 for 100.
    assert [each.price_minor for each in (plan, last, automatic)] == [1_750, 560, 490]
    assert (plan.tax_minor, last.tax_minor, automatic.tax_minor) == (None, 107, 0)


def test_where_no_price_is_known_that_is_said() -> None:
    found = told(AnAccount())

    assert (found.price_minor, found.tax_minor, found.currency, found.price) == (None, None, None, None)
    assert found.why.startswith("no price is known: ")


def test_up_to_the_bound_an_admin_buys_alone_and_above_it_an_owner_or_with_an_owner() -> None:
    account = AnAccount()
    at_bound, above = told(account, str(CAP)), told(account, f"{CAP}.000001")

    assert (at_bound.may_buy, at_bound.may_ask) == (["owner", "admin1", "admin2"], [])
    assert (above.may_buy, above.may_ask, above.may_approve) == (["owner"], ["admin1", "admin2"], ["owner"])


def test_without_an_owner_nobody_approves() -> None:
    found = told(AnAccount(), str(CAP + 1), a_team("admin1", "member"))

    assert (found.may_buy, found.may_ask, found.may_approve) == ([], ["admin1"], [])
    assert who_may(EVERYBODY, "set_limit", 10**15) == ["owner", "admin1", "admin2"]
    assert who_may_ask(EVERYBODY, "set_limit", 10**15) == []
    assert who_may_approve(EVERYBODY, "top_up") == ["owner"]


def test_every_path_of_a_plan_says_what_its_top_up_costs_and_one_that_is_covered_says_nothing() -> None:
    account = AnAccount()
    paid(account, "100", 800, 152, "2026-11-01 01:00", "pay-1")
    line = VolumeLine(action="image.generate", meters={"units": "1"}, low=90, expected=150, high=20_000)

    plan = plan_spending(account.account, EVERYBODY, account.catalogue, account.index, when(AT), [line], 9)

    assert plan.low.buying is None
    expected, high = plan.expected.buying, plan.high.buying
    assert expected is not None
    assert high is not None
    assert (expected.amount_micros, expected.price_minor, expected.tax_minor) == (micros(50), 400, 76)
    assert (high.amount_micros, high.price_minor) == (micros(19_900), 159_200)
    assert (expected.may_buy, high.may_buy) == (["owner", "admin1", "admin2"], ["owner"])
