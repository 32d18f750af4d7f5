"""Sheets become PDF/A-3b and PDF/UA-1: set by typst, with their data attached, the same bytes each time.

One press per process: fonts and template are read once. A press belongs to one thread at a time and waits for the other; a
process that forks must make its press afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
import typst

from infra.forms.factur_x_metadata import with_factur_x_metadata
from infra.forms.fonts import font_directories, printable, printable_letters
from infra.forms.sheets import Sheet

PDF_STANDARDS: Final = ("a-3b", "ua-1")
"""For archives (ISO 19005-3, level B) and for people who hear the page or see it enlarged (ISO 14289-1)."""


_NOT_SHOWN = "could not be displayed"


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
        attached: dict[str, str] = {}
        if data is not None:
            attached |= {"document": data.decode(), "data-name": data_name, "data-type": data_type}
        if invoice_xml is not None:
            attached["xml"] = invoice_xml.decode()
        try:
            made = self._set(sheet, at, attached, printable)
        except typst.TypstError as error:
            # A letter and its marks are looked for in one font: where none has them all, the letter stands alone.
            if _NOT_SHOWN not in str(error):
                raise
            made = self._set(sheet, at, attached, printable_letters)
        return with_factur_x_metadata(made) if invoice_xml is not None else made

    def _set(
        self, sheet: Sheet, at: datetime, attached: dict[str, str], shown: Callable[[str], str]
    ) -> bytes:
        title = shown(f"{sheet.title} {sheet.number}".strip())
        with self._lock:
            made = self._compiler.compile(
                format="pdf",
                sys_inputs={"sheet": _as_data(sheet, shown), "title": title, **attached},
                pdf_standards=list(PDF_STANDARDS),
                timestamp=int(at.astimezone(UTC).timestamp()),
            )
        assert isinstance(made, bytes)
        return made


@lru_cache(maxsize=1)
def press() -> Press:
    """The press of this process."""
    return Press()


def _as_data(sheet: Sheet, shown: Callable[[str], str]) -> str:
    text = msgspec.json.encode(sheet).decode()
    # A backslash tells of a control character or a quotation mark, which the walk looks at one by one.
    if text.isascii() and "\\" not in text:
        return text
    return msgspec.json.encode(_all_shown(msgspec.to_builtins(sheet), shown)).decode()


def _all_shown(value: object, shown: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {name: _all_shown(one, shown) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_all_shown(one, shown) for one in value]
    return value
