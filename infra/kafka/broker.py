"""What the broker says about itself and its topics: identities that never repeat, and whose clock stamps records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from consumers.batches import PartitionKey

CLIENT = {
    # The defaults wait 30 s: first for a dead address, then before looking again for a broker that came back.
    "bootstrap_timeout_ms": 5_000,
    "reconnect_backoff_max_ms": 1_000,
}
APPEND_TIME = "LogAppendTime"


class TopicRefused(RuntimeError):
    """The topic cannot be consumed as it is; the message says what would be right."""


@contextmanager
def administration(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """An administration client, closed at the end."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","), request_timeout_ms=10_000, **CLIENT)
    try:
        yield admin
    finally:
        admin.close()


def describe_partitions(bootstrap: str, topics: list[str]) -> list[PartitionKey]:
    """Every partition of the topics with its permanent identity, in order.

    Raises: TopicRefused for a topic that does not exist, or whose records bear the producer's time: arrival must be
    the broker's time (LogAppendTime), else a wrong clock decides what is too old.
    """
    with administration(bootstrap) as admin:
        cluster_id = str(admin.describe_cluster()["cluster_id"])
        described = {each["name"]: each for each in admin.describe_topics(topics)}
        found: list[PartitionKey] = []
        for topic in topics:
            each = described.get(topic)
            if each is None or each["error_code"]:
                raise TopicRefused(f"topic {topic!r} does not exist: create the ledger's topics first")
            _require_append_time(admin, topic)
            topic_id = str(UUID(str(each["topic_id"])))
            indexes = sorted(partition["partition_index"] for partition in each["partitions"])
            found += [PartitionKey(cluster_id, topic_id, topic, index) for index in indexes]
        return found


def _require_append_time(admin: KafkaAdminClient, topic: str) -> None:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
    settings = admin.describe_configs(asked, config_filter="all")["topic"][topic]
    value = settings["message.timestamp.type"]["value"]
    if value != APPEND_TIME:
        raise TopicRefused(
            f"topic {topic!r} has message.timestamp.type={value}: set it to {APPEND_TIME}, "
            "so that arrival is the broker's time"
        )
