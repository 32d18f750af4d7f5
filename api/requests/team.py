"""Bodies about people and paperwork: members, billing details, payment method."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import COUNTRY_PATTERN, EMAIL_PATTERN, Id, Line, Reason, Sent
from domain.commands import (
    AddMember,
    BillingDetails,
    ChangeMemberRole,
    MemberRole,
    PaymentMethod,
    RemoveMember,
    RemovePaymentMethod,
    SetBillingDetails,
    SetPaymentMethod,
)

ADDRESS_LINES_MAX = 8


class MemberBody(Sent):
    """A member joins the team."""

    member: Id
    role: MemberRole
    reason: Reason | None = None

    def command(self, team_id: str) -> AddMember:
        """The command that this body asks for."""
        return AddMember(team_id=team_id, member=self.member, role=self.role, reason=self.reason)


class MemberRoleBody(Sent):
    """A member has another role."""

    role: MemberRole
    reason: Reason | None = None

    def command(self, team_id: str, member: str) -> ChangeMemberRole:
        """The command that this body asks for."""
        return ChangeMemberRole(team_id=team_id, member=member, role=self.role, reason=self.reason)


class RemovalBody(Sent):
    """A member leaves, or the payment method is forgotten."""

    reason: Reason | None = None

    def of_member(self, team_id: str, member: str) -> RemoveMember:
        """The command by which a member leaves."""
        return RemoveMember(team_id=team_id, member=member, reason=self.reason)

    def of_payment_method(self, team_id: str) -> RemovePaymentMethod:
        """The command by which the payment method is forgotten."""
        return RemovePaymentMethod(team_id=team_id, reason=self.reason)


class BillingDetailsBody(Sent):
    """Whom invoices are made out to."""

    name: Line
    address_lines: Annotated[list[Line], Field(min_length=1, max_length=ADDRESS_LINES_MAX)]
    country: Annotated[str, Field(pattern=COUNTRY_PATTERN, examples=["DE"])]
    email: Annotated[str | None, Field(pattern=EMAIL_PATTERN, examples=["billing@example.org"])] = None
    tax_id: Annotated[Line | None, Field(max_length=40, examples=["DE123456789"])] = None
    locale: Annotated[
        Line | None,
        Field(max_length=20, description="How amounts and dates are written.", examples=["de_DE"]),
    ] = None
    reason: Reason | None = None

    def command(self, team_id: str) -> SetBillingDetails:
        """The command that this body asks for."""
        details = BillingDetails(
            name=self.name,
            address_lines=list(self.address_lines),
            country=self.country,
            email=self.email,
            tax_id=self.tax_id,
            locale=self.locale,
        )
        return SetBillingDetails(team_id=team_id, details=details, reason=self.reason)


class PaymentMethodBody(Sent):
    """How the team pays, as the payment provider tells it; never a card's number."""

    token: Annotated[
        Line, Field(max_length=128, description="The provider's token.", examples=["tok_4f9sk20dkq1x"])
    ]
    brand: Annotated[Line, Field(max_length=40, examples=["visa"])]
    last_four: Annotated[
        Line, Field(max_length=40, description="The last four digits of the card.", examples=["4242"])
    ]
    expires_month: Annotated[int, Field(ge=1, le=12)]
    expires_year: Annotated[int, Field(ge=2000, le=2999)]
    reason: Reason | None = None

    def command(self, team_id: str) -> SetPaymentMethod:
        """The command that this body asks for."""
        method = PaymentMethod(
            token=self.token,
            brand=self.brand,
            last_four=self.last_four,
            expires_month=self.expires_month,
            expires_year=self.expires_year,
        )
        return SetPaymentMethod(team_id=team_id, method=method, reason=self.reason)
