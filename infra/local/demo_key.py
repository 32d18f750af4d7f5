"""The API key of the local stack: made once, readable by its owner only, the same at every start."""

from __future__ import annotations

import os
from pathlib import Path

from psycopg.rows import tuple_row

from api.keys import key_text, new_key, parse_key, secret_mac
from infra.postgres.shards import ShardMap

NAME = "local-operator"
ROLE = "operator"


def kept_api_key(shards: ShardMap, pepper: bytes, state_directory: Path) -> str:
    """A live operator key, as its owner shows it; the ledger holds only its HMAC.

    Kept in ``<state directory>/api_key`` with mode 0600. A file that holds no key is replaced.
    """
    file = state_directory / "api_key"
    parts = parse_key(file.read_text().strip()) if file.exists() else None
    if parts is None:
        parts = new_key()
        state_directory.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(".api_key")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(key_text(parts) + "\n")
        draft.rename(file)
    with shards.first_connection() as connection, connection.cursor(row_factory=tuple_row) as cursor:
        # The database may be younger than the file, or the pepper another than at the last start.
        cursor.execute(
            "INSERT INTO api_key (key_id, name, role, secret_mac, created_at) VALUES (%s, %s, %s, %s, clock_timestamp())"
            " ON CONFLICT (key_id) DO UPDATE SET secret_mac = EXCLUDED.secret_mac",
            (parts.key_id, NAME, ROLE, secret_mac(pepper, parts.secret)),
        )
    return key_text(parts)
