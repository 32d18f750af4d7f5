"""J4: answers do not depend on the order of hashes, the locale or the zone of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import hashlib, msgspec
from projections.balance import balance_of
from projections.explain import plain_text
from projections.replay import steps
from tests.builders import when
from tests.projections.streams import rows_of_stream, stream_of
from tests.projections.test_explain_rules import explained
from tests.projections.test_statement_rules import a_story

story = a_story()
answers = (
    rows_of_stream(story.events),
    list(steps(stream_of(story.events))),
    balance_of(story.account, when("2026-11-13 00:00"), 1, 2),
    plain_text(explained(story, "1")),
)
print(hashlib.sha256(msgspec.json.encode(answers)).hexdigest())
"""


def test_j4_every_environment_gives_the_same_answers() -> None:
    digests = set()
    for seed, zone, locale in (
        ("0", "UTC", "C"),
        ("1", "Asia/Kathmandu", "C.UTF-8"),
        ("77", "America/New_York", "POSIX"),
    ):
        surroundings = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "LC_ALL": locale,
            "PYTHONPATH": str(REPOSITORY),
        }
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=REPOSITORY,
            env=surroundings,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(told.stdout)

    assert len(digests) == 1
