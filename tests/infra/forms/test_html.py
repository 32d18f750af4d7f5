"""The HTML page: read aloud as well as printed, nothing loaded, nothing run, every name as text."""

from __future__ import annotations

import re

import msgspec
import pytest
from lxml import etree
from lxml import html as html_reader

from infra.forms.invoices import invoice_html
from tests.infra.forms.documents import (
    ARABIC,
    CUSTOMER,
    HEBREW,
    JAPANESE,
    a_credit_note,
    a_draft,
    a_line,
    an_invoice,
)

HOSTILE = "<script>alert(1)</script>\"><img src=x onerror=1> {{ 7*7 }} {% raw %} &lt; '\x00\u202e"


def test_tables_have_headings_that_say_what_they_head() -> None:
    page = _page(invoice_html(an_invoice()))

    for table in page.findall(".//table"):
        heading = page.get_element_by_id(table.get("aria-labelledby"))
        assert heading.tag == "h2"
        assert heading.text_content()
        assert [cell.get("scope") for cell in table.findall(".//thead//th")] == ["col"] * len(
            table.findall(".//thead//th")
        )
        for row in [*table.findall("./tbody/tr"), *table.findall("./tfoot/tr")]:
            assert row[0].tag == "th"
            assert row[0].get("scope") == "row"
    assert len(page.findall(".//table")) == 6


def test_rows_have_a_cell_for_every_column() -> None:
    page = _page(invoice_html(an_invoice()))

    for table in page.findall(".//table"):
        widths = {len(row) for row in table.iter("tr")}
        assert len(widths) == 1


def test_headings_go_down_one_level_at_a_time() -> None:
    page = _page(invoice_html(an_invoice()))

    levels = [int(str(each.tag)[1]) for each in page.iter("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    assert len(page.findall(".//main")) == 1


@pytest.mark.parametrize(
    ("customer", "language", "direction"),
    [(CUSTOMER, "en", "ltr"), (JAPANESE, "ja", "ltr"), (ARABIC, "ar", "rtl"), (HEBREW, "he", "rtl")],
)
def test_language_and_direction_are_said_and_names_are_set_apart(
    customer: object, language: str, direction: str
) -> None:
    page = _page(invoice_html(an_invoice(customer=customer)))
    root = page.getroottree().getroot()

    assert (root.get("lang"), root.get("dir")) == (language, direction)
    names = [each.text_content() for each in page.iter("bdi")]
    assert getattr(customer, "name") in names  # noqa: B009 - the parameter is any customer
    assert all(cell[0].get("dir") == "ltr" for cell in page.xpath("//td[@class='number'][span]"))


def test_nothing_is_loaded_and_nothing_runs() -> None:
    text = invoice_html(an_invoice()).decode()
    page = _page(text.encode())

    assert "default-src 'none'" in text
    assert not re.search(r"https?://|url\(|@import|src=|href=", text)
    assert not list(page.iter("script", "link", "img", "iframe", "object", "form", "a"))
    assert not [name for each in page.iter(etree.Element) for name in each.attrib if name.startswith("on")]


def test_a_name_is_never_markup() -> None:
    document = an_invoice(
        customer=msgspec.structs.replace(CUSTOMER, name=HOSTILE, address_lines=[HOSTILE]),
        lines=[a_line(action=HOSTILE, project=HOSTILE, member=HOSTILE, quantities={HOSTILE: "1"})],
        team=HOSTILE,
        reason=HOSTILE,
    )
    text = invoice_html(document).decode()

    assert "<script" not in text
    assert "<img" not in text
    assert "49" not in _page(text.encode()).find(".//address").text_content()
    assert "{{ 7*7 }}" in _page(text.encode()).text_content()


def test_a_page_for_paper_has_its_size_margins_and_repeated_headings() -> None:
    text = invoice_html(an_invoice()).decode()

    assert re.search(r"@page \{ size: A4; margin: 18mm;", text)
    assert "thead { display: table-header-group; }" in text
    assert "size: letter" in invoice_html(an_invoice(), locale="en_US").decode()


def test_colours_can_be_told_apart() -> None:
    text = invoice_html(an_invoice()).decode()
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", text))

    for ink in ("ink", "soft", "accent", "alarm"):
        for paper in ("#ffffff", colours["wash"], "#fbf1ee"):
            # WCAG 2.2, success criterion 1.4.3.
            assert _contrast(colours[ink], paper) >= 4.5, (ink, paper)


def test_a_draft_and_a_correction_say_what_they_are() -> None:
    draft = _page(invoice_html(a_draft())).text_content()
    note = _page(invoice_html(a_credit_note())).text_content()

    assert "DRAFT" in draft
    assert "It is not an invoice" in draft
    assert "This credit note corrects invoice 2026-000123." in note


def test_the_page_says_what_the_pdf_says_in_the_locale_that_is_asked_for() -> None:
    german = _page(invoice_html(an_invoice(), locale="de")).text_content()

    for shown in ("Rechnung", "117,81\u00a0EUR", "1.780,662337", "2. Dezember 2026", "19\u00a0%"):
        assert shown in german


def _page(page: bytes) -> html_reader.HtmlElement:
    return html_reader.document_fromstring(page, parser=html_reader.HTMLParser(encoding="utf-8"))


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
