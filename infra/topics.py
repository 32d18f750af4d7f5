"""The topics of the ledger and how each is made: broker time, eight partitions, never by accident."""

from collections.abc import Iterable
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError

DAY_MILLISECONDS = 86_400_000
FOR_EVER = -1

USAGE = "credits.usage.v1"
PAYMENTS = "credits.payments.v1"
LEDGER = "credits.ledger.v1"
ALERTS = "credits.alerts.v1"


@dataclass(frozen=True)
class Topic:
    """One topic: its name, its partitions and how long it keeps a record (milliseconds, -1 for ever)."""

    name: str
    partitions: int = 8
    retention_milliseconds: int = FOR_EVER


def dead_letter_topic(name: str) -> str:
    """The name of the topic that holds the dead letters of `name`."""
    return f"{name}.dlq"


TOPICS = (
    Topic(USAGE),
    Topic(PAYMENTS),
    Topic(LEDGER),
    Topic(ALERTS),
    Topic(dead_letter_topic(USAGE), retention_milliseconds=30 * DAY_MILLISECONDS),
    Topic(dead_letter_topic(PAYMENTS), retention_milliseconds=30 * DAY_MILLISECONDS),
)


def create_topics(bootstrap: str, topics: Iterable[Topic] = TOPICS) -> list[str]:
    """Every topic exists and has a leader for each partition; returns the names of those made now.

    A topic that exists is left as it is. The broker stamps each record with its own clock (LogAppendTime): that time
    is the arrival on which the time window of usage is judged.
    """
    admin = KafkaAdminClient(
        bootstrap_servers=bootstrap, reconnect_backoff_max_ms=1_000, bootstrap_timeout_ms=10_000
    )
    try:
        present = set(admin.list_topics())
        missing = [topic for topic in topics if topic.name not in present]
        return [topic.name for topic in missing if _create(admin, topic)]
    finally:
        admin.close()


def _create(admin: KafkaAdminClient, topic: Topic) -> bool:
    options = {
        "num_partitions": topic.partitions,
        "configs": {
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(topic.retention_milliseconds),
            "cleanup.policy": "delete",
        },
    }
    try:
        admin.create_topics({topic.name: options}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        # Another process was quicker, which is as good.
        return False
    return True
