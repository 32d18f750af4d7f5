"""Invoices over HTTP: who may read them, what they say, from a line to its charges and back from a charge to its invoice."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.events import CardPin, RecordedEvent
from domain.account.invoicing import issue_invoice
from domain.account.standing import oldest_uninvoiced
from domain.invoices.assigning import BillingPeriod
from domain.invoices.document import SHAPE, invoice_digest
from domain.invoices.drafting import draft, money_due
from domain.invoices.reading import WholeHistory
from domain.usage import usage_key
from tests.api.conftest import Caller, give_key
from tests.builders import SOURCE, TESTER, a_usage_record, when
from tests.memory_store import MemoryLedger

SELLER = {
    "name": "Coffer SE",
    "address_lines": ["Kai 7"],
    "country": "DE",
    "prefix": "CO-",
    "tax_percent": "19",
}
INVOICES = "/v1/accounts/acme/invoices"


@pytest.fixture
def auditor(acme: Caller, ledger: MemoryLedger) -> Caller:
    return Caller(acme.http, give_key(ledger, "auditor"))


def set_seller(operator: Caller, **changes: Any) -> Any:
    return operator.http.request(
        "PUT", "/v1/issuers/main", json={**SELLER, **changes}, headers=operator.headers
    )


def november(acme: Caller, ledger: MemoryLedger) -> None:
    """Team acme used 30 units in November, and it is December."""
    assert set_seller(acme).status_code == 200
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))
    ledger.now = when("2026-12-03 12:00")


def issued(ledger: MemoryLedger) -> str:
    """November is issued, as the closer does it; its number."""
    with ledger.session("acme") as session:
        assert session.account is not None
        decision = Decision(copy_of(session.account), session.now, TESTER, session.index)
        pass_time(decision)
        waiting = oldest_uninvoiced(decision.index)
        assert waiting is not None
        events = [RecordedEvent(None, each.version, each.event) for each in ledger.teams["acme"].events]
        versions = enumerate(decision.events, len(events) + 1)
        events += [RecordedEvent(None, version, event) for version, event in versions]
        period = BillingPeriod(
            waiting.start, waiting.end, waiting.zone, waiting.label, waiting.closed_version
        )
        found = draft(events, period, WholeHistory(events), until_version=waiting.closed_version)
        drawn = session.numbers.draw("main", "invoice", "acme", "2026-11", decision.at)
        document = found.document(drawn.details, None, number=drawn.invoice, issued_at=decision.at)
        issue_invoice(
            decision,
            waiting,
            drawn,
            closing_micros=found.closing_micros,
            cards=[CardPin(card.card_id, card.version, card.digest) for card in found.cards],
            shape=SHAPE,
            digest=invoice_digest(document),
            due=money_due(document),
            customer=None,
            team_version=0,
        )
        session.save_due(decision.account, decision, session.account.version)
    return drawn.invoice


def test_the_draft_of_the_open_period_is_told_at_any_moment(
    acme: Caller, auditor: Caller, ledger: MemoryLedger
) -> None:
    november(acme, ledger)

    drafts = auditor.get(f"{INVOICES}/draft").json()["data"]

    assert [(each["number"], each["period"]["label"]) for each in drafts] == [(None, "2026-11")]
    assert drafts[0]["lines"][0]["amount"] == "30"
    charges = auditor.get(f"{INVOICES}/draft/lines/1/charges").json()
    assert (charges["invoice"], [each["amount"] for each in charges["data"]]) == (None, ["30"])


def test_a_document_is_told_byte_for_byte_and_its_digest_is_on_file(
    acme: Caller, auditor: Caller, ledger: MemoryLedger
) -> None:
    november(acme, ledger)
    number = issued(ledger)

    document = auditor.get(f"{INVOICES}/{number}")
    listed = auditor.get(INVOICES).json()

    assert (document.status_code, document.headers["content-type"]) == (200, "application/json")
    digest = hashlib.sha256(document.content).hexdigest()
    assert document.headers["etag"] == f'"{digest}"'
    assert [(each["invoice"], each["status"], each["digest"]) for each in listed["data"]] == [
        (number, "paid", digest)
    ]
    assert auditor.get(f"{INVOICES}/{number}/status").json() == listed["data"][0]
    csv = auditor.get(f"{INVOICES}/{number}", form="csv")
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.startswith("invoice,row,line,kind")


def test_every_line_leads_to_its_charges_and_a_charge_to_its_invoice(
    acme: Caller, auditor: Caller, ledger: MemoryLedger
) -> None:
    november(acme, ledger)
    charge = usage_key("acme", SOURCE, "r1")
    before = auditor.get(f"/v1/accounts/acme/charges/{charge}/explanation").json()
    number = issued(ledger)

    charges = auditor.get(f"{INVOICES}/{number}/lines/1/charges").json()["data"]
    explained = auditor.get(f"/v1/accounts/acme/charges/{charge}/explanation").json()
    then = auditor.get(f"/v1/accounts/acme/charges/{charge}/explanation", at_version=before["version"]).json()
    beyond = auditor.get(f"{INVOICES}/{number}/lines/9/charges")

    assert [(each["charge_id"], each["id"], each["amount"]) for each in charges] == [(charge, "r1", "30")]
    assert before["explanation"]["invoiced"]["state"] == "open"
    assert then["explanation"] == before["explanation"]
    told = explained["explanation"]["invoiced"]
    assert (told["state"], told["invoice"], told["adjusts"]) == ("issued", number, None)
    assert told["words"] == f"on invoice {number} of 2026-11"
    assert (beyond.status_code, beyond.json()["code"]) == (404, "unknown_invoice_line")


def test_the_charges_of_a_line_are_listed_page_by_page(
    acme: Caller, auditor: Caller, ledger: MemoryLedger
) -> None:
    november(acme, ledger)
    for number in range(4):
        ledger.use(a_usage_record(f"more-{number}", 1, occurred="2026-11-20 12:00"))
    path = f"{INVOICES}/draft/lines/1/charges"

    first = auditor.get(path, limit=3).json()
    rest = auditor.get(path, limit=3, after=first["next"]).json()
    other = auditor.get(f"{INVOICES}/draft/lines/2/charges", after=first["next"])

    assert [len(each["data"]) for each in (first, rest)] == [3, 1]
    assert len({each["charge_id"] for each in [*first["data"], *rest["data"]]}) == 4
    assert rest["next"] is None
    assert other.json()["code"] == "cursor_refused"


def test_usage_after_the_close_is_explained_as_an_adjustment(
    acme: Caller, auditor: Caller, ledger: MemoryLedger
) -> None:
    """E11."""
    november(acme, ledger)
    issued(ledger)
    ledger.use(a_usage_record("late", 12, occurred="2026-11-20 12:00"))

    charge = usage_key("acme", SOURCE, "late")
    told = auditor.get(f"/v1/accounts/acme/charges/{charge}/explanation").json()["explanation"]["invoiced"]
    draft_now = auditor.get(f"{INVOICES}/draft").json()["data"][0]

    assert (told["state"], told["label"], told["adjusts"]) == ("open", "2026-12", "2026-11")
    assert [(each["period_label"], each["amount"]) for each in draft_now["adjustments"]] == [
        ("2026-11", "12")
    ]


def test_documents_are_listed_newest_first_and_page_by_page(
    acme: Caller, auditor: Caller, ledger: MemoryLedger
) -> None:
    november(acme, ledger)
    number = issued(ledger)
    voided = acme.post(f"{INVOICES}/{number}/void", {"reason": "wrong address", "reissue": True})
    assert voided.status_code == 201, voided.text

    first = auditor.get(INVOICES, limit=1).json()
    rest = auditor.get(INVOICES, limit=1, after=first["next"]).json()

    assert [(each["kind"], each["corrects"]) for each in first["data"]] == [("void", number)]
    assert [(each["invoice"], each["status"], each["voided_by"]) for each in rest["data"]] == [
        (number, "void", voided.json()["invoice"])
    ]
    assert rest["next"] is None


def test_an_issuer_has_the_details_set_last_and_wrong_ones_are_named(acme: Caller, auditor: Caller) -> None:
    unset = auditor.get("/v1/issuers/main").json()
    first = set_seller(acme).json()
    again = set_seller(acme).json()
    wrong = set_seller(acme, iban="DE89370400440532013001")

    assert unset == {"issuer_id": "main", "version": 0, "details": None}
    assert (first["version"], first["details"]["prefix"]) == (1, "CO-")
    assert again == first
    assert (wrong.status_code, wrong.json()["detail"]) == (
        422,
        "iban has a wrong check number: look for a digit that was mistaken",
    )


def test_a_statement_of_account_and_revenue_are_told_to_who_may_read_invoices(
    acme: Caller, auditor: Caller, ledger: MemoryLedger
) -> None:
    november(acme, ledger)
    asked = {"from": "2026-11-01T00:00:00Z", "until": "2026-12-01T00:00:00Z"}

    told = auditor.get("/v1/accounts/acme/statement-of-account", **asked)
    refused = Caller(acme.http, give_key(ledger, "operator")).get(
        "/v1/accounts/acme/statement-of-account", **asked
    )
    revenue = auditor.get("/v1/accounts/acme/revenue").json()

    assert (told.status_code, told.text) == (200, "csv,2\n")
    assert refused.status_code == 403
    assert revenue == {"team_id": "acme", "data": []}


def test_a_team_without_account_and_a_number_that_is_none_are_told_apart(
    acme: Caller, auditor: Caller
) -> None:
    nobody = auditor.get("/v1/accounts/nobody/invoices")
    none = auditor.get(f"{INVOICES}/CO-2026-000009")

    assert (nobody.status_code, nobody.json()["code"]) == (404, "unknown_team")
    assert (none.status_code, none.json()["code"]) == (404, "unknown_invoice")
