"""The fixed share of the teams that a team belongs to: Kafka's own key hash, modulo the number of shards."""

from __future__ import annotations

from functools import lru_cache

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=200_000)
def shard_of(team_id: str, shards: int) -> int:
    """The shard of a team: ``murmur2(team id) mod shards``, equal to the partition a Kafka producer would choose.

    Source: Kafka's default partitioner (murmur2, seed 0x9747b28c, sign bit cleared).
    """
    return (_murmur2(team_id.encode()) & 0x7FFFFFFF) % shards


def _murmur2(data: bytes) -> int:
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole != len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)
