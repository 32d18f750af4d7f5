"""Payments, in the records of the stream and in the log: an applied fact is one event with its claim, and no other has one."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg.rows import TupleRow

from domain.account.events import ACCOUNT_EVENTS
from projections.verify import Finding

FINDINGS_MAX = 100

# An applied fact has its row, or that of its dead letter says what a retry came to. An event of a command has no record key.
_UNPAIRED = """
WITH applied AS (
    SELECT o.topic, o.part, o.kafka_offset, o.usage_key AS claim,
           CASE WHEN o.outcome = 'applied' THEN o.first_version ELSE d.retry_version END AS version
    FROM usage_outcome o JOIN shard_log h USING (shard)
    LEFT JOIN dead_letter d USING (shard, cluster_id, topic_id, part, kafka_offset)
    WHERE h.lives_here AND (o.outcome = 'applied' OR d.retry_outcome = 'applied')
), told AS (
    SELECT usage_key AS claim, originator_version AS version, topic FROM ledger_events JOIN shard_log USING (shard)
    WHERE lives_here AND topic = ANY(%s) AND usage_key IS NOT NULL AND position('"record_key":"'::bytea IN state) > 0
    UNION ALL SELECT usage_key, originator_version, topic FROM archived_claim WHERE topic IS NOT NULL
)
SELECT a.topic, a.part, a.kafka_offset, a.claim, a.version, t.claim, t.version, t.topic
FROM applied a FULL JOIN told t ON t.claim = a.claim AND t.version = a.version
WHERE a.claim IS NULL OR t.claim IS NULL ORDER BY a.topic, a.part, a.kafka_offset LIMIT %s
"""


def check_payments(connection: psycopg.Connection[TupleRow]) -> Iterator[Finding]:
    """Facts counted as applied without their event, and events that no record of the stream accounts for."""
    topics = [
        topic
        for event in ACCOUNT_EVENTS
        if "record_key" in event.__struct_fields__
        for topic in (event.TOPIC, *event.OLD_TOPICS)
    ]
    for row in connection.execute(_UNPAIRED, (topics, FINDINGS_MAX)).fetchall():
        topic, part, offset, claim, version, event_claim, event_version, event_topic = row
        if event_claim is None:
            yield Finding(
                table="usage_outcome",
                topic=topic,
                partition=part,
                offset=offset,
                what="applied",
                expected=f"an event with the claim {claim} at version {version}",
                found="none",
            )
        else:
            yield Finding(
                table="ledger_events",
                version=event_version,
                what=f"{event_topic} with the claim {event_claim}",
                expected="a record of the payments stream that was applied",
                found="none",
            )
