"""What the events of an invoice did to a team's credits less its debt, by what they were; the sums tie to the micro-credit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from domain.account import events as e
from domain.amounts import format_credits
from domain.invoices.document import Credits


class CreditSums(msgspec.Struct):
    """Micro-credits that came and went. Holds, rollover, repayment and chargebacks still open move nothing of these sums."""

    granted: int = 0
    topped_up: int = 0
    raised: int = 0
    lowered: int = 0
    used: int = 0
    refunded: int = 0
    expired: int = 0
    voided: int = 0
    charged_back: int = 0

    @property
    def net(self) -> int:
        """By how much all of it raised, or (negative) lowered, settled credits less debt."""
        came = self.granted + self.topped_up + self.raised + self.refunded
        return came - self.lowered - self.used - self.expired - self.voided - self.charged_back

    def shown(self, opening_micros: int) -> Credits:
        """The sums as the document says them."""
        return Credits(
            opening=format_credits(opening_micros),
            closing=format_credits(opening_micros + self.net),
            **{name: format_credits(sum_) for name, sum_ in msgspec.structs.asdict(self).items()},
        )


def add_to(sums: CreditSums, event: e.AccountEvent) -> None:
    """The event is in the sums; one that moves no credits changes nothing."""
    add = _ADD.get(type(event))
    if add is not None:
        add(sums, event)


def net_of(event: e.AccountEvent) -> int:
    """By how much the event raised, or (negative) lowered, settled credits less debt, by its own amounts."""
    sums = CreditSums()
    add_to(sums, event)
    return sums.net


def _granted(sums: CreditSums, event: e.CreditsGranted | e.AllowanceGranted) -> None:
    sums.granted += event.amount_micros


def _topped_up(sums: CreditSums, event: e.CreditsToppedUp) -> None:
    sums.topped_up += event.amount_micros


def _raised(sums: CreditSums, event: e.BalanceRaised) -> None:
    sums.raised += event.amount_micros


def _lowered(sums: CreditSums, event: e.BalanceLowered) -> None:
    sums.lowered += event.amount_micros


def _used(sums: CreditSums, event: e.Charge) -> None:
    sums.used += event.amount_micros


def _refunded(sums: CreditSums, event: e.ChargeRefunded) -> None:
    sums.refunded += event.amount_micros
    # What comes back of a voided grant is void again, in the same event.
    sums.voided += sum(line.amount_micros for line in event.lines if line.target == "voided")


def _expired(sums: CreditSums, event: e.CreditsExpired) -> None:
    sums.expired += event.amount_micros


def _voided(sums: CreditSums, event: e.GrantVoided) -> None:
    sums.voided += event.amount_micros


def _charged_back(sums: CreditSums, event: e.ChargebackLost) -> None:
    sums.charged_back += event.voided_micros + event.drawn_micros


_ADD: dict[type[e.AccountEvent], Callable[[CreditSums, Any], None]] = {
    e.CreditsGranted: _granted,
    e.AllowanceGranted: _granted,
    e.CreditsToppedUp: _topped_up,
    e.BalanceRaised: _raised,
    e.BalanceLowered: _lowered,
    e.CreditsCharged: _used,
    e.HoldCaptured: _used,
    e.ChargeRefunded: _refunded,
    e.CreditsExpired: _expired,
    e.GrantVoided: _voided,
    e.ChargebackLost: _charged_back,
}
