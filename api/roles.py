"""Who may do what: one table from operation to roles; what is not in it, nobody may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Role = Literal["operator", "support", "auditor", "ingest"]
ROLES: tuple[Role, ...] = get_args(Role)

ANYONE = "anyone"
"""Stands for a request without a key."""

_OPERATOR = frozenset({"operator"})
_READERS = frozenset({"operator", "support", "auditor"})
_AUDIT = frozenset({"operator", "auditor"})
_WORKERS = frozenset({"operator", "ingest"})
_SUPPORTED = frozenset({"operator", "support"})
_INVOICES = frozenset({"support", "auditor"})
_OPEN = frozenset({ANYONE})

MAY: Mapping[str, frozenset[str]] = {
    # the account
    "open_account": _OPERATOR,
    "suspend_account": _OPERATOR,
    "resume_account": _OPERATOR,
    "close_account": _OPERATOR,
    "assign_plan": _OPERATOR,
    "schedule_zone_change": _OPERATOR,
    # credits by hand
    "grant_credits": _OPERATOR,
    "void_grant": _OPERATOR,
    "refund_charge": _OPERATOR,
    "adjust_balance": _OPERATOR,
    "approve_adjustment": _OPERATOR,
    # credits that are bought
    "top_up_credits": _OPERATOR,
    "request_top_up": _OPERATOR,
    "fail_top_up": _OPERATOR,
    "open_chargeback": _OPERATOR,
    "win_chargeback": _OPERATOR,
    "lose_chargeback": _OPERATOR,
    "configure_auto_top_up": _OPERATOR,
    # holds and limits
    "give_quote": _WORKERS,
    "withdraw_quote": _OPERATOR,
    "place_hold": _WORKERS,
    "extend_hold": _WORKERS,
    "capture_hold": _WORKERS,
    "release_hold": _WORKERS,
    "set_limit": _OPERATOR,
    "remove_limit": _OPERATOR,
    # disputes: support brings the customer's case, somebody else decides it
    "open_charge_dispute": _SUPPORTED,
    "uphold_charge_dispute": _OPERATOR,
    "reject_charge_dispute": _OPERATOR,
    # the team
    "add_member": _OPERATOR,
    "change_member_role": _OPERATOR,
    "remove_member": _OPERATOR,
    "set_billing_details": _OPERATOR,
    "set_payment_method": _OPERATOR,
    "remove_payment_method": _OPERATOR,
    # periods and invoices; invoices are no business of who runs the machines
    "close_period": _OPERATOR,
    "void_invoice": _OPERATOR,
    "mark_uncollectible": _OPERATOR,
    "issue_credit_note": _OPERATOR,
    "set_issuer": _OPERATOR,
    "read_issuer": _READERS,
    "list_invoices": _INVOICES,
    "read_invoice": _INVOICES,
    "read_invoice_draft": _INVOICES,
    "read_invoice_status": _INVOICES,
    "list_invoice_charges": _INVOICES,
    "read_statement_of_account": _INVOICES,
    "read_revenue": _INVOICES,
    # works
    "start_work": _OPERATOR,
    "save_work_step": _OPERATOR,
    "check_handover": _OPERATOR,
    "save_work": _OPERATOR,
    "list_works": _READERS,
    "read_work": _READERS,
    "read_work_cost": _READERS,
    "read_handover": _READERS,
    "read_handover_at": _READERS,
    "search_contexts": _READERS,
    "erase_contexts": _OPERATOR,
    # reads
    "read_account": _READERS,
    "read_balance": _READERS,
    "list_lots": _READERS,
    "list_holds": _READERS,
    "read_hold": _READERS,
    "list_limits": _READERS,
    "read_plan": _READERS,
    "read_auto_top_up": _READERS,
    "read_top_up": _READERS,
    "list_chargebacks": _READERS,
    "list_disputes": _READERS,
    "read_dispute": _READERS,
    "list_adjustments": _READERS,
    "list_members": _READERS,
    "read_billing_details": _READERS,
    "read_payment_method": _READERS,
    "read_statement": _READERS,
    "read_history": _AUDIT,
    "find_charges": _READERS,
    "read_charge": _READERS,
    "explain_charge": _READERS,
    "explain_balance": _READERS,
    "explain_denial": _READERS,
    "replay_account": _READERS,
    "diff_account": _READERS,
    "estimate_usage": _READERS,
    "list_plans": _READERS,
    "list_rate_cards": _READERS,
    "read_rate_card": _READERS,
    # machines
    "metrics": _AUDIT,
    "read_signing_key": _OPEN,
    "livez": _OPEN,
    "readyz": _OPEN,
    "openapi": _OPEN,
}
"""By the name of the route. Support reads and brings disputes; grants and refunds by support come with their caps per principal.

An auditor writes nowhere; a quote is no write, but who cannot hold has no use for one. Ingest holds for the work it runs. Raw
events are for auditors; support reads them through explanations. Source: reference security model, "Who may do what".
"""


def is_open(operation: str) -> bool:
    """Whether the operation needs no key."""
    return ANYONE in MAY.get(operation, frozenset())


def may(role: str, operation: str) -> bool:
    """Whether the role may do the operation; an operation that the table does not know is nobody's."""
    allowed = MAY.get(operation, frozenset())
    return ANYONE in allowed or role in allowed
