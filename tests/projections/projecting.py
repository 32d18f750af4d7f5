"""The projector as a process, for tests that kill it: `python -m tests.projections.projecting <database url>`."""

import sys

from infra.postgres.shards import ShardMap
from infra.project import run

if __name__ == "__main__":
    run(ShardMap(sys.argv[1], application_name="projector under test"))
