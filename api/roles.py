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
_OPEN = frozenset({ANYONE})

MAY: Mapping[str, frozenset[str]] = {
    "open_account": _OPERATOR,
    "close_account": _OPERATOR,
    "grant_credits": _OPERATOR,
    "top_up_credits": _OPERATOR,
    "refund_charge": _OPERATOR,
    "read_account": _READERS,
    "read_balance": _READERS,
    "list_lots": _READERS,
    "read_statement": _READERS,
    "read_history": _AUDIT,
    "find_charges": _READERS,
    "read_charge": _READERS,
    "explain_charge": _READERS,
    "estimate_usage": _READERS,
    "list_rate_cards": _READERS,
    "read_rate_card": _READERS,
    "metrics": _AUDIT,
    "livez": _OPEN,
    "readyz": _OPEN,
    "openapi": _OPEN,
}
"""By the name of the route. Grants and refunds by support come with their caps and second approvers; until then support reads.

Raw events are for auditors; support reads them through explanations. Source: reference security model, "Who may do what".
"""


def is_open(operation: str) -> bool:
    """Whether the operation needs no key."""
    return ANYONE in MAY.get(operation, frozenset())


def may(role: str, operation: str) -> bool:
    """Whether the role may do the operation; an operation that the table does not know is nobody's."""
    allowed = MAY.get(operation, frozenset())
    return ANYONE in allowed or role in allowed
