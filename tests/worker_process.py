"""A usage worker as a process of its own, told everything in one argument of JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any
from unittest import mock

import msgspec

from domain.account.charging import charge_usage
from infra.consume import WorkerOptions, run_worker
from infra.logs import configure_logs
from infra.settings import Settings


def die_on(record_id: str) -> None:
    """From now on this process is killed when it decides the record."""

    def dies(decision: Any, record: Any, *rest: Any) -> None:
        if record.id == record_id:
            os.kill(os.getpid(), signal.SIGKILL)
        charge_usage(decision, record, *rest)

    mock.patch("consumers.usage.charge_usage", dies).start()


def main() -> None:
    """Reads until told to stop, or drained."""
    told = json.loads(sys.argv[1])
    configure_logs()
    if told["dies_on"]:
        die_on(told["dies_on"])
    settings = Settings(database_url=told["database_url"], kafka_bootstrap=told["bootstrap"])
    run_worker(settings, msgspec.convert(told["options"], WorkerOptions))


if __name__ == "__main__":
    main()
