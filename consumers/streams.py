"""Which rules settle the records of which topic."""

from __future__ import annotations

from functools import partial

from consumers.payments import PAYMENTS_ACTOR, decide_payments
from consumers.settling import Decide
from consumers.usage import STREAM_ACTOR, decide_usage
from domain.catalogue import Catalogue


def decider_of(topic: str, catalogue: Catalogue) -> Decide:
    """How the records of the topic are decided.

    A topic with ``payments`` among the parts of its name carries payments, any other usage.
    """
    if "payments" in topic.split("."):
        return partial(decide_payments, PAYMENTS_ACTOR)
    return partial(decide_usage, catalogue, STREAM_ACTOR)
