"""A relay as a process of its own, told everything in one argument of JSON."""

from __future__ import annotations

import json
import sys

from infra.logs import configure_logs
from infra.postgres.shards import ShardMap
from infra.relay import Relay, RelayTopics


def main() -> None:
    """Sends what is in the log and ends."""
    told = json.loads(sys.argv[1])
    configure_logs()
    shards = ShardMap(told["database_url"], application_name="relay")
    relay = Relay(
        shards, told["bootstrap"], RelayTopics(*told["topics"]), batch_events_max=told["batch_events_max"]
    )
    relay.catch_up()
    shards.close()


if __name__ == "__main__":
    main()
