"""The PDF: the same bytes each time, its data attached, PDF/A-3b, legible in every script, and nothing in it is ever code."""

from __future__ import annotations

import hashlib
import io
import random
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import facturx
import msgspec
import pypdf
import pypdfium2
import pytest
from lxml import etree

from domain.invoices.document import Customer, Invoice, canonical_invoice
from infra.forms.factur_x_metadata import with_factur_x_metadata
from infra.forms.fonts import LACKING, printable
from infra.forms.invoices import printed_invoice
from infra.forms.usage_tables import LINES_MAX
from tests.infra.forms.documents import (
    ARABIC,
    CUSTOMER,
    HEBREW,
    JAPANESE,
    a_credit_note,
    a_draft,
    a_line,
    a_void,
    an_invoice,
)

ROOT = Path(__file__).resolve().parents[3]


def test_the_same_document_gives_the_same_bytes_also_in_another_process() -> None:
    here = hashlib.sha256(printed_invoice(an_invoice()).pdf).hexdigest()

    code = (
        "import hashlib; from infra.forms.invoices import printed_invoice; from tests.infra.forms.documents import an_invoice;"
        "printed_invoice(an_invoice(number='other'));"
        "print(hashlib.sha256(printed_invoice(an_invoice()).pdf).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert there.stdout.strip() == here


def test_the_file_is_dated_to_the_day_of_issue() -> None:
    info = _read(printed_invoice(an_invoice()).pdf).metadata

    assert info is not None
    assert str(info["/CreationDate"]).startswith("D:20261202000003")
    assert str(info["/Title"]) == "Invoice 2026-000123"


def test_data_and_invoice_are_attached_as_they_are() -> None:
    printed = printed_invoice(an_invoice())
    attached = _read(printed.pdf).attachments

    assert attached["invoice.json"] == [canonical_invoice(an_invoice())]
    assert attached["factur-x.xml"] == [printed.xml]
    assert _relationships(printed.pdf) == {"invoice.json": "/Data", "factur-x.xml": "/Alternative"}


def test_the_library_of_the_standard_finds_a_valid_invoice_in_the_file() -> None:
    name, xml = facturx.get_xml_from_pdf(
        printed_invoice(an_invoice()).pdf, check_xsd=True, check_schematron=False
    )

    assert name == "factur-x.xml"
    assert b"2026-000123" in xml


def test_the_metadata_say_pdf_a_3b_and_the_profile_of_the_attached_invoice() -> None:
    catalog = _catalog(printed_invoice(an_invoice()).pdf)
    metadata = etree.fromstring(catalog["/Metadata"].get_data())

    assert metadata.findtext(".//{http://www.aiim.org/pdfa/ns/id/}part") == "3"
    assert metadata.findtext(".//{http://www.aiim.org/pdfa/ns/id/}conformance") == "B"
    assert metadata.findtext(".//{http://www.aiim.org/pdfua/ns/id/}part") == "1"
    declared = "{urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#}"
    assert metadata.findtext(f".//{declared}ConformanceLevel") == "EN 16931"
    assert metadata.findtext(f".//{declared}DocumentFileName") == "factur-x.xml"
    schemas = [each.text for each in metadata.iter("{http://www.aiim.org/pdfa/ns/schema#}prefix")]
    assert schemas.count("fx") == 1
    assert len(metadata.findall(".//{http://www.aiim.org/pdfa/ns/extension/}schemas")) == 1


def test_what_pdf_a_asks_of_the_file_is_there() -> None:
    pdf = printed_invoice(an_invoice()).pdf
    reader = _read(pdf)
    catalog = _catalog(pdf)

    assert catalog["/OutputIntents"][0]["/S"] == "/GTS_PDFA1"
    assert "/Filter" not in catalog["/Metadata"]
    assert "/ID" in reader.trailer
    assert "/Encrypt" not in reader.trailer
    assert catalog["/MarkInfo"]["/Marked"]
    assert catalog["/Lang"] == "en"
    fonts = [font for page in reader.pages for font in _fonts(page)]
    assert fonts
    assert all(_is_embedded(font) for font in fonts)


def test_the_page_has_tags_for_headings_and_table_headers() -> None:
    tags = _tags(_catalog(printed_invoice(an_invoice()).pdf)["/StructTreeRoot"])

    assert tags["/H1"] == 1
    assert tags["/H2"] == 6
    assert tags["/Table"] == 6
    # Four tables have headings; the sums of money and what is beside them have none.
    assert tags["/TH"] >= 4 + 7
    assert tags["/TD"] > 50


def test_the_metadata_are_written_behind_a_file_that_stays_as_it_was() -> None:
    draft = printed_invoice(a_draft()).pdf

    declared = with_factur_x_metadata(draft)

    assert declared.startswith(draft)
    assert _text(declared) == _text(draft)


def test_a_file_of_another_typesetter_is_refused() -> None:
    with pytest.raises(ValueError, match="another typesetter"):
        with_factur_x_metadata(b"%PDF-1.7\n1 0 obj\n<</Type/Catalog>>\nendobj\n")


def test_a_draft_says_so_on_every_page_and_carries_no_electronic_invoice() -> None:
    printed = printed_invoice(a_draft(lines=[a_line(number) for number in range(1, 60)]))
    pages = _pages(printed.pdf)

    assert len(pages) > 1
    assert all("DRAFT" in page for page in pages)
    assert list(_read(printed.pdf).attachments) == ["invoice.json"]
    assert printed.xml is None
    assert printed.no_xml_because is not None
    assert "number" in printed.no_xml_because


@pytest.mark.parametrize(
    ("document", "title", "notice"),
    [
        (a_credit_note(), "Credit note", "This credit note corrects invoice 2026-000123."),
        (a_void(), "Cancellation", "This document voids invoice 2026-000123."),
    ],
)
def test_a_correction_has_its_own_title_and_names_its_invoice(
    document: Invoice, title: str, notice: str
) -> None:
    text = _text(printed_invoice(document).pdf)

    assert text.startswith(title)
    assert notice in text
    assert "agreed with the customer" in text


@pytest.mark.parametrize("customer", [JAPANESE, ARABIC, HEBREW])
def test_names_of_every_script_can_be_read_from_the_file(customer: Customer) -> None:
    # Project and member come from the stream and are in another script than the page.
    document = an_invoice(customer=customer, lines=[a_line(project="プロジェクト", member="иван@студия")])
    pdf = printed_invoice(document).pdf
    # On a page from right to left each of the two readers guesses the order of some words in its own way.
    text = _text(pdf) + " " + " ".join(page.extract_text() for page in _read(pdf).pages)

    assert _letters(customer.name) in _letters(text)
    assert "プロジェクト" in text
    assert "иван@студия" in text


def test_money_and_credits_stand_on_the_page_as_the_document_says_them() -> None:
    text = _text(printed_invoice(an_invoice()).pdf)

    for shown in (
        "EUR 117.81",
        "1,780.662337",
        "2,495.087663",
        "1,204,882 input_tokens",
        "12.5",
        "90.412337",
    ):
        assert shown in text.replace("\u00a0", " ")


def test_the_heading_of_a_long_table_stands_on_every_page() -> None:
    pages = _pages(printed_invoice(an_invoice(lines=[a_line(number) for number in range(1, 130)])).pdf)

    assert len(pages) >= 4
    assert all("Unit price" in page for page in pages[:4])
    assert [f"Page {number} of {len(pages)}" in page for number, page in enumerate(pages, start=1)] == [
        True
    ] * len(pages)


def test_more_lines_than_a_page_is_set_for_are_summed_by_rate_and_all_attached() -> None:
    lines = [a_line(number, project=f"p-{number}") for number in range(1, LINES_MAX + 12)]
    document = an_invoice(lines=lines)
    printed = printed_invoice(document)
    text = _text(printed.pdf)

    assert "1,511 lines are summed" in text
    assert f"{412 * 1_511:,} images" in text
    assert f"{309 * 1_511:,}" in text
    assert _read(printed.pdf).attachments["invoice.json"] == [canonical_invoice(document)]


HOSTILE = (
    '#panic("typst ran") $ #sys.inputs *bold* _x_ `raw` <label> @ref \\u{41} // no comment /* */ #let x = 1; "q" \\',
    ']#[evil] ${1} {{ 7 * 7 }} #import "x.typ": *',
    "\x00\x07\u202eegral\u2066 rtl \u2028line \ufeff",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_never_code(name: str) -> None:
    document = an_invoice(
        customer=msgspec.structs.replace(CUSTOMER, name=name, address_lines=[name]),
        lines=[a_line(action=name, project=name, member=name, quantities={name: "1"})],
        reason=name,
        team=name,
    )

    text = _text(printed_invoice(document).pdf)

    assert _squeezed(printable(name)) in _squeezed(text)


def test_a_name_cannot_turn_the_words_around_it() -> None:
    assert printable("evil\u202eegral\u2066") == "evilegral"


def test_a_character_that_no_font_has_is_shown_as_a_square_and_said() -> None:
    text = _text(
        printed_invoice(an_invoice(customer=msgspec.structs.replace(CUSTOMER, name="Ada 🎬 ไทย"))).pdf
    )

    assert f"Ada {LACKING} {LACKING * 3}" in text
    assert "the attached data have it" in text


def test_any_characters_can_be_printed() -> None:
    # A mark on a letter of another script, or on one that no font has, is in no font together with it.
    names = [
        "🎬\u0301",
        "क\u064b",
        "ا\u093f",
        "\u0301",
        "\u200d\ufe0f",
        "\ufffe",
        "\U000e0041",
        "\u1100\u1161\u302e",
    ]
    chance = random.Random(7)
    ranges = (
        (0x20, 0x2000),
        (0x2000, 0xD800),
        (0xE000, 0x10000),
        (0x10000, 0x30000),
        (0x590, 0x780),
        (0x300, 0x370),
    )
    names += ["".join(chr(chance.randrange(*chance.choice(ranges))) for _ in range(40)) for _ in range(20)]

    for name in names:
        document = an_invoice(
            customer=msgspec.structs.replace(CUSTOMER, name=name), lines=[a_line(project=name)]
        )
        assert printed_invoice(document).pdf.startswith(b"%PDF")


def test_a_long_name_breaks_and_stays_whole() -> None:
    long = "render-" + "0123456789" * 12
    text = _text(printed_invoice(an_invoice(lines=[a_line(member=long, project="p" * 120)])).pdf)

    assert long in re.sub(r"\s", "", text)


def test_a_row_that_is_longer_than_a_page_goes_on_on_the_next() -> None:
    meters = {f"meter_{number}": "1" for number in range(90)}
    pdf = printed_invoice(an_invoice(lines=[a_line(quantities=meters)], adjustments=[])).pdf

    # Text that ran off a page would still be found in the file: what stands on the pages is asked for by its place.
    shown = [
        page.get_textpage().get_text_bounded(
            left=0, bottom=40, right=page.get_width(), top=page.get_height() - 30
        )
        for page in pypdfium2.PdfDocument(pdf)
    ]
    assert all(re.search(rf"\b{meter}\b", " ".join(shown)) for meter in meters)


def test_a_second_reader_sees_the_pages() -> None:
    document = pypdfium2.PdfDocument(printed_invoice(an_invoice()).pdf)

    picture = document[0].render(scale=0.5).to_pil().convert("L")

    darkest, lightest = picture.getextrema()
    assert darkest < 60
    assert lightest == 255


def _read(pdf: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(pdf), strict=True)


def _catalog(pdf: bytes) -> Any:
    return _read(pdf).trailer["/Root"]


def _tags(element: Any) -> Counter[str]:
    element = element.get_object()
    if not isinstance(element, dict):
        return Counter()
    kids = element.get("/K", [])
    found = Counter([str(element["/S"])] if "/S" in element else [])
    for kid in kids if isinstance(kids, list) else [kids]:
        if not isinstance(kid, int):
            found += _tags(kid)
    return found


def _pages(pdf: bytes) -> list[str]:
    # PDFium gives text in the order of reading also where letters run from right to left.
    return [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf)]


def _text(pdf: bytes) -> str:
    return " ".join(page.replace("\r\n", " ") for page in _pages(pdf))


def _letters(text: str) -> str:
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


def _squeezed(text: str) -> str:
    return re.sub(r"[\s\u200b\ufffe]", "", text)


def _relationships(pdf: bytes) -> dict[str, str]:
    return {str(each["/F"]): str(each["/AFRelationship"]) for each in _catalog(pdf)["/AF"]}


def _fonts(page: Any) -> list[Any]:
    return [font.get_object() for font in page["/Resources"]["/Font"].values()]


def _is_embedded(font: Any) -> bool:
    descriptor = font["/DescendantFonts"][0]["/FontDescriptor"]
    return "/FontFile2" in descriptor or "/FontFile3" in descriptor
