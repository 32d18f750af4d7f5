"""What may be asked along with a path: filters, pages, moments and the key of a command."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Header, Path, Query

from api.cursors import CURSOR_LENGTH_MAX, LIMIT_DEFAULT, LIMIT_MAX
from api.errors import IdempotencyKeyMissing
from api.fields import (
    KEY_PATTERN,
    VERSION_MAX,
    CardId,
    ChargeId,
    DisputeId,
    HoldId,
    Id,
    InvoiceNumber,
    IssuerId,
    LotId,
    Name,
    PaymentReference,
    TeamId,
    Time,
    instant,
)
from api.moments import Moment
from api.queries import Page
from api.tags import TAG_PATTERN, only_at
from domain.errors import Malformed
from domain.ledger import ANY_VERSION, OnlyAt
from projections.statement import StatementFilter, StatementKind

TeamPath = Annotated[TeamId, Path()]
ChargePath = Annotated[ChargeId, Path()]
LotPath = Annotated[LotId, Path()]
HoldPath = Annotated[HoldId, Path()]
QuotePath = Annotated[Id, Path()]
LimitPath = Annotated[Id, Path()]
MemberPath = Annotated[Id, Path()]
DisputePath = Annotated[DisputeId, Path()]
ActPath = Annotated[Id, Path()]
KeyPath = Annotated[Id, Path()]
AdjustmentPath = Annotated[Id, Path()]
PaymentPath = Annotated[PaymentReference, Path()]
WorkPath = Annotated[Id, Path(description="The work, as usage records name it.", examples=["autumn-poster"])]
WorkVersionPath = Annotated[int, Path(ge=1, le=VERSION_MAX, description="A version of the work.")]
InvoicePath = Annotated[InvoiceNumber, Path()]
InvoiceLinePath = Annotated[int, Path(ge=1, le=VERSION_MAX, description="The line, as it is numbered.")]
IssuerPath = Annotated[IssuerId, Path()]
CardPath = Annotated[CardId, Path()]
CardVersionPath = Annotated[int, Path(ge=1, le=VERSION_MAX)]
MinVersion = Annotated[
    int | None,
    Query(
        ge=1,
        le=VERSION_MAX,
        description="Answer only from this version of the account on: waits a little, then refuses with 409.",
    ),
]


def idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=KEY_PATTERN,
            description="Identity of the command, for ever: the same key and body give the same answer, another body 409.",
            examples=["refund-2026-0001"],
        ),
    ] = None,
) -> str:
    """The key of a command. Raises: IdempotencyKeyMissing."""
    if idempotency_key is None:
        raise IdempotencyKeyMissing(
            "header Idempotency-Key is missing: send 1 to 200 printable characters that name this one command, "
            "and the same again when you repeat it"
        )
    return idempotency_key


def if_match(
    if_match: Annotated[
        str | None,
        Header(
            pattern=TAG_PATTERN,
            description="The `ETag` of a read: the command is refused with 412 when the version is another one by now.",
            examples=['"12"'],
        ),
    ] = None,
) -> OnlyAt:
    """The version that a command is for; whatever there is, without the header or for `*`."""
    if if_match is None or if_match == "*":
        return ANY_VERSION
    return only_at(if_match)


def moment(
    min_version: MinVersion = None,
    at_version: Annotated[
        int | None,
        Query(ge=1, le=VERSION_MAX, description="The account after this version of it, by replay."),
    ] = None,
    as_of: Annotated[
        Time | None, Query(description="The account as the ledger knew it at this time, by replay.")
    ] = None,
) -> Moment:
    """Which state of the account is asked for. Raises: Malformed when two are."""
    if at_version is not None and as_of is not None:
        raise Malformed(
            "at_version and as_of: send one of them, each names a state of its own", field="as_of"
        )
    return Moment(min_version, at_version, instant(as_of, "as_of"))


AskedMoment = Annotated[Moment, Depends(moment)]


def page(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows at most.")] = LIMIT_DEFAULT,
    after: Annotated[
        str | None, Query(max_length=CURSOR_LENGTH_MAX, description="`next` of the page before.")
    ] = None,
    order: Annotated[Literal["oldest", "newest"], Query(description="Which end comes first.")] = "oldest",
) -> Page:
    """Which part of a list is asked for."""
    return Page(limit, after, newest_first=order == "newest")


def statement_filter(
    kind: Annotated[StatementKind | None, Query(description="Only events of this name.")] = None,
    action: Annotated[Name | None, Query()] = None,
    member: Annotated[Id | None, Query()] = None,
    project: Annotated[Id | None, Query()] = None,
    work: Annotated[Id | None, Query()] = None,
    charge_id: Annotated[ChargeId | None, Query()] = None,
    lot_id: Annotated[LotId | None, Query()] = None,
    hold_id: Annotated[HoldId | None, Query()] = None,
    recorded_from: Annotated[Time | None, Query(description="Included.")] = None,
    recorded_until: Annotated[Time | None, Query(description="Excluded.")] = None,
    occurred_from: Annotated[Time | None, Query(description="Included.")] = None,
    occurred_until: Annotated[Time | None, Query(description="Excluded.")] = None,
) -> StatementFilter:
    """Which rows of the statement are asked for."""
    return StatementFilter(
        kinds=frozenset({kind}) if kind else None,
        action=action,
        member=member,
        project=project,
        work=work,
        charge_id=charge_id,
        lot_id=lot_id,
        hold_id=hold_id,
        recorded_from=instant(recorded_from, "recorded_from"),
        recorded_until=instant(recorded_until, "recorded_until"),
        occurred_from=instant(occurred_from, "occurred_from"),
        occurred_until=instant(occurred_until, "occurred_until"),
    )
