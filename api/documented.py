"""The pages of problems and of roles, made from the classes and the table; `python -m api.documented` writes them."""

from __future__ import annotations

from pathlib import Path

from api.app import published
from api.tables import problem_table, role_table

PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- problems: written by `python -m api.documented` -->", "<!-- end of problems -->"
ROLES_BEGIN, ROLES_END = "<!-- roles: written by `python -m api.documented` -->", "<!-- end of roles -->"


def documented(page: str) -> str:
    """The page with both tables between their marks as they are now."""
    page = _between(page, BEGIN, END, problem_table())
    return _between(page, ROLES_BEGIN, ROLES_END, role_table(_with_team()))


def _with_team() -> frozenset[str]:
    """The operations whose path names a team."""
    return frozenset(
        operation["operationId"]
        for path, item in published()["paths"].items()
        for operation in item.values()
        if "{team_id}" in path
    )


def _between(page: str, begin: str, end: str, text: str) -> str:
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text}{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(documented(PAGE.read_text()))
