"""The coffer command over PostgreSQL for holds, limits, plans, payments, disputes and paperwork: said, refused, and as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.infra.test_cli import Coffer, Told, bare, coffer

__all__ = ["bare", "coffer"]

PLAN = """
plan_id = "{plan_id}"
card_id = "standard"
allowance = "{allowance}"
rollover_cap = "0"
price = {{ price_minor = 1000, currency = "EUR" }}
"""
PAID = ("--payment-reference", "pay-1", "--price-minor", "500", "--currency", "EUR")


def json_of(coffer: Coffer, *arguments: str) -> Any:
    """What the command tells as JSON, once it went well."""
    told = coffer(*arguments, "-o", "json")
    assert told.code == 0, told.err
    return told.json


def refused(told: Told) -> str:
    """The one line of a refusal."""
    assert (told.code, told.out) == (2, ""), told.out
    assert told.err.startswith("coffer: ")
    return told.err


def test_a_hold_is_placed_extended_captured_and_released_and_reads_as_it_was(coffer: Coffer) -> None:
    made = json_of(coffer, "hold", "place", "acme", "image.generate", "--amount", "40", "--member", "mira")
    extended = json_of(coffer, "hold", "extend", "acme", "hold-3", "--lasts", "7200")
    captured = json_of(coffer, "hold", "capture", "acme", "hold-3", "15")
    table = coffer("hold", "show", "acme").out
    released = json_of(coffer, "hold", "release", "acme", "hold-3")

    assert (made["outcome"], made["hold_id"]) == ("held", "hold-3")
    assert extended["hold_expires_at"] > made["hold_expires_at"]
    assert (captured["amount"], released["amount"]) == ("15", "25")
    assert "hold-3" in table
    assert "mira" in table
    assert json_of(coffer, "hold", "show", "acme", "hold-3")["state"] == "released"
    assert json_of(coffer, "hold", "show", "acme", "hold-3", "--at-version", "3")["state"] == "open"
    then = json_of(coffer, "balance", "acme", "--at-version", "3")
    assert (then["available"], then["held"]) == ("60", "40")
    assert json_of(coffer, "balance", "acme")["settled"] == "85"
    coffer("project", "--once")
    assert [line["kind"] for line in json_of(coffer, "statement", "acme", "--at-version", "3")] == [
        "CreditsGranted",
        "CreditsHeld",
    ]


def test_a_denial_is_an_outcome_and_no_failure(coffer: Coffer) -> None:
    told = json_of(coffer, "hold", "place", "acme", "image.generate", "--amount", "101")

    assert told["outcome"] == "denied"
    assert (told["denial"]["rule"], told["denial"]["requested"]) == ("available", "101")


def test_a_quote_is_given_used_and_withdrawn(coffer: Coffer) -> None:
    quote = json_of(coffer, "quote", "acme", "image.generate", "-m", "units=12", "--lasts", "60")
    held = json_of(coffer, "hold", "place", "acme", "image.generate", "--quote", quote["token"])
    again = refused(coffer("hold", "place", "acme", "image.generate", "--quote", quote["token"]))
    other = json_of(coffer, "quote", "acme", "image.generate", "-m", "units=12")
    assert coffer("quote-withdraw", "acme", other["quote_id"]).code == 0
    gone = refused(coffer("hold", "place", "acme", "image.generate", "--quote", other["token"]))

    assert (quote["total"], held["amount"]) == ("12", "12")
    assert "used" in again or "named" in again
    assert "withdrawn" in gone


def test_limits_are_set_shown_and_removed(coffer: Coffer) -> None:
    given = ("--window", "day", "--cap", "50", "--member", "mira", "--threshold", "80", "--threshold", "50")
    json_of(coffer, "limits", "set", "acme", "mira-day", *given)
    coffer("hold", "place", "acme", "image.generate", "--amount", "20", "--member", "mira")

    [limit] = json_of(coffer, "limits", "show", "acme")["data"]
    table = coffer("limits", "show", "acme").out
    json_of(coffer, "limits", "remove", "acme", "mira-day")

    assert (limit["used"], limit["held"], limit["remaining"], limit["thresholds"]) == (
        "0",
        "20",
        "30",
        [50, 80],
    )
    assert "mira-day" in table
    assert json_of(coffer, "limits", "show", "acme")["data"] == []
    assert len(json_of(coffer, "limits", "show", "acme", "--at-version", "4")["data"]) == 1


def test_a_plan_and_a_zone_are_assigned_and_shown(coffer: Coffer, tmp_path: Path) -> None:
    for plan_id, allowance in (("studio", 300), ("small", 100)):
        file = tmp_path / f"{plan_id}.toml"
        file.write_text(PLAN.format(plan_id=plan_id, allowance=allowance))
        assert coffer("publish", str(file)).code == 0

    assigned = json_of(coffer, "plan", "assign", "acme", "studio")
    too_early = refused(coffer("plan", "assign", "acme", "small"))
    follows = json_of(coffer, "plan", "assign", "acme", "small", "--at-turn")
    zone = json_of(coffer, "zone", "acme", "Europe/Berlin")
    told = json_of(coffer, "plan", "show", "acme")

    assert assigned["settled"] == "400"
    assert "turn" in too_early
    assert (told["plan"]["plan_id"], told["pending_plan"]["plan"]["plan_id"]) == ("studio", "small")
    assert told["pending_zone"] == {"zone": "Europe/Berlin", "effective_at": zone["effective_at"]}
    assert follows["effective_at"] == told["next_turn"]


def test_payments_are_requested_settled_failed_and_taken_back(coffer: Coffer) -> None:
    json_of(coffer, "topup-request", "acme", "50", *PAID)
    json_of(coffer, "topup-fail", "acme", "pay-1", "--failure", "card_declined")
    failed = json_of(coffer, "topup-show", "acme", "pay-1")
    json_of(coffer, "topup", "acme", "50", *PAID)
    opened = json_of(coffer, "chargeback", "open", "acme", "pay-1")
    [shown] = json_of(coffer, "chargeback", "show", "acme")["data"]
    json_of(coffer, "chargeback", "won", "acme", "pay-1")
    once = refused(coffer("chargeback", "lost", "acme", "pay-1"))

    assert failed["status"] == "failed"
    assert (opened["amount"], shown["withheld"]) == ("50", "50")
    assert "pay-1" in once
    assert json_of(coffer, "topup-show", "acme", "pay-1")["chargeback"] == "won"


def test_automatic_top_up_is_set_shown_and_switched_off(coffer: Coffer) -> None:
    given = ("--amount", "50", "--threshold", "20", "--price-minor", "500", "--currency", "EUR")
    json_of(coffer, "auto-topup", "set", "acme", *given, "--money-cap-minor", "2000")
    on = json_of(coffer, "auto-topup", "show", "acme")
    json_of(coffer, "auto-topup", "off", "acme")

    assert (on["enabled"], on["threshold"], on["money_cap_minor"]) == (True, "20", 2000)
    assert json_of(coffer, "auto-topup", "show", "acme")["enabled"] is False
    assert "money cap 1" in refused(coffer("auto-topup", "set", "acme", *given, "--money-cap-minor", "1"))


def test_a_dispute_is_opened_with_an_explanation_and_upheld(
    coffer: Coffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    coffer("hold", "place", "acme", "image.generate", "--amount", "40")
    charge = json_of(coffer, "hold", "capture", "acme", "hold-3", "40")["charge_id"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"line one\nline two\n")))

    opened = json_of(coffer, "dispute", "open", "acme", charge, "--evidence", "-")
    shown = json_of(coffer, "dispute", "show", "acme", opened["dispute_id"])
    upheld = json_of(coffer, "dispute", "uphold", "acme", opened["dispute_id"], "--reason", "right")

    assert (shown["state"], shown["evidence"]) == ("open", "line one\nline two\n")
    assert (upheld["amount"], json_of(coffer, "balance", "acme")["settled"]) == ("40", "100")
    assert json_of(coffer, "dispute", "show", "acme")["data"] == []
    decided = coffer("dispute", "reject", "acme", opened["dispute_id"], "--reason", "wrong")
    assert opened["dispute_id"] in refused(decided)


def test_credits_are_adjusted_voided_and_large_adjustments_wait(coffer: Coffer) -> None:
    small = json_of(coffer, "adjust", "acme", "raise", "5", "--reason", "lost in the migration")
    large = json_of(coffer, "adjust", "acme", "raise", "2000", "--reason", "a large mistake")
    [waiting] = json_of(coffer, "adjustments", "acme")["data"]
    alone = refused(coffer("approve", "acme", large["adjustment_id"]))
    voided = json_of(coffer, "void", "acme", "lot-2", "--reason", "wrong team")

    assert (small["outcome"], large["outcome"]) == ("applied", "proposed")
    assert (waiting["amount"], waiting["adjustment_id"]) == ("2000", large["adjustment_id"])
    assert "proposed" in alone
    assert (voided["amount"], voided["settled"]) == ("100", "5")


def test_an_account_is_suspended_and_resumed(coffer: Coffer) -> None:
    json_of(coffer, "suspend", "acme", "--reason", "unpaid")
    hold = refused(coffer("hold", "place", "acme", "image.generate", "--amount", "1"))
    json_of(coffer, "resume", "acme", "--reason", "paid")

    assert "suspended" in hold
    assert json_of(coffer, "account", "show", "acme")["status"] == "open"
    assert json_of(coffer, "account", "show", "acme", "--at-version", "3")["status"] == "suspended"


def test_people_and_paperwork_are_set_and_shown(coffer: Coffer) -> None:
    json_of(coffer, "team", "add", "acme", "olga", "--role", "owner")
    json_of(coffer, "team", "add", "acme", "mira", "--role", "member")
    json_of(coffer, "team", "role", "acme", "mira", "--role", "admin")
    last = refused(coffer("team", "remove", "acme", "olga"))
    address = ("--address", "Hauptstr. 1", "--address", "10115 Berlin")
    json_of(coffer, "team", "set-billing", "acme", "--name", "Acme GmbH", *address, "--country", "DE")
    card = ("--brand", "visa", "--last-four", "4242", "--expires-month", "5", "--expires-year", "2029")
    json_of(coffer, "team", "set-payment-method", "acme", "--token", "tok_4f9s", *card)
    number = coffer("team", "set-payment-method", "acme", "--token", "4111111111111111", *card)

    members = json_of(coffer, "team", "members", "acme")["data"]
    assert [(each["member"], each["role"]) for each in members] == [("olga", "owner"), ("mira", "admin")]
    assert "last owner" in last
    assert "Hauptstr. 1" in coffer("team", "billing", "acme").out
    method = coffer("team", "payment-method", "acme")
    assert ("4242" in method.out, "tok_4f9s" in method.out) == (True, False)
    assert "41111" not in refused(number)
    json_of(coffer, "team", "remove-payment-method", "acme")
    assert json_of(coffer, "team", "payment-method", "acme")["payment_method"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("hold", "place", "acme", "image.generate"),
        ("hold", "place", "acme", "image.generate", "--amount", "1", "--lasts", "86401"),
        ("hold", "show", "acme", "nine"),
        ("hold", "capture", "acme", "hold-9", "1"),
        ("limits", "set", "acme", "day", "--window", "year", "--cap", "1"),
        ("limits", "remove", "acme", "day"),
        ("plan", "assign", "acme", "nobody-published-this"),
        ("zone", "acme", "Mars/Olympus"),
        ("chargeback", "open", "acme", "pay-9"),
        ("topup-show", "acme", "pay-9"),
        ("dispute", "uphold", "acme", "2", "--reason", "x"),
        ("dispute", "open", "acme", "0" * 32, "--evidence", "x"),
        ("adjust", "acme", "sideways", "1", "--reason", "x"),
        ("void", "acme", "lot 2", "--reason", "x"),
        ("team", "add", "acme", "mira", "--role", "king"),
        ("team", "remove", "acme", "nobody"),
        ("quote", "acme", "music.generate", "-m", "units=1"),
        ("balance", "acme", "--at-version", "99"),
        ("limits", "show", "acme", "--as-of", "yesterday"),
        ("hold", "show", "nobody"),
    ],
    ids=" ".join,
)
def test_what_is_refused_is_one_clear_line(coffer: Coffer, arguments: tuple[str, ...]) -> None:
    told = coffer(*arguments)

    assert len(refused(told).strip().splitlines()) == 1
