"""What tests are told in: teams, clocks, cards and usage, with the numbers of the story and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from domain.account.applying import find_limit
from domain.account.calendar import window_at
from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.estimating import account_at
from domain.account.events import (
    AccountEvent,
    AllowanceGranted,
    BalanceRaised,
    ChargeRefunded,
    CostBasis,
    CreditsCharged,
    HoldCaptured,
    HoldDenied,
    UsageWaived,
)
from domain.account.funding import AskedLot, grant_credits, top_up_credits
from domain.account.index import IndexOverlay
from domain.account.limiting import use_of
from domain.account.opening import open_account
from domain.account.refunding import refund_charge
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.amounts import format_credits, parse_credits
from domain.asking import DECIDERS, Asked, Given
from domain.catalogue import Catalogue, apply, fold, publish_plan, publish_rate_card
from domain.commands import (
    AssignPlan,
    CaptureHold,
    Command,
    LoseChargeback,
    OpenChargeback,
    PlaceHold,
    ReleaseHold,
    WinChargeback,
)
from domain.team.state import Team
from domain.usage import UsageRecord, usage_key
from projections.balance import Balance, balance_of

QUOTE_KEY = b"q" * 32
_HOLD = {"team_id": "acme", "action": "image.generate", "member": "mira"}
TESTER = Actor("tester", "operator")
SOURCE = "urn:test:usage"


def when(text: str) -> datetime:
    """An instant written short: "2026-12-01 09:00" is UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def micros(text: str | int) -> int:
    """Micro-credits of a decimal number of credits."""
    return parse_credits(str(text), "amount")


def a_catalogue(
    *documents: dict[str, Any], plans: Iterable[dict[str, Any]] = (), published_at: str = "2026-01-01 00:00"
) -> Catalogue:
    """A catalogue in which the rate cards, then the plans, were published in this order."""
    catalogue = fold([])
    for document in documents:
        for event in publish_rate_card(catalogue, document, when(published_at), TESTER):
            apply(catalogue, event)
    for plan in plans:
        for event in publish_plan(catalogue, plan, when(published_at), TESTER):
            apply(catalogue, event)
    return catalogue


def a_plan(plan_id: str, allowance: str | int, rollover_cap: str | int = 0, **changes: Any) -> dict[str, Any]:
    """A plan with this allowance a period, on the standard card."""
    document: dict[str, Any] = {
        "plan_id": plan_id,
        "card_id": "standard",
        "allowance": str(allowance),
        "rollover_cap": str(rollover_cap),
        "price": {"price_minor": 1_000, "currency": "EUR"},
    }
    return document | changes


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
        self._asked = 0
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
            asked=AskedLot(**_instants(terms)),
        )
        self._named(name, decision)

    def granted(self, name: str, amount: str | int, at: str, **terms: Any) -> None:
        """A promotional lot of that name."""
        decision = self._decision(at)
        grant_credits(decision, micros(amount), asked=AskedLot(**_instants(terms)))
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
        assert not isinstance(on_file.event, HoldCaptured)
        return on_file.event

    def asked(self, at: str, command: Command) -> Given:
        """What the ledger's decider of the command gives at that instant; a refusal leaves all as it was."""
        decision = self._decision(at)
        decision.reason = command.reason
        pass_time(decision)
        decision.index = IndexOverlay(self.index)
        self._asked += 1
        asked = Asked(
            decision,
            "tester",
            f"key-{self._asked}",
            lambda: self.catalogue,
            [QUOTE_KEY],
            lambda: Team(team_id="acme"),
        )
        given = DECIDERS[type(command)](asked, command)
        for change in decision.index_changes:
            self.index.put(change)
        self.index.usages |= decision.index.usages
        self._keep(decision)
        return given

    def held(self, amount: str | int, at: str, **terms: Any) -> str:
        """A hold of so much, of an hour unless said; its id."""
        given = self.asked(at, PlaceHold(**(_HOLD | terms), amount_micros=micros(amount)))
        assert given.denied is None, f"denied: {given.denied}"
        return given.fields["hold_id"]

    def denied(self, amount: str | int, at: str, **terms: Any) -> HoldDenied:
        """The denial of such a hold."""
        given = self.asked(at, PlaceHold(**(_HOLD | terms), amount_micros=micros(amount)))
        assert given.denied is not None, "the hold was given"
        return given.denied.denial

    def captured(self, hold_id: str, amount: str | int, at: str) -> str:
        """So much of the hold is a charge; the charge's id."""
        command = CaptureHold(team_id="acme", hold_id=hold_id, amount_micros=micros(amount))
        return self.asked(at, command).fields["charge_id"]

    def released(self, hold_id: str, at: str) -> None:
        """The hold has ended."""
        self.asked(at, ReleaseHold(team_id="acme", hold_id=hold_id))

    def charged_back(self, name: str, at: str) -> None:
        """The bank takes the lot of that name back for now."""
        self.asked(at, OpenChargeback(team_id="acme", payment_reference=f"pay-{name}"))

    def won(self, name: str, at: str) -> None:
        """The chargeback of that lot is won."""
        self.asked(at, WinChargeback(team_id="acme", payment_reference=f"pay-{name}"))

    def lost(self, name: str, at: str) -> None:
        """The chargeback of that lot is lost."""
        self.asked(at, LoseChargeback(team_id="acme", payment_reference=f"pay-{name}"))

    def planned(self, plan: str, at: str, takes_effect: Any = "now") -> None:
        """The team has the plan; allowances are named L1, L2, ... as they come."""
        self.asked(at, AssignPlan(team_id="acme", plan_id=plan, takes_effect=takes_effect))

    def balance(self, at: str) -> Balance:
        """The balance at that instant."""
        return balance_of(self.account, when(at), position=1, version=self.account.version)

    def parts(self, at: str) -> dict[str, str]:
        """Settled credits and their parts at that instant, without those that are zero."""
        balance = self.balance(at)
        names = ("settled", "available", "held", "lapsed", "withheld", "upcoming", "debt")
        sums = {name: getattr(balance, f"{name}_micros") for name in names}
        return {name: format_credits(sum_) for name, sum_ in sums.items() if sum_}

    def window(self, limit_id: str, at: str) -> str:
        """What the limit's window of that instant has used."""
        limit = find_limit(self.account, limit_id)
        assert limit is not None
        start, end = window_at(self.account, self.index, limit.terms.window, when(at))
        return format_credits(use_of(self.index, limit, start, end).used_micros)

    def refunded(self, record_id: str, amount: str | int | None, at: str, refund_id: str = "r") -> None:
        """A refund of the charge of that record."""
        self.refunded_charge(usage_key("acme", SOURCE, record_id), amount, at, refund_id)

    def refunded_charge(
        self, charge_id: str, amount: str | int | None, at: str, refund_id: str = "r"
    ) -> None:
        """A refund of that charge."""
        decision = self._decision(at)
        asked = None if amount is None else micros(amount)
        refund_charge(decision, charge_id, asked, refund_id)
        self._keep(decision)

    def decided(self, at: str, decide: Callable[[Decision], object]) -> None:
        """What the function decides at that instant."""
        decision = self._decision(at)
        decide(decision)
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
            if isinstance(event, AllowanceGranted) and event.lot is not None:
                allowances = sum(name.startswith("L") for name in self.names.values())
                self.names[event.lot.lot_id] = f"L{allowances + 1}"
            if isinstance(event, BalanceRaised):
                self.names[event.lot.lot_id] = "raised"
            # What is stored is bytes: an event that does not read back as itself would halt its team.
            assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event
        self.events += decision.events

    def _named(self, name: str, decision: Decision) -> None:
        self._keep(decision)
        issued = next(event for event in decision.events if hasattr(event, "lot"))
        self.names[issued.lot.lot_id] = name

    def _name(self, lot_id: str) -> str:
        first, *successions = re.split("[@~]", lot_id)
        return self.names[first] + "'" * len(successions)


def _instants(terms: dict[str, Any]) -> dict[str, Any]:
    return {name: when(term) if name.endswith("_at") else term for name, term in terms.items()}


def after(text: str, **delta: float) -> str:
    """The instant a while later, in the short form."""
    return (when(text) + timedelta(**delta)).replace(tzinfo=None).isoformat(sep=" ")
