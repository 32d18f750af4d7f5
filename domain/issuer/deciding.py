"""What may change in an issuer: its details, checked before the first event, and the next number of a year."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

from domain.actors import Actor
from domain.errors import Malformed, UnknownIssuer
from domain.issuer.applying import apply, count
from domain.issuer.details import IssuerDetails, number_text
from domain.issuer.events import DocumentKind, InvoiceNumbered, IssuerDetailsChanged
from domain.issuer.state import Issuer, Series, number_claim
from domain.zones import zone_named

ADDRESS_LINES_MAX = 6
NOTE_CHARACTERS_MAX = 1_000

_ISSUER_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")
# Ends in something that is no digit, so that prefix and year cannot be read as one number.
_PREFIX = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]{0,14})?(?<![0-9])", re.ASCII)
_PERCENT = re.compile(r"(0|[1-9][0-9]?)(\.[0-9]{1,2})?", re.ASCII)
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", re.ASCII)
_BIC = re.compile(r"[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?", re.ASCII)
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def check_issuer_id(issuer_id: str) -> str:
    """The id, if it may be an issuer's. Raises: Malformed."""
    if not _ISSUER_ID.fullmatch(issuer_id):
        raise Malformed(
            f"issuer_id {issuer_id[:80]!r} is no id: lower-case ASCII such as 'main' would be right",
            field="issuer_id",
        )
    return issuer_id


def set_details(
    issuer: Issuer,
    details: IssuerDetails,
    at: datetime,
    actor: Actor,
    correlation_id: str | None = None,
    reason: str | None = None,
) -> IssuerDetailsChanged | None:
    """Invoices are issued under the details; ``issuer`` follows. None, and nothing happened, when they are what they were.

    Raises: Malformed, naming the field.
    """
    check_details(details)
    if details == issuer.details:
        return None
    event = IssuerDetailsChanged(
        issuer_id=issuer.issuer_id,
        recorded_at=_never_before(issuer.recorded_at, at),
        actor=actor,
        correlation_id=correlation_id,
        reason=reason,
        details=details,
    )
    apply(issuer, event)
    return event


def draw_number(
    series: Series,
    details: IssuerDetails,
    kind: DocumentKind,
    team_id: str,
    subject: str,
    at: datetime,
    actor: Actor,
) -> InvoiceNumbered:
    """The next number of the year is the document's; ``series`` follows."""
    number = series.version + 1
    event = InvoiceNumbered(
        issuer_id=series.issuer_id,
        recorded_at=_never_before(series.recorded_at, at),
        actor=actor,
        year=series.year,
        number=number,
        invoice=number_text(details.prefix, series.year, number),
        kind=kind,
        team_id=team_id,
        subject=subject,
        claim=number_claim(kind, team_id, subject),
    )
    count(series, event)
    return event


def require_details(issuer: Issuer) -> IssuerDetails:
    """The issuer's details. Raises: UnknownIssuer when it has none yet."""
    if issuer.details is None:
        raise UnknownIssuer(
            f"issuer {issuer.issuer_id!r} has no details, and an invoice must say who sells: set them with"
            f" `coffer issuer set --issuer {issuer.issuer_id}`",
            issuer_id=issuer.issuer_id,
        )
    return issuer.details


def year_of(details: IssuerDetails, at: datetime) -> int:
    """The year whose numbers a document of that instant has, by the issuer's zone."""
    return at.astimezone(zone_named(details.zone)).year


def check_details(details: IssuerDetails) -> None:
    """The details can stand on an invoice. Raises: Malformed, naming the field and what would be right."""
    check_issuer_id(details.issuer_id)
    _check_text("name", details.name, 200)
    if not 1 <= len(details.address_lines) <= ADDRESS_LINES_MAX:
        raise Malformed(
            f"address_lines has {len(details.address_lines)} lines: 1 to {ADDRESS_LINES_MAX} would be right",
            field="address_lines",
        )
    for line in details.address_lines:
        _check_text("address_lines", line, 200)
    _check_form("country", details.country, _COUNTRY, "two capital letters such as 'DE' (ISO 3166-1)")
    zone_named(details.zone)
    _check_form(
        "prefix",
        details.prefix,
        _PREFIX,
        "up to 15 of A-Z a-z 0-9 . _ - that begin with no dot and end in no digit",
    )
    _check_form(
        "tax_percent", details.tax_percent, _PERCENT, "a decimal string below 100 such as '19' or '7.7'"
    )
    _check_optional(details)


def _check_optional(details: IssuerDetails) -> None:
    if details.tax_id is not None:
        _check_text("tax_id", details.tax_id, 40)
    if details.email is not None:
        _check_text("email", details.email, 254)
        _check_form("email", details.email, _EMAIL, "an address such as 'billing@example.com'")
    if details.iban is not None:
        _check_form("iban", details.iban, _IBAN, "an IBAN without spaces such as 'DE89370400440532013000'")
        if not _passes_mod_97(details.iban):
            raise Malformed("iban has a wrong check number: look for a digit that was mistaken", field="iban")
    if details.bic is not None:
        _check_form("bic", details.bic, _BIC, "8 or 11 capital letters and digits such as 'COBADEFFXXX'")
    if details.note is not None:
        _check_text("note", details.note, NOTE_CHARACTERS_MAX)


def _passes_mod_97(iban: str) -> bool:
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


def _never_before(last: datetime | None, at: datetime) -> datetime:
    return at if last is None else max(at, last)


def _check_form(field: str, text: str, form: re.Pattern[str], right: str) -> None:
    if not form.fullmatch(text):
        raise Malformed(f"{field} {text[:80]!r} is not right: {right}", field=field)


def _check_text(field: str, text: str, most: int) -> None:
    if not text.strip() or len(text) > most:
        raise Malformed(f"{field} is blank or too long: 1 to {most} characters would be right", field=field)
    if any(unicodedata.category(character) in _UNSEEN for character in text):
        raise Malformed(f"{field} holds a control or invisible character: leave it out", field=field)
