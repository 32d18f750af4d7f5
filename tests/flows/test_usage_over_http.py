"""Usage that comes in over HTTP goes through the stream and is charged once, however often it was sent."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from api.app import create_api
from api.intake import BATCH
from infra.kafka.intake import KafkaIntake
from infra.postgres.api_keys import Bounds
from infra.settings import Settings
from infra.wiring import Wiring
from tests.asgi import serving
from tests.streams_on_kafka import Stream


def test_a_batch_over_http_is_on_the_stream_and_charged_once(stream: Stream, tmp_path: Path) -> None:
    """I4, I5."""
    with Wiring(Settings(database_url=stream.database_url, state_directory=tmp_path)) as wiring:
        key, _ = wiring.keys.create("farm", "ingest", bounds=Bounds(teams=["acme"]))
        _, reads = wiring._reads()
        intake = KafkaIntake(lambda: stream.bootstrap, stream.topic)
        behind = replace(wiring._behind(reads), intake=intake)
        records = [
            {
                "specversion": "1.0",
                "type": "com.coffer.usage.recorded.v1",
                "id": f"r{number}",
                "source": "urn:test:usage",
                "subject": "acme",
                "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "data": {"action": "image.generate", "status": "succeeded", "meters": {"units": "10"}},
            }
            for number in range(3)
        ]
        sent = {"Authorization": f"Bearer {key}", "content-type": BATCH}
        with serving(create_api(behind)) as http:
            answers = [
                http.post("/v1/usage-records", content=json.dumps(records).encode(), headers=sent)
                for _ in range(2)
            ]
        intake.close()

    stream.work()

    assert [(each.status_code, each.json()["accepted"]) for each in answers] == [(202, 3), (202, 3)]
    assert stream.account("acme").settled_micros == (1_000 - 30) * 1_000_000
