"""A customer says "I have 37 credits, why?": explained in three commands, disputed, refunded, and still told as it was before."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from consumers.batches import PartitionKey
from consumers.stream_record import StreamRecord
from consumers.usage import PartitionRead, settle_reads
from consumers.usage_encoding import encode_usage
from domain.usage import UsageRecord, usage_key
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.catalogue_store import PostgresCatalogue
from infra.postgres.shards import ShardMap
from tests.builders import SOURCE
from tests.infra.test_cli import Coffer, bare, coffer

__all__ = ["bare", "coffer"]

PARTITION = PartitionKey("a cluster", "a topic id", "credits.usage.v1", 0)
POSTER = usage_key("acme", SOURCE, "poster-7")


def streamed(database_url: str, *uses: tuple[str, int]) -> None:
    """The pictures were made just now, and their records came in on the stream."""
    shards = ShardMap(database_url, application_name="support story")
    store, catalogue = PostgresBatchStore(shards), PostgresCatalogue(shards)
    store.register(PARTITION, 0)
    records = [_record(offset, record_id, units) for offset, (record_id, units) in enumerate(uses)]
    settle_reads(store, [PartitionRead(PARTITION, 0, len(records), records)], catalogue.current())
    catalogue.close()
    store.close()
    shards.close()


def _record(offset: int, record_id: str, units: int) -> StreamRecord:
    now = datetime.now(UTC)
    encoded = encode_usage(
        UsageRecord(
            team_id="acme",
            source=SOURCE,
            id=record_id,
            occurred_at=now,
            arrived_at=now,
            action="image.generate",
            status="succeeded",
            meters={"units": str(units)},
            dimensions={},
            member="mira",
            project="spring",
        )
    )
    return StreamRecord("credits.usage.v1", 0, offset, b"acme", encoded.value, encoded.headers, now)


def test_why_37_credits_is_told_in_three_commands_disputed_with_that_and_refunded(
    coffer: Coffer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a team that was given 100 credits, made two pictures for 20 and 38, and has 5 set aside for a third.
    streamed(database_url, ("sketch-1", 20), ("poster-7", 38))
    assert coffer("hold", "place", "acme", "image.generate", "--amount", "5", "--member", "noor").code == 0

    # When the customer says "I have 37 credits, why?", the team's name is enough to see that it is so,
    balance = coffer("balance", "acme", "-o", "json").json
    assert (balance["available"], balance["held"], balance["settled"]) == ("37", "5", "42")
    before = balance["as_of"]

    # why it is so,
    why = coffer("explain", "acme").out
    for said in (
        "Team acme has 37 credits available",
        "42 settled − 5 held for running work = 37",
        "100 credits granted as lot-2",
        f"charge {POSTER}: 38 credits for image.generate by mira in project spring",
        "hold-5: 5 credits set aside for image.generate by noor",
        "which is: settled 42, held 5, debt 0",
    ):
        assert said in why, why

    # and why the charge that the customer doubts is what it is, down to the record and the price.
    evidence = coffer("explain", "acme", "poster-7", "--source", SOURCE).out
    for said in (
        f"Charge {POSTER} of team acme: 38 credits",
        "read from: topic credits.usage.v1, partition 0, offset 1",
        "38 units × 1 = 38 credits",
        "38 credits from lot lot-2",
        "Refunds: none",
    ):
        assert said in evidence, evidence

    # Then that explanation, as it is, opens a dispute;
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(evidence.encode())))
    opened = coffer("dispute", "open", "acme", POSTER, "--evidence", "-", "-o", "json").json
    shown = coffer("dispute", "show", "acme", opened["dispute_id"], "-o", "json").json
    assert (shown["state"], shown["evidence"]) == ("open", evidence)

    # upheld, it refunds the charge, and the customer has it back.
    upheld = coffer(
        *("dispute", "uphold", "acme", opened["dispute_id"], "--reason", "the poster never arrived"),
        *("-o", "json"),
    ).json
    assert (upheld["amount"], upheld["settled"]) == ("38", "80")
    assert coffer("balance", "acme", "-o", "json").json["available"] == "75"

    # The statement reads right: what was charged, what came back, and why.
    assert coffer("project", "--once").code == 0
    lines = coffer("statement", "acme", "-o", "json").json
    assert [
        (line["kind"], line["amount"], line["settled_after"], line["held_after"], line["reason"])
        for line in lines
    ] == [
        ("CreditsGranted", "100", "100", "0", "a start"),
        ("CreditsCharged", "20", "80", "0", None),
        ("CreditsCharged", "38", "42", "0", None),
        ("CreditsHeld", "5", "42", "5", None),
        ("ChargeRefunded", "38", "80", "5", "the poster never arrived"),
    ]

    # What was true before the dispute is still told: 37, and that nothing was refunded then.
    assert coffer("balance", "acme", "--as-of", before, "-o", "json").json["available"] == "37"
    assert "Team acme has 37 credits available" in coffer("explain", "acme", "--as-of", before).out
    then = coffer("explain", "acme", POSTER, "--as-of", before).out
    assert then == evidence
    now = coffer("explain", "acme", POSTER).out
    assert "refunded 38 of 38, so it cost 0 credits" in now
    changed = coffer("diff", "acme", "--from", before, "--to", str(upheld["version"]), "-o", "json").json
    parts = {part["part"]: part["change"] for part in changed["diff"]["parts"]}
    assert (parts["available"], parts["settled"], parts["held"]) == ("38", "38", "0")
    assert [(kind["kind"], kind["settled_change"]) for kind in changed["diff"]["between"]] == [
        ("ChargeRefunded", "38")
    ]

    # And everything that is stored agrees with a replay.
    assert coffer("verify", "--team", "acme").code == 0
