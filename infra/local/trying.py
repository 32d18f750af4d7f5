"""What to try once the ledger is up: real commands with ids of this very ledger, ready to be pasted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from psycopg.rows import tuple_row

from domain.amounts import format_credits
from infra.local.gateway import LOST, STUDIO
from infra.postgres.shards import ShardMap
from infra.settings import Settings


class Example(NamedTuple):
    """A charge worth looking at, and its team."""

    team_id: str
    charge_id: str
    amount_micros: int


def what_to_try(shards: ShardMap, api_address: str, api_key: str, state_directory: Path) -> str:
    """Lines to paste, with a team that was charged; without any charge yet, only where the API is."""
    lines = [f"The API serves at {api_address}, described at {api_address}/openapi.json.", ""]
    lines += ["What to try, in another terminal:", "", f"  export PATH={_programs()}:$PATH"]
    if state_directory != Settings.model_fields["state_directory"].default:
        lines.append(f"  export COFFER_STATE_DIRECTORY={state_directory}")
    lines += [f"  export COFFER_API={api_address}", f"  export COFFER_API_KEY={api_key}"]
    example = find_example(shards)
    if example is not None:
        lines += _examples(example)
    lines += ["", "Ctrl-C stops everything; the data stay for the next `make run`."]
    return "\n".join(lines)


def _programs() -> str:
    """Where `coffer` is, in the shell's words: short where the reader stands in the project."""
    programs = Path(sys.executable).parent
    return (
        f"$PWD/{programs.relative_to(Path.cwd())}" if programs.is_relative_to(Path.cwd()) else str(programs)
    )


def find_example(shards: ShardMap) -> Example | None:
    """The largest charge of the team that was charged most; None when nothing was charged."""
    best: Example | None = None
    most = 0
    for shard in range(shards.count):
        with shards.connection_for(shard) as connection, connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(
                "SELECT team_id, sum(amount_micros)::bigint, (array_agg(charge_id::text ORDER BY amount_micros DESC))[1],"
                " max(amount_micros) FROM statement_entry"
                " WHERE shard = %s AND kind = 'CreditsCharged' AND amount_micros > 0"
                " GROUP BY team_id ORDER BY 2 DESC LIMIT 1",
                (shard,),
            )
            row = cursor.fetchone()
            if row is not None and row[1] > most:
                most, best = row[1], Example(row[0], row[2].replace("-", ""), row[3])
    return best


def _examples(example: Example) -> list[str]:
    team, charge = example.team_id, example.charge_id
    amount = format_credits(example.amount_micros)
    tries = [
        ("the balance of the busiest team", f"coffer balance {team}"),
        ("its last entries", f"coffer statement {team} --newest --limit 5"),
        (f"why its largest charge cost {amount} credits", f"coffer explain {team} {charge}"),
        (
            "a price before it is spent",
            f"coffer estimate {team} image.generate --meter images=4 --meter steps=30",
        ),
        (
            "a team that held before it worked: its open holds, and a limit that bit",
            f"coffer hold show {STUDIO}",
        ),
        ("", f"coffer limits show {STUDIO}"),
        ("a top-up that the ledger asked for, and the bank took back", f"coffer statement {LOST}"),
        ("what the world was told of it", f"coffer history {LOST}"),
        ("give that charge back", f"coffer refund {team} {charge} --reason 'a gift'"),
        ("what its invoice would say now, and the page itself", f"coffer invoice draft {team}"),
        ("", f"coffer invoice pdf {team} --file draft.pdf"),
        ("prove that everything agrees", "coffer verify"),
        (
            "the same over HTTP",
            f'curl -H "Authorization: Bearer $COFFER_API_KEY" $COFFER_API/v1/accounts/{team}/balance',
        ),
    ]
    lines: list[str] = []
    for what, command in tries:
        lines += [f"  # {what}", f"  {command}"] if what else [f"  {command}"]
    return lines
