"""What a top-up would cost in money, by which price that is known, and who may buy it, ask for it or approve it."""

from __future__ import annotations

from typing import Literal

import msgspec

from domain.account.events import CostBasis
from domain.account.index import AccountIndex, TopUp
from domain.account.state import TeamAccount
from domain.amounts import AMOUNT_MAX, format_credits
from domain.spending.authority import who_may, who_may_approve, who_may_ask
from domain.team.state import Team

Basis = Literal["auto_top_up", "last_top_up", "plan"]
"""Where a price comes from, the best first: what the team has agreed to pay for credits to come, what it paid last, and what its
plan costs for its allowance. The last is an indication: allowances expire, and no tax is known of it."""


class KnownPrice(msgspec.Struct, frozen=True, kw_only=True):
    """So much money for so many credits; ``reference`` is the payment or the plan. ``tax_minor``: None where it is not known."""

    basis: Basis
    reference: str
    amount_micros: int
    price_minor: int
    tax_minor: int | None
    currency: str


class Buying(msgspec.Struct, frozen=True, kw_only=True):
    """A top-up of so many credits: its money in minor units rounded up, the price that says so (None: none is known), and who.

    ``may_buy`` may do it alone; ``may_ask`` may ask for it, and one of ``may_approve`` who is not the asker approves it.
    """

    amount_micros: int
    price_minor: int | None
    tax_minor: int | None
    currency: str | None
    price: KnownPrice | None
    why: str
    may_buy: list[str]
    may_ask: list[str]
    may_approve: list[str]


def known_price(account: TeamAccount, index: AccountIndex) -> KnownPrice | None:
    """The best price that the ledger knows for credits of this team; None when it knows none."""
    return _auto_price(account) or _paid_price(index) or _plan_price(account)


def buying_of(team: Team, price: KnownPrice | None, amount_micros: int) -> Buying | None:
    """The top-up of so many credits; None of nothing."""
    if not amount_micros:
        return None
    price_minor = tax_minor = None
    if price is not None:
        price_minor = _part(price.price_minor, price, amount_micros)
        tax_minor = None if price.tax_minor is None else _part(price.tax_minor, price, amount_micros)
    is_told = price is not None and price_minor is not None
    return Buying(
        amount_micros=amount_micros,
        price_minor=price_minor,
        tax_minor=tax_minor,
        currency=price.currency if price is not None and is_told else None,
        price=price if is_told else None,
        why=_why(price) if price is not None and is_told else _UNKNOWN,
        may_buy=who_may(team, "top_up", amount_micros),
        may_ask=who_may_ask(team, "top_up", amount_micros),
        may_approve=who_may_approve(team, "top_up"),
    )


_UNKNOWN = "no price is known: no automatic top-up is set, nothing was bought yet, and no plan has a price"
_TOLD: dict[Basis, str] = {
    "auto_top_up": "as automatic top-up is set",
    "last_top_up": "as was paid last, by {}",
    "plan": "as plan {} costs for its allowance, without tax: what a top-up costs is not known",
}


def _why(price: KnownPrice) -> str:
    told = _TOLD[price.basis].format(price.reference)
    tax = f" and {price.tax_minor} tax" if price.tax_minor else ""
    return f"{told}: {format_credits(price.amount_micros)} credits for {price.price_minor}{tax} {price.currency} minor units"


def _part(minor: int, price: KnownPrice, amount_micros: int) -> int | None:
    """The money of so many credits, rounded up to a minor unit; None beyond all bounds."""
    found = -(-minor * amount_micros // price.amount_micros)
    return found if found <= AMOUNT_MAX else None


def _auto_price(account: TeamAccount) -> KnownPrice | None:
    auto = account.auto_top_up
    if auto is None or not auto.terms.enabled or auto.terms.cost_basis is None:
        return None
    return _priced("auto_top_up", "automatic top-up", auto.terms.amount_micros, auto.terms.cost_basis)


def _paid_price(index: AccountIndex) -> KnownPrice | None:
    """Of the top-up that was settled last and cost something."""
    found = ((key, msgspec.json.decode(entry, type=TopUp)) for key, entry in index.latest("top_up"))
    paid = [(each.version, key, each) for key, each in found if each.status == "settled" and _costs(each)]
    if not paid:
        return None
    _, reference, last = max(paid, key=lambda each: each[0])
    assert last.cost_basis is not None
    return _priced("last_top_up", reference, last.amount_micros, last.cost_basis)


def _costs(top_up: TopUp) -> bool:
    return top_up.cost_basis is not None and top_up.cost_basis.price_minor > 0 and top_up.amount_micros > 0


def _plan_price(account: TeamAccount) -> KnownPrice | None:
    plan = account.plan
    if plan is None or not plan.price_minor or not plan.allowance_micros:
        return None
    return KnownPrice(
        basis="plan",
        reference=plan.plan_id,
        amount_micros=plan.allowance_micros,
        price_minor=plan.price_minor,
        tax_minor=None,
        currency=plan.currency,
    )


def _priced(basis: Basis, reference: str, amount_micros: int, cost: CostBasis) -> KnownPrice:
    return KnownPrice(
        basis=basis,
        reference=reference,
        amount_micros=amount_micros,
        price_minor=cost.price_minor,
        tax_minor=cost.tax_minor,
        currency=cost.currency,
    )
