"""Who sells: what an invoice says of its issuer, and how its number reads."""

from __future__ import annotations

import msgspec

MAIN_ISSUER = "main"
"""The issuer of teams whose account names no other."""


class IssuerDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who sells, as invoices print it.

    ``tax_percent`` is a decimal string, added to fees; ``zone`` decides to which year an invoice belongs; ``prefix`` stands
    before the year in its number. ``note`` is printed at the foot of every invoice.
    """

    issuer_id: str = MAIN_ISSUER
    name: str
    address_lines: list[str]
    country: str
    tax_id: str | None = None
    email: str | None = None
    zone: str = "UTC"
    prefix: str = ""
    tax_percent: str = "0"
    iban: str | None = None
    bic: str | None = None
    note: str | None = None


def number_text(prefix: str, year: int, number: int) -> str:
    """The number as it is printed: ``prefix``, the year, and at least six digits that count from 1 in that year."""
    return f"{prefix}{year}-{number:06d}"
