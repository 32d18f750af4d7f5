"""Whom invoices are made out to: a team's billing details, as the team keeps them and an invoice has them for ever."""

from __future__ import annotations

import msgspec


class BillingDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whom invoices are made out to; ``locale`` is how amounts and dates are written for them, such as "de_DE"."""

    name: str
    address_lines: list[str]
    country: str
    email: str | None = None
    tax_id: str | None = None
    locale: str | None = None
