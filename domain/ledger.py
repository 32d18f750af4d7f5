"""The ledger's door for commands: one command, one team, one transaction, one answer for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.index import AccountIndex, IndexOverlay
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.asking import (
    DECIDERS,
    EVERY_HOLD,
    Asked,
    Given,
    Papers,
    Reach,
    asked_amount,
    needs_another,
    propose,
)
from domain.catalogue import Catalogue
from domain.commands import Command, OpenAccount, RecordAccess
from domain.errors import IdempotencyKeyReused, UnknownTeam, VersionPassed
from domain.handover import Signer
from domain.team.decision import TeamDecision
from domain.team.state import Team
from domain.work.decision import WorkDecision
from domain.work.state import Work

ATTEMPTS_MAX = 5
"""How often a command is tried when the outcome of its commit was not heard, before the caller is told to ask again."""


class DenialAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a hold was not given: the rule that left least room, in numbers. ``version`` is where the denial is on file."""

    rule: Literal["available", "limit"]
    limit_id: str | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    used_micros: int
    held_micros: int
    limit_micros: int
    requested_micros: int
    version: int


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command did: the version it made, the sums after it, and the ids it gave.

    ``outcome``: a hold is "held" or "denied", an adjustment "applied" or "proposed", a check "passed" or "failed", what waits
    for a second person "proposed". ``is_replayed``: an earlier request did it. Left out where it is false, so never among the
    bytes on file.
    """

    team_id: str
    version: int
    recorded_at: datetime
    settled_micros: int
    debt_micros: int
    amount_micros: int | None = None
    lot_id: str | None = None
    charge_id: str | None = None
    refund_id: str | None = None
    outcome: Literal["held", "denied", "applied", "proposed", "passed", "failed"] | None = None
    hold_id: str | None = None
    hold_expires_at: datetime | None = None
    denial: DenialAnswer | None = None
    limit_id: str | None = None
    plan_id: str | None = None
    effective_at: datetime | None = None
    dispute_id: str | None = None
    adjustment_id: str | None = None
    act_id: str | None = None
    key_id: str | None = None
    payment_reference: str | None = None
    invoice: str | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    team_version: int | None = None
    work_id: str | None = None
    work_version: int | None = None
    step: str | None = None
    revision: int | None = None
    is_replayed: bool = False


class SecondPerson(msgspec.Struct, frozen=True):
    """When the caller may not act alone: above so many credits, or also where there is no amount."""

    operation: str
    above_micros: int
    without_amount: bool = False


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the principal of the credential, the role it acts in, the request it belongs to, and when it needs another.

    ``approves``: of which operations it may approve what somebody else proposed (None: of all); ``reach``: of which holds it
    disposes.
    """

    principal: str
    role: str
    correlation_id: str | None = None
    second_person: SecondPerson | None = None
    approves: frozenset[str] | None = None
    reach: Reach = EVERY_HOLD


class OnlyAt(msgspec.Struct, frozen=True):
    """The versions that a command is for: what the caller has seen, None for whatever there is."""

    version: int | None = None
    team_version: int | None = None


ANY_VERSION = OnlyAt()


class OutcomeUnknown(Exception):
    """The reply to COMMIT was lost: the command may have happened; only reading back can tell."""


class AccountSession(Papers, Protocol):
    """One transaction on one account, its head row locked; committed on clean exit if something was saved."""

    account: TeamAccount | None
    now: datetime
    index: AccountIndex

    def answer_on_file(self, principal: str, key: str) -> tuple[bytes, bytes] | None:
        """Body digest and answer of the command that used the key, None for a new key."""

    def load_team(self) -> Team:
        """The team's people and paperwork; an empty one when nothing was recorded yet."""

    def load_work(self, work_id: str) -> Work:
        """The team's work of that id; a new one when it was not started yet."""

    def save(
        self,
        account: TeamAccount,
        decision: Decision,
        expected_version: int,
        *,
        principal: str,
        key: str,
        body_digest: bytes,
        answer: bytes,
        team: TeamDecision | None = None,
        work: WorkDecision | None = None,
    ) -> None:
        """Events of all three, heads, index, texts and answer will be durable together when the session ends."""


class LedgerStore(Protocol):
    """Opens sessions. Raises Busy when the head row stays locked beyond the bound, OutcomeUnknown when COMMIT went unheard."""

    def session(self, team_id: str) -> AbstractContextManager[AccountSession]:
        """A transaction on the team's account."""
        ...


class Ledger:
    """Decides commands: one key and body, one answer for ever; another body is refused; a refusal leaves nothing.

    ``catalogue`` gives the catalogue as published by now; ``quote_keys`` are those that may have signed a quote, newest first.
    ``signer`` signs checks of handovers.
    """

    def __init__(
        self,
        store: LedgerStore,
        catalogue: Callable[[], Catalogue] = Catalogue,
        quote_keys: Sequence[bytes] = (),
        signer: Signer | None = None,
    ) -> None:
        self._store = store
        self._signer = signer
        self._catalogue = catalogue
        self._quote_keys = quote_keys

    def execute(
        self, command: Command, caller: Caller, idempotency_key: str, only_at: OnlyAt = ANY_VERSION
    ) -> Answer:
        """The command has happened exactly once, now or earlier under this key, or waits for a second person.

        Raises: any Refused, Unknown, Conflict or Malformed of the rule it meets; IdempotencyKeyReused; VersionPassed; Busy.
        """
        body_digest = hashlib.sha256(msgspec.json.encode(command)).digest()
        for attempt in range(ATTEMPTS_MAX):
            try:
                answer = self._try(command, caller, idempotency_key, body_digest, only_at)
            except OutcomeUnknown:
                # The next attempt reads the key back first, so what did happen is answered and not done again.
                if attempt == ATTEMPTS_MAX - 1:
                    raise
            else:
                # What an attempt of this request did, and a later one read back, is not replayed.
                return msgspec.structs.replace(answer, is_replayed=False) if attempt else answer
        raise AssertionError("unreachable")

    def _try(self, command: Command, caller: Caller, key: str, body_digest: bytes, only_at: OnlyAt) -> Answer:
        with self._store.session(command.team_id) as session:
            on_file = session.answer_on_file(caller.principal, key)
            if on_file is not None:
                return _same_answer(on_file, body_digest, key)
            expected_version = session.account.version if session.account else 0
            _check_versions(session, expected_version, only_at)
            asked, given = self._decided(session, command, caller, key)
            account, team, work = asked.decision.account, asked.team_decision, asked.work_decision
            answer = _answer(account, team, work, given)
            session.save(
                account,
                asked.decision,
                expected_version,
                principal=caller.principal,
                key=key,
                body_digest=body_digest,
                answer=msgspec.json.encode(answer),
                team=team if team is not None and team.events else None,
                work=work if work is not None and work.events else None,
            )
        return answer

    def _decided(
        self, session: AccountSession, command: Command, caller: Caller, key: str
    ) -> tuple[Asked, Given]:
        """The decision, or the proposal of it where the caller may not act alone."""
        second = caller.second_person
        waits = second is not None and needs_another(command, second.without_amount, session.load_team)
        asked = self._asked(session, command, caller, key)
        if second is not None and waits:
            return asked, propose(asked, command, second.operation, None)
        given = DECIDERS[type(command)](asked, command)
        amount = asked_amount(command, given)
        if second is None or amount is None or amount <= second.above_micros or "outcome" in given.fields:
            return asked, given
        # It could be done, but not by one person: nothing of it stands, in the index neither.
        asked = self._asked(session, command, caller, key)
        return asked, propose(asked, command, second.operation, amount)

    def _asked(self, session: AccountSession, command: Command, caller: Caller, key: str) -> Asked:
        if session.account is None and not isinstance(command, OpenAccount):
            raise UnknownTeam(
                f"team {command.team_id!r} has no account: open one first", team_id=command.team_id
            )
        decision = Decision(
            copy_of(session.account) if session.account else None,
            session.now,
            Actor(caller.principal, caller.role),
            IndexOverlay(session.index) if caller.second_person else session.index,
            caller.correlation_id,
            command.reason,
        )
        # A look at a team changes nothing of its account: what is due stays due.
        if session.account is not None and not isinstance(command, RecordAccess):
            pass_time(decision)
        asked = Asked(
            decision,
            caller.principal,
            key,
            self._catalogue,
            self._quote_keys,
            session.load_team,
            session,
            session.load_work,
            self._signer,
        )
        asked.approves = caller.approves
        asked.reach = caller.reach
        return asked


def _check_versions(session: AccountSession, version: int, only_at: OnlyAt) -> None:
    if only_at.version is not None and only_at.version != version:
        raise VersionPassed(
            f"the account is at version {version}, not {only_at.version}: read it again, then decide",
            version=version,
        )
    if only_at.team_version is not None:
        team_version = session.load_team().version
        if only_at.team_version != team_version:
            raise VersionPassed(
                f"the team is at version {team_version}, not {only_at.team_version}: read it again, then decide",
                team_version=team_version,
            )


def _answer(
    account: TeamAccount, team: TeamDecision | None, work: WorkDecision | None, given: Given
) -> Answer:
    denial = None
    if given.denied is not None:
        denied = given.denied.denial
        denial = DenialAnswer(
            rule=denied.rule,
            limit_id=denied.limit_id,
            window_start=denied.window_start,
            window_end=denied.window_end,
            used_micros=denied.used_micros,
            held_micros=denied.held_micros,
            limit_micros=denied.limit_micros,
            requested_micros=denied.requested_micros,
            version=given.denied.version,
        )
    return Answer(
        team_id=account.team_id,
        version=account.version,
        recorded_at=work.at if work else account.recorded_at if team is None else team.at,
        settled_micros=account.settled_micros,
        debt_micros=account.debt_micros,
        denial=denial,
        team_version=None if team is None else team.team.version,
        work_id=None if work is None else work.work.work_id,
        work_version=None if work is None else work.work.version,
        **given.ids(),
    )


def _same_answer(on_file: tuple[bytes, bytes], body_digest: bytes, key: str) -> Answer:
    digest, answer = on_file
    if digest != body_digest:
        raise IdempotencyKeyReused(
            f"idempotency key {key[:80]!r} was used before with another body: repeat that body, or choose a new key"
        )
    return msgspec.structs.replace(msgspec.json.decode(answer, type=Answer), is_replayed=True)
