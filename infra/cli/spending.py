"""Commands about spending: may it run, what was spent, what a plan comes to, may it be handed over."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.accounts import pairs
from infra.cli.plans import plan
from infra.cli.session import (
    DIFFERENCE,
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    Team,
    asked,
    checked_team,
    execute,
    note,
    over,
    show,
    show_rows,
)

if TYPE_CHECKING:
    from api.requests.spending import VolumeBody

Action = Annotated[str, typer.Argument(help="The action, such as image.generate.", show_default=False)]
Meter = Annotated[
    list[str] | None,
    typer.Option("-m", "--meter", help="name=quantity, once per meter.", show_default=False),
]
Dimension = Annotated[
    list[str] | None,
    typer.Option("-d", "--dimension", help="name=value, once per dimension.", show_default=False),
]
Member = Annotated[
    str | None, typer.Option("--member", help="The member who asks for it.", show_default=False)
]
Project = Annotated[
    str | None, typer.Option("--project", help="The project that would pay.", show_default=False)
]
Days = Annotated[int, typer.Option("--days", min=1, help="Days of the team's zone, today included.")]
Volumes = Annotated[
    list[str] | None,
    typer.Option(
        "-v",
        "--volume",
        help="action=low:expected:high uses; -m and -d say what each is like.",
        show_default=False,
    ),
]
VolumesFile = Annotated[
    str | None,
    typer.Option(
        "--volumes", metavar="FILE", help="Volumes as JSON, - for standard input.", show_default=False
    ),
]


class Part(StrEnum):
    """What rows of spending are told apart by."""

    day = "day"
    action = "action"
    member = "member"
    project = "project"
    work = "work"


def preflight(
    team: Team,
    action: Action,
    meter: Meter = None,
    dimension: Dimension = None,
    times: Annotated[int, typer.Option("--times", min=1, help="How many such tasks.")] = 1,
    member: Member = None,
    project: Project = None,
    output: OutputOption = Output.table,
) -> None:
    """Tell whether tasks may run now; each check says what would make it pass and who may do that. Exit 1 if not.

    Example: coffer preflight acme image.generate -m images=4 --times 20 --member mira
    """
    from api.requests.spending import PreflightBody

    task = _use(action, meter, dimension, member, project) | {"times": times}
    body = PreflightBody.model_validate({"tasks": [task], "member": member})
    answer = asked(
        lambda queries: queries.spending.preflight(
            checked_team(team), [each.task() for each in body.tasks], body.member
        ),
        *("accounts", checked_team(team), "preflight"),
        body=body,
    )
    show(answer, output, rows="checks", columns=("check", "passes", "why", "remedy", "who"))
    if not answer["passes"]:
        raise typer.Exit(DIFFERENCE)


def review(
    team: Team,
    action: Annotated[
        str | None, typer.Argument(help="The action that comes next.", show_default=False)
    ] = None,
    meter: Meter = None,
    dimension: Dimension = None,
    member: Member = None,
    project: Project = None,
    output: OutputOption = Output.table,
) -> None:
    """Tell whether a team's work may be handed over: charges, limits, invoices, permissions, the next price. Exit 1 if not.

    Example: coffer review acme image.generate -m images=4 --member mira
    """
    from api.requests.spending import ReviewBody

    following = _use(action, meter, dimension, member, project) if action is not None else None
    body = ReviewBody.model_validate({"next_use": following, "member": member})
    answer = asked(
        lambda queries: queries.spending.review(
            checked_team(team), body.next_use.use() if body.next_use else None, body.member
        ),
        *("accounts", checked_team(team), "review"),
        body=body,
    )
    show(answer, output, rows="checks", columns=("check", "passes", "why", "remedy", "who"))
    if not answer["ready"]:
        raise typer.Exit(DIFFERENCE)


def spending(
    team: Team,
    since: Annotated[
        datetime | None,
        typer.Option("--since", formats=["%Y-%m-%d"], help="The first day.", show_default=False),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=["%Y-%m-%d"], help="The day after the last.", show_default=False),
    ] = None,
    by: Annotated[list[Part] | None, typer.Option("--by", help="What rows are told apart by.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what a team spent by day, action, member, project or work, its daily rate, and what the next 30 days cost.

    Example: coffer spending acme --by member --by action --since 2026-11-01
    """
    from api.spending_queries import PARTS, Span

    wanted = {each.value for each in by or (Part.day, Part.action)}
    parts = tuple(part for part in PARTS if part in wanted)
    span = Span(since.date() if since else None, until.date() if until else None, parts)
    told = asked(
        lambda queries: queries.spending.spending(checked_team(team), span),
        *("accounts", checked_team(team), "spending"),
        query={"since": span.since, "until": span.until, "by": parts},
    )
    show(
        told,
        output,
        rows="data",
        columns=(*span.by, "uses", "waived", "charged", "refunded", "net"),
    )
    if output is Output.table:
        ahead = told["forecast"]
        note(
            f"{told['net']} credits net; {told['burn_rate']} a day of late; the next {ahead['days']} days: {ahead['expected']},"
            f" {ahead['stated_percent']} % between {ahead['low']} and {ahead['high']}; {_learned_from(ahead['other_teams'])}"
        )


@plan.command("preview")
def preview(
    team: Team,
    volume: Volumes = None,
    volumes: VolumesFile = None,
    meter: Meter = None,
    dimension: Dimension = None,
    member: Member = None,
    project: Project = None,
    days: Days = 30,
    output: OutputOption = Output.table,
) -> None:
    """Tell what volumes come to, on three paths; without any, what the team's past teaches. Nothing is saved.

    Example: coffer plan preview acme -v image.generate=100:250:600 -m images=4 --days 30
    """
    from api.requests.spending import PlanSpendingBody

    lines = _volumes(volume, volumes, _shared(meter, dimension, member, project))
    answer = asked(
        lambda queries: queries.spending.plan(checked_team(team), [line.line() for line in lines], days),
        *("accounts", checked_team(team), "spending-plans", "preview"),
        body=PlanSpendingBody(volumes=lines, days=days),
    )
    if output is not Output.table:
        show(answer, output)
        return
    show_rows(_paths(answer), output)
    if answer["is_learned"]:
        note(
            "learned from the team's past: "
            + ", ".join(
                f"{each['action']} {each['low']}:{each['expected']}:{each['high']}"
                for each in answer["volumes"]
            )
        )
    if answer["high"]["buying"] is not None:
        note(_purchase(answer["high"]["buying"]))


@plan.command("save")
def save(
    team: Team,
    audience: Annotated[
        str, typer.Option("--for", help="Who will use what it pays for.", show_default=False)
    ],
    volume: Volumes = None,
    volumes: VolumesFile = None,
    meter: Meter = None,
    dimension: Dimension = None,
    member: Member = None,
    project: Project = None,
    days: Days = 30,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Keep a spending plan for an audience, to be compared with what comes.

    Example: coffer plan save acme --for "the autumn campaign" -v image.generate=100:250:600 -m images=4
    """
    from api.requests.spending import SavePlanBody

    lines = _volumes(volume, volumes, _shared(meter, dimension, member, project))
    body = SavePlanBody.model_validate(
        {"audience": audience, "days": days, "volumes": lines, "reason": reason}
    )
    execute(body.command(checked_team(team)), key, output, over("spending-plans", body=body))


@plan.command("saved")
def saved(team: Team, output: OutputOption = Output.table) -> None:
    """Show the newest spending plans that were saved.

    Example: coffer plan saved acme
    """
    answer = asked(
        lambda queries: queries.spending.saved_plans(checked_team(team)),
        *("accounts", checked_team(team), "spending-plans"),
    )
    show(answer, output, rows="data", columns=("plan_id", "audience", "starts_at", "ends_at", "expected"))


@plan.command("actual")
def actual(
    team: Team,
    plan_id: Annotated[str, typer.Argument(metavar="PLAN", help="A saved plan.", show_default=False)],
    output: OutputOption = Output.table,
) -> None:
    """Compare a saved spending plan with what came.

    Example: coffer plan actual acme plan-3
    """
    told = asked(
        lambda queries: queries.spending.actual(checked_team(team), plan_id),
        *("accounts", checked_team(team), "spending-plans", plan_id, "actual"),
    )
    show(told, output, rows="data", columns=("action", "low", "expected", "high", "uses", "net"))
    if output is Output.table:
        how = "within" if told["is_within"] else "outside"
        note(f"{told['spent']} credits spent, {told['due']} expected by {told['until']}: {how} the plan")


def _use(
    action: str,
    meter: list[str] | None,
    dimension: list[str] | None,
    member: str | None,
    project: str | None,
) -> dict[str, object]:
    return {"action": action} | _shared(meter, dimension, member, project)


def _shared(
    meter: list[str] | None, dimension: list[str] | None, member: str | None, project: str | None
) -> dict[str, object]:
    return {
        "meters": pairs(meter, "--meter"),
        "dimensions": pairs(dimension, "--dimension"),
        "member": member,
        "project": project,
    }


def _volumes(given: list[str] | None, file: str | None, shared: Mapping[str, object]) -> list[VolumeBody]:
    """What ``action=low:expected:high`` options and a file of JSON say. Raises: Malformed."""
    from pydantic import TypeAdapter

    from api.requests.spending import VolumeBody
    from domain.errors import Malformed

    told: list[object] = []
    if file is not None:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        try:
            told = list(json.loads(text))
        except (ValueError, TypeError) as error:
            raise Malformed(f"--volumes {file}: a JSON list of volumes would be right: {error}") from error
    for each in given or []:
        action, equals, numbers = each.partition("=")
        parts = numbers.split(":")
        if not equals or len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise Malformed(f"--volume {each!r}: write action=low:expected:high, whole numbers of uses")
        low, expected, high = map(int, parts)
        told.append({"action": action, "low": low, "expected": expected, "high": high} | dict(shared))
    return TypeAdapter(list[VolumeBody]).validate_python(told)


def _paths(answer: Mapping[str, Any]) -> list[dict[str, object]]:
    """One row a path."""
    rows: list[dict[str, object]] = []
    for path in ("low", "expected", "high"):
        course = answer[path]
        bite = course["first_limit"]
        rows.append(
            {
                "path": path,
                "uses": course["uses"],
                "cost": course["cost"],
                "runs out": course["run_out_at"],
                "top-up": course["top_up"],
                "expires unused": ", ".join(
                    f"{each['lot_id']} {each['amount']}" for each in course["expiring"]
                ),
                "paid by": ", ".join(f"{each['lot_id']} {each['amount']}" for each in course["covered"]),
                "first limit": _bite(bite) if bite else None,
            }
        )
    return rows


def _bite(bite: Mapping[str, Any]) -> str:
    """The limit that bites first: its window, when, what is used of it by then, and whom it stops."""
    whose = ", ".join(str(bite[part]) for part in ("member", "project", "action") if bite[part])
    return (
        f"{bite['limit_id']} ({bite['window']}) at {bite['at']}: {bite['used']} of {bite['cap']} used,"
        f" {bite['requested']} asked for ({whose})"
    )


def _purchase(buying: Mapping[str, Any]) -> str:
    """What the top-up costs, and who may see to it."""
    money = ""
    if buying["price_minor"] is not None:
        tax = f" and {buying['tax_minor']} tax" if buying["tax_minor"] else ""
        money = f" for {buying['price_minor']}{tax} {buying['currency']} minor units"
    who = f"{', '.join(buying['may_buy']) or 'nobody alone'} may buy it"
    if buying["may_ask"]:
        approving = ", ".join(buying["may_approve"]) or "nobody in the team"
        who += f"; {', '.join(buying['may_ask'])} may ask for it, {approving} may approve that"
    return f"the top-up for high: {buying['amount']} credits{money} ({buying['why']}); {who}"


def _learned_from(other_teams: int) -> str:
    if other_teams:
        return f"learned from {other_teams} other teams as well"
    return "too few other teams have spent enough to learn from them: how teams go on is built in"
