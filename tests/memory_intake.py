"""A stream of usage in a list: read as the real one reads, placed one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from api.intake import Message, Place
from domain.errors import Busy
from infra.kafka.intake import KafkaIntake


class MemoryIntake(KafkaIntake):
    """What was sent is in ``sent``, unless the broker is away."""

    def __init__(self) -> None:
        super().__init__(lambda: "nowhere:1", "usage")
        self.sent: list[tuple[str, Message]] = []
        self.is_away = False

    @override
    def send(self, messages: Sequence[tuple[str, Message]]) -> list[Place]:
        """Every record is in the list. Raises: Busy when the broker is away."""
        if self.is_away:
            raise Busy("the broker is away")
        first = len(self.sent)
        self.sent += messages
        return [Place(0, first + number) for number in range(len(messages))]
