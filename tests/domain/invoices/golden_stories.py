"""The stories behind the golden set: accounts whose documents were issued, written down once and never again.

``python -m tests.domain.invoices.golden_stories`` writes the stories that have no files yet; no file is ever changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from domain.account.events import (
    ACCOUNT_EVENTS,
    AccountEvent,
    CostBasis,
    CreditNoteIssued,
    CreditNoteLine,
    InvoiceIssued,
    InvoiceVoided,
    RecordedEvent,
)
from domain.billing import BillingDetails
from domain.commands import AdjustBalance, TopUpCredits, VoidGrant
from domain.invoices.corrections import derive_credit_note, derive_void
from domain.invoices.document import SHAPE, canonical_invoice, invoice_digest
from domain.invoices.drafting import Draft, derive, money_due
from domain.issuer.details import IssuerDetails, number_text
from tests.builders import TESTER, AnAccount, a_catalogue, a_plan, micros, unit_card
from tests.domain.invoices.told import closed_drafts, recorded

GOLDEN = Path(__file__).parent / "golden"
SHAPES = {shape.TOPIC: shape for shape in ACCOUNT_EVENTS}
SELLER = IssuerDetails(
    name="Coffer GmbH",
    address_lines=["Weg 1", "10115 Berlin"],
    country="DE",
    tax_id="DE123456789",
    email="billing@coffer.example",
    zone="Europe/Berlin",
    prefix="CO-",
    tax_percent="19",
    iban="DE02120300000000202051",
    note="Thank you.",
)
PLAIN = BillingDetails(
    name="Acme Ltd", address_lines=["1 High Street", "London"], country="GB", locale="en_GB"
)
PLANS = (
    a_plan("starter", 30, 10, price={"price_minor": 2_999, "currency": "EUR"}),
    a_plan("studio", 90, price={"price_minor": 8_900, "currency": "EUR"}),
)


class Story:
    """An account that is invoiced by hand: each document gets the next number."""

    def __init__(self, at: str = "2026-11-01 00:00", **terms: object) -> None:
        self.team = AnAccount(at, a_catalogue(_card(), plans=PLANS), **terms)
        self._number = 0
        self._issued: list[tuple[InvoiceIssued, Draft]] = []

    def bought(self, reference: str, price: int, tax: int, at: str, currency: str = "EUR") -> None:
        """A hundred credits were bought."""
        basis = CostBasis(price, currency, tax)
        self.team.asked(
            at,
            TopUpCredits(
                team_id="acme", amount_micros=micros(100), payment_reference=reference, cost_basis=basis
            ),
        )

    def invoice_all(self, customer: BillingDetails | None = PLAIN) -> None:
        """Every closed period has its invoice."""
        for draft in closed_drafts(recorded(self.team.events)):
            self.invoice(draft, customer)

    def invoice(self, draft: Draft, customer: BillingDetails | None) -> InvoiceIssued:
        """The period of the draft has an invoice."""
        number, year, at = self._next()
        assert draft.period.closed_version is not None
        event = InvoiceIssued(
            recorded_at=at,
            actor=TESTER,
            invoice=number_text(SELLER.prefix, year, number),
            issuer_id=SELLER.issuer_id,
            year=year,
            number=number,
            period_start=draft.period.start,
            period_end=draft.period.end,
            label=draft.period.label,
            closed_version=draft.period.closed_version,
            opening_micros=draft.opening_micros,
            closing_micros=draft.closing_micros,
            shape=SHAPE,
            digest="",
            due=money_due(draft.document(SELLER)),
            issuer=SELLER,
            customer=customer,
            team_version=1,
            issuer_version=1,
        )
        event = msgspec.structs.replace(event, digest=invoice_digest(draft.issued(event)))
        self.team.events.append(event)
        self._issued.append((event, draft))
        return event

    def voided_and_issued_anew(self, customer: BillingDetails) -> None:
        """The latest invoice is void, and its period has another."""
        issued, draft = self._issued[-1]
        number, year, at = self._next()
        event = InvoiceVoided(
            recorded_at=at,
            actor=TESTER,
            reason="wrong customer",
            invoice=number_text(SELLER.prefix, year, number),
            issuer_id=SELLER.issuer_id,
            year=year,
            number=number,
            voided_invoice=issued.invoice,
            period_start=issued.period_start,
            attempt=1,
            reissue=True,
            shape=SHAPE,
            digest="",
        )
        digest = invoice_digest(derive_void("acme", issued, event))
        self.team.events.append(msgspec.structs.replace(event, digest=digest))
        self.invoice(draft, customer)

    def credited(self, *lines: CreditNoteLine) -> None:
        """Lines of the latest invoice are given back in euros."""
        issued, _ = self._issued[-1]
        number, year, at = self._next()
        event = CreditNoteIssued(
            recorded_at=at,
            actor=TESTER,
            reason="outage",
            invoice=number_text(SELLER.prefix, year, number),
            issuer_id=SELLER.issuer_id,
            year=year,
            number=number,
            corrected_invoice=issued.invoice,
            currency="EUR",
            lines=list(lines),
            credited_after_minor=sum(line.net_minor + line.tax_minor for line in lines),
            shape=SHAPE,
            digest="",
        )
        digest = invoice_digest(derive_credit_note("acme", issued, event))
        self.team.events.append(msgspec.structs.replace(event, digest=digest))

    def _next(self) -> tuple[int, int, datetime]:
        self._number += 1
        last = self.team.events[-1].recorded_at
        return self._number, last.year, last + timedelta(minutes=7, microseconds=1)


def _card() -> dict[str, object]:
    tiers = [{"up_to": "10", "price": "0.333333"}, {"price": "0.1"}]
    models = {"kind": "table", "dimension": "model", "values": {"small": "1", "large": "2.5"}}
    unit = {"model": "unit", "meters": ["units"], "price": "1"}
    tokens = {"model": "unit", "meters": ["tokens"], "price": "2", "per": "1000"}
    return unit_card(
        meters={"units": "unit", "tokens": "token"},
        dimensions={"model": "a size"},
        rates=[
            {"action": "image.generate", "terms": [unit]},
            {"action": "image.upscale", "terms": [unit], "multipliers": [models]},
            {"action": "text.generate", "terms": [tokens]},
            {
                "action": "video.generate",
                "terms": [{"model": "graduated", "meters": ["units"], "tiers": tiers}],
            },
        ],
    )


def small() -> Story:
    """A few charges, one top-up."""
    story = Story()
    story.bought("pay-1", 1_000, 190, "2026-11-02 10:00")
    for day in range(3, 9):
        story.team.used(
            f"u{day}", day, occurred=f"2026-11-{day:02} 09:30", project="film" if day % 2 else None
        )
    story.team.ticked("2026-12-02 00:00")
    story.invoice_all()
    return story


def adjustments() -> Story:
    """Usage that came after the close, refunds of two periods, usage from before the books, a zone with summer time."""
    story = Story("2026-09-20 12:00", zone="Europe/Berlin", anchor_day=15)
    team = story.team
    team.granted("G", 500, "2026-09-20 13:00")
    team.used("old", 4, occurred="2026-08-01 12:00", recorded="2026-09-21 12:00")
    team.used("a", 12, occurred="2026-10-10 12:00")
    team.used("b", 7, occurred="2026-10-20 12:00", member="noor")
    team.used("late", 12, occurred="2026-10-12 12:00", recorded="2026-10-25 12:00")
    team.refunded("late", None, "2026-10-28 12:00")
    team.refunded("a", 5, "2026-10-29 12:00")
    team.refunded("b", "2.5", "2026-10-30 12:00")
    team.ticked("2026-11-20 12:00")
    story.invoice_all()
    return story


def everything() -> Story:
    """All kinds of usage and movements: holds, tiers, tokens, raises, breakage, a void, two currencies, a chargeback lost."""
    story = Story()
    team = story.team
    story.bought("pay-eur", 9_900, 1_881, "2026-11-02 10:00")
    story.bought("pay-usd", 12_000, 0, "2026-11-03 10:00", "USD")
    team.granted("G", 20, "2026-11-04 10:00", expires_at="2026-11-20 00:00")
    team.granted("V", 11, "2026-11-04 11:00")
    team.used("v1", "8.5", occurred="2026-11-05 10:00", action="video.generate")
    team.used("v2", "8.5", occurred="2026-11-06 10:00", action="video.generate")
    team.used("t1", occurred="2026-11-06 11:00", action="text.generate", meters={"tokens": "12345"})
    team.used("s", 2, occurred="2026-11-07 10:00", action="image.upscale", dimensions={"model": "small"})
    team.used("l", 3, occurred="2026-11-07 11:00", action="image.upscale", dimensions={"model": "large"})
    hold = team.held(10, "2026-11-08 10:00", project="poster")
    charge = team.captured(hold, "3.25", "2026-11-08 10:30")
    team.refunded_charge(charge, 1, "2026-11-08 11:00")
    team.refunded("l", "0.5", "2026-11-09 11:00")
    team.granted("E", 6, "2026-11-10 10:00", expires_at="2026-11-20 00:00", action="film.render")
    team.granted("W", 11, "2026-11-10 11:00")
    (void,) = [lot_id for lot_id, name in team.names.items() if name == "W"]
    team.asked("2026-11-11 11:00", VoidGrant(team_id="acme", lot_id=void, reason="given twice"))
    team.asked("2026-11-12 11:00", _adjust("raise", "3.5"))
    team.asked("2026-11-12 12:00", _adjust("lower", "1.25"))
    team.charged_back("usd", "2026-11-22 11:00")
    team.lost("usd", "2026-11-25 11:00")
    team.ticked("2026-12-05 12:00")
    story.invoice_all(None)
    return story


def _adjust(direction: Literal["raise", "lower"], amount: str) -> AdjustBalance:
    return AdjustBalance(
        team_id="acme", direction=direction, amount_micros=micros(amount), reason="counted again"
    )


def plan_fee() -> Story:
    """A plan joined in the middle, an upgrade, turns with rollover; a customer whose name is written from the right."""
    story = Story("2026-10-10 08:00", zone="Asia/Jerusalem", anchor_day=31)
    story.team.planned("starter", "2026-10-11 08:00")
    story.team.used("u", 7, occurred="2026-10-20 09:00")
    story.team.planned("studio", "2026-11-11 22:30")
    story.team.ticked("2027-01-04 12:00")
    story.invoice_all(
        BillingDetails(
            name="חברת דוגמה בע״מ",
            address_lines=["רחוב הרצל 1", "תל אביב"],
            country="IL",
            tax_id="514000000",
            locale="he_IL",
        )
    )
    return story


def void_and_credit_note() -> Story:
    """An invoice made out to the wrong customer, issued anew to a Japanese one, and then partly given back."""
    story = Story()
    story.bought("pay-1", 10_000, 1_900, "2026-11-02 10:00")
    story.team.planned("starter", "2026-11-03 10:00")
    story.team.used("u", "33.25", occurred="2026-11-05 10:00", project="映画")
    story.team.ticked("2026-12-02 00:00")
    story.invoice_all()
    story.voided_and_issued_anew(
        BillingDetails(
            name="株式会社サンプル「例」", address_lines=["東京都千代田区 1-1"], country="JP", locale="ja_JP"
        )
    )
    story.credited(
        CreditNoteLine(text="Outage of 3 November", net_minor=500, tax_minor=95),
        CreditNoteLine(text="=Goodwill, untaxed", net_minor=250, tax_minor=0),
    )
    return story


STORIES: dict[str, Callable[[], Story]] = {
    story.__name__: story for story in (small, adjustments, everything, plan_fee, void_and_credit_note)
}


def stored_events(name: str) -> list[RecordedEvent]:
    """The stream of the story, as its file has it."""
    lines = (GOLDEN / f"{name}.events.jsonl").read_bytes().splitlines()
    return [_recorded(line) for line in lines]


def derived(events: list[RecordedEvent]) -> Iterator[tuple[str, str, bytes]]:
    """Every document of the stream: its number, the digest it was issued with, and its bytes as they are derived now."""
    issued = {each.event.invoice: each.event for each in events if isinstance(each.event, InvoiceIssued)}
    for each in events:
        event = each.event
        if isinstance(event, InvoiceIssued):
            yield event.invoice, event.digest, canonical_invoice(derive(events, event))
        elif isinstance(event, InvoiceVoided):
            void = derive_void("acme", issued[event.voided_invoice], event)
            yield event.invoice, event.digest, canonical_invoice(void)
        elif isinstance(event, CreditNoteIssued):
            note = derive_credit_note("acme", issued[event.corrected_invoice], event)
            yield event.invoice, event.digest, canonical_invoice(note)


class _Stored(msgspec.Struct):
    topic: str
    version: int
    event: msgspec.Raw


def _recorded(line: bytes) -> RecordedEvent:
    stored = msgspec.json.decode(line, type=_Stored)
    event: AccountEvent = msgspec.json.decode(stored.event, type=SHAPES[stored.topic])
    return RecordedEvent("acme", stored.version, event)


def write_missing() -> None:
    """The stories without files have them."""
    for name, tell in STORIES.items():
        path = GOLDEN / f"{name}.events.jsonl"
        if path.exists():
            continue
        events = recorded(tell().team.events)
        lines = [
            msgspec.json.encode(
                _Stored(
                    each.event.TOPIC, each.originator_version, msgspec.Raw(msgspec.json.encode(each.event))
                )
            )
            for each in events
        ]
        path.write_bytes(b"\n".join(lines) + b"\n")
        for number, _, document in derived(events):
            (GOLDEN / f"{name}.{number}.json").write_bytes(document)


if __name__ == "__main__":
    write_missing()
