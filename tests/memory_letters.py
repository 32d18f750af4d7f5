"""Dead letters in a list: what is retried is charged once its cause is said to be fixed."""

from __future__ import annotations

from datetime import UTC, datetime

from api.answers_dead_letters import LetterAnswer, LetterRecordAnswer, OffsetAnswer, RetryAnswer
from api.dead_letters import LetterQuery

ARRIVED = datetime(2026, 11, 1, 12, tzinfo=UTC)


class MemoryLetters:
    """Letters by number; those in ``mended`` can be charged now."""

    def __init__(self) -> None:
        self.on_file: dict[int, LetterRecordAnswer] = {}
        self.mended: set[int] = set()

    def add(self, reason: str, value: str, outcome: str = "parked") -> int:
        """One letter more; returns its number."""
        number = len(self.on_file) + 1
        self.on_file[number] = LetterRecordAnswer(
            letter=number,
            topic="credits.usage.v1",
            partition=0,
            offset=number,
            arrived_at=ARRIVED,
            outcome=outcome,
            reason=reason,
            detail=f"{reason} in a test",
            status="open",
            retry_outcome=None,
            retry_reason=None,
            key="acme",
            headers={},
            value=value,
        )
        return number

    def letters(self, asked: LetterQuery, limit: int, after: int = 0) -> list[LetterAnswer]:
        """Those meant."""
        meant = [each for each in self._meant(asked) if each.letter > after]
        return [
            LetterAnswer(**each.model_dump(exclude={"key", "headers", "value"})) for each in meant[:limit]
        ]

    def letter(self, number: int) -> LetterRecordAnswer | None:
        """The letter of that number."""
        return self.on_file.get(number)

    def retry(self, asked: LetterQuery, limit: int, after: int = 0) -> list[RetryAnswer]:
        """Those meant were tried again."""
        meant = [each for each in self._meant(asked) if each.letter > after]
        return [self._retry(each) for each in meant[:limit]]

    def offset(self, topic: str, partition: int, number: int) -> list[OffsetAnswer]:
        """What became of an offset: as its letter says, for the topic that letters are of."""
        found = self.on_file.get(number)
        if found is None or (topic, partition) != (found.topic, found.partition):
            return []
        kind = found.retry_outcome or found.outcome
        return [
            OffsetAnswer(
                topic_id="t",
                kind=kind,
                reason=found.reason,
                detail=found.detail,
                team_id=None,
                version=None,
                charge_id=None,
            )
        ]

    def _meant(self, asked: LetterQuery) -> list[LetterRecordAnswer]:
        return [
            each
            for number, each in sorted(self.on_file.items())
            if (asked.letters is None or number in asked.letters)
            and asked.status in {None, each.status}
            and asked.reason in {None, each.reason}
            and asked.outcome in {None, each.outcome}
        ]

    def _retry(self, letter: LetterRecordAnswer) -> RetryAnswer:
        outcome = "charged" if letter.letter in self.mended else letter.outcome
        settled = outcome == "charged"
        told = {"status": "retried" if settled else "open", "retry_outcome": outcome}
        self.on_file[letter.letter] = letter.model_copy(update=told)
        return RetryAnswer(letter=letter.letter, outcome=outcome, reason="", detail="", settled_before=False)
