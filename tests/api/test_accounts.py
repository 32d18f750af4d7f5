"""What the API answers about accounts, charges and prices."""

from __future__ import annotations

from datetime import timedelta

from domain.usage import usage_key
from tests.api.conftest import Caller
from tests.builders import SOURCE, a_usage_record, when
from tests.memory_store import START, MemoryLedger

CHARGE = usage_key("acme", SOURCE, "r1")


def test_an_account_is_opened_granted_charged_and_its_balance_read(
    acme: Caller, ledger: MemoryLedger
) -> None:
    ledger.use(a_usage_record("r1", "30.5", occurred="2026-11-01 12:00"))

    balance = acme.get("/v1/accounts/acme/balance")

    assert balance.status_code == 200, balance.text
    told = balance.json()
    assert told["available"] == "69.5"
    assert told["settled"] == "69.5"
    assert told["debt"] == "0"
    # The fourth event of the shard is the trace that an operator looked.
    assert (told["version"], told["position"], told["as_of"]) == (3, 4, "2026-11-01T12:00:00.000000Z")
    assert balance.headers["etag"].startswith('"3-')


def test_the_lots_are_told_in_burn_order(acme: Caller) -> None:
    acme.post("/v1/accounts/acme/grants", {"amount": "5", "reason": "first", "priority": 1})

    lots = acme.get("/v1/accounts/acme/lots").json()["data"]

    assert [(lot["remaining"], lot["priority"], lot["state"]) for lot in lots] == [
        ("5", 1, "open"),
        ("100", 20, "open"),
    ]


def test_credit_that_expired_is_lapsed_in_the_answer_before_anything_was_booked(
    operator: Caller, ledger: MemoryLedger
) -> None:
    operator.post("/v1/accounts", {"team_id": "acme"})
    body = {"amount": "10", "reason": "short", "expires_at": "2026-11-01T14:00:00+01:00"}
    operator.post("/v1/accounts/acme/grants", body)

    ledger.now = when("2026-11-01 13:00")
    at_expiry = operator.get("/v1/accounts/acme/balance").json()
    ledger.now = when("2026-11-02 13:00")
    after_grace = operator.get("/v1/accounts/acme/balance").json()

    assert (at_expiry["available"], at_expiry["lapsed"], at_expiry["settled"]) == ("0", "10", "10")
    assert (after_grace["lapsed"], after_grace["settled"]) == ("0", "0")
    assert after_grace["version"] == at_expiry["version"]


def test_a_top_up_keeps_what_was_paid_and_a_reference_buys_once(acme: Caller) -> None:
    body = {
        "amount": "50",
        "payment_reference": "pay-1",
        "cost_basis": {"price_minor": 500, "currency": "EUR", "tax_minor": 95},
    }

    bought = acme.post("/v1/accounts/acme/top-ups", body)
    again = acme.post("/v1/accounts/acme/top-ups", body)

    assert bought.status_code == 201
    assert again.status_code == 409
    assert again.json()["code"] == "payment_reference_used"
    lots = acme.get("/v1/accounts/acme/lots").json()["data"]
    assert lots[1]["cost_basis"] == {"price_minor": 500, "currency": "EUR", "tax_minor": 95}


def test_a_charge_is_found_by_the_records_identity_and_told_with_its_price(
    acme: Caller, ledger: MemoryLedger
) -> None:
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))

    found = acme.get("/v1/accounts/acme/charges", source=SOURCE, id="r1").json()["data"]
    unseen = acme.get("/v1/accounts/acme/charges", source=SOURCE, id="r2").json()["data"]
    told = acme.get(f"/v1/accounts/acme/charges/{CHARGE}").json()

    assert [each["charge_id"] for each in found] == [CHARGE]
    assert unseen == []
    assert told["outcome"] == "charged"
    assert told["amount"] == "30"
    assert told["refunded"] == "0"
    assert [line["amount"] for line in told["lines"]] == ["30"]
    assert told["computation"]["amount"] == "30"
    assert told["card"]["version"] == 1


def test_a_refund_gives_back_at_most_what_is_left(acme: Caller, ledger: MemoryLedger) -> None:
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))
    path = f"/v1/accounts/acme/charges/{CHARGE}/refunds"

    part = acme.post(path, {"amount": "10", "reason": "bad picture"})
    too_much = acme.post(path, {"amount": "20.000001", "reason": "all"})
    rest = acme.post(path, {"reason": "all that is left"})
    nothing = acme.post(path, {"reason": "once more"})

    assert (part.status_code, part.json()["amount"]) == (201, "10")
    assert (too_much.status_code, too_much.json()["code"]) == (409, "refund_exceeds_charge")
    assert "at most 20 is left" in too_much.json()["detail"]
    assert rest.json()["amount"] == "20"
    assert nothing.status_code == 409
    assert acme.get("/v1/accounts/acme/balance").json()["available"] == "100"
    assert acme.get(f"/v1/accounts/acme/charges/{CHARGE}").json()["refunded"] == "30"


def test_a_charge_is_explained_as_json_or_as_text(acme: Caller, ledger: MemoryLedger) -> None:
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))
    path = f"/v1/accounts/acme/charges/{CHARGE}"
    acme.post(f"{path}/refunds", {"amount": "10", "reason": "bad picture"})

    told = acme.get(f"{path}/explanation").json()
    text = acme.http.get(f"{path}/explanation", headers={**acme.headers, "Accept": "text/plain"})

    assert told["explanation"]["amount"] == "30"
    assert told["explanation"]["kept"] == "20"
    assert told["explanation"]["contradictions"] == []
    assert [refund["amount"] for refund in told["explanation"]["refunds"]] == ["10"]
    assert "_micros" not in str(told)
    assert text.headers["content-type"].startswith("text/plain")
    assert "bad picture" in text.text


def test_an_estimate_tells_price_lots_and_debt_and_changes_nothing(
    acme: Caller, ledger: MemoryLedger
) -> None:
    before = acme.get("/v1/accounts/acme/balance").json()
    body = {"action": "image.generate", "meters": {"units": "120"}}

    told = acme.http.post("/v1/accounts/acme/estimates", json=body, headers=acme.headers)
    ledger.use(a_usage_record("r1", 120, occurred="2026-11-01 12:00"))
    charged = acme.get(f"/v1/accounts/acme/charges/{CHARGE}").json()

    assert told.status_code == 200, told.text
    assert (told.json()["amount"], told.json()["debt"]) == ("120", "20")
    assert told.json()["version"] == before["version"]
    assert (charged["amount"], charged["debt"], charged["lines"]) == ("120", "20", told.json()["lines"])


def test_an_estimate_of_an_action_without_a_price_says_so(acme: Caller) -> None:
    unknown = acme.post("/v1/accounts/acme/estimates", {"action": "music.generate", "meters": {"units": "1"}})
    nothing = acme.post("/v1/accounts/acme/estimates", {"action": "image.generate", "meters": {}})

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_action")
    assert (nothing.json()["priced"], nothing.json()["amount"]) == (False, "0")


def test_the_statement_pages_with_a_cursor_and_filters(acme: Caller, ledger: MemoryLedger) -> None:
    for number in range(5):
        ledger.use(a_usage_record(f"r{number}", 1, occurred="2026-11-01 12:00"))

    first = acme.get("/v1/accounts/acme/statement", limit=4).json()
    second = acme.get("/v1/accounts/acme/statement", limit=4, after=first["next"]).json()
    newest = acme.get("/v1/accounts/acme/statement", limit=1, order="newest").json()
    charges = acme.get("/v1/accounts/acme/statement", kind="CreditsCharged").json()

    assert [line["version"] for line in first["data"] + second["data"]] == [2, 3, 4, 5, 6, 7]
    assert second["next"] is None
    assert newest["data"][0]["settled_after"] == "95"
    assert len(charges["data"]) == 5


def test_the_statement_reads_as_it_did_at_a_version_and_at_a_time(acme: Caller, ledger: MemoryLedger) -> None:
    path = "/v1/accounts/acme/statement"
    for number in range(5):
        ledger.now = START + timedelta(minutes=number)
        ledger.use(a_usage_record(f"r{number}", 1, occurred="2026-11-01 12:00"))

    def versions(**asked: object) -> list[int]:
        read: list[int] = []
        following: dict[str, object] = {}
        while True:
            page = acme.get(path, limit=2, **asked, **following).json()
            read += [line["version"] for line in page["data"]]
            if page["next"] is None:
                return read
            following = {"after": page["next"]}

    assert versions(at_version=5) == versions(as_of="2026-11-01T12:02:30Z") == [2, 3, 4, 5]
    assert versions(at_version=5, order="newest") == [5, 4, 3, 2]
    assert versions(at_version=7) == versions() == [2, 3, 4, 5, 6, 7]
    assert versions(at_version=1) == []
    then = acme.get(path, at_version=5, limit=1, order="newest").json()
    assert (then["version"], then["data"][0]["settled_after"]) == (5, "97")
    too_new = acme.get(path, at_version=8)
    assert (too_new.status_code, too_new.json()["code"]) == (409, "version_not_reached")
    other_moment = acme.get(path, at_version=6, limit=1, after=acme.get(path, limit=1).json()["next"])
    assert (other_moment.status_code, other_moment.json()["code"]) == (400, "cursor_refused")
    both = acme.get(path, at_version=5, as_of="2026-11-01T12:02:30Z")
    assert both.status_code == 422


def test_history_gives_the_events_as_recorded_with_hashes_anyone_can_recompute(acme: Caller) -> None:
    from hashlib import sha256
    from uuid import UUID

    told = acme.get("/v1/accounts/acme/history").json()

    previous = bytes(32)
    for entry in told["data"]:
        state, topic = entry["state"].encode(), entry["topic"].encode()
        bound = previous + UUID(told["account_id"]).bytes + entry["version"].to_bytes(8, "big")
        bound += len(topic).to_bytes(4, "big") + topic + len(state).to_bytes(4, "big") + state
        previous = sha256(bound).digest()
        assert entry["hash"] == previous.hex()
    assert [entry["topic"] for entry in told["data"]] == ["AccountOpened.1", "CreditsGranted.1"]


def test_a_balance_is_answered_for_a_version_and_for_a_time(acme: Caller, ledger: MemoryLedger) -> None:
    start = ledger.now
    ledger.now = start + timedelta(hours=1)
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:30"))

    at_version = acme.get("/v1/accounts/acme/balance", at_version=2).json()
    as_of = acme.get("/v1/accounts/acme/balance", as_of="2026-11-01T12:59:59+00:00").json()
    now = acme.get("/v1/accounts/acme/balance").json()
    before = acme.get("/v1/accounts/acme/balance", as_of="2026-10-01T00:00:00Z")

    assert (at_version["available"], at_version["version"]) == ("100", 2)
    assert (as_of["available"], as_of["version"]) == ("100", 2)
    assert now["available"] == "70"
    assert (before.status_code, before.json()["code"]) == (404, "unknown_team")


def test_a_read_waits_for_the_version_asked_for_and_then_refuses(acme: Caller) -> None:
    reached = acme.get("/v1/accounts/acme/balance", min_version=2)
    not_yet = acme.get("/v1/accounts/acme/statement", min_version=3)

    assert reached.status_code == 200
    assert (not_yet.status_code, not_yet.json()["code"]) == (409, "version_not_reached")
    assert not_yet.json()["version"] == 2


def test_rate_cards_are_listed_and_read_with_their_document(acme: Caller) -> None:
    listed = acme.get("/v1/rate-cards").json()["data"]
    card = acme.get("/v1/rate-cards/standard/1").json()
    missing = acme.get("/v1/rate-cards/standard/2")

    assert [each["digest"] for each in listed] == [card["digest"]]
    assert card["document"]["card_id"] == "standard"
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_rate_card")


def test_a_closed_account_takes_no_command(acme: Caller) -> None:
    closed = acme.post("/v1/accounts/acme/close", {"reason": "moved away"})
    granted = acme.post("/v1/accounts/acme/grants", {"amount": "1", "reason": "late"})

    assert closed.status_code == 201
    assert acme.get("/v1/accounts/acme").json()["status"] == "closed"
    assert (granted.status_code, granted.json()["code"]) == (409, "account_closed")


def test_every_name_that_the_stream_may_charge_can_be_asked_for(acme: Caller) -> None:
    longest = "image." + "x" * 94  # 100 characters, as many as a usage record's action may have

    estimated = acme.post("/v1/accounts/acme/estimates", {"action": longest, "meters": {"units": "1"}})
    filtered = acme.get(f"/v1/accounts/acme/statement?action={longest}")

    assert (estimated.status_code, estimated.json()["code"]) == (404, "unknown_action")
    assert filtered.status_code == 200
