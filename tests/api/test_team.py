"""What the API answers about people and paperwork: members, billing, payment method, adjustments by two persons."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.asking import DETAILS, METHOD
from tests.api.conftest import Caller, give_key
from tests.builders import when
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"
CARD_NUMBER = "4111 1111 1111 1111"


def test_members_join_change_and_leave_and_an_owner_stays(acme: Caller) -> None:
    acme.post(f"{TEAM}/members", {"member": "olga", "role": "owner"})
    joined = acme.post(f"{TEAM}/members", {"member": "mira", "role": "member"})
    twice = acme.post(f"{TEAM}/members", {"member": "mira", "role": "admin"})
    acme.post(f"{TEAM}/members/mira/role", {"role": "admin"})
    last_owner = acme.post(f"{TEAM}/members/olga/removal", {})
    unknown = acme.post(f"{TEAM}/members/nobody/role", {"role": "viewer"})

    assert (joined.status_code, joined.json()["team_version"], joined.json()["version"]) == (201, 2, 2)
    assert (twice.status_code, twice.json()["code"]) == (409, "member_refused")
    assert (last_owner.status_code, last_owner.json()["code"]) == (409, "member_refused")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_member")
    told = acme.get(f"{TEAM}/members").json()
    assert [(each["member"], each["role"]) for each in told["data"]] == [("olga", "owner"), ("mira", "admin")]
    # The look of an operator is the fourth event.
    assert told["team_version"] == 4
    assert acme.post(f"{TEAM}/members/mira/removal", {}).status_code == 201
    assert acme.post(f"{TEAM}/members", {"member": "jo", "role": "king"}).status_code == 422


def test_billing_details_are_set_and_told(acme: Caller) -> None:
    before = acme.get(f"{TEAM}/billing-details").json()["billing_details"]

    assert acme.post(f"{TEAM}/billing-details", DETAILS).status_code == 201

    told = acme.get(f"{TEAM}/billing-details").json()["billing_details"]
    assert before is None
    assert told == DETAILS | {"email": None, "tax_id": None, "locale": None}
    wrongs: list[dict[str, Any]] = [
        {"country": "Germany"},
        {"address_lines": []},
        {"email": "nobody"},
        {"name": " "},
    ]
    for wrong in wrongs:
        answer = acme.post(f"{TEAM}/billing-details", DETAILS | wrong)
        assert answer.status_code == 422, answer.text


def test_a_payment_method_is_told_without_its_token_and_removed_once(acme: Caller) -> None:
    assert acme.post(f"{TEAM}/payment-method", METHOD).status_code == 201

    told = acme.get(f"{TEAM}/payment-method")
    removed = acme.post(f"{TEAM}/payment-method/removal", {})
    again = acme.post(f"{TEAM}/payment-method/removal", {})

    assert told.json()["payment_method"] == {key: METHOD[key] for key in METHOD if key != "token"}
    assert METHOD["token"] not in told.text
    assert (removed.status_code, acme.get(f"{TEAM}/payment-method").json()["payment_method"]) == (201, None)
    assert (again.status_code, again.json()["code"]) == (404, "unknown_payment_method")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("payment-method", METHOD | {"token": CARD_NUMBER}),
        ("payment-method", METHOD | {"token": CARD_NUMBER.replace(" ", "")}),
        ("payment-method", METHOD | {"last_four": CARD_NUMBER}),
        ("payment-method", METHOD | {"brand": f"visa {CARD_NUMBER}"}),
        ("payment-method", METHOD | {"reason": f"card {CARD_NUMBER}"}),
        ("payment-method", METHOD | {"expires_month": CARD_NUMBER}),
        ("payment-method", METHOD | {"expires_year": 4111111111111111}),
        ("billing-details", DETAILS | {"name": CARD_NUMBER}),
        ("billing-details", DETAILS | {"country": CARD_NUMBER}),
        ("members", {"member": CARD_NUMBER.replace(" ", "-"), "role": "owner"}),
        ("members", {"member": CARD_NUMBER, "role": "owner"}),
    ],
)
def test_a_card_number_is_refused_wherever_it_stands_and_never_repeated(
    acme: Caller, capsys: pytest.CaptureFixture[str], path: str, body: dict[str, Any]
) -> None:
    """I23."""
    answer = acme.post(f"{TEAM}/{path}", body)

    told = answer.text + capsys.readouterr().out
    assert answer.status_code == 422, answer.text
    assert "1111" not in told.replace(" ", "").replace("-", "").replace("4242", "")


def test_a_small_adjustment_is_applied_and_a_large_one_waits_for_a_second_person(
    acme: Caller, ledger: MemoryLedger
) -> None:
    other = Caller(acme.http, give_key(ledger, "operator", "a second person"))
    path = f"{TEAM}/adjustments"

    small = acme.post(path, {"direction": "raise", "amount": "5", "reason": "lost in the migration"})
    large = acme.post(path, {"direction": "raise", "amount": "2000", "reason": "a large mistake"}).json()
    [waiting] = acme.get(path).json()["data"]
    approval = f"{path}/{large['adjustment_id']}/approval"
    alone = acme.post(approval, {})
    ledger.now = when("2026-11-01 12:30")
    approved = other.post(approval, {})
    again = other.post(approval, {})

    assert (small.json()["outcome"], small.json()["settled"]) == ("applied", "105")
    assert (large["outcome"], large["settled"]) == ("proposed", "105")
    assert (waiting["amount"], waiting["proposed_by"], waiting["reason"]) == (
        "2000",
        "the operator",
        "a large mistake",
    )
    assert (alone.status_code, alone.json()["code"]) == (409, "second_person_needed")
    assert (approved.json()["outcome"], approved.json()["settled"]) == ("applied", "2105")
    assert (again.status_code, again.json()["code"]) == (404, "unknown_adjustment")
    assert acme.get(path).json()["data"] == []


def test_a_balance_is_lowered_by_what_is_there_and_no_more(acme: Caller) -> None:
    path = f"{TEAM}/adjustments"

    lowered = acme.post(path, {"direction": "lower", "amount": "40", "reason": "a mistake"})
    too_much = acme.post(path, {"direction": "lower", "amount": "60.000001", "reason": "a mistake"})
    without_reason = acme.post(path, {"direction": "lower", "amount": "1"})

    assert lowered.json()["settled"] == "60"
    assert (too_much.status_code, too_much.json()["code"]) == (409, "adjustment_refused")
    assert without_reason.status_code == 422
