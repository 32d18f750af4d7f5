"""What callers may ask of the ledger: one command, one account, one transaction, one answer for ever."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol, TypedDict
from uuid import uuid5

import msgspec

from domain.account.decision import Decision, account_id, copy_of
from domain.account.events import CostBasis, CreditsGranted, CreditsToppedUp, LotSource
from domain.account.funding import DEFAULT_PRIORITY, grant_credits, top_up_credits
from domain.account.index import AccountIndex
from domain.account.opening import close_account, open_account
from domain.account.refunding import refund_charge
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.errors import IdempotencyKeyReused, PaymentReferenceUsed, UnknownTeam

ATTEMPTS_MAX = 5
"""How often a command is tried when the outcome of its commit was not heard, before the caller is told to ask again."""


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """One request to change one team's account; its encoding is the body that an idempotency key binds."""

    team_id: str
    reason: str | None = None


class OpenAccount(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Open the team's account."""

    zone: str = "UTC"
    anchor_day: int = 1
    card_id: str = "standard"


class CloseAccount(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Close the team's account."""


class GrantCredits(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Give credits as a new lot."""

    amount_micros: int
    source: LotSource = "promotional"
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    action: str | None = None
    project: str | None = None


class TopUpCredits(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Sell credits as a new lot, under a payment reference that buys once."""

    amount_micros: int
    payment_reference: str
    cost_basis: CostBasis
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    action: str | None = None
    project: str | None = None


class RefundCharge(Command, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """Give a charge back, all that is left of it or an amount."""

    charge_id: str
    amount_micros: int | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command did: the version it made, the sums after it, and the ids it gave.

    ``is_replayed``: an earlier request did it. Left out where it is false, so never among the bytes on file.
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
    is_replayed: bool = False


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the principal of the credential, the role it acts in, and the request it belongs to."""

    principal: str
    role: str
    correlation_id: str | None = None


class OutcomeUnknown(Exception):
    """The reply to COMMIT was lost: the command may have happened; only reading back can tell."""


class AccountSession(Protocol):
    """One transaction on one account, its head row locked; committed on clean exit if something was saved."""

    account: TeamAccount | None
    now: datetime
    index: AccountIndex

    def answer_on_file(self, principal: str, key: str) -> tuple[bytes, bytes] | None:
        """Body digest and answer of the command that used the key, None for a new key."""

    def payment_on_file(self, reference: str) -> int | None:
        """The version at which the payment reference bought credits, None when it did not."""

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
        payment_reference: str | None = None,
    ) -> None:
        """Events, head, index, answer and payment reference will be durable together when the session ends."""


class LedgerStore(Protocol):
    """Opens sessions. Raises Busy when the head row stays locked beyond the bound, OutcomeUnknown when COMMIT went unheard."""

    def session(self, team_id: str) -> AbstractContextManager[AccountSession]:
        """A transaction on the team's account."""
        ...


class Ledger:
    """Decides commands: one key and body, one answer for ever; another body is refused; a refusal leaves nothing."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    def execute(self, command: Command, caller: Caller, idempotency_key: str) -> Answer:
        """The command has happened exactly once, now or earlier under this key.

        Raises: any Refused, Unknown, Conflict or Malformed of the rule it meets; IdempotencyKeyReused; Busy.
        """
        body_digest = hashlib.sha256(msgspec.json.encode(command)).digest()
        for attempt in range(ATTEMPTS_MAX):
            try:
                answer = self._try(command, caller, idempotency_key, body_digest)
            except OutcomeUnknown:
                # The next attempt reads the key back first, so what did happen is answered and not done again.
                if attempt == ATTEMPTS_MAX - 1:
                    raise
            else:
                # What an attempt of this request did, and a later one read back, is not replayed.
                return msgspec.structs.replace(answer, is_replayed=False) if attempt else answer
        raise AssertionError("unreachable")

    def _try(self, command: Command, caller: Caller, key: str, body_digest: bytes) -> Answer:
        with self._store.session(command.team_id) as session:
            on_file = session.answer_on_file(caller.principal, key)
            if on_file is not None:
                return _same_answer(on_file, body_digest, key)
            if session.account is None and not isinstance(command, OpenAccount):
                raise UnknownTeam(
                    f"team {command.team_id!r} has no account: open one first", team_id=command.team_id
                )
            expected_version = session.account.version if session.account else 0
            decision = Decision(
                copy_of(session.account) if session.account else None,
                session.now,
                Actor(caller.principal, caller.role),
                session.index,
                caller.correlation_id,
                command.reason,
            )
            ids = _decide(decision, command, session, caller.principal, key)
            account = decision.account
            answer = Answer(
                team_id=account.team_id,
                version=account.version,
                recorded_at=account.recorded_at,
                settled_micros=account.settled_micros,
                debt_micros=account.debt_micros,
                **ids,
            )
            session.save(
                account,
                decision,
                expected_version,
                principal=caller.principal,
                key=key,
                body_digest=body_digest,
                answer=msgspec.json.encode(answer),
                payment_reference=command.payment_reference if isinstance(command, TopUpCredits) else None,
            )
        return answer


def _same_answer(on_file: tuple[bytes, bytes], body_digest: bytes, key: str) -> Answer:
    digest, answer = on_file
    if digest != body_digest:
        raise IdempotencyKeyReused(
            f"idempotency key {key[:80]!r} was used before with another body: repeat that body, or choose a new key"
        )
    return msgspec.structs.replace(msgspec.json.decode(answer, type=Answer), is_replayed=True)


class _Given(TypedDict, total=False):
    """The ids and the amount that a command's answer adds."""

    amount_micros: int
    lot_id: str
    charge_id: str
    refund_id: str


def _decide(
    decision: Decision, command: Command, session: AccountSession, principal: str, key: str
) -> _Given:
    match command:
        case OpenAccount():
            open_account(decision, command.team_id, command.zone, command.anchor_day, command.card_id)
            return {}
        case CloseAccount():
            close_account(decision)
            return {}
        case GrantCredits():
            grant_credits(
                decision,
                command.amount_micros,
                source=command.source,
                effective_at=command.effective_at,
                expires_at=command.expires_at,
                priority=command.priority,
                action=command.action,
                project=command.project,
            )
            return _issued(decision)
        case TopUpCredits():
            bought_at = session.payment_on_file(command.payment_reference)
            if bought_at is not None:
                raise PaymentReferenceUsed(
                    f"payment reference {command.payment_reference!r} bought credits at version {bought_at} already",
                    payment_reference=command.payment_reference,
                )
            top_up_credits(
                decision,
                command.amount_micros,
                payment_reference=command.payment_reference,
                cost_basis=command.cost_basis,
                effective_at=command.effective_at,
                expires_at=command.expires_at,
                priority=command.priority,
                action=command.action,
                project=command.project,
            )
            return _issued(decision)
        case RefundCharge():
            refund_id = uuid5(account_id(command.team_id), f"refund {principal} {key}").hex
            amount = refund_charge(decision, command.charge_id, command.amount_micros, refund_id)
            return {"amount_micros": amount, "charge_id": command.charge_id, "refund_id": refund_id}
    raise AssertionError(f"no rule decides {type(command).__name__}")


def _issued(decision: Decision) -> _Given:
    issued = next(e for e in decision.events if isinstance(e, CreditsGranted | CreditsToppedUp))
    return {"amount_micros": issued.amount_micros, "lot_id": issued.lot.lot_id}
