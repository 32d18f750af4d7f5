"""Bodies about what is sold: documents to publish, versions to withdraw, sources of usage, and approvals."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, Field

from api.fields import Reason, Sent, Source


def _writable(document: dict[str, Any]) -> dict[str, Any]:
    """The document can be kept: no number is out of range, no text is broken."""
    try:
        msgspec.json.encode(document)
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"cannot be published: {error}") from None
    return document


Document = Annotated[
    dict[str, Any],
    Field(description="What `coffer publish` reads from TOML, as JSON: amounts are quoted decimal strings."),
    AfterValidator(_writable),
]


class PublishBody(Sent):
    """A rate card or a plan is published."""

    document: Document
    reason: Annotated[Reason | None, Field(description="Needed where a second person is to approve.")] = None


class WithdrawalBody(Sent):
    """A version of a rate card that is not yet effective is withdrawn."""

    reason: Annotated[Reason | None, Field(description="Needed where a second person is to approve.")] = None


class PublicationApprovalBody(Sent):
    """What somebody else proposed is published."""

    reason: Reason | None = None


class SourceBody(Sent):
    """A source of usage is registered."""

    source: Source
    historic: Annotated[bool, Field(description="Its records may be of any age: backfills, traces.")] = False
    reason: Reason | None = None
