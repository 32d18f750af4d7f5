"""Pictures of pages, to be looked at: whoever changes a template runs this and opens what it wrote.

Run: .venv/bin/python -m tests.infra.forms.pictures
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pypdfium2

from domain.invoices.document import Customer, Invoice
from infra.forms.invoices import printed_invoice
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
FOLDER = ROOT / "out" / "forms"
SHOWN = {"one": "invoice.png", "arabic": "invoice-arabic.png"}
"""Which first pages stand in docs/ and README.md."""

_LONG = "render-farm.north/" + "0123456789" * 11


def documents() -> Iterator[tuple[str, Invoice]]:
    """What should be looked at, by name."""
    yield "one", an_invoice()
    yield "five", an_invoice(lines=[a_line(number, charges=number) for number in range(1, 130)])
    yield "japanese", an_invoice(customer=JAPANESE)
    yield "arabic", an_invoice(customer=ARABIC)
    yield "hebrew", an_invoice(customer=HEBREW)
    yield "chinese", an_invoice(customer=_named("北光影视制作有限公司", "zh-CN"))
    yield "korean", an_invoice(customer=_named("노스라이트 픽처스 주식회사", "ko-KR"))
    yield "german_draft", a_draft(customer=_named("Nordlicht Bildproduktion GmbH", "de-DE"))
    yield "credit_note", a_credit_note()
    yield "void", a_void()
    long = a_line(
        action=f"image.{'x' * 90}",
        project=_LONG,
        member=_LONG,
        quantities={"m" * 60: "9" * 18 + ".123456789"},
    )
    yield (
        "long",
        an_invoice(
            customer=_named(f"{'Very long name of a company ' * 5}{_LONG}", "en-US"), lines=[long], team=_LONG
        ),
    )
    yield "mixed", an_invoice(customer=_named("شركة (Northlight) #1 株式会社", "en-GB"), reason=None)


def main() -> None:
    """Write a picture of every page under out/forms, and the two that are shown into docs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, document in documents():
        pages = pypdfium2.PdfDocument(printed_invoice(document).pdf)
        for number in range(len(pages)):
            _picture(pages[number], 1.6).save(FOLDER / f"{name}-{number + 1}.png")
        if name in SHOWN:
            _picture(pages[0], 1.15).quantize(128).save(ROOT / "docs" / SHOWN[name], optimize=True)
        print(f"{name}: {len(pages)} pages")


def _picture(page: Any, scale: float) -> Any:
    return page.render(scale=scale).to_pil()


def _named(name: str, locale: str) -> Customer:
    return msgspec.structs.replace(CUSTOMER, name=name, locale=locale)


if __name__ == "__main__":
    main()
