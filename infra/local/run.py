"""What one run of the local stack was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from infra.settings import REPOSITORY

SEED_DEFAULT = 7
RECORDS_DEFAULT = 20_000
RECORDS_MIN = 1_000
RESULT_DEFAULT = REPOSITORY / "out" / "run.json"


class Run(NamedTuple):
    """A trace, or else the demo day of that seed and size; whether to end when it is drained; where the result goes."""

    trace: Path | None = None
    seed: int = SEED_DEFAULT
    records: int = RECORDS_DEFAULT
    once: bool = False
    result: Path = RESULT_DEFAULT
