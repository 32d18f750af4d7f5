"""The page of problems: every code with its status and meaning, made from the classes; `python -m api.documented` writes it."""

from __future__ import annotations

from pathlib import Path

from api.errors import STATUS, code_of

PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- problems: written by `python -m api.documented` -->", "<!-- end of problems -->"


def problem_table(prefix: str = "") -> str:
    """Every cause of a problem that there is, as a table, by status and code; ``prefix`` stands before each code."""
    lines = ["| code | status | title | when |", "|---|---|---|---|"]
    for each in sorted(STATUS, key=lambda cause: (STATUS[cause].status, code_of(cause("")))):
        meaning = " ".join((each.__doc__ or "").split("\n\n")[0].split())
        status, title = STATUS[each]
        lines.append(f"| `{prefix}{code_of(each(''))}` | {status} | {title} | {meaning} |")
    return "\n".join(lines) + "\n"


def documented(page: str) -> str:
    """The page with the table between its marks as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{problem_table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(documented(PAGE.read_text()))
