"""What an issuer is now: its details, and how far it has counted in a year."""

from __future__ import annotations

from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from domain.issuer.details import IssuerDetails
from domain.issuer.events import DocumentKind

ISSUER_SCHEMA = 1
"""Counts up when the state of the same events would be stored otherwise; heads of another schema are folded again."""

ISSUER_NAMESPACE = uuid5(NAMESPACE_URL, "urn:coffer:issuer")


def issuer_stream_id(issuer_id: str) -> UUID:
    """The id of the stream of an issuer's details: ``uuid5(ISSUER_NAMESPACE, issuer id)``, fixed for ever."""
    return uuid5(ISSUER_NAMESPACE, issuer_id)


def series_stream_id(issuer_id: str, year: int) -> UUID:
    """The id of the stream of an issuer's numbers of a year: ``uuid5(ISSUER_NAMESPACE, "<issuer id> <year>")``, for ever."""
    return uuid5(ISSUER_NAMESPACE, f"{issuer_id} {year}")


def number_claim(kind: DocumentKind, team_id: str, subject: str) -> str:
    """The identity of a document that has a number, 32 hex digits: whoever draws for it again gets the number it has."""
    return uuid5(ISSUER_NAMESPACE, f"{kind} {team_id} {subject}").hex


class Issuer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One issuer's details as of ``version``, 0 before its first event."""

    issuer_id: str
    version: int = 0
    recorded_at: datetime | None = None
    details: IssuerDetails | None = None


class Series(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An issuer's numbers of one year: the last one given out is ``version``."""

    issuer_id: str
    year: int
    version: int = 0
    recorded_at: datetime | None = None
