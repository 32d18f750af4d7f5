"""Where credentials become principals: keys, tokens, how often each may ask, and the trace that people of the house leave."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeGuard

from anyio import to_thread
from fastapi import Request

from api.errors import TooManyRequests
from api.fields import ID_PATTERN
from api.keys import PREFIX, KeyRing
from api.principals import Principal
from api.rates import Rates
from api.tokens import TokenReader
from domain.commands import RecordAccess
from domain.errors import UnknownTeam
from domain.ledger import Caller, Ledger

_TRACES_MAX = 10_000


class Gate:
    """Tells who a credential speaks for, counts what they ask, and notes when somebody of the house reads a team."""

    def __init__(
        self,
        ring: KeyRing,
        ledger: Ledger,
        *,
        tokens: TokenReader | None = None,
        rates: Rates | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.ring = ring
        self._ledger = ledger
        self._tokens = tokens
        self._rates = rates
        self._now = now
        self._traced: OrderedDict[tuple[str, str, str, datetime], None] = OrderedDict()

    def forget(self) -> None:
        """Nothing is remembered: the next look at a team leaves a trace again, or finds it left."""
        self._traced.clear()
        self.ring.forget()

    async def principal(self, authorization: str, team_id: str | None) -> Principal | None:
        """Who the header speaks for, towards a team where the path names one; None when it is not believed.

        A token's subject is somebody in the teams that have them as a member; towards any other team they are nobody's member,
        and the guard answers as if it did not exist.
        """
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer":
            return None
        if text.startswith(PREFIX):
            return await self.ring.principal(text)
        member = self._tokens.subject(text) if self._tokens else None
        if member is None:
            return None
        found = await self.ring.member(team_id, member) if _may_be_a_team(team_id) else None
        # Where no team is asked about, or none of theirs, they are as low as anybody who signed in.
        return found or Principal(f"member:{member}", "viewer", None, None, member)

    def spend(self, principal: Principal, request: Request) -> None:
        """One more request of the principal. Raises: TooManyRequests."""
        if self._rates is None:
            return
        left = self._rates.spend(f"{principal.team_id or ''}/{principal.name}")
        request.scope["coffer.rate"] = left
        if left.wait_seconds:
            raise TooManyRequests(
                f"{principal.name!r} may ask {left.policy.per_second:g} times a second, {left.policy.burst} at once: "
                f"wait {left.wait_seconds} s",
                wait_seconds=left.wait_seconds,
            )

    async def leave_trace(self, principal: Principal, operation: str, team_id: str, request_id: str) -> None:
        """The team's stream says that the principal reads this in this hour; before anything is read, and once.

        What was noted is remembered here, so only the first read of an hour writes; another process that does not remember
        repeats the command under the same key, which changes nothing.
        """
        hour = self._now().replace(minute=0, second=0, microsecond=0)
        trace = (principal.name, team_id, operation, hour)
        if trace in self._traced or not _may_be_a_team(team_id):
            return
        command = RecordAccess(team_id=team_id, operation=operation, hour=hour)
        key = f"access {operation} {hour:%Y-%m-%dT%H}"
        try:
            await to_thread.run_sync(
                self._ledger.execute, command, Caller(principal.name, principal.role, request_id), key
            )
        except UnknownTeam:
            return  # The route says so.
        self._traced[trace] = None
        while len(self._traced) > _TRACES_MAX:
            self._traced.popitem(last=False)


def _may_be_a_team(team_id: str | None) -> TypeGuard[str]:
    """Whether a team could be called so. The door is before the route's own checks, and no other text goes to the database."""
    return team_id is not None and re.fullmatch(ID_PATTERN, team_id) is not None
