"""A sheet: everything a page says, already in words and figures, so that every form of a document says the same.

The templates lay a sheet out and add nothing to it. All texts in it are plain: whoever shows them escapes them.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands in one place of a table: lines of text, a remark in small, and zeros that stand unseen after a number."""

    lines: tuple[str, ...] = ()
    note: str = ""
    padding: str = ""


Row = tuple[Cell, ...]
"""One row of a table, a cell for every column. Its first cell says what the row is about."""


class Column(msgspec.Struct, frozen=True):
    """A column: its heading, whether numbers stand in it, and its share of the width (0: as wide as it needs to be)."""

    label: str
    is_number: bool = False
    share: int = 0


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table with its title: rows, and sums at its foot. Tables placed "start" and "end" in a row stand beside each other."""

    title: str
    columns: tuple[Column, ...]
    rows: list[Row]
    foot: list[Row] = []
    note: str = ""
    place: Literal["wide", "start", "end"] = "wide"


class Fact(msgspec.Struct, frozen=True):
    """A label and what it says."""

    label: str
    value: str


class PartyBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Who sells or buys: name, address, facts."""

    label: str
    name: str
    lines: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """One document, ready to be laid out."""

    language: str
    direction: str
    region: str
    paper: str
    families: list[str]
    title: str
    number: str
    mark: str
    notices: tuple[str, ...]
    issuer: PartyBlock
    customer: PartyBlock
    facts: tuple[Fact, ...]
    figures: tuple[Fact, ...]
    tables: list[Table]
    small: tuple[str, ...]
    page: str
    author: str


def cell(text: str, note: str = "") -> Cell:
    """A cell of one line."""
    return Cell((text,), note)
