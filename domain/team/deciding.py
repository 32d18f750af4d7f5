"""What may change in a team's people and paperwork: every rule refuses before the first event, or records one."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import get_args

from domain.amounts import AMOUNT_MAX, format_credits
from domain.commands import BillingDetails, MemberRole, PaymentMethod
from domain.errors import (
    AdjustmentRefused,
    AmountOutOfRange,
    Malformed,
    MemberRefused,
    SecondPersonNeeded,
    UnknownAdjustment,
    UnknownMember,
    UnknownPaymentMethod,
)
from domain.team.card_numbers import refuse_card_numbers
from domain.team.decision import TeamDecision, said
from domain.team.events import (
    AdjustmentApproved,
    AdjustmentDirection,
    AdjustmentProposed,
    BillingDetailsChanged,
    MemberJoined,
    MemberLeft,
    MemberRoleChanged,
    PaymentMethodRemoved,
    PaymentMethodSet,
    SpendingPlanSaved,
)
from domain.team.keys import revoke_keys_of
from domain.team.ranks import require_rank
from domain.team.state import Member, ProposedAdjustment
from domain.volumes import SavedPlan

ADJUSTMENT_CAP_MICROS = 1_000_000_000
"""Up to so much, 1 000 credits, one person adjusts a balance alone."""

MEMBERS_MAX = 1_000
ADJUSTMENTS_MAX = 100
ADDRESS_LINES_MAX = 6
CARD_YEARS_MAX = 30
"""No card is valid for longer."""

# The ids that usage records may carry: visible ASCII, so no two look alike.
_MEMBER = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_.:@~+=\-]{0,127}", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]{1,255}")
_LAST_FOUR = re.compile(r"[0-9]{4}")
_COUNTRY = re.compile(r"[A-Z]{2}")
# Language, script, region, as CLDR spells them.
_LOCALE = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?(_([A-Z]{2}|[0-9]{3}))?", re.ASCII)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ROLES: tuple[str, ...] = get_args(MemberRole)


# --- people ---


def add_member(decision: TeamDecision, member: str, role: MemberRole) -> None:
    """The member is in the team, in the role.

    Raises: MemberRefused for one who is in it already or one too many; RoleTooLow; Malformed; CardNumberRefused.
    """
    _check_member(decision, member)
    _check_role(role)
    require_rank(decision, role, below=True)
    if member in decision.team.members:
        raise MemberRefused(
            f"member {member!r} is in team {decision.team.team_id!r} since "
            f"{decision.team.members[member].since:%Y-%m-%d}: change the role instead",
            member=member,
        )
    if len(decision.team.members) >= MEMBERS_MAX:
        raise MemberRefused(f"the team has {MEMBERS_MAX} members, which is the most: remove one first")
    decision.record(MemberJoined(**said(decision), member=member, role=role))


def change_member_role(decision: TeamDecision, member: str, role: MemberRole) -> None:
    """The member has the role.

    Raises: UnknownMember; MemberRefused for the role it has already, and for the last owner; RoleTooLow; Malformed;
    CardNumberRefused.
    """
    _check_member(decision, member)
    _check_role(role)
    before = _member(decision, member).role
    require_rank(decision, before, role, below=True)
    if before == role:
        raise MemberRefused(f"member {member!r} is {role} already", member=member)
    _keep_an_owner(decision, member)
    decision.record(MemberRoleChanged(**said(decision), member=member, role=role, role_before=before))


def remove_member(decision: TeamDecision, member: str) -> None:
    """The member is not in the team.

    The member's keys are revoked. Raises: UnknownMember; MemberRefused for the last owner; RoleTooLow; Malformed;
    CardNumberRefused.
    """
    _check_member(decision, member)
    role = _member(decision, member).role
    require_rank(decision, role, below=True)
    _keep_an_owner(decision, member)
    revoke_keys_of(decision, member)
    decision.record(MemberLeft(**said(decision), member=member, role=role))


def _member(decision: TeamDecision, member: str) -> Member:
    found = decision.team.members.get(member)
    if found is None:
        raise UnknownMember(f"team {decision.team.team_id!r} has no member {member!r}", member=member)
    return found


def _keep_an_owner(decision: TeamDecision, member: str) -> None:
    if decision.team.owners() == [member]:
        raise MemberRefused(
            f"member {member!r} is the last owner of team {decision.team.team_id!r}: make another member owner first",
            member=member,
        )


def _check_member(decision: TeamDecision, member: str) -> None:
    refuse_card_numbers(member=member, reason=decision.reason)
    if not _MEMBER.fullmatch(member):
        raise Malformed(
            f"member {member[:40]!r} is no id: 1 to 128 letters, digits or _.:@~+=- that begin with a letter, a digit, "
            "_ or - would be right",
            field="member",
        )


def _check_role(role: str) -> None:
    refuse_card_numbers(role=role)
    if role not in _ROLES:
        raise Malformed(f"role {role[:40]!r} is none of {', '.join(_ROLES)}", field="role")


# --- paperwork ---


def set_billing_details(decision: TeamDecision, details: BillingDetails) -> None:
    """Invoices are made out to the details.

    Raises: Malformed, naming the field; CardNumberRefused.
    """
    refuse_card_numbers(
        reason=decision.reason,
        name=details.name,
        # A number may be spread over lines.
        address_lines="\n".join(details.address_lines),
        country=details.country,
        email=details.email,
        tax_id=details.tax_id,
        locale=details.locale,
    )
    _check_text("name", details.name, 200)
    if not 1 <= len(details.address_lines) <= ADDRESS_LINES_MAX:
        raise Malformed(
            f"address_lines has {len(details.address_lines)} lines: 1 to {ADDRESS_LINES_MAX} would be right",
            field="address_lines",
        )
    for line in details.address_lines:
        _check_text("address_lines", line, 200)
    if not _COUNTRY.fullmatch(details.country):
        raise Malformed("country is not two capital letters such as 'DE' (ISO 3166-1)", field="country")
    if details.email is not None:
        _check_text("email", details.email, 254)
        if not _EMAIL.fullmatch(details.email):
            raise Malformed("email is not an address such as 'billing@example.com'", field="email")
    if details.tax_id is not None:
        _check_text("tax_id", details.tax_id, 40)
    if details.locale is not None and not _LOCALE.fullmatch(details.locale):
        raise Malformed(
            f"locale {details.locale[:20]!a} is none such as 'de', 'de_DE' or 'zh_Hant_TW'",
            field="locale",
        )
    decision.record(BillingDetailsChanged(**said(decision), details=details))


def set_payment_method(decision: TeamDecision, method: PaymentMethod) -> None:
    """The team pays by the method: a provider's token, and what a person recognises the card by.

    Raises: Malformed, naming the field, also for a card past its last month; CardNumberRefused.
    """
    refuse_card_numbers(
        reason=decision.reason,
        token=method.token,
        brand=method.brand,
        last_four=method.last_four,
        expires_month=str(method.expires_month),
        expires_year=str(method.expires_year),
    )
    # What stood in a field is not repeated here: it may be part of a number.
    if not _TOKEN.fullmatch(method.token):
        raise Malformed(
            "token is not a provider's token: 1 to 255 visible ASCII characters without spaces", field="token"
        )
    _check_text("brand", method.brand, 40)
    if not _LAST_FOUR.fullmatch(method.last_four):
        raise Malformed("last_four is not exactly four digits such as '4242'", field="last_four")
    _check_expiry(method, decision.at)
    decision.record(PaymentMethodSet(**said(decision), method=method))


def _check_expiry(method: PaymentMethod, at: datetime) -> None:
    if not 1 <= method.expires_month <= 12:
        raise Malformed("expires_month is no month: 1 to 12 would be right", field="expires_month")
    if not 1900 <= method.expires_year <= at.year + CARD_YEARS_MAX:
        raise Malformed(
            f"expires_year is no year in which a card ends: four digits, up to {at.year + CARD_YEARS_MAX}",
            field="expires_year",
        )
    # A card is good until its month is over everywhere; a day's difference does not matter for what is only shown.
    if (method.expires_year, method.expires_month) < (at.year, at.month):
        raise Malformed(
            f"the card's last month {method.expires_year:04d}-{method.expires_month:02d} is past: "
            f"{at:%Y-%m} or later would be right",
            field="expires_year",
        )


def remove_payment_method(decision: TeamDecision) -> None:
    """The team has no payment method.

    Raises: UnknownPaymentMethod when it has none; CardNumberRefused.
    """
    refuse_card_numbers(reason=decision.reason)
    if decision.team.payment_method is None:
        raise UnknownPaymentMethod(f"team {decision.team.team_id!r} has no payment method to remove")
    decision.record(PaymentMethodRemoved(**said(decision)))


# --- adjustments by two persons ---


def propose_adjustment(decision: TeamDecision, direction: AdjustmentDirection, amount_micros: int) -> str:
    """The adjustment waits for a second person; returns its id, ``adjustment-<version of its event>``.

    Raises: AdjustmentRefused without a reason, up to the cap, which one person may do alone, and for one open proposal too many;
    AmountOutOfRange; CardNumberRefused.
    """
    refuse_card_numbers(reason=decision.reason)
    if not (decision.reason or "").strip():
        raise AdjustmentRefused("reason is missing: say why the balance is adjusted", field="reason")
    if amount_micros <= ADJUSTMENT_CAP_MICROS:
        raise AdjustmentRefused(
            f"{format_credits(amount_micros)} credits are no more than {format_credits(ADJUSTMENT_CAP_MICROS)}: "
            "adjust the balance without a second person",
        )
    if amount_micros > AMOUNT_MAX:
        raise AmountOutOfRange(f"{format_credits(amount_micros)} credits are beyond 2^62 micro-credits")
    if len(decision.team.adjustments) >= ADJUSTMENTS_MAX:
        raise AdjustmentRefused(f"{ADJUSTMENTS_MAX} adjustments wait for approval, which is the most")
    adjustment_id = f"adjustment-{decision.team.version + 1}"
    decision.record(
        AdjustmentProposed(
            **said(decision), adjustment_id=adjustment_id, direction=direction, amount_micros=amount_micros
        )
    )
    return adjustment_id


def approve_adjustment(decision: TeamDecision, adjustment_id: str) -> ProposedAdjustment:
    """The adjustment waits no more; returns it, for the account to be adjusted in the same transaction.

    Raises: UnknownAdjustment for one that is not open; SecondPersonNeeded for whoever proposed it; CardNumberRefused.
    """
    refuse_card_numbers(reason=decision.reason, adjustment_id=adjustment_id)
    proposed = decision.team.adjustments.get(adjustment_id)
    if proposed is None:
        raise UnknownAdjustment(
            f"team {decision.team.team_id!r} has no adjustment {adjustment_id[:80]!r} that waits for approval",
            adjustment_id=adjustment_id[:80],
        )
    if proposed.proposed_by.id == decision.actor.id:
        raise SecondPersonNeeded(
            f"{adjustment_id} was proposed by {decision.actor.id!r}, who may not approve it: ask another person",
            adjustment_id=adjustment_id,
        )
    decision.record(
        AdjustmentApproved(
            **said(decision),
            adjustment_id=adjustment_id,
            direction=proposed.direction,
            amount_micros=proposed.amount_micros,
            proposed_by=proposed.proposed_by,
        )
    )
    return proposed


# --- spending plans ---


def next_plan_id(decision: TeamDecision) -> str:
    """The id of the plan that is saved next, ``plan-<version of its event>``."""
    return f"plan-{decision.team.version + 1}"


def save_spending_plan(decision: TeamDecision, plan: SavedPlan) -> None:
    """The plan is saved for whoever is to use what it pays for. Raises: Malformed for its audience; CardNumberRefused."""
    refuse_card_numbers(audience=plan.audience, reason=decision.reason)
    _check_text("audience", plan.audience, 200)
    assert plan.plan_id == next_plan_id(decision), "a plan is named by the version of its event"
    decision.record(SpendingPlanSaved(**said(decision), plan=plan))


def _check_text(field: str, text: str, most: int) -> None:
    if not text.strip() or len(text) > most:
        raise Malformed(f"{field} is blank or too long: 1 to {most} characters would be right", field=field)
    if any(unicodedata.category(character) in _UNSEEN for character in text):
        raise Malformed(f"{field} holds a control or invisible character: leave it out", field=field)
