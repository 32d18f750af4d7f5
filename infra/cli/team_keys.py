"""Commands about the API keys of a team's members, and about who of the house read what the team has."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.session import (
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    Team,
    asked,
    body_of,
    checked_id,
    checked_team,
    execute,
    fetched,
    listed,
    note,
    over,
    path_of,
    principal,
    reached,
    show,
    show_one,
    show_rows,
    time_text,
    wired,
)
from infra.cli.team import team

if TYPE_CHECKING:
    from api.answers_keys import CreatedKeyAnswer, KeysAnswer
    from api.requests.keys import KeyBody
    from domain.commands import CreateKey
    from infra.wiring import Wiring

KeyId = Annotated[
    str,
    typer.Argument(metavar="KEY_ID", help="The id in the middle of the key.", show_default=False),
]
Expires = Annotated[
    str | None,
    typer.Option("--expires-at", help="With offset, within 400 days; never by default.", show_default=False),
]
_COLUMNS = ("key_id", "member", "created_at", "expires_at", "scopes", "last_used_at")
_ACCESSES = ("first_at", "principal", "role", "operation", "hour")


@team.command("keys")
def keys(named: Team, output: OutputOption = Output.table) -> None:
    """Show the API keys of a team's members that were not revoked, without their secrets.

    Example: coffer team keys acme
    """
    show(_keys(named), output, rows="data", columns=_COLUMNS)


@team.command("key-create")
def create_key(
    named: Team,
    member: Annotated[
        str | None, typer.Option(help="Whose key it is; yours by the API.", show_default=False)
    ] = None,
    expires_at: Expires = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A line of the table of roles; again for each.", show_default=False),
    ] = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Make an API key of a member, who may have two live ones. It is shown this once; only its HMAC is kept.

    Example: coffer team key-create acme --member mira --scope balance --scope spend
    """
    show_one(_made(named, _body(member, expires_at, scope, reason), key), output)
    note("keep it now: it cannot be shown again")


@team.command("key-rotate")
def rotate_key(
    named: Team,
    key_id: KeyId,
    expires_at: Expires = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Make another key like one that is live: same member, same scopes. Both open until the old one is revoked.

    Example: coffer team key-rotate acme 4f9sk20dkq1x
    """
    from domain.errors import UnknownKey

    old = next((each for each in _keys(named)["data"] if each["key_id"] == key_id), None)
    if old is None:
        raise UnknownKey(f"team {named!r} has no live key {key_id[:40]!r}: see `coffer team keys {named}`")
    show_one(_made(named, _body(old["member"], expires_at, old["scopes"], reason), key), output)
    note(f"keep it now; once nothing uses the old one: coffer team key-revoke {named} {key_id}")


@team.command("key-revoke")
def revoke_key(
    named: Team,
    key_id: KeyId,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Revoke a member's key: within five seconds it opens nothing any more.

    Example: coffer team key-revoke acme 4f9sk20dkq1x --reason "the laptop was lost"
    """
    from api.fields import ID_PATTERN
    from api.requests.keys import KeyRevocationBody

    body, one = KeyRevocationBody(reason=reason), checked_id(key_id, ID_PATTERN, "key")
    sent = over("keys", one, "revocation", body=body)
    execute(body.command(checked_team(named), one), key, output, sent)


@team.command("accesses")
def accesses(
    named: Team,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows at most.")] = 100,
    output: OutputOption = Output.table,
) -> None:
    """Show who of the house read what a team has, newest first: once per person, operation and hour.

    Example: coffer team accesses acme
    """
    api = reached()
    if api is not None:
        found = listed(api, ("accounts", named, "accesses"), {}, limit)
        show_rows(islice(found, limit), output, _ACCESSES)
        return
    answer = asked(lambda queries: queries.teams.accesses(named, limit, None))
    show(answer, output, rows="data", columns=_ACCESSES)


def _body(
    member: str | None, expires_at: str | None, scopes: Sequence[str] | None, reason: str | None
) -> KeyBody:
    from api.requests.keys import KeyBody

    told = {
        "member": member,
        "expires_at": time_text(expires_at, "--expires-at"),
        "scopes": list(scopes) if scopes else None,
        "reason": reason,
    }
    return KeyBody.model_validate({name: value for name, value in told.items() if value is not None})


def _keys(named: str) -> dict[str, Any]:
    def here(wiring: Wiring) -> KeysAnswer:
        stored = wiring.keys.of_team(named)
        used = {each.key_id: each.last_used_at for each in stored if each.last_used_at is not None}
        return wiring.ask(lambda queries: queries.teams.keys(named, used))

    return fetched(here, "accounts", named, "keys")


def _made(named: str, body: KeyBody, key: str | None) -> dict[str, Any]:
    """The answer to the command, and the key itself, this once."""
    from uuid import uuid4

    api = reached()
    if api is not None:
        path = path_of("accounts", checked_team(named), "keys")
        told = api.ask("POST", path, body=body_of(body), key=key or uuid4().hex).json()
    else:
        with wired() as wiring:
            made = _made_here(wiring, body.command(checked_team(named), None), key or uuid4().hex)
        told = made.model_dump(mode="json")
    shown = ("key", "key_id", "team_id", "team_version")
    return {name: told.get(name) for name in shown}


def _made_here(wiring: Wiring, command: CreateKey, key: str) -> CreatedKeyAnswer:
    from api.answers import CommandAnswer
    from api.answers_keys import CreatedKeyAnswer
    from api.keys import Parts, key_of_team, key_text, new_key
    from domain.ledger import Caller

    answer = wiring.ledger.execute(command, Caller(principal(), "operator"), key)
    assert answer.key_id is not None, "the command made a key"
    secret = new_key().secret
    stored = key_of_team(answer.key_id, secret, command.team_id, wiring.pepper, answer.recorded_at)
    text = key_text(Parts(answer.key_id, secret)) if wiring.keys.add(stored) else None
    return CreatedKeyAnswer(**dict(CommandAnswer.of(answer)), key=text)
