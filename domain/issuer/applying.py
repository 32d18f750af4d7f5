"""How each event changes the issuer or its series: applying never refuses, it asserts what deciding promised."""

from __future__ import annotations

from collections.abc import Iterable

from domain.issuer.events import InvoiceNumbered, IssuerDetailsChanged, IssuerEvent
from domain.issuer.state import Issuer, Series


def apply(issuer: Issuer, event: IssuerEvent) -> None:
    """The issuer is as the event says, one version on."""
    assert isinstance(event, IssuerDetailsChanged), (
        f"{type(event).__name__} is no event of an issuer's details"
    )
    _follow(issuer, event)
    assert event.details.issuer_id == issuer.issuer_id, "the details are another issuer's"
    issuer.details = event.details


def count(series: Series, event: IssuerEvent) -> None:
    """The series has counted the event: its number is its version."""
    assert isinstance(event, InvoiceNumbered), f"{type(event).__name__} has no number"
    _follow(series, event)
    said = (event.year, event.number)
    assert said == (series.year, series.version), (
        f"number {said} at version {series.version} of {series.year}"
    )


def fold(issuer: Issuer, events: Iterable[IssuerEvent]) -> Issuer:
    """The same issuer after the events."""
    for event in events:
        apply(issuer, event)
    return issuer


def _follow(state: Issuer | Series, event: IssuerEvent) -> None:
    assert event.issuer_id == state.issuer_id, (
        f"an event of issuer {event.issuer_id!r} in a stream of {state.issuer_id!r}"
    )
    before = state.recorded_at
    assert before is None or event.recorded_at >= before, "recorded_at never decreases within a stream"
    state.version += 1
    state.recorded_at = event.recorded_at
