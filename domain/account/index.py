"""What has closed on an account and may still be asked for: claims, closed lots, refunds, repayments, old counters.

State holds what is open; a refund or late usage finds the rest here. Entries change in the transaction of the event that
changed them, and a fold of the events gives the same entries again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

import msgspec

from domain.account.events import (
    CHARGES,
    Charge,
    CostBasis,
    CreditsCharged,
    HoldCaptured,
    LotLine,
    MoneyDue,
    QuotePin,
    UsageWaived,
)

IndexKind = Literal[
    "lot",
    "refund",
    "repayment",
    "counter",
    "window",
    "hold",
    "hold_left",
    "top_up",
    "chargeback",
    "breakage",
    "line",
    "quote",
    "dispute",
    "zone",
    "card",
    "period",
    "uninvoiced",
    "invoiced",
    "invoice",
    "invoice_payment",
]
"""lot: terms of a closed lot. refund: what was refunded of a charge. repayment: what of a debt repayment may come back.
counter, window: a tier counter, a limit's window, older than the two kept in the state. hold: a hold that has ended;
hold_left: what late usage has left of it.
top_up: a payment reference. chargeback: what became of one.
breakage: what expired, by origin and lot. line: an origin whose line was voided or lost.
quote: a quote that was used or withdrawn. dispute: a dispute that was decided. zone, card: those of long ago.
period: a closed period, by its start. uninvoiced: one that waits for its invoice. invoiced: one that has none to wait for.
invoice: a document by its number, and after a space what became of it. invoice_payment: a payment of an invoice."""


class IndexChange(NamedTuple):
    """One entry as it is from now on; ``entry`` None says it is gone."""

    kind: IndexKind
    key: str
    entry: bytes | None


class RefundsOfCharge(msgspec.Struct, frozen=True):
    """How much of one charge was refunded so far."""

    refunded_micros: int


class Repayment(msgspec.Struct, frozen=True):
    """One lot line of a debt repayment and how much of it refunds have not yet given back."""

    lot_id: str
    left_micros: int


class EndedHold(msgspec.Struct, frozen=True, omit_defaults=True):
    """A hold that has ended: how, when, and what it had set aside then that late usage has not yet drawn."""

    how: Literal["captured", "released", "expired"]
    made_at: datetime
    ended_at: datetime
    lines: list[LotLine] = []
    quote: QuotePin | None = None
    is_quote_charged: bool = False
    action: str = ""
    member: str | None = None
    project: str | None = None


class TopUp(msgspec.Struct, frozen=True, omit_defaults=True):
    """A payment reference: what became of it, and the lot that it bought."""

    status: Literal["requested", "settled", "failed"]
    version: int
    amount_micros: int
    cost_basis: CostBasis | None = None
    lot_id: str | None = None


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """A past window of a limit."""

    end: datetime | None
    used_micros: int
    reached: list[int] = []


class UsedQuote(msgspec.Struct, frozen=True, omit_defaults=True):
    """A quote that no other hold may name: the hold that did, None when it was withdrawn."""

    hold_id: str | None = None


class DecidedDispute(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dispute that is no longer open."""

    how: Literal["upheld", "rejected"]
    charge_ids: list[str]


class ClosedPeriod(msgspec.Struct, frozen=True):
    """A period of the books that was closed: its end and name as they were then, and the version of the team's stream."""

    end: datetime
    zone: str
    label: str
    closed_version: int


class InvoicedPeriod(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the newest invoice of a closed period came to: its number (None: nothing had happened), and the credits at its end."""

    closing_micros: int
    invoice: str | None = None


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document that was issued under a number: by which event, for which period, what it corrects and what it asks for."""

    kind: Literal["invoice", "void", "credit_note"]
    version: int
    period_start: datetime | None = None
    corrects: str | None = None
    attempt: int = 0
    due: list[MoneyDue] = []


class InvoicePayment(msgspec.Struct, frozen=True):
    """A payment of an invoice, under its reference."""

    invoice: str
    amount_minor: int
    currency: str
    version: int


class UsageOnFile(msgspec.Struct, frozen=True, gc=False):
    """The event that holds a usage claim, and its version in the team's stream."""

    version: int
    event: CreditsCharged | UsageWaived | HoldCaptured


class AccountIndex(Protocol):
    """Reads of one account's index. ``latest`` gives the entries of a kind, greatest key first."""

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """The event that holds the claim, None when the record was never seen."""

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry of that kind and key, None when there is none."""

    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The entries of a kind whose keys begin so, with their keys, greatest key first."""
        ...

    def charges_since(self, recorded_since: datetime) -> Iterator[Charge]:
        """Every charge of the account recorded at that instant or later, in no particular order."""
        ...


class EmptyIndex:
    """The index of an account that nothing has happened on."""

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """None: nothing was used."""
        return None

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """None: nothing has closed."""
        return None

    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """No entries."""
        return iter(())

    def charges_since(self, recorded_since: datetime) -> Iterator[Charge]:
        """None: nothing was used."""
        return iter(())


class IndexOverlay:
    """An index with changes that are decided but not yet written; over an empty one, a whole index in memory."""

    def __init__(self, base: AccountIndex | None = None) -> None:
        self._base: AccountIndex = base or EmptyIndex()
        self.usages: dict[str, UsageOnFile] = {}
        self.entries: dict[IndexKind, dict[str, bytes | None]] = {}

    def put(self, change: IndexChange) -> None:
        """The entry reads as the change says from now on."""
        self.entries.setdefault(change.kind, {})[change.key] = change.entry

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """The claim made here, else the one beneath."""
        return self.usages.get(usage_key) or self._base.usage(usage_key)

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry as changed here, else the one beneath."""
        changed = self.entries.get(kind, {})
        return changed[key] if key in changed else self._base.entry(kind, key)

    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Entries of both layers, greatest key first, without those deleted here."""
        changed = self.entries.get(kind, {})
        pending = sorted((key for key in changed if key.startswith(prefix)), reverse=True)
        for key, entry in self._base.latest(kind, prefix):
            while pending and pending[0] > key:
                yield from self._present(changed, pending.pop(0))
            if key not in changed:
                yield key, entry
        for key in pending:
            yield from self._present(changed, key)

    def charges_since(self, recorded_since: datetime) -> Iterator[Charge]:
        """Those decided here and those beneath."""
        for on_file in self.usages.values():
            if isinstance(on_file.event, CHARGES) and on_file.event.recorded_at >= recorded_since:
                yield on_file.event
        yield from self._base.charges_since(recorded_since)

    @staticmethod
    def _present(changed: dict[str, bytes | None], key: str) -> Iterator[tuple[str, bytes]]:
        entry = changed[key]
        if entry is not None:
            yield key, entry
