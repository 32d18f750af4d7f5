"""Every way the ledger says no, as one tree: the class decides what happens next.

    LedgerError       code, what was asked, what would be right
      Malformed       the input cannot be read           HTTP 422   stream: rejected, dead letter
      Refused         a rule said no                     HTTP 409   nothing changed
      Unknown         team, charge, rate                 HTTP 404   stream: parked, dead letter
      Conflict        known identity, other content      HTTP 409   nothing changed
    Busy              try again later                    HTTP 503   not a LedgerError: nobody said no

Anything else is a bug: the process stops, nothing is skipped in silence.
"""

from __future__ import annotations


class LedgerError(Exception):
    """A definite no. ``code`` is stable and documented; ``detail`` says what was asked and what would be right."""

    code = "ledger_error"

    def __init__(self, detail: str, **asked: str | int | None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.asked = {name: value for name, value in asked.items() if value is not None}


class Malformed(LedgerError):
    """The input cannot be read as what it claims to be; ``field`` is in ``asked``."""

    code = "malformed"


class Refused(LedgerError):
    """A rule said no; the account is as it was."""

    code = "refused"


class Unknown(LedgerError):
    """What was named does not exist."""

    code = "unknown"


class Conflict(LedgerError):
    """The identity is known with other content; nothing was written."""

    code = "conflict"


class UnknownTeam(Unknown):
    """No account was opened for the team."""

    code = "unknown_team"


class UnknownCharge(Unknown):
    """The team has no such charge."""

    code = "unknown_charge"


class UnknownAction(Unknown):
    """No rate card in force at the time lists the action."""

    code = "unknown_action"


class UnknownPrice(Unknown):
    """A rate card lists the action, but cannot price this record (a dimension value without a multiplier)."""

    code = "unknown_price"


class PriceOutOfRange(Refused):
    """The exact price is beyond 2^62 micro-credits."""

    code = "price_out_of_range"


class AccountAlreadyOpen(Conflict):
    """The team's account was opened before, on other terms or under another key."""

    code = "account_already_open"


class AccountClosed(Refused):
    """The account is closed: it takes no command and no usage."""

    code = "account_closed"


class RefundExceedsCharge(Refused):
    """More was asked back than is left of the charge."""

    code = "refund_exceeds_charge"


class NothingToRefund(Refused):
    """The usage record named was never charged."""

    code = "nothing_to_refund"


class LotTermsRefused(Refused):
    """A lot may not be issued expired, or effective in the past."""

    code = "lot_terms_refused"


class AmountOutOfRange(Refused):
    """An amount, or what it would make the account hold, is beyond 2^62 micro-credits."""

    code = "amount_out_of_range"


class TooManyCorrectionsAwaited(Refused):
    """The team already awaits 1 000 records that corrections named before they arrived."""

    code = "too_many_corrections_awaited"


class TooManyLots(Refused):
    """The team already holds as many open lots as the small state allows."""

    code = "too_many_lots"


class IdempotencyKeyReused(Conflict):
    """The key was used before with another body."""

    code = "idempotency_key_reused"


class PaymentReferenceUsed(Conflict):
    """The payment reference already bought credits."""

    code = "payment_reference_used"


class RateCardRefused(Refused):
    """A rate card failed its check when published; each finding names the line and what would be right."""

    code = "rate_card_refused"


class UnknownEventShape(LedgerError):
    """A stored event's topic or shape is newer than this code: its team stops, nobody guesses."""

    code = "unknown_event_shape"


class Busy(Exception):
    """The work could not be done within its bound of time; nothing was written and a retry is safe."""
