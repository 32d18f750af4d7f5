"""Sheets become PDF/A-3b and PDF/UA-1: set by typst, with their data attached, the same bytes each time.

One press per process: fonts and template are read once. A press belongs to one thread at a time and waits for the other; a
process that forks must make its press afterwards.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
import typst

from infra.forms.factur_x_metadata import with_factur_x_metadata
from infra.forms.fonts import font_directories, printable
from infra.forms.sheets import Sheet

PDF_STANDARDS: Final = ("a-3b", "ua-1")
"""For archives (ISO 19005-3, level B) and for people who hear the page or see it enlarged (ISO 14289-1)."""


class Press:
    """Sets sheets. Memory stays flat: typst forgets what the last pages did not use."""

    def __init__(self) -> None:
        directories = [str(directory) for directory in font_directories()]
        fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=directories)
        template = Path(str(files(__package__))) / "templates" / "sheet.typ"
        self._compiler = typst.Compiler(
            str(template), root=str(template.parent), font_paths=fonts, ignore_system_fonts=True
        )
        self._lock = threading.Lock()

    def pdf(
        self,
        sheet: Sheet,
        at: datetime,
        *,
        data: bytes | None = None,
        data_name: str = "document.json",
        data_type: str = "application/json",
        invoice_xml: bytes | None = None,
    ) -> bytes:
        """The sheet as PDF/A-3b, dated to the instant given: the same sheet and data give the same bytes.

        ``data`` is attached as it is (relationship Data), ``invoice_xml`` as factur-x.xml (relationship Alternative), which
        the file's metadata then declare as the standard asks.
        """
        inputs = {"sheet": _as_data(sheet), "title": printable(f"{sheet.title} {sheet.number}".strip())}
        if data is not None:
            inputs |= {"document": data.decode(), "data-name": data_name, "data-type": data_type}
        if invoice_xml is not None:
            inputs["xml"] = invoice_xml.decode()
        with self._lock:
            made = self._compiler.compile(
                format="pdf",
                sys_inputs=inputs,
                pdf_standards=list(PDF_STANDARDS),
                timestamp=int(at.astimezone(UTC).timestamp()),
            )
        assert isinstance(made, bytes)
        return with_factur_x_metadata(made) if invoice_xml is not None else made


@lru_cache(maxsize=1)
def press() -> Press:
    """The press of this process."""
    return Press()


def _as_data(sheet: Sheet) -> str:
    text = msgspec.json.encode(sheet).decode()
    # A backslash tells of a control character or a quotation mark, which the walk looks at one by one.
    if text.isascii() and "\\" not in text:
        return text
    return msgspec.json.encode(_printable(msgspec.to_builtins(sheet))).decode()


def _printable(value: object) -> object:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {name: _printable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(one) for one in value]
    return value
