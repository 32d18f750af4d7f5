"""Tables for people: every cause of a problem, and who may do what, made from the classes and the table of roles."""

from __future__ import annotations

from api import roles
from api.errors import STATUS, code_of


def problem_table(prefix: str = "") -> str:
    """Every cause of a problem that there is, as a table, by status and code; ``prefix`` stands before each code."""
    lines = ["| code | status | title | when |", "|---|---|---|---|"]
    for each in sorted(STATUS, key=lambda cause: (STATUS[cause].status, code_of(cause("")))):
        meaning = " ".join((each.__doc__ or "").split("\n\n")[0].split())
        status, title = STATUS[each]
        lines.append(f"| `{prefix}{code_of(each(''))}` | {status} | {title} | {meaning} |")
    return "\n".join(lines) + "\n"


def role_table(with_team: frozenset[str]) -> str:
    """Every line of the table of roles with its operations, and how many cells the tests make of them.

    ``with_team``: the operations whose path names a team; each of them is asked about three kinds of team.
    """
    lines = [f"| what | scope of keys | {' | '.join(roles.ROLES)} |", "|---" * (len(roles.ROLES) + 2) + "|"]
    lines += [
        f"| {line.what} | `{line.name}` | {' | '.join(_told(line, role) for role in roles.ROLES)} |"
        for line in roles.TABLE
    ]
    lines += ["", "| scope of keys | operations |", "|---|---|"]
    lines += [
        f"| `{line.name}` | {', '.join(f'`{each}`' for each in line.operations)} |" for line in roles.TABLE
    ]
    asked = len(roles.OPERATIONS) + 2 * len(with_team)
    cells = asked * (len(roles.ROLES) + 1)
    last = (
        f"{len(roles.OPERATIONS)} routes, {len(roles.ROLES)} roles and no role, and where a path names a team the own,"
        f" another and an absent one: {cells} cells, each of which a test asks for."
    )
    return "\n".join([*lines, "", last]) + "\n"


def _told(line: roles.Line, role: str) -> str:
    return roles.told(role, line.operations[0]).replace("-", "–")
