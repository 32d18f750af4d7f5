"""The explanation of a charge sums exactly, says every step, and contradicts a charge that was tampered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from domain.account.events import (
    ChargeRefunded,
    CreditsCharged,
    CreditsGranted,
    CreditsToppedUp,
    LotTerms,
    RecordedEvent,
)
from domain.usage import Origin, usage_key
from projections.explain import ChargeExplained, WaiverExplained, explain_usage, plain_text
from tests.builders import SOURCE, AnAccount, a_catalogue
from tests.projections.streams import stream_of


def priced_card() -> dict[str, Any]:
    """A card with every model and both kinds of multiplier."""
    return {
        "card_id": "standard",
        "effective_at": "2020-01-01T00:00:00Z",
        "meters": {"units": "unit", "steps": "step", "images": "image"},
        "dimensions": {"model": "which model", "loras": "how many loras"},
        "rates": [
            {
                "action": "image.generate",
                "minimum": "0.5",
                "terms": [
                    {"model": "flat", "price": "0.1"},
                    {"model": "unit", "meters": ["images", "steps"], "price": "0.007", "per": "3"},
                    {"model": "package", "meters": ["units"], "price": "0.25", "size": "10"},
                ],
                "multipliers": [
                    {"kind": "table", "dimension": "model", "values": {"xl": "1.5"}, "default": "1"},
                    {"kind": "linear", "dimension": "loras", "slope": "0.1", "default_number": "0"},
                ],
            },
            {
                "action": "video.generate",
                "terms": [
                    {
                        "model": "graduated",
                        "meters": ["units"],
                        "tiers": [{"up_to": "100", "price": "1"}, {"price": "0.5"}],
                    }
                ],
            },
        ],
    }


def terms_in(account: AnAccount) -> Callable[[str], LotTerms | None]:
    lots = [event.lot for event in account.events if isinstance(event, CreditsGranted | CreditsToppedUp)]
    return {terms.lot_id: terms for terms in lots}.get


def explained(account: AnAccount, record_id: str) -> Any:
    key = usage_key("acme", SOURCE, record_id)
    stream = stream_of(account.events)
    holds = next(
        r
        for r in stream
        if getattr(r.event, "charge_id", "") == key and not isinstance(r.event, ChargeRefunded)
    )
    refunds = [r for r in stream if isinstance(r.event, ChargeRefunded) and r.event.charge_id == key]
    return explain_usage("acme", holds, refunds, terms_in(account))


def test_e5_lines_and_refunds_sum_exactly_to_the_charge() -> None:
    account = AnAccount()
    account.bought("A", 30, "2026-11-01 01:00")
    account.used("1", 100, occurred="2026-11-02 00:00")
    account.bought("B", 200, "2026-11-03 00:00")
    account.refunded("1", 80, "2026-11-04 00:00", "first")

    charge = explained(account, "1")

    assert isinstance(charge, ChargeExplained)
    assert [line.amount_micros // 10**6 for line in charge.lines] == [30, 70]
    assert (
        sum(line.amount_micros for line in charge.lines) == charge.amount_micros == charge.recomputed_micros
    )
    assert [(line.target, line.amount_micros // 10**6) for line in charge.refunds[0].lines] == [
        ("repayment", 70),
        ("lot", 10),
    ]
    assert (charge.refunded_micros, charge.kept_micros) == (80_000_000, 20_000_000)
    assert charge.contradictions == []


def test_the_words_hold_every_term_multiplier_sum_and_rounding() -> None:
    account = AnAccount(catalogue=a_catalogue(priced_card()))
    account.used(
        "1", 12, occurred="2026-11-02 00:00",
        meters={"units": "12", "images": "2", "steps": "5"}, dimensions={"model": "xl", "loras": "2"},
    )  # fmt: skip

    charge = explained(account, "1")

    assert charge.computation_words == [
        "multiplier model = 'xl': × 1.5",
        "multiplier loras: 1 + 0.1 × 2 = × 1.2",
        "flat price × 1.5 × 1.2 = 1.8 × 0.1 = 0.18 credits",
        "2 images × 5 steps × 1.5 × 1.2 = 18 × 0.007 per 3 = 0.042 credits",
        "12 units × 1.5 × 1.2 = 21.6, in packages of 10: 3 × 0.25 = 0.75 credits",
        "exact sum: 0.18 + 0.042 + 0.75 = 0.972 credits",
        "rounded up to a micro-credit, once: 0.972 credits",
    ]
    assert charge.amount_micros == charge.recomputed_micros == 972_000


def test_a_minimum_is_said() -> None:
    account = AnAccount(catalogue=a_catalogue(priced_card()))
    account.used("1", occurred="2026-11-02 00:00", meters={"units": "1"})

    charge = explained(account, "1")

    assert "below the minimum of 0.5: the minimum counts" in charge.computation_words
    assert charge.amount_micros == 500_000


def test_e7_a_graduated_charge_says_its_positions_and_totals() -> None:
    account = AnAccount(catalogue=a_catalogue(priced_card()))
    account.used("P", 80, occurred="2026-11-02 00:00", action="video.generate")
    account.used("Q", 80, occurred="2026-11-02 01:00", action="video.generate")

    words = explained(account, "Q").computation_words

    assert words == [
        "80 units, graduated (up to 100 at 1, then 0.5): position 80 → 160, total 80 → 130, so 50 credits",
        "rounded up to a micro-credit, once: 50 credits",
    ]


def test_the_text_names_record_offset_card_lots_and_balance() -> None:
    account = AnAccount()
    account.bought("A", 30, "2026-11-01 01:00", expires_at="2027-01-01 00:00")
    account.used("1", 100, occurred="2026-11-02 00:00", origin=Origin("credits.usage.v1", 3, 4711))
    account.refunded("1", 1, "2026-11-03 00:00")

    text = plain_text(explained(account, "1"))

    for said in (
        "topic credits.usage.v1, partition 3, offset 4711",
        "record: 1 from urn:test:usage",
        "rate card standard, version 1, digest ",
        "100 units × 1 = 100 credits",
        "expires 2027-01-01T00:00:00Z",
        "70 credits became debt",
        "sum: 100 credits",
        "After it (version 3): settled 0, debt 70",
        "1 credit lowered the debt",
        "refunded 1 of 100, so it cost 99 credits",
    ):
        assert said in text
    assert max(map(len, text.splitlines())) < 200


def test_waived_usage_says_why_it_costs_nothing() -> None:
    account = AnAccount()
    account.used("7", 20, occurred="2026-11-02 00:00")
    account.used("8", 20, occurred="2026-11-02 01:00", status="failed", corrects="7")

    waiver = explained(account, "8")

    assert isinstance(waiver, WaiverExplained)
    assert waiver.waiver == "failed"
    assert "which it refunded" in waiver.words
    assert "waived, 0 credits" in plain_text(waiver)


def test_a_charge_that_its_computation_does_not_lead_to_is_contradicted() -> None:
    account = AnAccount()
    account.used("1", 10, occurred="2026-11-02 00:00")
    charge = account.events_of(CreditsCharged)[0]
    tampered = msgspec.structs.replace(charge, amount_micros=9_000_000, debt_micros=9_000_000)

    told = explain_usage("acme", RecordedEvent(None, 2, tampered), [], terms_in(account))

    assert isinstance(told, ChargeExplained)
    assert told.contradictions == ["the charge is 9 credits, its computation gives 10 credits"]
    assert "CONTRADICTION: the charge is 9 credits" in plain_text(told)


def test_an_explanation_is_json_with_the_stored_computation_in_it() -> None:
    account = AnAccount()
    account.used("1", 10, occurred="2026-11-02 00:00")

    shown = msgspec.json.decode(msgspec.json.encode(explained(account, "1")))

    assert shown["outcome"] == "charged"
    assert shown["computation"]["amount"] == "10"
