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


class AccountSuspended(Refused):
    """The account is suspended: it takes no new request to spend."""

    code = "account_suspended"


class AccountNotSuspended(Refused):
    """Only a suspended account can be resumed."""

    code = "account_not_suspended"


class UnknownHold(Unknown):
    """The team has no such hold."""

    code = "unknown_hold"


class HoldNotOpen(Refused):
    """The hold has ended; it resolves once."""

    code = "hold_not_open"


class HoldTermsRefused(Refused):
    """A hold lasts at most 24 hours from its making or an extension, seven days in all."""

    code = "hold_terms_refused"


class TooManyHolds(Refused):
    """The team already has as many open holds as the small state allows."""

    code = "too_many_holds"


class CaptureExceedsHold(Refused):
    """More was to be captured than the hold has left, and the action's policy rejects that."""

    code = "capture_exceeds_hold"


class InsufficientCredits(Refused):
    """What is available does not cover the request."""

    code = "insufficient_credits"


class LimitExceeded(Refused):
    """A hard limit has no room for the request; the detail names its window, what is used, held, asked for and the cap."""

    code = "limit_exceeded"


class UnknownLimit(Unknown):
    """The team has no such limit."""

    code = "unknown_limit"


class LimitTermsRefused(Refused):
    """A limit keeps its scope and window; its thresholds are percentages from 1 to 1 000 in rising order."""

    code = "limit_terms_refused"


class TooManyLimits(Refused):
    """The team already has as many limits as the small state allows."""

    code = "too_many_limits"


class UnknownPlan(Unknown):
    """No version of the plan is published."""

    code = "unknown_plan"


class PlanRefused(Refused):
    """A plan failed its check when published; each finding names the place and what would be right."""

    code = "plan_refused"


class PlanChangeRefused(Refused):
    """A downgrade takes effect at the turn; the plan that the team has already is no change."""

    code = "plan_change_refused"


class ZoneChangeRefused(Refused):
    """The zone is the team's already, or a change is scheduled for the same turn."""

    code = "zone_change_refused"


class UnknownLot(Unknown):
    """The team has no such open lot."""

    code = "unknown_lot"


class NothingToVoid(Refused):
    """Only what was granted can be voided, once."""

    code = "nothing_to_void"


class AdjustmentRefused(Refused):
    """A manual adjustment lowers at most what unscoped lots have available, and above the cap needs a second person."""

    code = "adjustment_refused"


class UnknownAdjustment(Unknown):
    """The team has no such proposed adjustment."""

    code = "unknown_adjustment"


class SecondPersonNeeded(Refused):
    """Whoever proposed an adjustment may not approve it."""

    code = "second_person_needed"


class UnknownPayment(Unknown):
    """The team has no top-up under this payment reference."""

    code = "unknown_payment"


class PaymentNotSettled(Refused):
    """No credit came from the payment, so it cannot be taken back."""

    code = "payment_not_settled"


class PaymentRefused(Refused):
    """The payment is on file in a state that does not allow this step, or with other terms."""

    code = "payment_refused"


class ChargebackRefused(Refused):
    """A chargeback is opened once for a payment, and won or lost once while it is open."""

    code = "chargeback_refused"


class AutoTopUpRefused(Refused):
    """Automatic top-up needs an amount, a threshold, a price and a money cap that holds at least one request."""

    code = "auto_top_up_refused"


class UnknownDispute(Unknown):
    """The team has no such dispute."""

    code = "unknown_dispute"


class DisputeRefused(Refused):
    """A charge is in one open dispute at a time, and a dispute is decided once."""

    code = "dispute_refused"


class TooManyDisputes(Refused):
    """The team already has as many open disputes as the small state allows."""

    code = "too_many_disputes"


class QuoteExpired(Refused):
    """The quote is past its expiry; the detail gives today's price."""

    code = "quote_expired"


class QuoteUsed(Refused):
    """A hold has named the quote already."""

    code = "quote_used"


class QuoteIsWithdrawn(Refused):
    """The quote was withdrawn."""

    code = "quote_withdrawn"


class QuoteNotOurs(Malformed):
    """The token is no quote of this ledger for this team."""

    code = "quote_not_ours"


class PeriodRefused(Refused):
    """A period of the books is closed once, after its end, the oldest first."""

    code = "period_refused"


class UnknownInvoice(Unknown):
    """The team has no invoice of this number."""

    code = "unknown_invoice"


class NothingToInvoice(Refused):
    """The period does not wait for an invoice, or an older one does."""

    code = "nothing_to_invoice"


class InvoiceRefused(Refused):
    """The invoice is in a state that does not allow this step, or what it needs is missing."""

    code = "invoice_refused"


class InvoiceIsVoid(Refused):
    """The invoice counts no more, so nothing is paid or given back of it."""

    code = "invoice_void"


class OtherCurrency(Refused):
    """The invoice asks for no money in this currency."""

    code = "other_currency"


class CreditNoteRefused(Refused):
    """A credit note has lines of money, and never gives back more than its invoice less earlier notes."""

    code = "credit_note_refused"


class UnknownIssuer(Unknown):
    """The issuer has no details yet, so nothing can be issued in its name."""

    code = "unknown_issuer"


class UnknownMember(Unknown):
    """The team has no such member."""

    code = "unknown_member"


class MemberRefused(Refused):
    """A member joins once, and a team is never without an owner."""

    code = "member_refused"


class NotAllowed(Refused):
    """The credential is good, its role may not do this, or the key is not for this."""

    code = "not_allowed"


class RoleTooLow(Refused):
    """The member's role in the team does not go so far: nobody gives or takes what is above their own."""

    code = "role_too_low"


class UnknownKey(Unknown):
    """The team has no such key, or it was revoked."""

    code = "unknown_key"


class KeyRefused(Refused):
    """A member has at most two live keys, which end in the future."""

    code = "key_refused"


class UnknownAct(Unknown):
    """The team has no such act that waits for a second person."""

    code = "unknown_act"


class ActRefused(Refused):
    """What waits for a second person waits seven days at most, and only so many do."""

    code = "act_refused"


class VersionPassed(Conflict):
    """The version that the command is for, by ``If-Match``, is not the one on file."""

    code = "version_passed"


class UnknownPaymentMethod(Unknown):
    """The team has no payment method."""

    code = "unknown_payment_method"


class CardNumberRefused(Malformed):
    """A payment method is a provider's token; a card's number is never accepted."""

    code = "card_number_refused"


class UnknownWork(Unknown):
    """The team has no such work."""

    code = "unknown_work"


class WorkRefused(Refused):
    """A work is started once, has a bounded number of steps, and takes none once its result is saved."""

    code = "work_refused"


class IdempotencyKeyReused(Conflict):
    """The key was used before with another body."""

    code = "idempotency_key_reused"


class PaymentReferenceUsed(Conflict):
    """The payment reference already bought credits, or paid an invoice."""

    code = "payment_reference_used"


class RateCardRefused(Refused):
    """A rate card failed its check when published; each finding names the line and what would be right."""

    code = "rate_card_refused"


class UnknownEventShape(LedgerError):
    """A stored event's topic or shape is newer than this code: its team stops, nobody guesses."""

    code = "unknown_event_shape"


class Busy(Exception):
    """The work could not be done within its bound of time; nothing was written and a retry is safe."""
