"""What an event claims for ever, so that no other event of its shard may: its charge, its due fact, its record of the stream."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from domain.account.events import ACCOUNT_EVENTS, CHARGES, AccountEvent, DueEvent, UsageWaived


def _claims() -> dict[type[AccountEvent], Callable[[AccountEvent], str | None]]:
    """How each class of event that claims an identity names it."""
    claims: dict[type[AccountEvent], Callable[[AccountEvent], str | None]] = {}
    for each in ACCOUNT_EVENTS:
        if each in CHARGES or each is UsageWaived:
            claims[each] = attrgetter("charge_id")
        elif issubclass(each, DueEvent):
            claims[each] = attrgetter("due_id")
        elif "record_key" in each.__struct_fields__:
            claims[each] = attrgetter("record_key")
    return claims


# Made once: every event of a batch is asked.
_CLAIMS = _claims()


def claim_of(event: AccountEvent) -> str | None:
    """The identity that the event claims for ever, as 32 hex digits; None for one that claims none.

    A charge or waiver claims its charge id, what time alone did its due id (none when a command did it), and what came by the
    payments stream its record's key.
    """
    claim = _CLAIMS.get(type(event))
    return None if claim is None else claim(event)
