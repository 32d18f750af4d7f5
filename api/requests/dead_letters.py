"""The body that tries dead letters again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.fields import REASON_CODE_PATTERN, Sent
from domain.errors import Malformed

LETTER_MAX = 2**53
RETRIES_MAX = 100

ReasonCode = Annotated[str, Field(pattern=REASON_CODE_PATTERN, examples=["unknown_action"])]
LetterOutcome = Literal["rejected", "parked"]
LetterNumber = Annotated[int, Field(ge=1, le=LETTER_MAX)]


class RetryBody(Sent):
    """Which open letters are tried again: by number, by what is wrong with them, or all."""

    letters: Annotated[list[LetterNumber] | None, Field(min_length=1, max_length=RETRIES_MAX)] = None
    reason: Annotated[ReasonCode | None, Field(description="Only with this reason code.")] = None
    outcome: LetterOutcome | None = None
    everything: Annotated[bool, Field(description="Every open letter.")] = False
    after: Annotated[
        int,
        Field(
            ge=0, le=LETTER_MAX, description="Only letters after this number: `next` of the answer before."
        ),
    ] = 0

    def check(self) -> RetryBody:
        """The body, which says what it means. Raises: Malformed."""
        if not (self.letters or self.reason or self.outcome or self.everything):
            raise Malformed("which letters? Send letters, reason, outcome or everything", field="letters")
        return self
