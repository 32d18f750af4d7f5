"""Gives quotes: the price of a use now, bound by signature to its card and total; nothing is changed by it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec

from api.answers import CardAnswer
from api.answers_holds import QuoteAnswer
from domain.account.charging import PricedUsage
from domain.errors import UnknownPrice
from domain.quotes import Quote, sign_quote


def quote_of(
    priced: PricedUsage | None,
    team_id: str,
    action: str,
    meters: Mapping[str, str],
    dimensions: Mapping[str, str],
    project: str | None,
    at: datetime,
    lasts_seconds: int,
) -> Quote:
    """The quote of a use as it is priced at ``at``, honoured for so long. Raises: UnknownPrice when there is nothing to price."""
    if priced is None:
        raise UnknownPrice(
            f"there is nothing to price: none of these meters has a price for {action!r}, or all are zero",
            action=action,
        )
    return Quote(
        quote_id=f"quote-{uuid4().hex}",
        team_id=team_id,
        action=action,
        meters=dict(meters),
        dimensions=dict(dimensions),
        project=project,
        card=priced.card,
        computation=msgspec.Raw(priced.price.computation),
        total_micros=priced.price.amount_micros,
        issued_at=at,
        expires_at=at + timedelta(seconds=lasts_seconds),
    )


def quote_answer(quote: Quote, key: bytes, place: dict[str, Any]) -> QuoteAnswer:
    """The answer that carries the quote's token. Raises: Malformed for a use too large for a token."""
    return QuoteAnswer(
        **place,
        quote_id=quote.quote_id,
        token=sign_quote(quote, key),
        action=quote.action,
        meters=quote.meters,
        dimensions=quote.dimensions,
        project=quote.project,
        total=quote.total_micros,
        card=CardAnswer(card_id=quote.card.card_id, version=quote.card.version, digest=quote.card.digest),
        computation=msgspec.json.decode(quote.computation, type=dict[str, Any]),
        expires_at=quote.expires_at,
    )
