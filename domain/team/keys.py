"""Which keys a team's members have, and who may give and take them."""

from __future__ import annotations

from datetime import datetime, timedelta

from domain.errors import KeyRefused, UnknownKey, UnknownMember
from domain.team.card_numbers import refuse_card_numbers
from domain.team.decision import TeamDecision, said
from domain.team.events import KeyCreated, KeyRevoked
from domain.team.ranks import require_rank
from domain.times import instant_text

LIVE_KEYS_MAX = 2
"""A member's live keys, so that one can be rotated while the other works."""

KEY_DAYS_MAX = 400
KEY_ID_LENGTH = 12
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def key_id_of(made: str) -> str:
    """A key's id from the 32 hex digits that its command fixed: the same command, the same key. 62 bits of them count."""
    number, digits = int(made, 16), ""
    for _ in range(KEY_ID_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits += _DIGITS[digit]
    return digits


def create_key(
    decision: TeamDecision, key_id: str, member: str, expires_at: datetime | None, scopes: list[str] | None
) -> None:
    """The member has another key; keys of the member that have expired are gone.

    Raises: UnknownMember; RoleTooLow for a key of a member above one's own role; KeyRefused.
    """
    refuse_card_numbers(member=member, reason=decision.reason)
    found = decision.team.members.get(member)
    if found is None:
        raise UnknownMember(
            f"team {decision.team.team_id!r} has no member {member[:80]!r}", member=member[:80]
        )
    require_rank(decision, found.role)
    if expires_at is not None and not decision.at < expires_at <= decision.at + timedelta(days=KEY_DAYS_MAX):
        raise KeyRefused(
            f"expires_at {instant_text(expires_at)}: within {KEY_DAYS_MAX} days from now, or none, would be right"
        )
    mine = {each: key for each, key in decision.team.keys.items() if key.member == member}
    for each, key in mine.items():
        if not key.is_live(decision.at):
            decision.record(KeyRevoked(**said(decision), key_id=each, member=member))
    live = [each for each, key in mine.items() if key.is_live(decision.at)]
    if len(live) >= LIVE_KEYS_MAX:
        raise KeyRefused(f"{member!r} has {LIVE_KEYS_MAX} live keys: revoke one of {', '.join(live)} first")
    decision.record(
        KeyCreated(**said(decision), key_id=key_id, member=member, expires_at=expires_at, scopes=scopes)
    )


def revoke_key(decision: TeamDecision, key_id: str) -> None:
    """The key opens nothing any more. Raises: UnknownKey; RoleTooLow for a key of a member above one's own role."""
    refuse_card_numbers(key_id=key_id, reason=decision.reason)
    key = decision.team.keys.get(key_id)
    if key is None:
        raise UnknownKey(
            f"team {decision.team.team_id!r} has no live key {key_id[:40]!r}", key_id=key_id[:40]
        )
    require_rank(decision, decision.team.members[key.member].role)
    decision.record(KeyRevoked(**said(decision), key_id=key_id, member=key.member))


def revoke_keys_of(decision: TeamDecision, member: str) -> None:
    """Whoever is about to leave has no key left."""
    for key_id, key in list(decision.team.keys.items()):
        if key.member == member:
            decision.record(KeyRevoked(**said(decision), key_id=key_id, member=member))
