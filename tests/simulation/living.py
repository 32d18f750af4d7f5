"""One seed is lived through by both sides; after every step they are compared, at month ends all that must hold is looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec

from domain.account.chargebacks import open_chargeback, win_chargeback
from domain.account.events import CreditsCharged
from domain.usage import UsageRecord
from tests.simulation import foresight, laws
from tests.simulation.closer import Closer
from tests.simulation.oracle import Oracle
from tests.simulation.product import Product, catalogue, passed, view
from tests.simulation.stories import Again, Step, Story, Tick, story_of


class Difference(Exception):
    """The two sides differ after a step, or a law was broken there; ``told`` says what, for a person to read."""

    def __init__(self, index: int, step: Step | None, told: str) -> None:
        super().__init__(told)
        self.index, self.step, self.told = index, step, told


ALIKE = [
    {"hold_terms_refused", "quote_not_ours", "quote_expired", "quote_used", "quote_withdrawn"},
    {"account_already_open", "account_closed"},
]
"""Refusals that stand for one another where several are right at once."""

PAPERWORK_SHARE = 0.3
"""At so many month ends one team is invoiced."""

FORESIGHT_SHARE = 0.3
"""At so many, what is foretold of one team is compared with what then comes."""


@dataclass
class Lived:
    """What one seed came to."""

    seed: int
    commands: int = 0
    usage: int = 0
    team_months: int = 0
    permutations: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def live(story: Story) -> Lived:
    """The story was lived through without a difference. Raises: Difference."""
    life = _Life(story)
    for index, step in enumerate(story.steps):
        life.index, life.step = index, step
        try:
            life.go(step)
        except Difference:
            raise
        except Exception as error:
            raise Difference(index, step, f"{type(error).__name__}: {error}") from error
    life.finish()
    return life.lived


class _Life:
    def __init__(self, story: Story) -> None:
        self.story, self.lived = story, Lived(story.seed)
        self.product, self.oracle = Product(story.steps[0].at), Oracle()
        self.refolded: dict[str, laws.Refolded] = {}
        self.rng = Random(story.seed + 1)
        # Drawn apart, so that a kept seed goes on meaning what it meant.
        self.teller = Random(f"foresight {story.seed}")
        self.closer = Closer(self.product, self.rng)
        self.ends = list(story.month_ends)
        self.index, self.step = 0, story.steps[0]

    def go(self, step: Step) -> None:
        """The clock comes to the step, and both sides hear it."""
        while self.ends and self.ends[0] <= step.at:
            self.month_end(self.ends.pop(0))
        if not self.product.may_hear(step):
            return
        self.count(step)
        request = self.product.requests.get(step.team)
        asked = (request.amount_micros, request.cost_basis) if request else None
        ours = self.product.hear(step)
        theirs = self.oracle.hear(step, asked)
        if ours["outcome"].endswith(" again"):
            ours = {"outcome": ours["outcome"].removesuffix(" again")}
            theirs = {"outcome": "done" if theirs["outcome"] == "charged" else theirs["outcome"]}
        if any({ours["outcome"], theirs["outcome"]} <= alike for alike in ALIKE):
            theirs["outcome"] = ours["outcome"]
        self.require_equal("what came of it", ours, _alike(theirs, ours))
        self.compare(step.team, step.at)

    def count(self, step: Step) -> None:
        self.lived.commands += 1
        self.lived.usage += isinstance(step.ask, UsageRecord)
        self.lived.counts[f"asked {type(step.ask).__name__}"] += 1

    def compare(self, team_id: str, at: datetime) -> None:
        """Both sides tell the team alike."""
        team = self.product.store.teams[team_id]
        account = team.account if team.account.recorded_at == at else passed(team, at)
        ours, theirs = view(team, account, at), self.oracle.view(team_id, at)
        if ours != theirs:
            self.require_equal("the account after it", ours, theirs)
        laws.no_idle_credit(account, at)

    def require_equal(self, what: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        if ours == theirs:
            return
        told = [f"{what} differs"]
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                told += [f"  {key}:", f"    product {ours.get(key)}", f"    model   {theirs.get(key)}"]
        raise Difference(self.index, self.step, "\n".join(told))

    # --- month ends ---

    def month_end(self, at: datetime) -> None:
        """Every law is looked at, for every team; those on copies for one of them."""
        teams = sorted(self.product.store.teams)
        for team_id in teams:
            team = self.product.store.teams[team_id]
            refolded = self.refolded.setdefault(team_id, laws.Refolded())
            refolded.catch_up(team_id, team)
            refolded.compare(team)
            self.compare(team_id, at)
            self.lived.team_months += 1
        self.on_copies(self.rng.choice(teams), at)
        if self.teller.random() < FORESIGHT_SHARE:
            self.foretold(self.teller.choice(teams), at)
        # Documents read a whole life each time, which costs as much as living it.
        if self.rng.random() < PAPERWORK_SHARE:
            self.paperwork(self.rng.choice(teams), at)

    def paperwork(self, team_id: str, at: datetime) -> None:
        """The team is invoiced up to here, something becomes of an invoice, and its credits are as they were."""
        self.product.store.now = at
        self.closer.invoice(team_id)
        self.closer.settle(team_id)
        self.compare(team_id, at)

    def foretold(self, team_id: str, at: datetime) -> None:
        """I10: what an estimate, in both modes, and a plan say of the team here and now is what then comes."""
        team, rng = self.product.store.teams[team_id], self.teller
        foresight.estimates_are_what_comes(team_id, team, at, rng)
        foresight.a_period_anew_is_what_comes(team_id, team, at, rng)
        foresight.a_course_is_what_comes(team_id, team, at, rng)
        self.lived.counts["foretold"] += 1

    def on_copies(self, team_id: str, at: datetime) -> None:
        """What would come of charges, refunds and chargebacks here and now."""
        team, sold, rng = self.product.store.teams[team_id], catalogue(), self.rng
        laws.extra_looks_change_nothing(team, sold, at, rng)
        laws.a_refund_restores(team, sold, at, rng)
        charges = list(self.refolded[team_id].books.charges)
        if charges:
            laws.splits_equal_one_refund(team, sold, at, rng, rng.choice(charges))
        contested = self.refolded[team_id].books.contested
        ways = (open_chargeback, win_chargeback)
        laws.a_chargeback_won_changes_nothing(team, sold, at, rng, contested, ways)

    def finish(self) -> None:
        """The seed has ended: everything once more, from the first byte, and for every team."""
        try:
            at = max(self.step.at, *self.story.month_ends)
            for end in self.ends:
                self.month_end(end)
            paid_for = self.rng.choice(sorted(self.product.store.teams))
            self.paperwork(paid_for, at)
            self.closer.invoice(paid_for)
            self.closer.look(paid_for)
            for team_id, team in self.product.store.teams.items():
                whole = laws.Refolded()
                whole.catch_up(team_id, team)
                whole.compare(team)
                laws.whole_numbers(team)
                laws.extra_looks_change_nothing(team, catalogue(), at + timedelta(days=60), self.rng)
            if self.story.order_free is not None:
                self.permute(self.story.order_free)
        except Difference:
            raise
        except Exception as error:
            raise Difference(self.index, None, f"at the end: {type(error).__name__}: {error}") from error
        self.lived.counts.update(self.product.counts)

    # --- I10 ---

    def permute(self, team_id: str) -> None:
        """I10: the usage of this team arrives in another order, still within grace: same totals, same debt, same lots.

        The tiers of a graduated rate fall to records in the order in which they come. Where that gives a record another
        price, and a lot ends between two of them, another part may become debt: then only the totals are the same.
        """
        steps = without_conflicts([step for step in self.story.steps if step.team == team_id])
        told, other = self.totals(steps), self.totals(rearranged(steps, self.rng))
        self.lived.permutations += 1
        names = told.keys() if told["prices"] == other["prices"] else {"charged"}
        if any(told[name] != other[name] for name in names):
            raise Difference(self.index, None, f"I10: order matters for {team_id}\n  {told}\n  {other}")

    def totals(self, steps: list[Step]) -> dict[str, Any]:
        """What the steps come to: the charges and their sum, the debt, and every lot with what is left."""
        product = Product(steps[0].at)
        last = self.story.steps[-1].at + timedelta(days=2)
        for step in steps:
            if not isinstance(step.ask, Tick | Again):
                product.hear(step)
        team = product.store.teams[steps[0].team]
        account = passed(team, last)
        prices = {
            each.event.id: each.event.amount_micros
            for each in team.events
            if isinstance(each.event, CreditsCharged)
        }
        lots = sorted(
            (lot.terms.source, lot.terms.granted_at, str(lot.terms.expires_at), lot.remaining_micros)
            for lot in account.lots
        )
        return {
            "charged": sum(prices.values()),
            "prices": prices,
            "debt": account.debt_micros,
            "lots": lots,
        }


def rearranged(steps: list[Step], rng: Random) -> list[Step]:
    """The same life with every record, and every copy of it, arriving at another instant within a day of its occurrence."""
    again: list[Step] = []
    for step in steps:
        ask, at = step.ask, step.at
        if isinstance(ask, UsageRecord):
            at = ask.occurred_at + timedelta(microseconds=rng.randrange(86_399_000_000))
            ask = msgspec.structs.replace(ask, arrived_at=at)
        again.append(msgspec.structs.replace(step, at=at, ask=ask))
    return sorted(again, key=lambda step: (step.at, step.number))


def without_conflicts(steps: list[Step]) -> list[Step]:
    """The steps without records of a known id and other content: of those, whichever comes first counts."""
    seen: dict[str, str] = {}
    kept: list[Step] = []
    for step in steps:
        if isinstance(step.ask, UsageRecord):
            digest = step.ask.content_digest()
            if seen.setdefault(step.ask.id, digest) != digest:
                continue
        kept.append(step)
    return kept


def _alike(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Only what both tell is compared, but for what says that something happened at all."""
    always = {"outcome", "code", "passed", "thresholds", "auto"}
    return {key: value for key, value in theirs.items() if key in always or key in ours}


def live_seed(seed: int) -> Lived:
    """The seed was lived through without a difference. Raises: Difference."""
    return live(story_of(seed))
