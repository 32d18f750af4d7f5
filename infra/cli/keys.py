"""Commands about API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.session import Output, OutputOption, note, show_one, show_rows, wired

if TYPE_CHECKING:
    from api.keys import StoredKey

keys = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who the key speaks for.", show_default=False)],
    role: Annotated[
        str,
        typer.Option(help="ingest, support, auditor, operator or break-glass.", show_default=False),
    ],
    days: Annotated[
        int | None,
        typer.Option(
            min=1, max=3_650, help="Expires after so many days; never by default.", show_default=False
        ),
    ] = None,
    hours: Annotated[
        int | None,
        typer.Option(
            min=1, max=240, help="Expires after so many hours; at most 8 for break-glass.", show_default=False
        ),
    ] = None,
    team: Annotated[
        list[str] | None,
        typer.Option(help="A team that the key is for; again for each. Ingest needs it.", show_default=False),
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(help="An action that the key is for; again for each.", show_default=False),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A line of the table of roles; again for each.", show_default=False),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Make an API key of a service. It is shown this once; only its HMAC is kept.

    A name may have two live keys, so that they can be rotated. Teams make keys of their members over HTTP.

    Example: coffer keys create render-farm --role ingest --team acme --team globex --days 90
    """
    from datetime import timedelta

    from infra.postgres.api_keys import Bounds

    lasts = timedelta(days=days or 0, hours=hours or 0) or None
    with wired() as wiring:
        text, stored = wiring.keys.create(name, role, lasts, Bounds(team, action, scope))
    show_one({"key": text, **_told(stored)}, output)
    note("keep it now: it cannot be shown again")


@keys.command("list")
def list_keys(output: OutputOption = Output.table) -> None:
    """List all keys, without their secrets.

    Example: coffer keys list
    """
    with wired() as wiring:
        stored = wiring.keys.all()
    show_rows([_told(each) for each in stored], output)


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id in the middle of the key.", show_default=False)],
    output: OutputOption = Output.table,
) -> None:
    """Revoke a key: within five seconds it opens nothing any more.

    Example: coffer keys revoke 4f9sk20dkq1x
    """
    with wired() as wiring:
        stored = wiring.keys.revoke(key_id)
    show_one(_told(stored), output)


def _told(key: StoredKey) -> dict[str, object]:
    from domain.times import instant_text

    return {
        "key_id": key.key_id,
        "name": key.name,
        "role": key.role,
        "created_at": instant_text(key.created_at),
        "expires_at": instant_text(key.expires_at) if key.expires_at else None,
        "teams": " ".join(key.teams or ()) or None,
        "actions": " ".join(key.actions or ()) or None,
        "scopes": " ".join(key.scopes or ()) or None,
        "last_used_at": instant_text(key.last_used_at) if key.last_used_at else None,
        "revoked_at": instant_text(key.revoked_at) if key.revoked_at else None,
    }
