"""Commands about works: brief, steps, handover, result, cost; contexts, and forgetting what somebody wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.accounts import pairs
from infra.cli.session import (
    DIFFERENCE,
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    ReasonOption,
    Team,
    checked_id,
    checked_team,
    done,
    execute,
    fetched,
    listed,
    note,
    over,
    reached,
    show,
    show_one,
    show_rows,
    wired,
)

if TYPE_CHECKING:
    from api.answers_works import HandoverAnswer
    from infra.wiring import Wiring

work = typer.Typer(
    help="Pieces of work: brief, steps, handover, saved result, and what each cost.", no_args_is_help=True
)

WorkId = Annotated[
    str, typer.Argument(metavar="WORK", help="The work, as usage records name it.", show_default=False)
]
Whose = Annotated[
    str | None, typer.Option("--member", help="Whose text it is; yours by default.", show_default=False)
]
Prompts = Annotated[list[str] | None, typer.Option("--prompt", help="A prompt, once per prompt.")]
Parameters = Annotated[list[str] | None, typer.Option("--parameter", help="name=value, once per parameter.")]
Versions = Annotated[
    list[str] | None, typer.Option("--version", help="name=version of a model or tool, once each.")
]
Files = Annotated[list[str] | None, typer.Option("--file", help="A file, once per file.")]
Links = Annotated[list[str] | None, typer.Option("--link", help="An address, once per link.")]
_FOUND = ("work_id", "work_version", "step", "charge_id", "member", "context")
_COST = ("step", "estimate", "charged", "refunded", "net", "held", "charges", "failures", "waived", "holds")


# --- the four steps ---


@work.command("start")
def start(
    team: Team,
    goal: Annotated[str, typer.Option(help="What for.", show_default=False)],
    audience: Annotated[str, typer.Option(help="Who will use the result.", show_default=False)],
    work_id: Annotated[
        str | None, typer.Option("--work", help="Its id; one is made by default.", show_default=False)
    ] = None,
    planned: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help='What it plans to use: a JSON list such as [{"action": "image.generate", "meters": {"images": "4"},'
            ' "step": "draft", "times": 3}].',
            show_default=False,
        ),
    ] = None,
    project: Annotated[str | None, typer.Option(help="The project that pays.", show_default=False)] = None,
    member: Whose = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Begin a work with its brief; what it plans to use is estimated as it would be charged now.

    Example: coffer work start acme --work poster --goal "a poster of a fox" --audience "visitors of the fair"
    """
    from api.requests.works import BriefBody

    body = BriefBody.model_validate(
        {
            "work_id": work_id,
            "goal": goal,
            "audience": audience,
            "planned": [] if planned is None else _json(planned),
            "project": project,
            "member": member,
            "reason": reason,
        }
    )
    execute(body.command(checked_team(team)), key, output, over("works", body=body))


@work.command("step")
def step(
    team: Team,
    work_id: WorkId,
    name: Annotated[str, typer.Argument(metavar="STEP", help="Such as draft.", show_default=False)],
    prompt: Prompts = None,
    parameter: Parameters = None,
    version: Versions = None,
    file: Files = None,
    link: Links = None,
    remark: Annotated[str | None, typer.Option("--note", help="A remark.", show_default=False)] = None,
    member: Whose = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Save a step with its prompts, parameters, versions, files and links; once more, if it was before.

    Example: coffer work step acme poster draft --prompt "a fox" --version model=xl-2 --file draft/1.png
    """
    from api.requests.works import StepBody

    said = _text(prompt, parameter, version, file, link, remark)
    body = StepBody.model_validate({**said, "step": name, "member": member, "reason": reason})
    one = _checked(work_id)
    execute(body.command(checked_team(team), one), key, output, over("works", one, "steps", body=body))


@work.command("handover")
def handover(
    team: Team,
    work_id: WorkId,
    action: Annotated[
        str | None, typer.Option(help="What would come next, such as image.generate.", show_default=False)
    ] = None,
    meter: Annotated[
        list[str] | None,
        typer.Option("-m", "--meter", help="name=quantity of what comes next.", show_default=False),
    ] = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option("-d", "--dimension", help="name=value of what comes next.", show_default=False),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--file", dir_okay=False, help="Keep the signed list in this file.", show_default=False),
    ] = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Check whether a work may be handed over, and sign the answer. Exit 1 when something is not in order.

    Example: coffer work handover acme poster --action image.generate -m images=4 --file poster.handover.json
    """
    from uuid import uuid4

    from api.answers_works import HandoverAnswer
    from api.requests.works import HandoverBody

    use = None
    if action is not None:
        use = {
            "action": action,
            "meters": pairs(meter, "--meter"),
            "dimensions": pairs(dimension, "--dimension"),
        }
    body, one = HandoverBody.model_validate({"next_use": use}), _checked(work_id)
    sent = over("works", one, "handovers", body=body)
    answer, _ = done(body.command(checked_team(team), one), key or uuid4().hex, sent)
    version: int = answer["work_version"]
    signed = HandoverAnswer.model_validate(
        fetched(
            lambda wiring: HandoverAnswer.of(wiring.works.handover(team, one, version)),
            *("accounts", team, "works", one, "handovers", str(version)),
        )
    )
    if to is not None:
        to.write_text(signed.model_dump_json(indent=2) + "\n")
        note(f"signed by key {signed.key_id}: {to}")
    _show_signed(signed, output)
    if answer["outcome"] != "passed":
        raise typer.Exit(DIFFERENCE)


@work.command("save")
def save(
    team: Team,
    work_id: WorkId,
    file: Files = None,
    link: Links = None,
    version: Versions = None,
    remark: Annotated[str | None, typer.Option("--note", help="A remark.", show_default=False)] = None,
    member: Whose = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Save the result of a work, which takes no further step.

    Example: coffer work save acme poster --file poster.png --link https://example.org/poster.png
    """
    from api.requests.works import ResultBody

    said = _text(None, None, version, file, link, remark)
    body = ResultBody.model_validate({**said, "member": member, "reason": reason})
    one = _checked(work_id)
    execute(body.command(checked_team(team), one), key, output, over("works", one, "result", body=body))


# --- what there is ---


@work.command("list")
def list_works(
    team: Team,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows at most.")] = 100,
    output: OutputOption = Output.table,
) -> None:
    """Show a team's works, by id.

    Example: coffer work list acme
    """
    from api.answers_works import WorksAnswer

    answer = fetched(
        lambda wiring: WorksAnswer.of(team, wiring.works.works(checked_team(team), limit=limit), None),
        *("accounts", checked_team(team), "works"),
        query={"limit": limit},
    )
    columns = ("work_id", "status", "started_at", "started_by", "estimate", "handover_passes", "saved_at")
    show(answer, output, rows="data", columns=columns)


@work.command("show")
def show_work(team: Team, work_id: WorkId, output: OutputOption = Output.table) -> None:
    """Show a work: brief, what was saved, cost by step, estimate against actual.

    Example: coffer work show acme poster -o json
    """
    from api.answers_works import WorkAnswer

    one = _checked(work_id)
    answer = fetched(
        lambda wiring: WorkAnswer.of(wiring.works.work(checked_team(team), one)),
        *("accounts", checked_team(team), "works", one),
    )
    if output is not Output.table:
        show(answer, output)
        return
    show_one(answer["work"], output)
    _show_cost(answer["cost"], output)
    show_rows(answer["texts"], output, ("work_version", "step", "member", "text"))


@work.command("cost")
def cost(team: Team, work_id: WorkId, output: OutputOption = Output.table) -> None:
    """Tell what a work cost, by step, against its estimate; also of one that only usage names.

    Example: coffer work cost acme poster
    """
    from api.answers_works import CostAnswer

    one = _checked(work_id)
    answer = fetched(
        lambda wiring: CostAnswer.of(wiring.works.cost(checked_team(team), one)),
        *("accounts", checked_team(team), "works", one, "cost"),
    )
    if output is Output.json:
        show(answer, output)
    else:
        _show_cost(answer["cost"], output)


@work.command("handed-over")
def handed_over(
    team: Team,
    work_id: WorkId,
    version: Annotated[
        int | None,
        typer.Option(
            min=1, help="The check that made this version of the work; the newest.", show_default=False
        ),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show a check of a work's handover as it was signed; nothing is checked again.

    Example: coffer work handed-over acme poster -o json > poster.handover.json
    """
    from api.answers_works import HandoverAnswer

    one = _checked(work_id)
    places = ("handover",) if version is None else ("handovers", str(version))
    told = fetched(
        lambda wiring: HandoverAnswer.of(wiring.works.handover(checked_team(team), one, version)),
        *("accounts", checked_team(team), "works", one, *places),
    )
    _show_signed(HandoverAnswer.model_validate(told), output)


# --- what others verify ---


def signing_key(output: OutputOption = Output.table) -> None:
    """Show the public key of what this ledger signs, for whoever verifies it.

    Example: coffer signing-key -o json > coffer.key.json
    """
    from api.answers_works import SigningKeyAnswer

    def here(wiring: Wiring) -> SigningKeyAnswer:
        key = wiring.signing_key
        return SigningKeyAnswer(key_id=key.key_id, public_key=key.public_key)

    show_one(fetched(here, "signing-key"), output)


def verify_handover(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A signed list.", show_default=False)
    ],
    public_key: Annotated[
        str,
        typer.Option(
            help="The public key in hex, or a file that `coffer signing-key -o json` wrote.",
            show_default=False,
        ),
    ],
    output: OutputOption = Output.table,
) -> None:
    """Verify a signed handover with the public key alone: no database, no network. Exit 1 when it was not signed like that.

    Example: coffer verify-handover poster.handover.json --public-key coffer.key.json
    """
    from api.answers_works import HandoverAnswer
    from domain.errors import Malformed
    from infra.signing import is_signed, key_id_of

    told = _json(file)
    try:
        signed = HandoverAnswer.model_validate(told)
        key = public_key_of(public_key)
        own = key_id_of(key)
        sound = is_signed(key, signed.document.encode(), bytes.fromhex(signed.signature))
    except ValueError as error:
        raise Malformed(
            f"{file}: {str(error).splitlines()[0]}: a signed list and an Ed25519 key are needed"
        ) from None
    if not sound:
        other = (
            ""
            if own == signed.key_id
            else f"; it says it was signed by key {signed.key_id}, this is key {own}"
        )
        print(f"coffer: {file}: the signature is not that of the document{other}", file=sys.stderr)
        raise typer.Exit(DIFFERENCE)
    note(f"signed by key {own}, unchanged since")
    _show_signed(signed, output)


# --- contexts ---


def contexts(
    team: Team,
    words: Annotated[
        str, typer.Argument(help="What is sought; everything without it.", show_default=False)
    ] = "",
    field: Annotated[
        str | None,
        typer.Option(
            "--in", help="prompt, file, link, version, parameter, audience or goal.", show_default=False
        ),
    ] = None,
    member: Annotated[str | None, typer.Option(help="Of this member only.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Rows at most.")] = 100,
    output: OutputOption = Output.table,
) -> None:
    """Find or export what was written: contexts of usage and texts of works of one team.

    Example: coffer contexts acme lantern --in prompt
    Example: coffer contexts acme --limit 100000 -o jsonl > contexts.jsonl
    """
    from typing import get_args

    from api.answers_works import ContextAnswer
    from api.ports import ContextQuery
    from domain.errors import Malformed
    from projections.contexts import ContextField

    known: dict[str, ContextField] = {name: name for name in get_args(ContextField)}
    if field is not None and field not in known:
        raise Malformed(f"--in {field!r}: one of {', '.join(known)} would be right")
    api = reached()
    if api is not None:
        if not words:
            raise Malformed("say what is sought: all that was written is told by the database only")
        query = {"q": words, "in": field, "member": member}
        found = listed(api, ("accounts", checked_team(team), "contexts"), query, limit)
        show_rows(islice(found, limit), output, _FOUND)
        return
    with wired() as wiring:
        asked = ContextQuery(words, known[field] if field else None, member)
        told = wiring.works.search(checked_team(team), asked, limit=limit)
    rows = [ContextAnswer.of(each).model_dump(mode="json") for each in told.found]
    show_rows(rows, output, _FOUND)


def forget(
    team: Team,
    member: Annotated[str, typer.Argument(help="The member's opaque id.", show_default=False)],
    reason: ReasonOption,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Erase all that a member wrote, for good: contexts, texts of works, records that were not charged. Charges stay.

    Example: coffer forget acme mira --reason "asked for it"
    """
    from api.requests.works import ErasureBody

    body = ErasureBody(reason=reason)
    who = checked_member(member)
    execute(body.command(checked_team(team), who), key, output, over("members", who, "erasure", body=body))
    if reached() is not None:
        note("a worker erases the records that were not charged, there and in the topics of dead letters")
        return
    with wired() as wiring:
        erasures = wiring.dead_letters.erasures
        erasures.erase_letters(erasures.unfinished())
        if wiring.settings.kafka_bootstrap is None:
            note("no Kafka: a worker empties the topics of dead letters as soon as it runs")
            return
        from infra.kafka.erasing import finish_erasures

        finish_erasures(erasures, wiring.kafka_bootstrap)


# --- how ---


def checked_member(member: str) -> str:
    """The member's id, as a path of the API could name it. Raises: Malformed."""
    from api.fields import ID_PATTERN

    return checked_id(member, ID_PATTERN, "member")


def _checked(work_id: str) -> str:
    from api.fields import ID_PATTERN

    return checked_id(work_id, ID_PATTERN, "work")


def _text(
    prompt: list[str] | None,
    parameter: list[str] | None,
    version: list[str] | None,
    file: list[str] | None,
    link: list[str] | None,
    remark: str | None,
) -> dict[str, object]:
    return {
        "prompts": prompt or [],
        "parameters": pairs(parameter, "--parameter"),
        "versions": pairs(version, "--version"),
        "files": file or [],
        "links": link or [],
        "note": remark,
    }


def _json(file: Path) -> object:
    """What the file says. Raises: Malformed."""
    from domain.errors import Malformed

    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise Malformed(f"{file} is no JSON: {error}") from None


def public_key_of(given: str) -> str:
    """The key in hex, as given or from a file that `coffer signing-key` wrote. Raises: ValueError."""
    if len(given) == 64 and set(given) <= set("0123456789abcdef"):
        return given
    told = json.loads(Path(given).read_text()) if Path(given).is_file() else {}
    key = told.get("public_key") if isinstance(told, dict) else None
    if key is None:
        raise ValueError(f"{given[:80]!r} is neither 64 hex digits nor a file with a public_key")
    return str(key)


def _show_cost(cost: Mapping[str, Any], output: Output) -> None:
    show_rows([*cost["steps"], {**cost["total"], "step": "in all"}], output, _COST)


def _show_signed(signed: HandoverAnswer, output: Output) -> None:
    if output is Output.json:
        show(signed, output)
        return
    document = json.loads(signed.document)
    if output is Output.table:
        named = ("team_id", "work_id", "at", "account_version", "work_version", "passes")
        show_one({name: document[name] for name in named} | {"net": document["total"]["net"]}, output)
    rows = [{"who": [], "remedy": None} | each for each in document["checks"]]
    show_rows(rows, output, ("check", "passes", "why", "remedy", "who"))
