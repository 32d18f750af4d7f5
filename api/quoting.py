"""A quote as an answer: with its token, signed by the newest key."""

from __future__ import annotations

from typing import Any

import msgspec

from api.answers import CardAnswer
from api.answers_holds import QuoteAnswer
from domain.quotes import Quote, sign_quote


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
