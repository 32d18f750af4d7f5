"""Disputes of charges: opened with evidence, then upheld, which refunds them, or rejected."""

from __future__ import annotations

import msgspec

from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.events import ChargeDisputeOpened, ChargeDisputeRejected, ChargeDisputeUpheld
from domain.account.index import DecidedDispute
from domain.account.limiting import refunded_micros
from domain.account.opening import require_open
from domain.account.refunding import give_back, require_charge, require_room
from domain.account.state import OPEN_DISPUTES_MAX, Dispute
from domain.errors import DisputeRefused, Malformed, TooManyDisputes, UnknownDispute

CHARGES_MAX = 100
EVIDENCE_LENGTH_MAX = 4_000


def open_dispute(decision: Decision, charge_ids: list[str], evidence: str) -> str:
    """The charges are contested with this evidence; returns the dispute's id.

    Raises: Malformed for no or too many charges, or no evidence; UnknownCharge; NothingToRefund; DisputeRefused for a charge that
    is in an open dispute; TooManyDisputes; AccountClosed.
    """
    account = decision.account
    require_open(account)
    _check(charge_ids, evidence)
    contested = {charge for dispute in account.disputes.values() for charge in dispute.charge_ids}
    for charge_id in charge_ids:
        require_charge(decision.index, charge_id)
        if charge_id in contested:
            raise DisputeRefused(f"charge {charge_id} is in an open dispute already", charge_id=charge_id)
    if len(account.disputes) >= OPEN_DISPUTES_MAX:
        raise TooManyDisputes(f"the account has {OPEN_DISPUTES_MAX} open disputes: decide some first")
    pass_time(decision)
    dispute_id = f"dispute-{account.version + 1}"
    decision.record(
        ChargeDisputeOpened(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            dispute_id=dispute_id,
            charge_ids=charge_ids,
            evidence=evidence,
        )
    )
    return dispute_id


def uphold_dispute(decision: Decision, dispute_id: str, refund_id: str) -> int:
    """The customer was right: what is left of each charge is given back under one refund id; returns how much that is.

    Raises: UnknownDispute; DisputeRefused when it is decided; as ``require_room``; AccountClosed.
    """
    dispute = _require_dispute(decision, dispute_id)
    pass_time(decision)
    charges = [require_charge(decision.index, charge_id) for charge_id in dispute.charge_ids]
    left = [each.amount_micros - refunded_micros(decision.index, each.charge_id) for each in charges]
    decision.record(
        ChargeDisputeUpheld(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            dispute_id=dispute_id,
            refund_id=refund_id,
            amount_micros=sum(left),
        )
    )
    for charge, amount in zip(charges, left, strict=True):
        if amount:
            require_room(decision, charge, amount)
            give_back(decision, charge, amount, refund_id)
    return sum(left)


def reject_dispute(decision: Decision, dispute_id: str) -> None:
    """The charges stand. Raises: UnknownDispute; DisputeRefused when it is decided; AccountClosed."""
    _require_dispute(decision, dispute_id)
    pass_time(decision)
    decision.record(
        ChargeDisputeRejected(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            dispute_id=dispute_id,
        )
    )


def _require_dispute(decision: Decision, dispute_id: str) -> Dispute:
    require_open(decision.account)
    dispute = decision.account.disputes.get(dispute_id)
    if dispute is not None:
        return dispute
    entry = decision.index.entry("dispute", dispute_id)
    if entry is None:
        raise UnknownDispute(
            f"dispute {dispute_id[:64]!r} is not one of this team's", dispute_id=dispute_id[:64]
        )
    how = msgspec.json.decode(entry, type=DecidedDispute).how
    raise DisputeRefused(
        f"dispute {dispute_id} was {how}: it is decided once", dispute_id=dispute_id, how=how
    )


def _check(charge_ids: list[str], evidence: str) -> None:
    if not 1 <= len(charge_ids) <= CHARGES_MAX or len(set(charge_ids)) != len(charge_ids):
        raise Malformed(
            f"charge_ids: 1 to {CHARGES_MAX} different charges would be right, not {len(charge_ids)}",
            field="charge_ids",
        )
    if not 1 <= len(evidence) <= EVIDENCE_LENGTH_MAX:
        raise Malformed(
            f"evidence: 1 to {EVIDENCE_LENGTH_MAX} characters would be right, not {len(evidence)}",
            field="evidence",
        )
