"""Bodies about API keys of a team, and about what waits for a second person."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import Id, Reason, Sent, Time, instant
from api.roles import LINES
from domain.commands import ApproveAct, CreateKey, RevokeKey
from domain.errors import Malformed


class KeyBody(Sent):
    """A member has another key."""

    member: Annotated[Id | None, Field(description="Whose key it is; yours, when it is left out.")] = None
    expires_at: Annotated[Time | None, Field(description="Within 400 days; never, when it is left out.")] = (
        None
    )
    scopes: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z]{1,40}$")]] | None,
        Field(
            min_length=1,
            max_length=40,
            description="Lines of the table of roles that the key is for; all that the member's role may, when left out.",
            examples=[["balance", "spend"]],
        ),
    ] = None
    reason: Reason | None = None

    def command(self, team_id: str, asking: str | None) -> CreateKey:
        """The command that this body asks for. Raises: Malformed for an unknown scope, and when nobody says whose key it is."""
        member = self.member or asking
        if member is None:
            raise Malformed("member is missing: say whose key it is", field="member")
        unknown = [each for each in self.scopes or () if each not in LINES]
        if unknown:
            raise Malformed(
                f"scopes {unknown[0]!r}: one of {', '.join(LINES)} would be right", field="scopes"
            )
        return CreateKey(
            team_id=team_id,
            member=member,
            expires_at=instant(self.expires_at, "expires_at"),
            scopes=sorted(set(self.scopes)) if self.scopes is not None else None,
            reason=self.reason,
        )


class KeyRevocationBody(Sent):
    """A key opens nothing any more."""

    reason: Reason | None = None

    def command(self, team_id: str, key_id: str) -> RevokeKey:
        """The command that this body asks for."""
        return RevokeKey(team_id=team_id, key_id=key_id, reason=self.reason)


class ActApprovalBody(Sent):
    """Somebody else's act is approved."""

    reason: Reason | None = None

    def command(self, team_id: str, act_id: str) -> ApproveAct:
        """The command that this body asks for."""
        return ApproveAct(team_id=team_id, act_id=act_id, reason=self.reason)
