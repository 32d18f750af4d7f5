"""Writes and verifies the audit bundle of a team: a file that needs neither database nor network to be checked."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, NamedTuple
from uuid import uuid4

from domain.bundles import END_FORMAT, FORMAT, Checked, End, Ending, Heading, encode_line, verify_bundle
from infra.checkpoints import CheckpointOnFile, sign
from infra.postgres.shards import ShardMap
from infra.postgres.witnessing import TeamStreams, team_streams
from infra.signing import SigningKey, is_signed

TOLD_EVERY = 2_000


class Bundled(NamedTuple):
    """A bundle that was written: its events, and the checkpoint that covers some of them, if one does."""

    team_id: str
    events: int
    streams: int
    checkpoint: int | None


def write_bundle(
    shards: ShardMap,
    team_id: str,
    key: SigningKey,
    checkpoint: CheckpointOnFile | None,
    out: Path,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> Bundled:
    """The file is a whole bundle of the team as of now, proved against the checkpoint as far as that covers it.

    Nothing is left of the file when it fails. ``progress`` is told events written and events in all.
    Raises: UnknownTeam, EventsArchived, CheckpointDamaged; OSError, psycopg.OperationalError.
    """
    draft = out.with_name(f".{out.name}.{uuid4().hex}")
    try:
        with draft.open("wb") as file:
            told = _write(shards, team_id, key, checkpoint, file, progress)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return told


def check_bundle(file: Path, keys: Collection[str] = (), held: str | None = None) -> Checked:
    """What ``domain.bundles.verify_bundle`` finds in the file, read a line at a time. Raises: OSError."""
    with file.open("rb") as lines:
        return verify_bundle(lines, is_signed, keys=keys, held=held)


def _write(
    shards: ShardMap,
    team_id: str,
    key: SigningKey,
    checkpoint: CheckpointOnFile | None,
    file: IO[bytes],
    progress: Callable[[int, int], None],
) -> Bundled:
    with team_streams(shards, team_id) as streams:
        witness = checkpoint.witness(team_id) if checkpoint else None
        file.write(encode_line(Heading(format=FORMAT, team_id=team_id, witness=witness)) + b"\n")
        written = 0
        for written, event in enumerate(streams.events(), 1):
            file.write(encode_line(event) + b"\n")
            if written % TOLD_EVERY == 0:
                progress(written, streams.length)
        file.write(encode_line(Ending(end=sign(_end(streams), key))) + b"\n")
    covering = checkpoint.checkpoint.number if checkpoint and witness else None
    return Bundled(team_id, written, len(streams.heads), covering)


def _end(streams: TeamStreams) -> str:
    end = End(format=END_FORMAT, team_id=streams.team_id, made_at=streams.made_at, streams=streams.heads)
    return encode_line(end).decode()
