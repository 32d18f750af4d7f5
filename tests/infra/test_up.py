"""`coffer up`: one command starts everything, streams a day, serves, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.local.demo_day import DemoDay
from infra.local.gateway import expected_outcomes
from infra.local.producing import tally
from infra.local.streams import kept_day_start
from infra.settings import REPOSITORY
from tests.conftest import CACHE

RECORDS = 1_000
READY_SECONDS_MAX = 120.0

UpCommand = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[UpCommand]:
    """Starts `coffer up` on a directory of this test; whatever is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COFFER_")}
        command: list[str | Path] = [
            sys.executable, "-m", "infra.cli.main", "up", "--state-dir", tmp_path / "state", "--records", str(RECORDS),
            "--result", tmp_path / "run.json", *arguments,
        ]  # fmt: skip
        environment["COFFER_CACHE_DIRECTORY"] = str(CACHE)
        with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=out, stderr=err, text=True
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for left in processes_of(tmp_path):
        left.kill()


def processes_of(directory: Path) -> list[psutil.Process]:
    """Every process that has anything to do with the directory."""
    found = []
    for process in psutil.process_iter():
        with ignored_ends():
            words = [*process.cmdline(), process.environ().get("COFFER_STATE_DIRECTORY", "")]
            if process.pid != os.getpid() and any(str(directory) in word for word in words):
                found.append(process)
    return found


@contextmanager
def ignored_ends() -> Iterator[None]:
    """A process that ends while it is looked at is not there."""
    try:
        yield
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return


def wait_until(ready: Callable[[], Any], what: str, seconds: float = READY_SECONDS_MAX) -> Any:
    """What `ready` gives once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ready()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


def result_of(tmp_path: Path) -> dict[str, Any]:
    """What the run wrote."""
    result: dict[str, Any] = json.loads((tmp_path / "run.json").read_text())
    return result


def test_a_day_is_streamed_once_as_its_maker_expects_and_a_second_run_charges_nothing(
    up: UpCommand, tmp_path: Path
) -> None:
    assert up("--once").wait(READY_SECONDS_MAX) == 0, (tmp_path / "err").read_text()
    first, key = result_of(tmp_path), (tmp_path / "state" / "api_key").read_text()
    assert up("--once").wait(READY_SECONDS_MAX) == 0, (tmp_path / "err").read_text()
    second = result_of(tmp_path)

    day = DemoDay(7, kept_day_start(tmp_path / "state", 7, RECORDS, datetime.now(UTC)), RECORDS)
    live = expected_outcomes()
    assert first["records"] == second["records"] == RECORDS + len(live)
    assert first["outcomes"] == tally([*((sent.outcome, sent.reason) for sent in day), *live])
    assert first["payments"] == {
        "applied": {
            "chargeback.lost": 1,
            "chargeback.opened": 2,
            "chargeback.won": 1,
            "topup.failed": 1,
            "topup.settled": 2,
        }
    }
    assert (first["holds_denied"], first["holds_captured"]) == (second["holds_denied"], 18) == (4, 18)
    assert first["events"]["CreditsHeld"] == 20
    assert first["events"]["HoldReleased"] == 2
    assert first["events"]["AutoTopUpRequested"] == 3
    assert first["events"]["LimitThresholdReached"] >= 2
    assert second["payments"] == {}
    assert second["events"].keys() <= {"HoldExpired", "DebtRepaid", "AllowanceGranted"}
    assert first["charged_micros"] > 0
    assert first["seconds"] > 0
    assert second["outcomes"]["charged"] == second["outcomes"]["waived"] == {}
    assert (second["charged_micros"], second["teams_charged"]) == (0, 0)
    assert "nothing charged" in (tmp_path / "out").read_text()
    assert (tmp_path / "state" / "api_key").read_text() == key
    assert stat.S_IMODE((tmp_path / "state" / "api_key").stat().st_mode) == 0o600
    assert processes_of(tmp_path) == []


def test_it_serves_until_asked_to_stop_and_restarts_what_died(up: UpCommand, tmp_path: Path) -> None:
    running = up()
    told = wait_until(lambda: "Ctrl-C stops" in (out := (tmp_path / "out").read_text()) and out, "being up")
    address, key = re.search(r"COFFER_API=(\S+)", told), re.search(r"COFFER_API_KEY=(\S+)", told)
    team = re.search(r"coffer balance (\S+)", told)
    assert address
    assert key
    assert team

    def serves() -> bool:
        try:
            answer = httpx.get(
                f"{address[1]}/v1/accounts/{team[1]}/balance", headers={"Authorization": f"Bearer {key[1]}"}
            )
        except httpx.TransportError:
            return False
        return answer.status_code == 200 and answer.json()["team_id"] == team[1]

    wait_until(serves, "serving", 30)
    for what in ("serve", "postgres"):
        died = next(
            each
            for each in processes_of(tmp_path)
            if what in Path(each.cmdline()[-1]).parts or what == each.name()
        )
        died.kill()
        died.wait(10)
        wait_until(serves, f"serving again without the first {what}", 30)
    running.send_signal(signal.SIGINT)

    assert running.wait(40) == 0
    assert processes_of(tmp_path) == []
    assert not (tmp_path / "state" / "endpoints.json").exists()


def test_a_run_that_is_killed_midway_leaves_nothing_that_blocks_the_next(
    up: UpCommand, tmp_path: Path
) -> None:
    for how, code in ((signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)):
        running = up("--once", "--records", "5000")
        wait_until(lambda: "sent:" in (tmp_path / "err").read_text(), "sending")
        running.send_signal(how)

        assert running.wait(40) == code
        wait_until(lambda: not processes_of(tmp_path), "the end of all children", 30)

    assert up("--once", "--records", "5000").wait(READY_SECONDS_MAX) == 0, (tmp_path / "err").read_text()
    assert result_of(tmp_path)["records"] == 5_000 + len(expected_outcomes())


def test_a_second_up_on_the_same_data_is_refused_by_name(up: UpCommand, tmp_path: Path) -> None:
    first = up()
    wait_until((tmp_path / "state" / "up.lock").exists, "the claim")

    second = up("--once")

    assert second.wait(30) == 1
    assert f"process {first.pid} already runs" in (tmp_path / "err").read_text()


def test_a_trace_with_a_wrong_cell_is_named_and_nothing_is_started(up: UpCommand, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("gmt_create,predict_type\n")

    assert up("--once", "--trace", str(trace)).wait(30) == 1
    assert "line 1: no column predict_status" in (tmp_path / "err").read_text()
    assert not (tmp_path / "state" / "postgres").exists()
