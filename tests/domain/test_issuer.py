"""An issuer's details are checked before they are recorded, and numbers of a year count from 1 without a gap."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from domain.actors import Actor
from domain.errors import Malformed, UnknownIssuer
from domain.issuer.applying import count, fold
from domain.issuer.deciding import draw_number, require_details, set_details, year_of
from domain.issuer.details import IssuerDetails, number_text
from domain.issuer.state import Issuer, Series, issuer_stream_id, number_claim, series_stream_id

AT = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
OLGA = Actor("olga", "operator")
STUDIO = IssuerDetails(
    issuer_id="studio",
    name="Studio Meridian GmbH",
    address_lines=["Werkstraße 5", "20095 Hamburg"],
    country="DE",
    tax_id="DE123456789",
    email="billing@meridian.example",
    zone="Europe/Berlin",
    prefix="M-",
    tax_percent="19",
    iban="DE89370400440532013000",
    bic="COBADEFFXXX",
    note="Payable within 14 days.",
)


def test_details_are_those_set_last_and_setting_them_again_changes_nothing() -> None:
    issuer = Issuer(issuer_id="studio")

    first = set_details(issuer, STUDIO, AT, OLGA)
    again = set_details(issuer, STUDIO, AT, OLGA)
    moved = set_details(issuer, msgspec.structs.replace(STUDIO, address_lines=["Kai 1"]), AT, OLGA)

    assert first is not None
    assert again is None
    assert moved is not None
    assert (issuer.version, require_details(issuer).address_lines) == (2, ["Kai 1"])
    assert fold(Issuer(issuer_id="studio"), [first, moved]) == issuer


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", " "),
        ("name", "x" * 201),
        ("name", "a\u200bb"),
        ("address_lines", []),
        ("address_lines", ["one"] * 7),
        ("country", "de"),
        ("country", "DEU"),
        ("zone", "Berlin"),
        ("prefix", "2026"),
        ("prefix", "A B-"),
        ("prefix", "A/"),
        ("prefix", ".."),
        ("tax_percent", "19,0"),
        ("tax_percent", "100"),
        ("tax_percent", "-1"),
        ("tax_percent", "1e1"),
        ("email", "billing at meridian"),
        ("iban", "DE89370400440532013001"),
        ("iban", "DE89 3704"),
        ("bic", "COBA"),
        ("tax_id", ""),
        ("note", "x" * 1_001),
        ("issuer_id", "Studio 2026"),
    ],
)
def test_details_that_cannot_stand_on_an_invoice_are_refused_and_named(field: str, value: object) -> None:
    issuer = Issuer(issuer_id="studio")

    with pytest.raises(Malformed) as refused:
        set_details(issuer, msgspec.structs.replace(STUDIO, **{field: value}), AT, OLGA)

    assert refused.value.asked["field"] == field
    assert issuer.version == 0


def test_an_issuer_without_details_issues_nothing_and_the_refusal_says_how_to_set_them() -> None:
    with pytest.raises(UnknownIssuer, match="coffer issuer set --issuer main"):
        require_details(Issuer(issuer_id="main"))


def test_numbers_of_a_year_count_from_one_and_read_with_the_prefix_of_their_day() -> None:
    series = Series(issuer_id="studio", year=2026)
    other = msgspec.structs.replace(STUDIO, prefix="")

    first = draw_number(series, STUDIO, "invoice", "acme", "2026-11-01T00:00:00Z 0", AT, OLGA)
    second = draw_number(series, other, "void", "acme", "v1", AT, OLGA)

    assert [(first.number, first.invoice), (second.number, second.invoice)] == [
        (1, "M-2026-000001"),
        (2, "2026-000002"),
    ]
    assert (series.version, series.recorded_at) == (2, AT)
    folded = Series(issuer_id="studio", year=2026)
    count(folded, first)
    count(folded, second)
    assert folded == series


def test_an_event_of_another_number_is_never_counted() -> None:
    series = Series(issuer_id="studio", year=2026)
    first = draw_number(series, STUDIO, "invoice", "acme", "2026-11-01T00:00:00Z 0", AT, OLGA)

    with pytest.raises(AssertionError):
        count(series, first)


def test_the_year_of_a_number_is_that_of_the_issuer_s_own_calendar() -> None:
    assert year_of(STUDIO, AT) == 2027
    assert year_of(msgspec.structs.replace(STUDIO, zone="UTC"), AT) == 2026


def test_a_document_has_one_identity_and_no_other_has_it() -> None:
    """I14."""
    asked = [
        ("invoice", "acme", "2026-11-01T00:00:00Z 0"),
        ("invoice", "acme", "2026-11-01T00:00:00Z 1"),
        ("invoice", "acme2", "2026-11-01T00:00:00Z 0"),
        ("void", "acme", "2026-11-01T00:00:00Z 0"),
    ]

    claims = {number_claim(kind, team, subject) for kind, team, subject in asked}  # type: ignore[arg-type]

    assert len(claims) == len(asked)
    assert number_claim("invoice", "acme", "2026-11-01T00:00:00Z 0") == "487e4792361c5e53b60100dd10290459"


def test_streams_have_their_ids_for_ever_and_a_year_is_never_an_issuer() -> None:
    assert str(issuer_stream_id("main")) == "cbd9c310-9bcf-5906-b20d-d093c462a622"
    assert str(series_stream_id("main", 2026)) == "32eff204-d461-512a-9a12-f1208f5ce023"


def test_numbers_beyond_six_digits_are_written_in_full() -> None:
    assert number_text("", 2026, 1_234_567) == "2026-1234567"
