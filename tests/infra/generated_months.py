"""Made-up months of many teams, the same for the same number: bought in two currencies, plans, usage, refunds, or nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.account.events import CostBasis
from domain.account.funding import grant_credits, top_up_credits
from domain.account.opening import open_account
from domain.account.planning import assign_plan
from domain.account.refunding import refund_charge
from domain.billing import BillingDetails
from domain.commands import SetBillingDetails
from domain.ledger import Caller, Ledger
from domain.usage import usage_key
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.shards import ShardMap
from tests.builders import SOURCE, TESTER, a_catalogue, a_plan, a_usage_record, micros, unit_card, when

CATALOGUE = a_catalogue(unit_card(), plans=[a_plan("studio", 100, 20)])
START = when("2026-11-02 08:00")
NAMES = ("Northlight Pictures Ltd", "株式会社ノースライト", "Ægir & Søn <ApS>", "شركة الضوء", "A" * 120)
COUNTRIES = ("DE", "GB", "JP", "US", "FR")
Step = tuple[datetime, Callable[[Decision], object]]


def a_generated_team(shards: ShardMap, number: int, *, ruled: bool = True) -> str:
    """The team of that number has lived through its November; its name. ``ruled``: most have billing details."""
    dice = random.Random(number)
    team = f"made-{number:05d}"
    steps: list[Step] = [(START, lambda decision: open_account(decision, team, "UTC", 1, "standard"))]
    if dice.random() < 0.9:
        steps += _life(dice, team)
    _live(shards, team, steps)
    if ruled and dice.random() < 0.9:
        details = BillingDetails(
            name=dice.choice(NAMES),
            address_lines=["1 Main Street", "12345 Town"],
            country=dice.choice(COUNTRIES),
            email="accounts@example.org" if dice.random() < 0.7 else None,
            tax_id="DE123456789" if dice.random() < 0.5 else None,
        )
        store = PostgresLedgerStore(shards, clock=lambda _: START + timedelta(days=25))
        Ledger(store).execute(
            SetBillingDetails(team_id=team, details=details), Caller("made", "operator"), "details"
        )
    return team


def _life(dice: random.Random, team: str) -> list[Step]:
    """Steps after the opening, in time."""
    at = START
    steps: list[Step] = []
    if dice.random() < 0.3:
        plan = CATALOGUE.plan("studio")
        assert plan is not None
        steps.append((at, lambda decision: assign_plan(decision, plan, "now")))
    for buying in range(dice.randrange(3)):
        steps.append((at, _bought(dice, team, buying)))
    if dice.random() < 0.3:
        amount = micros(dice.randrange(1, 500))
        steps.append((at, lambda decision: grant_credits(decision, amount)))
    used = dice.randrange(12)
    for use in range(used):
        at += timedelta(hours=dice.randrange(1, 50))
        steps.append((at, _used(dice, team, use, at)))
    if used and dice.random() < 0.3:
        at += timedelta(hours=1)
        charge = usage_key(team, SOURCE, f"{team}-{dice.randrange(used)}")
        steps.append((at, lambda decision: refund_charge(decision, charge, None, "refund-1")))
    return steps


def _bought(dice: random.Random, team: str, buying: int) -> Callable[[Decision], object]:
    bought, currency = dice.randrange(1, 1_000), "EUR" if dice.random() < 0.8 else "USD"
    net = bought * dice.randrange(1, 15)
    basis = CostBasis(price_minor=net, currency=currency, tax_minor=(net * 19 + 50) // 100)
    return lambda decision: top_up_credits(
        decision, micros(bought), payment_reference=f"pay-{team}-{buying}", cost_basis=basis
    )


def _used(dice: random.Random, team: str, use: int, at: datetime) -> Callable[[Decision], object]:
    record = a_usage_record(
        f"{team}-{use}",
        f"{dice.randrange(1, 40)}.{dice.randrange(1000):03d}",
        occurred=f"{at:%Y-%m-%d %H:%M}",
        team=team,
        member=dice.choice(["mira", "ben", None]),
        project=dice.choice(["spring", "launch", None]),
        action=dice.choice(["image.generate", "video.generate"]),
    )
    return lambda decision: charge_usage(decision, record, CATALOGUE)


def _live(shards: ShardMap, team: str, steps: list[Step]) -> None:
    """All steps in one transaction, each decided at its own instant."""
    with PostgresLedgerStore(shards, clock=lambda _: START).session(team) as session:
        whole = Decision(None, START, TESTER, session.index)
        for at, rule in steps:
            decision = Decision(copy_of(whole.account) if whole.is_open else None, at, TESTER, whole.index)
            rule(decision)
            whole.account, whole.is_open = decision.account, True
            whole.events += decision.events
            whole.index_changes += decision.index_changes
        session.save_due(whole.account, whole, 0)
