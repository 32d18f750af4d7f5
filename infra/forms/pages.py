"""Sheets become HTML: one page that prints well, reads well aloud, loads nothing and runs nothing."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from infra.forms.sheets import Sheet, Table


class _Shown(NamedTuple):
    """A table and what its heading is called in the page."""

    shown: Table
    anchor: str
    is_headed: bool


def html_page(sheet: Sheet) -> bytes:
    """The sheet as an HTML page in UTF-8. Every text is escaped; names are set apart from the direction of the page."""
    return _template().render(sheet=sheet, groups=_groups(sheet)).encode()


def _groups(sheet: Sheet) -> list[list[_Shown]]:
    """The tables in reading order; those that stand beside each other together."""
    groups: list[list[_Shown]] = []
    for number, table in enumerate(sheet.tables, start=1):
        shown = _Shown(table, f"table-{number}", any(column.label for column in table.columns))
        follows = bool(groups) and groups[-1][-1].shown.place != "wide" and table.place == "end"
        if follows:
            groups[-1].append(shown)
        else:
            groups.append([shown])
    return groups


@lru_cache(maxsize=1)
def _template() -> Template:
    directory = Path(str(files(__package__))) / "templates"
    environment = Environment(
        loader=FileSystemLoader(directory), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )
    return environment.get_template("sheet.html")
