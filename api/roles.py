"""Who may do what: one table, a line per kind of act and a cell per role; what is not in it, nobody may do."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

TeamRole = Literal["viewer", "member", "admin", "owner"]
ServiceRole = Literal["ingest", "support", "auditor", "operator", "break-glass"]
Scope = Literal["own", "self", "listed", "any"]

TEAM_ROLES: tuple[TeamRole, ...] = get_args(TeamRole)
"""Roles of people in a team, each above the one before."""

SERVICE_ROLES: tuple[ServiceRole, ...] = get_args(ServiceRole)
ROLES: tuple[str, ...] = TEAM_ROLES + SERVICE_ROLES

ANYONE = "anyone"
"""Stands for a request without a credential."""

GOODWILL_MICROS = 100_000_000
"""Up to so much, 100 credits, support gives or gives back alone."""

PURCHASE_MICROS = 10_000_000_000
"""Up to so much, 10 000 credits, an admin buys alone."""


class Cell(NamedTuple):
    """What a role may do of a line: on which teams, and from where on it takes a second person.

    ``own``: the team of the credential; ``self``: of that team, only what the member caused; ``listed``: the teams and actions
    that the key lists; ``any``: every team. ``alone_micros``: acts of more credits wait for another person's approval (None: no
    bound). ``two_persons``: so do acts that have no amount.
    """

    scope: Scope
    alone_micros: int | None = None
    two_persons: bool = False


_OWN, _SELF, _LISTED, _ANY = Cell("own"), Cell("self"), Cell("listed"), Cell("any")
_CELLS: dict[str, Cell | None] = {
    "-": None,
    "own": _OWN,
    "own cap": Cell("own", PURCHASE_MICROS),
    "self": _SELF,
    "listed": _LISTED,
    "any": _ANY,
    "any cap": Cell("any", GOODWILL_MICROS),
    "any two": Cell("any", 0, two_persons=True),
}
"""The words of the table."""


class Line(NamedTuple):
    """One kind of act: its name, which keys take as a scope, what it is, its cells by role, and its operations."""

    name: str
    what: str
    cells: dict[str, Cell]
    operations: tuple[str, ...]


def _line(name: str, what: str, cells: str, operations: str) -> Line:
    words = [each.strip() for each in cells.split("|")]
    found = {role: _CELLS[word] for role, word in zip(ROLES, words, strict=True)}
    return Line(name, what, {role: cell for role, cell in found.items() if cell}, tuple(operations.split()))


# Cells are those of viewer | member | admin | owner | ingest | support | auditor | operator | break-glass.
TABLE: tuple[Line, ...] = (
    _line(
        "balance",
        "read balance, lots, holds, limits and plan; estimate",
        "own | own | own | own | - | any | any | any | any",
        "read_account read_balance list_lots list_holds read_hold list_limits read_plan read_auto_top_up list_plans"
        " list_rate_cards read_rate_card stream_balance estimate_usage estimate_uses preflight_uses plan_spending"
        " list_spending_plans list_members",
    ),
    _line(
        "spending",
        "read what everybody in a team spent, and review it before it is handed over",
        "- | - | own | own | - | any | any | - | any",
        "read_spending read_spending_plan_actual review_account",
    ),
    _line(
        "plans",
        "save a spending plan",
        "- | own | own | own | - | - | - | - | any",
        "save_spending_plan",
    ),
    _line(
        "usage",
        "read usage and explain it",
        "self | self | own | own | - | any | any | - | any",
        "read_statement find_charges read_charge explain_charge replay_account",
    ),
    _line(
        "account",
        "explain the whole account",
        "- | - | own | own | - | any | any | - | any",
        "explain_balance explain_denial diff_account",
    ),
    _line(
        "invoices",
        "read invoices, payments and paperwork, export books",
        "- | - | own | own | - | any | any | - | any",
        "list_invoices read_invoice read_invoice_draft read_invoice_status list_invoice_charges"
        " read_statement_of_account read_top_up list_chargebacks read_billing_details read_payment_method",
    ),
    _line(
        "cases",
        "see disputes and adjustments",
        "- | - | own | own | - | any | any | any | any",
        "list_disputes read_dispute list_adjustments",
    ),
    _line(
        "acts",
        "see what waits for a second person",
        "- | - | own | own | - | any | any | any | any",
        "list_acts",
    ),
    _line(
        "approve",
        "approve what another proposed, of what the role may do itself without a cap",
        "- | - | - | own | - | - | - | any | any",
        "approve_act",
    ),
    _line(
        "accesses",
        "see who of the house read the team's data",
        "- | - | own | own | - | - | any | - | any",
        "list_accesses",
    ),
    _line("revenue", "read revenue", "- | - | - | - | - | any | any | - | any", "read_revenue"),
    _line(
        "spend",
        "quote, hold, capture, release",
        "- | own | own | own | listed | - | - | - | any",
        "give_quote place_hold extend_hold capture_hold release_hold withdraw_quote",
    ),
    _line(
        "work",
        "start works, save their steps and results, check them before they are handed over",
        "- | own | own | own | - | - | - | - | any",
        "start_work save_work_step check_handover save_work",
    ),
    _line(
        "works",
        "read works, what they cost, and how they were handed over",
        "own | own | own | own | - | any | any | any | any",
        "list_works read_work read_work_cost read_handover read_handover_at",
    ),
    _line(
        "contexts",
        "search what everybody in the team asked for",
        "- | - | own | own | - | any | any | - | any",
        "search_contexts",
    ),
    _line("forget", "erase what a member wrote", "- | - | - | own | - | - | - | any | any", "erase_contexts"),
    _line("publish", "publish usage", "- | - | - | - | listed | - | - | - | any", "publish_usage"),
    _line(
        "limits",
        "set limits: an admin those of members, projects and actions",
        "- | - | own | own | - | - | - | any | any",
        "set_limit remove_limit",
    ),
    _line(
        "people",
        "invite, remove, change roles: an admin up to member, nobody the last owner",
        "- | - | own | own | - | - | - | any two | any",
        "add_member change_member_role remove_member",
    ),
    _line(
        "keys",
        "create keys: an admin none of owners",
        "- | - | own | own | - | - | - | - | -",
        "create_key",
    ),
    _line("revoke", "revoke keys", "- | - | own | own | - | any | - | any | any", "revoke_key"),
    _line("listed", "see which keys there are", "- | - | own | own | - | any | any | any | any", "list_keys"),
    _line(
        "buy",
        "buy top-ups, set automatic top-up, say how is paid and who is invoiced",
        "- | - | own cap | own | - | - | - | - | any",
        "request_top_up configure_auto_top_up set_billing_details set_payment_method remove_payment_method",
    ),
    _line(
        "contest",
        "contest charges",
        "- | - | own | own | - | any | - | any | any",
        "open_charge_dispute",
    ),
    _line(
        "goodwill",
        "grant, void and refund",
        "- | - | - | - | - | any cap | - | any two | any",
        "grant_credits void_grant refund_charge",
    ),
    _line(
        "judge",
        "decide what was contested",
        "- | - | - | - | - | - | - | any two | any",
        "uphold_charge_dispute reject_charge_dispute",
    ),
    _line(
        "payments",
        "say what became of payments",
        "- | - | - | - | listed | - | - | - | any",
        "top_up_credits fail_top_up open_chargeback win_chargeback lose_chargeback",
    ),
    _line(
        "books",
        "close periods, correct invoices",
        "- | - | - | - | - | - | - | any two | any",
        "close_period void_invoice mark_uncollectible issue_credit_note",
    ),
    _line(
        "catalogue",
        "publish rate cards and plans, withdraw cards",
        "- | - | - | - | - | - | - | any two | any",
        "publish_rate_card publish_plan withdraw_rate_card",
    ),
    _line(
        "publications",
        "see what waits to be published, and where usage may come from",
        "- | - | - | - | - | - | any | any | any",
        "list_publications read_publication list_sources",
    ),
    _line(
        "adjust",
        "adjust balances: up to 1 000 credits alone, above that two persons",
        "- | - | - | - | - | - | - | any | any",
        "adjust_balance approve_adjustment",
    ),
    _line(
        "platform",
        "open, suspend and close accounts, assign plans, say who sells and where usage comes from, approve publications",
        "- | - | - | - | - | - | - | any | any",
        "open_account suspend_account resume_account close_account assign_plan schedule_zone_change set_issuer"
        " register_source approve_publication",
    ),
    _line(
        "letters",
        "see records that were rejected or parked, and what became of an offset",
        "- | - | - | - | - | - | any | any | any",
        "list_dead_letters read_dead_letter read_offset",
    ),
    _line(
        "retry",
        "try rejected and parked records again",
        "- | - | - | - | - | - | - | any | any",
        "retry_dead_letters",
    ),
    _line("issuers", "see who sells", "- | - | - | - | - | any | any | any | any", "read_issuer"),
    _line("chain", "raw events with their hashes", "- | - | - | own | - | - | any | - | any", "read_history"),
    _line("machines", "figures of this process", "- | - | - | - | - | - | any | any | any", "metrics"),
)
"""Source: the security model, "who may do what".

An auditor writes nowhere; a quote changes nothing, but who cannot hold has no use for one. Ingest holds for the work that it
runs, and says what became of payments, since it speaks for the payment provider; a team asks for credits, and never says that it
has paid. Support reads raw events through explanations. Explanations of a whole account, and of a denial, tell of everybody's
charges, so they are not for who sees only their own. Break-glass keys are an operator's, for at most eight hours, and every use
of one is an alarm; they make no keys, which would outlast them.
"""

OPEN: frozenset[str] = frozenset({"livez", "readyz", "openapi", "read_signing_key"})
"""Operations that need no credential."""

QUESTIONS: frozenset[str] = frozenset(
    {
        "estimate_usage",
        "estimate_uses",
        "give_quote",
        "plan_spending",
        "preflight_uses",
        "review_account",
    }
)
"""Asked by POST because of their bodies: they change nothing, so they are reads."""

SEEN: frozenset[str] = frozenset({"support", "operator", "break-glass"})
"""Roles of the house whose reads of a team its owner sees; auditors write nowhere, and their reads are in the log."""

LINES: dict[str, Line] = {line.name: line for line in TABLE}
_OF: dict[str, Line] = {operation: line for line in TABLE for operation in line.operations}
OPERATIONS: frozenset[str] = frozenset(_OF) | OPEN
"""Every operation that the table knows, by the name of its route."""


def is_open(operation: str) -> bool:
    """Whether the operation needs no credential."""
    return operation in OPEN


def line_of(operation: str) -> Line | None:
    """The line of the table that has the operation."""
    return _OF.get(operation)


def cell(role: str, operation: str) -> Cell | None:
    """What the role may do of the operation; None: nothing, as for an operation that the table does not know."""
    line = _OF.get(operation)
    return line.cells.get(role) if line else None


def told(role: str, operation: str) -> str:
    """The cell in the words of the table; "-" for nothing."""
    found = cell(role, operation)
    return next(word for word, each in _CELLS.items() if each == found)


def approved_by(role: str) -> frozenset[str]:
    """The operations of which the role may approve what somebody else proposed: those that it may do without a cap of its own."""
    return frozenset(
        operation
        for line in TABLE
        if (own := line.cells.get(role)) is not None and (own.two_persons or own.alone_micros is None)
        for operation in line.operations
    )


def is_seen(role: str) -> bool:
    """Whether a read of a team by the role leaves a trace there."""
    return role in SEEN


def may(role: str, operation: str) -> bool:
    """Whether the role may do the operation, on some team at least."""
    return is_open(operation) or cell(role, operation) is not None


def roles_of(operation: str) -> list[str]:
    """The roles that may do the operation, in the order of the table."""
    return [role for role in ROLES if may(role, operation)]
