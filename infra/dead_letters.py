"""What may be asked of dead letters, and trying them again, for HTTP and the command line alike."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from api.answers_dead_letters import LetterAnswer, LetterRecordAnswer, OffsetAnswer, RetryAnswer
from api.dead_letters import LetterQuery
from consumers.batches import PartitionKey
from domain.catalogue import Catalogue
from domain.errors import Busy
from infra.postgres.dead_letters import DeadLetters, LetterFilter, LetterStore, RetryReport, StoredLetter
from infra.postgres.stream_state import Fate, StreamState


class DeadLetterDesk:
    """Dead letters as people read them. Raises, everywhere: Busy."""

    def __init__(
        self,
        letters: DeadLetters,
        streams: StreamState,
        store: Callable[[], LetterStore],
        catalogue: Callable[[], Catalogue],
    ) -> None:
        self._letters = letters
        self._streams = streams
        # Built when something is retried: who only reads needs no writer.
        self._store = store
        self._catalogue = catalogue

    def letters(self, asked: LetterQuery, limit: int, after: int = 0) -> list[LetterAnswer]:
        """At most so many of the letters meant, by number, from the one after number ``after``."""
        return [
            LetterAnswer.model_validate(_head(each)) for each in self._found(_filter(asked), limit, after)
        ]

    def letter(self, number: int) -> LetterRecordAnswer | None:
        """One letter with its record; None when there is none of that number."""
        found = self._found(LetterFilter(status=None, letter_ids=[number]), 1, 0)
        return _whole(found[0]) if found else None

    def retry(self, asked: LetterQuery, limit: int, after: int = 0) -> list[RetryAnswer]:
        """At most so many of the letters meant were tried again, each in a transaction of its own; none twice."""
        meant = [each.letter_id for each in self._found(_filter(asked), limit, after)]
        wanted = LetterFilter(status=None, letter_ids=meant)
        try:
            reports = self._letters.retry(self._store(), self._catalogue, wanted, limit) if meant else []
        except psycopg.OperationalError as error:
            raise Busy(f"the database did not answer in time: {error}") from error
        return [_retried(each) for each in reports]

    def offset(self, topic: str, partition: int, number: int) -> list[OffsetAnswer]:
        """What became of an offset, for each topic of this name that was ever read; none for one that never was."""
        try:
            known = [each.partition for each in self._streams.positions([topic])]
            return [
                _fate(each, self._streams.outcome_of(each, number))
                for each in known
                if each.partition == partition
            ]
        except psycopg.OperationalError as error:
            raise Busy(f"the database did not answer in time: {error}") from error

    def _found(self, wanted: LetterFilter, limit: int, after: int) -> list[StoredLetter]:
        try:
            return self._letters.find(wanted, limit, after)
        except psycopg.OperationalError as error:
            raise Busy(f"the database did not answer in time: {error}") from error


def _filter(asked: LetterQuery) -> LetterFilter:
    return LetterFilter(
        outcome=asked.outcome, reason=asked.reason, status=asked.status, letter_ids=asked.letters
    )


def _head(letter: StoredLetter) -> dict[str, object]:
    record = letter.letter
    return {
        "letter": letter.letter_id,
        "topic": record.partition.topic,
        "partition": record.partition.partition,
        "offset": record.offset,
        "arrived_at": record.arrived_at,
        "outcome": record.outcome,
        "reason": record.reason,
        "detail": record.detail,
        "status": letter.status,
        "retry_outcome": letter.retry_outcome,
        "retry_reason": letter.retry_reason,
    }


def _whole(letter: StoredLetter) -> LetterRecordAnswer:
    """The record as text where it is text; other bytes are escaped, so a terminal cannot be fooled."""
    record = letter.letter
    return LetterRecordAnswer.model_validate(
        {
            **_head(letter),
            "key": _text(record.key),
            "headers": {_text(name.encode()): _text(value) for name, value in record.headers},
            "value": _text(record.value),
        }
    )


def _retried(report: RetryReport) -> RetryAnswer:
    return RetryAnswer(
        letter=report.letter_id,
        outcome=report.outcome,
        reason=report.reason,
        detail=report.detail,
        settled_before=report.already_settled,
    )


def _fate(partition: PartitionKey, fate: Fate) -> OffsetAnswer:
    return OffsetAnswer(
        topic_id=partition.topic_id,
        kind=fate.kind,
        reason=fate.reason,
        detail=fate.detail,
        team_id=fate.team_id,
        version=fate.version,
        charge_id=fate.charge_id,
    )


def _text(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in raw.decode(errors="backslashreplace")
    )
