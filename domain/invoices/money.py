"""Money on an invoice: top-ups as they were paid, plan fees with the issuer's tax, top-ups that a bank took back; minor units.

A plan costs its price once a period, whole also for a team that joins in the middle (it gets the whole allowance). An upgrade
that takes effect now costs the difference by the days left, rounded down, as its allowance is; a plan that costs less gives
nothing back. Tax on a fee is rounded half up, once per fee.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from domain.account.events import CostBasis, PlanTerms
from domain.account.index import TopUp
from domain.amounts import format_credits
from domain.invoices.assigning import BillingPeriod
from domain.invoices.document import Purchase, PurchaseKind, Tax, Total
from domain.times import instant_text

_DAY = timedelta(days=1)


class Sale(msgspec.Struct, kw_only=True):
    """Money for credits before tax is put on fees; of a top-up that a bank took back both amounts are below zero.

    ``tax_minor`` None: a fee, which the issuer's rate is added to.
    """

    kind: PurchaseKind
    description: str
    credits_micros: int
    reference: str
    at: datetime
    currency: str
    net_minor: int
    tax_minor: int | None = None


def topped_up(amount_micros: int, reference: str, at: datetime, cost_basis: CostBasis) -> Sale:
    """The sale of a top-up, paid."""
    return Sale(
        kind="top_up",
        description=f"Top-up of {format_credits(amount_micros)} credits",
        credits_micros=amount_micros,
        reference=reference,
        at=at,
        currency=cost_basis.currency,
        net_minor=cost_basis.price_minor,
        tax_minor=cost_basis.tax_minor,
    )


def lost_top_up(reference: str, at: datetime) -> Sale:
    """The sale of a top-up undone, whose amounts ``take_back`` puts in."""
    return Sale(
        kind="charged_back",
        description="",
        credits_micros=0,
        reference=reference,
        at=at,
        currency="",
        net_minor=0,
        tax_minor=0,
    )


def take_back(sale: Sale, top_up: TopUp) -> None:
    """The bank has taken back all the money of the top-up."""
    assert top_up.cost_basis is not None, "what a bank takes back was bought"
    sale.description = f"Top-up of {format_credits(top_up.amount_micros)} credits, charged back by the bank"
    sale.credits_micros = -top_up.amount_micros
    sale.currency = top_up.cost_basis.currency
    sale.net_minor, sale.tax_minor = -top_up.cost_basis.price_minor, -top_up.cost_basis.tax_minor


def plan_fee(plan: PlanTerms, at: datetime, credits_micros: int) -> Sale:
    """The fee of a plan for one period."""
    return Sale(
        kind="plan",
        description=f"Plan {plan.plan_id}, version {plan.version}",
        credits_micros=credits_micros,
        reference=f"{plan.plan_id} {plan.version}",
        at=at,
        currency=plan.currency,
        net_minor=plan.price_minor,
    )


def charge_upgrade(
    sale: Sale, before: PlanTerms, plan: PlanTerms, at: datetime, period: BillingPeriod
) -> None:
    """The fee is that of a plan taken instead of another, for the rest of the period by days, today included."""
    left, days = _days(at, period)
    # Plans of different currencies have no difference: the new one costs its own price for the days left.
    paid_minor = before.price_minor if before.currency == plan.currency else 0
    sale.net_minor = max(0, plan.price_minor - paid_minor) * left // days
    sale.description += f", instead of {before.plan_id}, version {before.version}: {left} of {days} days"


def purchases_of(sales: Iterable[Sale], tax_percent: str) -> list[Purchase]:
    """The sales as the document says them, fees taxed at the issuer's rate."""
    return [_purchase(sale, tax_percent) for sale in sales]


def tax_on(net_minor: int, percent: str) -> int:
    """Tax on an amount, in minor units, rounded half up. ``percent`` is a decimal string such as "19" or "7.5"."""
    whole, _, places = percent.partition(".")
    scaled, hundred = int(whole + places), 100 * int(10 ** len(places))
    return (2 * net_minor * scaled + hundred) // (2 * hundred)


def percent_of(net_minor: int, tax_minor: int, issuer_percent: str) -> str | None:
    """The rate of a tax that somebody else worked out: the issuer's where it gives this tax, "0" for none, else None."""
    if tax_on(abs(net_minor), issuer_percent) == abs(tax_minor):
        return issuer_percent
    return None if tax_minor else "0"


def taxes_of(taxed: Sequence[tuple[str, str | None, int, int]]) -> list[Tax]:
    """Sums by currency and rate of (currency, percent, net, tax); a tax without a rate comes last."""
    sums: dict[tuple[str, str | None], tuple[int, int]] = {}
    for currency, percent, net_minor, tax_minor in taxed:
        net, tax = sums.get((currency, percent), (0, 0))
        sums[currency, percent] = net + net_minor, tax + tax_minor
    return [
        Tax(currency=currency, percent=percent, net_minor=net, tax_minor=tax)
        for (currency, percent), (net, tax) in sorted(sums.items(), key=lambda each: _rate_order(*each[0]))
    ]


def totals_of(purchases: Iterable[Purchase]) -> list[Total]:
    """The sums by currency; what is paid already is not due."""
    sums: dict[str, list[int]] = {}
    for each in purchases:
        into = sums.setdefault(each.currency, [0, 0, 0])
        into[0] += each.net_minor
        into[1] += each.tax_minor
        into[2] += each.gross_minor if each.is_paid else 0
    return [total(currency, *sums[currency]) for currency in sorted(sums)]


def total(currency: str, net_minor: int, tax_minor: int, paid_minor: int) -> Total:
    """The total of one currency."""
    gross_minor = net_minor + tax_minor
    return Total(
        currency=currency,
        net_minor=net_minor,
        tax_minor=tax_minor,
        gross_minor=gross_minor,
        paid_minor=paid_minor,
        due_minor=gross_minor - paid_minor,
    )


def _purchase(sale: Sale, tax_percent: str) -> Purchase:
    percent: str | None = tax_percent
    if sale.tax_minor is None:
        tax_minor = tax_on(sale.net_minor, tax_percent)
    else:
        tax_minor, percent = sale.tax_minor, percent_of(sale.net_minor, sale.tax_minor, tax_percent)
    return Purchase(
        kind=sale.kind,
        description=sale.description,
        credits=format_credits(sale.credits_micros),
        reference=sale.reference,
        at=instant_text(sale.at),
        currency=sale.currency,
        tax_percent=percent,
        net_minor=sale.net_minor,
        tax_minor=tax_minor,
        gross_minor=sale.net_minor + tax_minor,
        is_paid=sale.kind != "plan",
    )


def _days(at: datetime, period: BillingPeriod) -> tuple[int, int]:
    """How many days of the period are left, today included, and how many it has: days of 24 hours from its stored start.

    No zone is asked, so that later zone data changes no fee; the first and the last day may be an hour shorter or longer.
    """
    days = round((period.end - period.start) / _DAY)
    return max(1, days - (at - period.start) // _DAY), days


def _rate_order(currency: str, percent: str | None) -> tuple[str, bool, str]:
    return currency, percent is None, percent or ""
