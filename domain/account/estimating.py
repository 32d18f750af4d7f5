"""What one use would cost right now and which lots would pay: the functions of charging, without an effect."""

from __future__ import annotations

from datetime import datetime

import msgspec

from domain.account import lots
from domain.account.charging import PricedUsage, price_for
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.events import LotLine
from domain.account.index import AccountIndex
from domain.account.opening import require_open
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.catalogue import Catalogue

NOBODY = Actor("estimate", "reader")


class Estimate(msgspec.Struct, frozen=True):
    """``priced`` is None when there is nothing to price; ``debt_micros`` is what no lot would cover."""

    priced: PricedUsage | None
    amount_micros: int
    lines: list[LotLine]
    debt_micros: int
    version: int


def account_at(account: TeamAccount, at: datetime, index: AccountIndex | None = None) -> TeamAccount:
    """A copy of the account with everything booked that is due at ``at``; nothing is written."""
    decision = Decision(copy_of(account), at, NOBODY, index)
    pass_time(decision)
    return decision.account


def estimate(
    account: TeamAccount,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    action: str,
    meters: dict[str, str],
    dimensions: dict[str, str],
    project: str | None = None,
) -> Estimate:
    """The charge that usage of this kind, occurring and recorded at ``at``, would be.

    Raises: as charging does (UnknownAction, UnknownPrice, PriceOutOfRange, AccountClosed).
    """
    require_open(account)
    version = account.version
    account = account_at(account, at, index)
    priced = price_for(account, catalogue, index, action, meters, dimensions, at)
    if priced is None:
        return Estimate(None, 0, [], 0, version)
    amount = priced.price.amount_micros
    lines = lots.draw(account, amount, (at,), action, project)
    return Estimate(priced, amount, lines, amount - sum(line.amount_micros for line in lines), version)
