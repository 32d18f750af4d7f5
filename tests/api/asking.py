"""A request for every operation that is well formed, whatever the ledger then says to it."""

from __future__ import annotations

from typing import Any

PATH: dict[str, Any] = {
    "team_id": "acme",
    "charge_id": "0" * 32,
    "card_id": "standard",
    "version": 1,
    "lot_id": "lot-2",
    "hold_id": "hold-3",
    "dispute_id": "dispute-3",
    "adjustment_id": "adjustment-3",
    "quote_id": "quote-3",
    "limit_id": "day",
    "member": "mira",
    "plan_id": "plan-3",
    "payment_reference": "pay-1",
    "invoice": "CO-2026-000001",
    "line": 1,
    "key_id": "0" * 12,
    "act_id": "act-1",
    "issuer_id": "main",
    "work_id": "poster",
    "publication_id": "publication-2",
    "letter": 1,
    "topic": "credits.usage.v1",
    "partition": 0,
    "offset": 1,
}
PAID = {"price_minor": 500, "currency": "EUR", "tax_minor": 95}
BOUGHT = {"amount": "50", "payment_reference": "pay-1", "cost_basis": PAID}
PLANNED = [{"action": "image.generate", "meters": {"units": "4"}, "step": "draft", "times": 3}]
METHOD = {
    "token": "tok_4f9s",
    "brand": "visa",
    "last_four": "4242",
    "expires_month": 5,
    "expires_year": 2029,
}
DETAILS = {"name": "Acme GmbH", "address_lines": ["Hauptstr. 1", "10115 Berlin"], "country": "DE"}
AUTO = {
    "enabled": True,
    "threshold": "20",
    "amount": "50",
    "cost_basis": PAID,
    "money_cap_minor": 2_000,
}
WHY = {"reason": "x"}

USE = {"action": "image.generate", "meters": {"units": "1"}}
VOLUME = USE | {"low": 1, "expected": 20, "high": 300}

BODIES: dict[str, Any] = {
    "open_account": {"team_id": "other"},
    "suspend_account": WHY,
    "resume_account": WHY,
    "close_account": WHY,
    "assign_plan": {"plan_id": "studio"},
    "schedule_zone_change": {"zone": "Europe/Berlin"},
    "grant_credits": {"amount": "1", "reason": "x"},
    "void_grant": WHY,
    "refund_charge": WHY,
    "adjust_balance": {"direction": "raise", "amount": "5", "reason": "x"},
    "approve_adjustment": {},
    "top_up_credits": BOUGHT,
    "request_top_up": BOUGHT,
    "fail_top_up": {"failure": "card_declined"},
    "open_chargeback": {},
    "win_chargeback": {},
    "lose_chargeback": {},
    "configure_auto_top_up": AUTO,
    "place_hold": {"action": "image.generate", "amount": "10"},
    "extend_hold": {"lasts_seconds": 7_200},
    "capture_hold": {"amount": "4"},
    "release_hold": {},
    "withdraw_quote": {},
    "set_limit": {"limit_id": "day", "window": "day", "cap": "100"},
    "remove_limit": {},
    "open_charge_dispute": {"charge_ids": ["0" * 32], "evidence": "it never arrived"},
    "uphold_charge_dispute": WHY,
    "reject_charge_dispute": WHY,
    "add_member": {"member": "mira", "role": "owner"},
    "change_member_role": {"role": "admin"},
    "remove_member": {},
    "create_key": {"member": "mira"},
    "revoke_key": {},
    "approve_act": {},
    "set_billing_details": DETAILS,
    "set_payment_method": METHOD,
    "remove_payment_method": {},
    "close_period": WHY,
    "void_invoice": WHY,
    "mark_uncollectible": WHY,
    "issue_credit_note": {"currency": "EUR", "lines": [{"text": "Outage", "net_minor": 100}], "reason": "x"},
    "set_issuer": DETAILS,
    "start_work": {
        "work_id": "poster",
        "goal": "a poster of a fox",
        "audience": "visitors",
        "planned": PLANNED,
    },
    "save_work_step": {"step": "draft", "prompts": ["a fox"], "versions": {"model": "xl-2"}},
    "check_handover": {"next_use": PLANNED[0]},
    "erase_contexts": {"reason": "asked for it"},
    "save_work": {"files": ["poster.png"], "links": ["https://example.org/poster.png"]},
    "save_spending_plan": {"audience": "the film team", "days": 10, "volumes": [VOLUME]},
    "plan_spending": {"days": 10, "volumes": [VOLUME]},
    "estimate_uses": {"uses": [USE, USE]},
    "preflight_uses": {"tasks": [USE | {"times": 3}], "member": "mira"},
    "review_account": {"next_use": USE},
    "estimate_usage": {"action": "image.generate", "meters": {"units": "1"}},
    "give_quote": {"action": "image.generate", "meters": {"units": "12"}},
    "publish_rate_card": {"document": {"card_id": "standard"}, "reason": "x"},
    "publish_plan": {"document": {"plan_id": "studio"}, "reason": "x"},
    "withdraw_rate_card": WHY,
    "approve_publication": {},
    "register_source": {"source": "urn:trace:2024", "historic": True},
    "retry_dead_letters": {"letters": [1]},
}
"""By operation."""

PARAMS: dict[str, dict[str, str]] = {
    "search_contexts": {"q": "fox"},
    "find_charges": {"source": "urn:s", "id": "r"},
    "read_statement_of_account": {"from": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"},
}
