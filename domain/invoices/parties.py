"""Who and when, as a document says it: its issuer and customer as they were, and the period."""

from __future__ import annotations

from domain.billing import BillingDetails
from domain.invoices.assigning import BillingPeriod
from domain.invoices.document import Customer, Period, Seller
from domain.issuer.details import IssuerDetails
from domain.times import instant_text


def seller_of(details: IssuerDetails | None) -> Seller | None:
    """Who sells, as the document says it."""
    if details is None:
        return None
    return Seller(**{name: getattr(details, name) for name in Seller.__struct_fields__})


def customer_of(details: BillingDetails | None) -> Customer | None:
    """Whom the document is made out to, as it says it."""
    if details is None:
        return None
    return Customer(**{name: getattr(details, name) for name in Customer.__struct_fields__})


def shown_period(period: BillingPeriod) -> Period:
    """The period as the document says it."""
    return Period(
        label=period.label,
        start=instant_text(period.start),
        end=instant_text(period.end),
        zone=period.zone,
    )
