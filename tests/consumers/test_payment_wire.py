"""Payment facts are read exactly or refused with one stable reason, in both modes; the schema says the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import jsonschema_rs
import msgspec
import pytest

from consumers.payment_encoding import encode_payment, encode_payment_structured
from consumers.payment_schema import SCHEMA_FILE, data_schema, payment_schema, schema_text
from consumers.payment_wire import KIND_OF, PaymentKind, PaymentRecord, read_payment, type_of
from consumers.rejections import Rejection
from consumers.stream_record import StreamRecord
from domain.account.events import CostBasis
from domain.usage import Origin, usage_key

ARRIVED = datetime(2026, 12, 1, 9, 0, 5, tzinfo=UTC)
BOUGHT: dict[str, Any] = {
    "payment_reference": "pay-1",
    "amount": "12.5",
    "price_minor": 250,
    "currency": "EUR",
    "tax_minor": 48,
}
FAILED: dict[str, Any] = {"payment_reference": "pay-1", "failure": "card_declined"}
NAMED: dict[str, Any] = {"payment_reference": "pay-1"}
PAID: dict[str, Any] = {
    "payment_reference": "pay-1",
    "invoice": "CO-2026-000041",
    "amount_minor": 17_731,
    "currency": "EUR",
}
DATA: dict[PaymentKind, dict[str, Any]] = {
    "topup.requested": BOUGHT,
    "topup.settled": BOUGHT,
    "topup.failed": FAILED,
    "chargeback.opened": NAMED,
    "chargeback.won": NAMED,
    "chargeback.lost": NAMED,
    "invoice.paid": PAID,
}
KINDS: tuple[PaymentKind, ...] = get_args(PaymentKind)


def a_record(value: bytes, kind: str = "topup.settled", **attributes: str) -> StreamRecord:
    wanted = {
        "specversion": "1.0",
        "type": f"com.coffer.{kind}.v1",
        "id": "event-1",
        "source": "urn:provider:test",
        "subject": "acme",
        "time": "2026-12-01T09:00:00Z",
        **attributes,
    }
    headers: list[tuple[str, bytes | None]] = [(f"ce_{name}", text.encode()) for name, text in wanted.items()]
    return StreamRecord(
        "credits.payments.v1",
        3,
        42,
        b"acme",
        value,
        [*headers, ("content-type", b"application/json")],
        ARRIVED,
    )


def reason_of(record: StreamRecord) -> str | None:
    answer = read_payment(record)
    return answer.reason if isinstance(answer, Rejection) else None


def a_payment(kind: PaymentKind) -> PaymentRecord:
    data = DATA[kind]
    bought = "amount" in data
    return PaymentRecord(
        kind=kind,
        team_id="acme",
        source="urn:provider:test",
        id="event-1",
        occurred_at=datetime(2026, 12, 1, 9, tzinfo=UTC),
        arrived_at=ARRIVED,
        payment_reference="pay-1",
        amount_micros=12_500_000 if bought else 0,
        cost_basis=CostBasis(250, "EUR", 48) if bought else None,
        failure=data.get("failure", ""),
        invoice=data.get("invoice", ""),
        amount_minor=data.get("amount_minor", 0),
        currency="EUR" if "invoice" in data else "",
        origin=Origin("credits.payments.v1", 3, 42),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_back_whole_in_both_modes(kind: PaymentKind) -> None:
    payment = a_payment(kind)

    assert read_payment(a_record(json.dumps(DATA[kind]).encode(), kind)) == payment
    for sent in (encode_payment(payment), encode_payment_structured(payment)):
        record = StreamRecord("credits.payments.v1", 3, 42, sent.key, sent.value, sent.headers, ARRIVED)
        assert read_payment(record) == payment


def test_the_claim_of_a_payment_is_made_as_that_of_usage() -> None:
    assert a_payment("topup.settled").record_key() == usage_key("acme", "urn:provider:test", "event-1")


def test_the_tax_may_be_left_out_and_is_then_nothing() -> None:
    read = read_payment(a_record(json.dumps({k: v for k, v in BOUGHT.items() if k != "tax_minor"}).encode()))

    assert isinstance(read, PaymentRecord)
    assert read.cost_basis == CostBasis(250, "EUR", 0)


WRONG = [
    ({"payment_reference": ""}, "payment_reference"),
    ({"payment_reference": "pay 1"}, "payment_reference"),
    ({"payment_reference": "p" * 129}, "payment_reference"),
    ({"payment_reference": "pay-\u00e9"}, "payment_reference"),
    ({"payment_reference": 7}, "wrong_type"),
    ({"payment_reference": None}, "null_value"),
    ({"amount": "0"}, "amount"),
    ({"amount": "0.000"}, "amount"),
    ({"amount": "-1"}, "amount"),
    ({"amount": "1e3"}, "amount"),
    ({"amount": "1.0000001"}, "amount"),
    ({"amount": "01"}, "amount"),
    ({"amount": "9999999999999"}, "amount"),
    ({"amount": "1\n"}, "amount"),
    ({"amount": 12.5}, "wrong_type"),
    ({"price_minor": -1}, "money"),
    ({"price_minor": 10**15 + 1}, "money"),
    ({"price_minor": True}, "wrong_type"),
    ({"price_minor": 2.5}, "wrong_type"),
    ({"price_minor": "250"}, "wrong_type"),
    ({"tax_minor": -1}, "money"),
    ({"tax_minor": None}, "null_value"),
    ({"currency": "eur"}, "currency"),
    ({"currency": "EURO"}, "currency"),
    ({"currency": "EUR\n"}, "currency"),
    ({"colour": "red"}, "unknown_field"),
    ({"failure": "card_declined"}, "unknown_field"),
]


@pytest.mark.parametrize(("changes", "reason"), WRONG)
def test_what_was_bought_is_exact_or_refused(changes: dict[str, object], reason: str) -> None:
    assert reason_of(a_record(json.dumps(BOUGHT | changes).encode())) == reason


@pytest.mark.parametrize("code", ["", "Card declined", "x" * 101, "card_declined\n", "-"])
def test_a_failure_is_a_code(code: str) -> None:
    assert reason_of(a_record(json.dumps(FAILED | {"failure": code}).encode(), "topup.failed")) == "failure"


@pytest.mark.parametrize(("changes", "reason"), [
    ({"invoice": ""}, "invoice"), ({"invoice": "CO 1"}, "invoice"), ({"invoice": "x" * 65}, "invoice"),
    ({"invoice": "CO-1\n"}, "invoice"), ({"invoice": 41}, "wrong_type"), ({"amount_minor": 0}, "money"),
    ({"amount_minor": 10**15 + 1}, "money"), ({"amount_minor": True}, "wrong_type"), ({"amount_minor": "1"}, "wrong_type"),
    ({"currency": "eur"}, "currency"), ({"amount": "1"}, "unknown_field"), ({"tax_minor": 1}, "unknown_field"),
])  # fmt: skip
def test_what_was_paid_of_an_invoice_is_exact_or_refused(changes: dict[str, object], reason: str) -> None:
    value = json.dumps(PAID | changes)

    assert reason_of(a_record(value.encode(), "invoice.paid")) == reason
    is_valid = jsonschema_rs.Draft202012Validator(data_schema("invoice.paid")).is_valid(json.loads(value))
    assert not is_valid or changes == {"invoice": "CO-1\n"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_kind_is_required_and_no_other_known(kind: PaymentKind) -> None:
    for field in DATA[kind]:
        data = {name: value for name, value in DATA[kind].items() if name != field}
        assert reason_of(a_record(json.dumps(data).encode(), kind)) == (
            None if field == "tax_minor" else "missing_field"
        )
    assert reason_of(a_record(json.dumps(DATA[kind] | {"reason": "x"}).encode(), kind)) == "unknown_field"


def test_a_type_of_another_topic_or_version_is_parked() -> None:
    for kind in ("usage.recorded", "topup.refunded"):
        answer = read_payment(a_record(b"{}", kind))
        assert isinstance(answer, Rejection)
        assert (answer.reason, answer.outcome) == ("unknown_schema", "parked")
    assert reason_of(a_record(b"{}", type="com.coffer.topup.settled.v2")) == "unknown_schema"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b'{"payment_reference":"a","payment_reference":"b"}', "duplicate_key"),
        (b'{"price_minor":NaN}', "not_a_number"),
        (b'{"price_minor":99999999999999999999999}', "number_too_large"),
        (b'{"payment_reference":"\xff"}', "not_utf8"),
    ],
)
def test_the_traps_of_json_are_refused_as_for_usage(value: bytes, reason: str) -> None:
    assert reason_of(a_record(value)) == reason


def test_the_schema_file_is_the_one_the_rules_make() -> None:
    assert SCHEMA_FILE.read_text() == schema_text()
    jsonschema_rs.Draft202012Validator(payment_schema())


@pytest.mark.parametrize(("changes", "reason"), WRONG)
def test_what_the_schema_refuses_the_reading_refuses(changes: dict[str, object], reason: str) -> None:
    schema = jsonschema_rs.Draft202012Validator(data_schema("topup.settled"))

    assert schema.is_valid(BOUGHT)
    if not schema.is_valid(BOUGHT | changes):
        assert reason_of(a_record(json.dumps(BOUGHT | changes).encode())) == reason
    else:
        # A schema's $ also matches before a last line feed, and its numbers end where ours do.
        assert str(next(iter(changes.values()))).endswith("\n") or changes == {"amount": "9999999999999"}


def test_kinds_and_types_name_each_other() -> None:
    assert {type_of(kind): kind for kind in KINDS} == KIND_OF
    assert msgspec.json.decode(SCHEMA_FILE.read_bytes())["$defs"].keys() == KIND_OF.keys()
