"""Every operation of the API has a command that does the same; the shell completes what may be said; help shows how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.infra.test_cli import Coffer, bare, commands

__all__ = ["bare"]

PINNED = Path(__file__).parents[1] / "api" / "openapi.json"
OPERATIONS = {
    operation["operationId"]
    for item in json.loads(PINNED.read_text())["paths"].values()
    for operation in item.values()
}
COMMAND_OF = {
    "adjust_balance": "adjust",
    "add_member": "team add",
    "approve_act": "acts approve",
    "approve_adjustment": "approve",
    "approve_publication": "catalogue approve",
    "assign_plan": "plan assign",
    "capture_hold": "hold capture",
    "change_member_role": "team role",
    "check_handover": "work handover",
    "close_account": "account close",
    "close_period": "invoice close",
    "configure_auto_top_up": "auto-topup set",
    "create_key": "team key-create",
    "diff_account": "diff",
    "erase_contexts": "forget",
    "estimate_usage": "estimate",
    "estimate_uses": "estimate",
    "explain_balance": "explain",
    "explain_charge": "explain",
    "explain_denial": "explain",
    "extend_hold": "hold extend",
    "fail_top_up": "topup-fail",
    "find_charges": "usage show",
    "give_quote": "quote",
    "grant_credits": "grant",
    "issue_credit_note": "invoice credit-note",
    "list_accesses": "team accesses",
    "list_acts": "acts show",
    "list_adjustments": "adjustments",
    "list_chargebacks": "chargeback show",
    "list_dead_letters": "dlq list",
    "list_disputes": "dispute show",
    "list_holds": "hold show",
    "list_invoice_charges": "invoice charges",
    "list_invoices": "invoice list",
    "list_keys": "team keys",
    "list_limits": "limits show",
    "list_lots": "lots",
    "list_members": "team members",
    "list_plans": "catalogue plans",
    "list_publications": "catalogue waiting",
    "list_rate_cards": "catalogue cards",
    "list_sources": "sources list",
    "list_spending_plans": "plan saved",
    "list_works": "work list",
    "lose_chargeback": "chargeback lost",
    "mark_uncollectible": "invoice uncollectible",
    "open_account": "account open",
    "open_charge_dispute": "dispute open",
    "open_chargeback": "chargeback open",
    "place_hold": "hold place",
    "plan_spending": "plan preview",
    "preflight_uses": "preflight",
    "publish_plan": "publish",
    "publish_rate_card": "publish",
    "publish_usage": "usage send",
    "read_account": "account show",
    "read_auto_top_up": "auto-topup show",
    "read_balance": "balance",
    "read_billing_details": "team billing",
    "read_charge": "usage show",
    "read_dead_letter": "dlq show",
    "read_dispute": "dispute show",
    "read_handover": "work handed-over",
    "read_handover_at": "work handed-over",
    "read_history": "history",
    "read_hold": "hold show",
    "read_invoice": "invoice show",
    "read_invoice_draft": "invoice draft",
    "read_invoice_status": "invoice status",
    "read_issuer": "issuer show",
    "read_offset": "offset",
    "read_payment_method": "team payment-method",
    "read_plan": "plan show",
    "readyz": "doctor",
    "read_publication": "catalogue proposal",
    "read_rate_card": "catalogue card",
    "read_revenue": "revenue",
    "read_signing_key": "signing-key",
    "read_spending": "spending",
    "read_spending_plan_actual": "plan actual",
    "read_statement": "statement",
    "read_statement_of_account": "statement",
    "read_top_up": "topup-show",
    "read_work": "work show",
    "read_work_cost": "work cost",
    "refund_charge": "refund",
    "register_source": "sources register",
    "reject_charge_dispute": "dispute reject",
    "release_hold": "hold release",
    "remove_limit": "limits remove",
    "remove_member": "team remove",
    "remove_payment_method": "team remove-payment-method",
    "replay_account": "replay",
    "request_top_up": "topup-request",
    "resume_account": "resume",
    "retry_dead_letters": "dlq retry",
    "review_account": "review",
    "revoke_key": "team key-revoke",
    "save_spending_plan": "plan save",
    "save_work": "work save",
    "save_work_step": "work step",
    "schedule_zone_change": "zone",
    "search_contexts": "contexts",
    "set_billing_details": "team set-billing",
    "set_issuer": "issuer set",
    "set_limit": "limits set",
    "set_payment_method": "team set-payment-method",
    "start_work": "work start",
    "stream_balance": "watch",
    "suspend_account": "suspend",
    "top_up_credits": "topup",
    "uphold_charge_dispute": "dispute uphold",
    "void_grant": "void",
    "void_invoice": "invoice void",
    "win_chargeback": "chargeback won",
    "withdraw_quote": "quote-withdraw",
    "withdraw_rate_card": "catalogue withdraw",
}
FOR_MACHINES = {
    "livez": "a probe; `coffer doctor` asks the other",
    "metrics": "Prometheus asks it",
}
"""What no command does, and why."""


def test_every_operation_of_the_api_has_a_command() -> None:
    known = {" ".join(words) for words, _ in commands()}

    assert set(COMMAND_OF) | set(FOR_MACHINES) == OPERATIONS
    assert {words for words in COMMAND_OF.values() if words not in known} == set()


def complete(coffer: Coffer, monkeypatch: pytest.MonkeyPatch, shell: str, *words: str) -> list[str]:
    """What the shell is offered for the last word, which is not finished."""
    said = " ".join(("coffer", *words))
    monkeypatch.setenv("_COFFER_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", said)
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", said)
    told = coffer()
    assert told.code == 0, told.err
    return told.out.split()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_completes_commands_and_the_forms_of_an_answer(
    bare: Coffer, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    forms = " ".join(complete(bare, monkeypatch, shell, "balance", "acme", "-o", ""))
    begun = " ".join(complete(bare, monkeypatch, shell, "balance", "acme", "-o", "js"))
    words = " ".join(complete(bare, monkeypatch, shell, "bal"))
    below = " ".join(complete(bare, monkeypatch, shell, "hold", "c"))

    assert all(form in forms for form in ("table", "json", "jsonl", "csv"))
    assert ("json" in begun, "csv" in begun) == (True, False)
    assert "balance" in words
    assert "capture" in below


def test_the_shell_is_told_how_to_complete(bare: Coffer, monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in ("bash", "zsh"):
        monkeypatch.setenv("_COFFER_COMPLETE", f"source_{shell}")
        assert "_COFFER_COMPLETE" in bare().out
