"""What every error of the ledger and of this door becomes: one table from class to HTTP status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from domain import errors
from domain.errors import Conflict, LedgerError, Malformed, Refused, Unknown
from domain.ledger import OutcomeUnknown

TYPE_PREFIX = "urn:coffer:problem:"
RETRY_AFTER_SECONDS = 1


class RequestError(LedgerError):
    """The request never reached a rule of the ledger."""

    code = "request_refused"


class NoCredential(RequestError):
    """No credential came with the request, or one that is not known, expired or revoked."""

    code = "no_valid_key"


class IdempotencyKeyMissing(RequestError):
    """A command came without the key that makes it happen once."""

    code = "idempotency_key_missing"


class CursorRefused(RequestError):
    """The cursor was not made by this ledger for this list."""

    code = "cursor_refused"


class BodyTooLarge(RequestError):
    """The body is larger than any command needs."""

    code = "body_too_large"


class HeadersTooLarge(RequestError):
    """More or longer headers than any request needs."""

    code = "headers_too_large"


class BodyEncodingRefused(RequestError):
    """The body is compressed; bodies are small and read as they are."""

    code = "body_encoding_refused"


class RequestTooSlow(RequestError):
    """The body did not arrive within its bound of time."""

    code = "request_too_slow"


class NotHere(RequestError):
    """No route has this path."""

    code = "no_such_path"


class MethodRefused(RequestError):
    """The path exists, the method does not."""

    code = "method_not_allowed"


class VersionNotReached(RequestError):
    """The version asked for by ``min_version`` is not there yet."""

    code = "version_not_reached"


class UnknownRateCard(Unknown):
    """No such version of a rate card was published."""

    code = "unknown_rate_card"


class UnknownSpendingPlan(Unknown):
    """The team has saved no such spending plan of late."""

    code = "unknown_spending_plan"


class UnknownDenial(Unknown):
    """The team has no denial at that version, or not yet at the moment asked for."""

    code = "unknown_denial"


class UnknownInvoiceLine(Unknown):
    """The document has no line of that number."""

    code = "unknown_invoice_line"


class EventsArchived(Refused):
    """Events that the answer needs are in an archive; the detail names its manifest and the command that restores them."""

    code = "events_archived"


class TooManyRequests(RequestError):
    """The principal asks more often than it may; ``Retry-After`` says when again."""

    code = "too_many_requests"


class NotReady(RequestError):
    """A part that every answer needs is away."""

    code = "not_ready"


class Answered(NamedTuple):
    """How a class of error is answered: its status, and a title that is the same each time."""

    status: int
    title: str


STATUS: dict[type[Exception], Answered] = {
    LedgerError: Answered(500, "The ledger could not answer"),
    Malformed: Answered(422, "The request cannot be read"),
    Refused: Answered(409, "A rule said no"),
    Unknown: Answered(404, "Not found"),
    Conflict: Answered(409, "Known with other content"),
    errors.UnknownTeam: Answered(404, "The team has no account"),
    errors.UnknownCharge: Answered(404, "The team has no such charge"),
    errors.UnknownAction: Answered(404, "The action has no price"),
    errors.UnknownPrice: Answered(404, "The price cannot be told"),
    errors.PriceOutOfRange: Answered(409, "The price is out of range"),
    errors.AccountAlreadyOpen: Answered(409, "The account is open already"),
    errors.AccountClosed: Answered(409, "The account is closed"),
    errors.RefundExceedsCharge: Answered(409, "The refund exceeds the charge"),
    errors.NothingToRefund: Answered(409, "Nothing was charged"),
    errors.LotTermsRefused: Answered(409, "No lot is issued on these terms"),
    errors.AmountOutOfRange: Answered(409, "The amount is out of range"),
    errors.TooManyCorrectionsAwaited: Answered(409, "Too many corrections are awaited"),
    errors.TooManyLots: Answered(409, "The account holds too many lots"),
    errors.AccountSuspended: Answered(409, "The account is suspended"),
    errors.AccountNotSuspended: Answered(409, "The account is not suspended"),
    errors.UnknownHold: Answered(404, "The team has no such hold"),
    errors.HoldNotOpen: Answered(409, "The hold has ended"),
    errors.HoldTermsRefused: Answered(409, "No hold lasts so long"),
    errors.TooManyHolds: Answered(409, "The account has too many open holds"),
    errors.CaptureExceedsHold: Answered(409, "The capture exceeds the hold"),
    errors.InsufficientCredits: Answered(409, "The credits do not cover it"),
    errors.LimitExceeded: Answered(409, "A hard limit has no room"),
    errors.UnknownLimit: Answered(404, "The team has no such limit"),
    errors.LimitTermsRefused: Answered(409, "No limit has these terms"),
    errors.TooManyLimits: Answered(409, "The account has too many limits"),
    errors.UnknownPlan: Answered(404, "No such plan"),
    errors.PlanRefused: Answered(409, "The plan failed its check"),
    errors.PlanChangeRefused: Answered(409, "The plan cannot change like that"),
    errors.ZoneChangeRefused: Answered(409, "The zone cannot change like that"),
    errors.UnknownLot: Answered(404, "The team has no such lot"),
    errors.NothingToVoid: Answered(409, "There is nothing to void"),
    errors.AdjustmentRefused: Answered(409, "The balance cannot be adjusted like that"),
    errors.UnknownAdjustment: Answered(404, "The team has no such adjustment"),
    errors.SecondPersonNeeded: Answered(409, "A second person is needed"),
    errors.UnknownPayment: Answered(404, "The team has no such payment"),
    errors.PaymentNotSettled: Answered(409, "The payment is not settled"),
    errors.PaymentRefused: Answered(409, "The payment does not allow this step"),
    errors.ChargebackRefused: Answered(409, "The chargeback does not allow this step"),
    errors.AutoTopUpRefused: Answered(409, "Automatic top-up cannot be like that"),
    errors.UnknownDispute: Answered(404, "The team has no such dispute"),
    errors.DisputeRefused: Answered(409, "The dispute does not allow this step"),
    errors.TooManyDisputes: Answered(409, "The account has too many open disputes"),
    errors.QuoteExpired: Answered(409, "The quote has expired"),
    errors.QuoteUsed: Answered(409, "The quote was used"),
    errors.QuoteIsWithdrawn: Answered(409, "The quote was withdrawn"),
    errors.QuoteNotOurs: Answered(422, "The token is no quote of this ledger for this team"),
    errors.PeriodRefused: Answered(409, "The period cannot be closed like that"),
    errors.UnknownInvoice: Answered(404, "The team has no such invoice"),
    errors.NothingToInvoice: Answered(409, "There is nothing to invoice"),
    errors.InvoiceRefused: Answered(409, "The invoice does not allow this step"),
    errors.InvoiceIsVoid: Answered(409, "The invoice is void"),
    errors.OtherCurrency: Answered(409, "The invoice asks for no money in this currency"),
    errors.CreditNoteRefused: Answered(409, "The credit note cannot be like that"),
    errors.UnknownIssuer: Answered(404, "The issuer has no details yet"),
    errors.UnknownWork: Answered(404, "The team has no such work"),
    errors.WorkRefused: Answered(409, "The work cannot go on like that"),
    errors.UnknownMember: Answered(404, "The team has no such member"),
    errors.NotAllowed: Answered(403, "The role may not do this"),
    errors.RoleTooLow: Answered(403, "The member's role does not go so far"),
    errors.UnknownKey: Answered(404, "The team has no such key"),
    errors.KeyRefused: Answered(409, "There cannot be such a key"),
    errors.UnknownAct: Answered(404, "The team has no such act that waits"),
    errors.ActRefused: Answered(409, "It cannot be proposed or approved like that"),
    errors.VersionPassed: Answered(412, "The version is another one"),
    errors.UnknownPaymentMethod: Answered(404, "The team has no payment method"),
    errors.MemberRefused: Answered(409, "The team cannot change like that"),
    errors.CardNumberRefused: Answered(422, "A card number is never accepted"),
    errors.IdempotencyKeyReused: Answered(409, "The idempotency key was used with another body"),
    errors.PaymentReferenceUsed: Answered(409, "The payment reference was used"),
    errors.RateCardRefused: Answered(409, "The rate card failed its check"),
    errors.UnknownEventShape: Answered(500, "The account needs a newer version of the ledger"),
    RequestError: Answered(400, "The request was refused"),
    NoCredential: Answered(401, "A valid credential is needed"),
    TooManyRequests: Answered(429, "Too many requests"),
    IdempotencyKeyMissing: Answered(400, "An idempotency key is needed"),
    CursorRefused: Answered(400, "The cursor is not one of this list"),
    BodyTooLarge: Answered(413, "The body is too large"),
    HeadersTooLarge: Answered(431, "The headers are too large"),
    BodyEncodingRefused: Answered(415, "The body may not be compressed"),
    RequestTooSlow: Answered(408, "The request took too long to arrive"),
    NotHere: Answered(404, "No such path"),
    MethodRefused: Answered(405, "The path has no such method"),
    VersionNotReached: Answered(409, "The version is not there yet"),
    UnknownRateCard: Answered(404, "No such rate card"),
    UnknownSpendingPlan: Answered(404, "No such spending plan"),
    UnknownDenial: Answered(404, "No such denial"),
    UnknownInvoiceLine: Answered(404, "The document has no such line"),
    EventsArchived: Answered(409, "The events are archived"),
    NotReady: Answered(503, "Not ready"),
    errors.Busy: Answered(503, "Try again"),
    OutcomeUnknown: Answered(503, "The outcome is not known yet: repeat the request under the same key"),
}
"""Every class of error has its own line; a test walks the tree."""


def answered(error: Exception) -> Answered:
    """The line of the error's class, or of the nearest class above it."""
    return next(STATUS[each] for each in type(error).__mro__ if each in STATUS)


def code_of(error: Exception) -> str:
    """The stable code of the error."""
    if isinstance(error, LedgerError):
        return error.code
    return "busy" if isinstance(error, errors.Busy) else "outcome_unknown"


def every_error(root: type[LedgerError] = LedgerError) -> Iterator[type[LedgerError]]:
    """The class and all below it."""
    yield root
    for below in root.__subclasses__():
        yield from every_error(below)
