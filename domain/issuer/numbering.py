"""How a document gets its number: what whoever decides on an account may ask of its issuer, in the same transaction."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol

from domain.issuer.details import IssuerDetails
from domain.issuer.events import DocumentKind


class Drawn(NamedTuple):
    """A number, and the issuer as it is printed beside it. ``invoice`` is the number as it reads."""

    details: IssuerDetails
    issuer_version: int
    year: int
    number: int
    invoice: str


class Numbers(Protocol):
    """Draws numbers. Whoever asks last of all leaves no gap: what is refused afterwards keeps its number for ever."""

    def draw(self, issuer_id: str, kind: DocumentKind, team_id: str, subject: str, at: datetime) -> Drawn:
        """The number of the document that ``kind``, team and ``subject`` name: a new one, or the one it has already.

        Raises: UnknownIssuer when the issuer has no details yet.
        """
        ...
