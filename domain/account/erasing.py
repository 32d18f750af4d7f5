"""What a member wrote is erased beside the log; the account's stream says that it was, and how much."""

from __future__ import annotations

from domain.account.decision import Decision
from domain.account.events import ContextErased


def record_erasure(decision: Decision, member: str, contexts: int, work_texts: int) -> None:
    """It is on file that so many contexts and texts of the member are gone; also on a closed account, and also for none."""
    decision.record(
        ContextErased(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            member=member,
            contexts=contexts,
            work_texts=work_texts,
        )
    )
