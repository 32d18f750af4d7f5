"""Rebuilds the statement slowly, for tests that kill it: `python -m tests.projections.rebuilder <database url>`."""

import sys
import time

from infra.postgres.read_models import StatementModel
from infra.postgres.rebuilding import Rebuild, rebuild
from infra.postgres.shards import ShardMap


def _slowly(told: Rebuild) -> None:
    print(told.events, flush=True)
    time.sleep(0.02)


if __name__ == "__main__":
    shards = ShardMap(sys.argv[1], application_name="rebuilder under test")
    rebuild(shards, StatementModel(), progress=_slowly, batch_events_max=5)
