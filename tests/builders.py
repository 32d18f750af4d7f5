"""What tests are told in: teams, clocks, cards and usage, with the numbers of the story and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.estimating import account_at
from domain.account.events import AccountEvent, ChargeRefunded, CostBasis, CreditsCharged, UsageWaived
from domain.account.funding import grant_credits, top_up_credits
from domain.account.index import IndexOverlay
from domain.account.opening import open_account
from domain.account.refunding import refund_charge
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.amounts import format_credits, parse_credits
from domain.catalogue import Catalogue, apply, fold, publish_rate_card
from domain.usage import UsageRecord, usage_key

TESTER = Actor("tester", "operator")
SOURCE = "urn:test:usage"


def when(text: str) -> datetime:
    """An instant written short: "2026-12-01 09:00" is UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def micros(text: str | int) -> int:
    """Micro-credits of a decimal number of credits."""
    return parse_credits(str(text), "amount")


def a_catalogue(*documents: dict[str, Any], published_at: str = "2026-01-01 00:00") -> Catalogue:
    """A catalogue in which the rate cards were published in this order."""
    catalogue = fold([])
    for document in documents:
        for event in publish_rate_card(catalogue, document, when(published_at), TESTER):
            apply(catalogue, event)
    return catalogue


def unit_card(**changes: Any) -> dict[str, Any]:
    """A card on which one unit of ``image.generate`` or ``video.generate`` costs one credit."""
    rates = [
        {"action": action, "terms": [{"model": "unit", "meters": ["units"], "price": "1"}]}
        for action in ("image.generate", "video.generate")
    ]
    document: dict[str, Any] = {
        "card_id": "standard",
        "effective_at": "2020-01-01T00:00:00Z",
        "meters": {"units": "unit"},
        "rates": rates,
    }
    return document | changes


def a_usage_record(
    record_id: str,
    units: str | int = 1,
    *,
    occurred: str,
    team: str = "acme",
    **changes: Any,
) -> UsageRecord:
    """Usage of ``units`` for ``image.generate``, arrived when it occurred."""
    fields: dict[str, Any] = {
        "team_id": team,
        "source": SOURCE,
        "id": record_id,
        "occurred_at": when(occurred),
        "arrived_at": when(occurred),
        "action": "image.generate",
        "status": "succeeded",
        "meters": {"units": str(units)},
        "dimensions": {},
        "member": "mira",
    }
    return UsageRecord(**(fields | changes))


class AnAccount:
    """A team's account in memory, told in credits: lots have names, the clock is set by each step."""

    def __init__(
        self, at: str = "2026-11-01 00:00", catalogue: Catalogue | None = None, **terms: Any
    ) -> None:
        self.catalogue = catalogue or a_catalogue(unit_card())
        self.index = IndexOverlay()
        self.events: list[AccountEvent] = []
        self.names: dict[str, str] = {}
        self._account: TeamAccount | None = None
        decision = self._decision(at)
        open_account(decision, "acme", **terms)
        self._keep(decision)

    @property
    def account(self) -> TeamAccount:
        assert self._account is not None
        return self._account

    def bought(self, name: str, amount: str | int, at: str, **terms: Any) -> None:
        """A purchased lot of that name; never expiring unless said."""
        decision = self._decision(at)
        top_up_credits(
            decision,
            micros(amount),
            payment_reference=f"pay-{name}",
            cost_basis=CostBasis(100, "EUR"),
            **_instants(terms),
        )
        self._named(name, decision)

    def granted(self, name: str, amount: str | int, at: str, **terms: Any) -> None:
        """A promotional lot of that name."""
        decision = self._decision(at)
        grant_credits(decision, micros(amount), **_instants(terms))
        self._named(name, decision)

    def used(
        self,
        record_id: str,
        units: str | int = 1,
        *,
        occurred: str,
        recorded: str | None = None,
        **changes: Any,
    ) -> CreditsCharged | UsageWaived:
        """The record, as the ledger wrote it down."""
        decision = self._decision(recorded or occurred)
        record = a_usage_record(record_id, units, occurred=occurred, **changes)
        charge_usage(decision, record, self.catalogue)
        self._keep(decision)
        on_file = self.index.usage(record.usage_key())
        assert on_file is not None
        return on_file.event

    def refunded(self, record_id: str, amount: str | int | None, at: str, refund_id: str = "r") -> None:
        """A refund of the charge of that record."""
        decision = self._decision(at)
        asked = None if amount is None else micros(amount)
        refund_charge(decision, usage_key("acme", SOURCE, record_id), asked, refund_id)
        self._keep(decision)

    def ticked(self, at: str) -> None:
        """Time passes up to ``at`` and nothing else happens."""
        decision = self._decision(at)
        pass_time(decision)
        self._keep(decision)

    def left(self, at: str | None = None) -> dict[str, str]:
        """Credits left by lot, zero for closed ones, as they read at ``at``; a successor is named with a prime."""
        account = self.account if at is None else account_at(self.account, when(at), self.index)
        left = dict.fromkeys(self.names.values(), "0")
        for lot in account.lots:
            left[self._name(lot.terms.lot_id)] = format_credits(lot.remaining_micros)
        return left

    def debt(self, at: str | None = None) -> str:
        account = self.account if at is None else account_at(self.account, when(at), self.index)
        return format_credits(account.debt_micros)

    def settled(self, at: str | None = None) -> str:
        account = self.account if at is None else account_at(self.account, when(at), self.index)
        return format_credits(account.settled_micros)

    def expiry(self, name: str) -> datetime | None:
        """When the open lot of that name expires."""
        return next(lot.terms.expires_at for lot in self.account.lots if self._name(lot.terms.lot_id) == name)

    def events_of(self, kind: type[AccountEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def refunds(self) -> list[ChargeRefunded]:
        return self.events_of(ChargeRefunded)

    def _decision(self, at: str) -> Decision:
        return Decision(copy_of(self._account) if self._account else None, when(at), TESTER, self.index)

    def _keep(self, decision: Decision) -> None:
        self._account = decision.account
        for event in decision.events:
            # What is stored is bytes: an event that does not read back as itself would halt its team.
            assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event
        self.events += decision.events

    def _named(self, name: str, decision: Decision) -> None:
        self._keep(decision)
        issued = next(event for event in decision.events if hasattr(event, "lot"))
        self.names[issued.lot.lot_id] = name

    def _name(self, lot_id: str) -> str:
        first, *successions = lot_id.split("@")
        return self.names[first] + "'" * len(successions)


def _instants(terms: dict[str, Any]) -> dict[str, Any]:
    return {name: when(term) if name.endswith("_at") else term for name, term in terms.items()}


def after(text: str, **delta: float) -> str:
    """The instant a while later, in the short form."""
    return (when(text) + timedelta(**delta)).replace(tzinfo=None).isoformat(sep=" ")
