"""Quotes: a price that the ledger honours until it expires, given without effect and named once by a hold."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from domain.account.charging import price_for
from domain.account.decision import Decision
from domain.account.events import QuotePin
from domain.account.holding import require_unused
from domain.account.index import AccountIndex
from domain.account.opening import require_active
from domain.account.state import TeamAccount
from domain.amounts import format_credits
from domain.catalogue import Catalogue
from domain.errors import Malformed, QuoteExpired, QuoteNotOurs
from domain.quotes import Quote
from domain.times import instant_text

QUOTE_SECONDS = 600
QUOTE_SECONDS_MIN, QUOTE_SECONDS_MAX = 60, 86_400


def quote_usage(
    account: TeamAccount,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    quote_id: str,
    *,
    action: str,
    meters: dict[str, str],
    dimensions: dict[str, str],
    project: str | None = None,
    lasts_seconds: int = QUOTE_SECONDS,
) -> Quote:
    """The price of one use at ``at``, honoured until it expires. Nothing is changed.

    Raises: as charging does; Malformed for use with nothing to price, and for a life outside 60 seconds to a day;
    AccountSuspended; AccountClosed.
    """
    require_active(account)
    if not QUOTE_SECONDS_MIN <= lasts_seconds <= QUOTE_SECONDS_MAX:
        raise Malformed(
            f"lasts_seconds {lasts_seconds}: {QUOTE_SECONDS_MIN} to {QUOTE_SECONDS_MAX} would be right",
            field="lasts_seconds",
        )
    priced = price_for(account, catalogue, index, action, meters, dimensions, at)
    if priced is None:
        raise Malformed(
            f"meters {sorted(meters)}: {action} has nothing to price with them, so there is nothing to quote",
            field="meters",
        )
    return Quote(
        quote_id=quote_id,
        team_id=account.team_id,
        action=action,
        meters=meters,
        dimensions=dimensions,
        project=project,
        card=priced.card,
        computation=msgspec.Raw(priced.price.computation),
        total_micros=priced.price.amount_micros,
        issued_at=at,
        expires_at=at + timedelta(seconds=lasts_seconds),
    )


def pin_quote(
    decision: Decision, catalogue: Catalogue, quote: Quote, action: str, project: str | None
) -> QuotePin:
    """What a hold keeps of the quote that it names.

    Raises: QuoteNotOurs for another team's quote, or another use; QuoteUsed; QuoteIsWithdrawn; QuoteExpired, with today's price.
    """
    asked = (decision.account.team_id, action, project)
    if asked != (quote.team_id, quote.action, quote.project):
        raise QuoteNotOurs(
            f"quote {quote.quote_id} was given to team {quote.team_id!r} for {quote.action}"
            + (f" in project {quote.project!r}" if quote.project else ""),
            field="quote",
        )
    require_unused(decision, quote.quote_id)
    if decision.at >= quote.expires_at:
        raise _expired(decision, catalogue, quote)
    return QuotePin(
        quote_id=quote.quote_id,
        card=quote.card,
        action=quote.action,
        meters=quote.meters,
        dimensions=quote.dimensions,
        total_micros=quote.total_micros,
        computation=quote.computation,
    )


def _expired(decision: Decision, catalogue: Catalogue, quote: Quote) -> QuoteExpired:
    priced = price_for(
        decision.account,
        catalogue,
        decision.index,
        quote.action,
        quote.meters,
        quote.dimensions,
        decision.at,
    )
    today = format_credits(priced.price.amount_micros if priced else 0)
    return QuoteExpired(
        f"quote {quote.quote_id} of {format_credits(quote.total_micros)} credits expired at "
        f"{instant_text(quote.expires_at)}: today's price is {today}",
        quote_id=quote.quote_id,
        price_today=today,
    )
