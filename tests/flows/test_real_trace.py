"""The real trace: every record ends in one outcome, the charges add up by other means, and a second run charges nothing."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from infra.local.kafka import LocalKafka
from infra.settings import REPOSITORY

pytestmark = pytest.mark.trace

FACTOR = {"TXT_2_IMG": Fraction(1), "IMG_2_IMG": Fraction(3, 2), "INPAINTING": Fraction(2)}


def _rows(trace: Path) -> list[dict[str, str]]:
    with gzip.open(trace, "rt") if trace.suffix == ".gz" else trace.open() as file:
        return list(csv.DictReader(file))


def _price_micros(row: dict[str, str]) -> int | None:
    """max(0.1, images x steps / 30 x (1 + loras / 10) x k) credits, rounded up once; None when nothing is charged."""
    images, steps = row["num_images_per_prompt"], row["num_inference_steps"]
    if (
        row["predict_status"] != "SUCCEED"
        or not images
        or not steps
        or not Fraction(images) * Fraction(steps)
    ):
        return None
    exact = Fraction(images) * Fraction(steps) / 30 * (1 + Fraction(row["num_lora"] or 0) / 10)
    return ceil(max(Fraction(1, 10), exact * FACTOR[row["predict_type"]]) * 1_000_000)


def _run(
    trace: Path, directory: Path, database_url: str, bootstrap: str
) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    result = directory / "run.json"
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli.main", "up", "--trace", trace, "--once", "--state-dir", directory,
         "--result", result],
        check=False,
        cwd=REPOSITORY,
        env=os.environ | {"COFFER_DATABASE_URL": database_url, "COFFER_KAFKA_BOOTSTRAP": bootstrap},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(result.read_text()), done


def test_the_real_trace_is_charged_exactly_once_and_to_the_micro_credit(
    real_trace: Path, tmp_path: Path, database_url: str, own_kafka: LocalKafka
) -> None:
    rows = _rows(real_trace)
    prices = [_price_micros(row) for row in rows]
    charged = [price for price in prices if price is not None]
    failed = sum(row["predict_status"] != "SUCCEED" for row in rows)

    first, _ = _run(real_trace, tmp_path, database_url, own_kafka.bootstrap)
    second, told = _run(real_trace, tmp_path, database_url, own_kafka.bootstrap)

    outcomes = Counter({each: sum(reasons.values()) for each, reasons in first["outcomes"].items()})
    assert first["records"] == outcomes.total() == len(rows)
    assert outcomes["parked"] == 0
    assert outcomes["charged"] == len(charged)
    assert first["outcomes"]["waived"]["failed"] == failed
    assert first["charged_micros"] == sum(charged)
    assert first["teams_charged"] == len(
        {row["groupId"] for row, price in zip(rows, prices, strict=True) if price is not None}
    )
    assert {each: reasons for each, reasons in second["outcomes"].items() if reasons} == {
        "duplicate": {"": len(rows)}
    }
    assert (second["charged_micros"], second["teams_charged"]) == (0, 0)
    assert f"nothing charged: all {len(rows):,} records were charged before" in told.stdout
