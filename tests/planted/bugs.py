"""Bugs that others shipped, or that we could: each as one change of the product's text, and the tests that must turn red.

A change is made in a copy of the rooms while the tests run, never in the product. ``source`` names the public report that a
bug is modelled on; those without one are slips that the rules invite.
"""

from __future__ import annotations

from typing import NamedTuple

CASES = "tests/domain/test_worked_cases.py"
HOLDS = "tests/domain/test_worked_cases_of_holds.py"
CAPTURES = "tests/domain/test_holds_and_captures.py"
LIMITS = "tests/domain/test_limits.py"
MONEY = "tests/domain/test_payments_and_plans.py"
KEYS = "tests/domain/test_ledger_keys.py"
CLOSING = "tests/domain/test_closing.py"
INVOICES = "tests/domain/test_invoice_life.py"
PLANS = "tests/domain/spending/test_planning.py"
PREFLIGHT = "tests/domain/spending/test_preflight.py"
BUYING = "tests/domain/spending/test_buying.py"
REVIEWS = "tests/domain/spending/test_review.py"


class Bug(NamedTuple):
    """One planted bug: the text of ``file`` that is changed, and where a test must turn red."""

    name: str
    source: str | None
    file: str
    text: str
    becomes: str
    tests: str


BUGS = [
    Bug(
        "items of one batch share one key",
        "useautumn/autumn#2552",
        "domain/usage.py",
        "(_named(team_id, source), _length(len(encoded)), encoded)",
        '(_named(team_id, source), b"", b"")',
        CASES,
    ),
    Bug(
        "a failed command keeps its idempotency key",
        "useautumn/autumn#1838",
        "domain/ledger.py",
        "        asked = self._asked(session, command, caller, key)\n        if second is not None and waits:\n",
        "        claimed = self.__dict__.setdefault('claimed', set())\n"
        "        if (caller.principal, key) in claimed:\n"
        "            raise IdempotencyKeyReused('this key is being worked on')\n"
        "        claimed.add((caller.principal, key))\n"
        "        asked = self._asked(session, command, caller, key)\n        if second is not None and waits:\n",
        KEYS,
    ),
    Bug(
        "a retry after a lost reply does it again",
        "elizaOS/eliza#10930",
        "domain/ledger.py",
        "            if on_file is not None:\n                return _same_answer",
        "            if on_file is None and session.account is None:\n                return _same_answer",
        KEYS,
    ),
    Bug(
        "another body under a used key is carried out",
        "vendo#1297",
        "domain/ledger.py",
        "    if digest != body_digest:",
        "    if not digest:",
        KEYS,
    ),
    Bug(
        "a hold gives back more than it set aside",
        "elizaOS/eliza#22681",
        "domain/account/holding.py",
        "    if not 0 < amount_micros <= AMOUNT_MAX:\n        raise Malformed(\n"
        '            f"amount {format_credits(amount_micros)}: a capture',
        "    if amount_micros > AMOUNT_MAX:\n        raise Malformed(\n"
        '            f"amount {format_credits(amount_micros)}: a capture',
        CAPTURES,
    ),
    Bug(
        "holds are ignored in what is available",
        "blnkfinance/blnk#181",
        "domain/account/state.py",
        "return 0 if self.withheld_since is not None else self.remaining_micros - self.held_micros",
        "return 0 if self.withheld_since is not None else self.remaining_micros",
        HOLDS,
    ),
    Bug(
        "a hold that was released can still be captured",
        "blnkfinance/blnk#182",
        "domain/account/applying.py",
        "    account.holds.remove(hold)\n    ended = EndedHold(",
        "    hold.lines = list(hold.lines)\n    ended = EndedHold(",
        CAPTURES,
    ),
    Bug(
        "two captures read one remainder",
        "blnkfinance/blnk#171",
        "domain/account/applying.py",
        "    hold.lines = lots.less(hold.lines, lines)\n    return _NOTHING if hold.lines",
        "    return _NOTHING if hold.lines",
        CAPTURES,
    ),
    Bug(
        "more is captured than was held, whatever is there",
        "blnkfinance/blnk#62",
        "domain/account/holding.py",
        "    if not missing_micros:\n        return\n",
        "    return\n",
        CAPTURES,
    ),
    Bug(
        "credit that expires later burns first",
        "useautumn/autumn#2508",
        "domain/account/lots.py",
        "        terms.expires_at or NEVER,\n",
        "        NEVER - (terms.expires_at or NEVER),\n",
        CASES,
    ),
    Bug(
        "expired credit is spent until it is swept",
        "managoat/fountain#1126",
        "domain/account/lots.py",
        "                and (terms.expires_at is None or at < terms.expires_at)\n",
        "",
        CASES,
    ),
    Bug(
        "a refund after a lost chargeback revives the lot that is gone",
        "elizaOS/eliza#10920",
        "domain/account/refunding.py",
        '        entry = self._decision.index.entry("line", self._terms(lot_id).origin_lot_id)\n',
        "        entry = None\n",
        HOLDS,
    ),
    Bug(
        "a chargeback lost after a refund claws the same credit twice",
        "managoat/fountain#1126, dispute then refund",
        "domain/account/chargebacks.py",
        "    drawn = top_up.amount_micros - left - _broken",
        "    drawn = top_up.amount_micros - sum(each.amount_micros for each in lines if each.lot_id == origin) - _broken",
        HOLDS,
    ),
    Bug(
        "rollover is lost",
        "polarsource/polar#10513",
        "domain/account/turning.py",
        "        if lot.terms.rolls_over and",
        '        if lot.terms.rolls_over and lot.terms.source == "purchased" and',
        HOLDS,
    ),
    Bug(
        "promotional credit is wiped at the turn without a word",
        "anthropics/claude-code#23674",
        "domain/account/applying.py",
        "    if event.lot is not None:\n        lots.issue(account, event.lot, event.amount_micros)\n    return changes\n",
        '    account.lots = [lot for lot in account.lots if lot.terms.source != "promotional"]\n'
        "    if event.lot is not None:\n        lots.issue(account, event.lot, event.amount_micros)\n    return changes\n",
        MONEY,
    ),
    Bug(
        "prices are rounded to the nearest, and not once",
        "getlago/lago-api#4642",
        "domain/pricing.py",
        "    rounded_micros = -(-numerator // rate.denominator)\n",
        "    rounded_micros = (2 * numerator + rate.denominator) // (2 * rate.denominator)\n",
        "tests/domain/test_pricing.py",
    ),
    Bug(
        "a payment that settles twice doubles the balance",
        "getlago/lago-api#3703",
        "domain/account/funding.py",
        '    if on_file.status == "settled":\n        raise PaymentReferenceUsed(',
        '    if on_file.status == "doubled":\n        raise PaymentReferenceUsed(',
        MONEY,
    ),
    Bug(
        "the dry run prices by another card than the charge",
        "killbill/killbill#2249",
        "domain/account/estimating.py",
        "        dimensions=use.dimensions,\n",
        "        dimensions={},\n",
        KEYS,
    ),
    Bug(
        "automatic top-up asks while a request is in flight",
        "anthropics/claude-code#68773",
        "domain/account/auto_top_up.py",
        "        and auto.in_flight is None\n",
        "",
        MONEY,
    ),
    Bug(
        "a failed top-up releases its claim on the money cap",
        "akash-network/console#3756",
        "domain/account/applying.py",
        "    auto.in_flight = None\n    auto.failures, auto.retry_at",
        "    auto.in_flight, auto.spent_minor = None, 0\n    auto.failures, auto.retry_at",
        MONEY,
    ),
    Bug(
        "a top-up that fails is asked for again at once",
        "openai/codex#31987",
        "domain/account/auto_top_up.py",
        "        and (auto.retry_at is None or auto.retry_at <= at)\n",
        "",
        MONEY,
    ),
    Bug(
        "a member's cap counts the whole team",
        "Bike4Mind/bike4mind#1465",
        "domain/account/limiting.py",
        "        (terms.member is None or terms.member == member)\n        and",
        "        (terms.member is None or member is not None)\n        and",
        LIMITS,
    ),
    Bug(
        "a chargeback that is won reinstates nothing",
        "elizaOS/eliza#10997",
        "domain/account/applying.py",
        "        lot.withheld_since = None\n",
        "",
        HOLDS,
    ),
    Bug(
        "reinstated credit is added to what was never taken",
        "elizaOS/eliza#11155",
        "domain/account/applying.py",
        "        lot.withheld_since = None\n",
        "        lot.withheld_since = None\n"
        "        account.settled_micros += lot.remaining_micros\n"
        "        lot.remaining_micros *= 2\n",
        HOLDS,
    ),
    Bug(
        "a generation that failed is charged",
        "Comfy-Org/ComfyUI#11876",
        "domain/account/charging.py",
        '    if record.status != "succeeded":\n        _failed(',
        '    if record.status == "cancelled":\n        _failed(',
        CASES,
    ),
    Bug(
        "a day has 24 hours",
        "getlago/lago-api#879",
        "domain/windows.py",
        "        number, start = number + 1, end\n    return start, end\n",
        "        number, start = number + 1, end\n    return start, start + timedelta(days=length)\n",
        "tests/domain/test_windows.py",
    ),
    Bug(
        "a period anchored on the 31st starts on the 28th",
        "killbill/killbill#445",
        "domain/periods.py",
        "min(anchor_day, monthrange(year, month_index + 1)[1])",
        "min(anchor_day, 28)",
        HOLDS,
    ),
    Bug(
        "free and paid credit cannot be told apart",
        "getlago/lago-api#4978",
        "domain/account/lots.py",
        '        terms.source == "purchased",\n',
        "",
        CASES,
    ),
    Bug(
        "a correction that comes first is forgotten",
        None,
        "domain/account/applying.py",
        "    account.corrections_awaited[event.charge_id] = event.corrected_by\n",
        "",
        CASES,
    ),
    Bug(
        "a quote is used twice",
        None,
        "domain/account/holding.py",
        '    raise QuoteUsed(f"quote {quote_id} was used by {hold_id}: ask for a new one", quote_id=quote_id)\n',
        "    return\n",
        HOLDS,
    ),
    Bug(
        "a threshold alerts again after a refund",
        None,
        "domain/account/limiting.py",
        "            if hundredfold < threshold * cap_micros or threshold in reached:\n",
        "            if hundredfold < threshold * cap_micros:\n",
        HOLDS,
    ),
    Bug(
        "a refund starts with the first line",
        None,
        "domain/account/refunding.py",
        "in reversed([*charge.lines, LotLine",
        "in iter([*charge.lines, LotLine",
        CASES,
    ),
    Bug(
        "released credit lies idle beside debt",
        None,
        "domain/account/holding.py",
        "    repay_debt(decision, decision.at)\n    return amount",
        "    return amount",
        HOLDS,
    ),
    Bug(
        "a hold ends when somebody looks",
        None,
        "domain/account/due.py",
        "    if isinstance(subject, Hold):\n        _expire_hold(decision, subject, instant)\n",
        "    if isinstance(subject, Hold):\n        instant = decision.at\n        _expire_hold(decision, subject, instant)\n",
        HOLDS,
    ),
    Bug(
        "breakage forgets that a hold was on the lot",
        None,
        "domain/account/due.py",
        "    if lot.held_until is not None and lot.held_until > expires_at:\n        expires_at = lot.held_until\n",
        "",
        HOLDS,
    ),
    Bug(
        "late usage is priced by today's card",
        None,
        "domain/account/charging.py",
        "    card_id = card_id_at(account, index, at)\n",
        "    card_id = account.card_id\n",
        MONEY,
    ),
    Bug(
        "an edited limit starts again from zero",
        None,
        "domain/account/applying.py",
        "        limit.terms, limit.plan_id = event.limit, event.plan_id\n",
        "        limit.terms, limit.plan_id, limit.windows = event.limit, event.plan_id, {}\n",
        LIMITS,
    ),
    Bug(
        "usage is priced before a waiting plan has begun",
        None,
        "domain/account/calendar.py",
        "    if pending is not None and pending.effective_at <= at:\n        return pending",
        "    if False:\n        return pending",
        MONEY,
    ),
    Bug(
        "late usage finds its hold where it was before the turn",
        None,
        "domain/account/charging.py",
        "        own = _own_hold(decision, record, record.hold_id)\n    moves",
        "        pass\n    moves",
        CAPTURES,
    ),
    Bug(
        "one refund takes one repayment back twice",
        None,
        "domain/account/refunding.py",
        "            if key in taken:\n",
        "            if key is None:\n",
        CASES,
    ),
    Bug(
        "rolled credit rolls again and never ends",
        None,
        "domain/account/turning.py",
        "        rolls_over=False,\n",
        "        rolls_over=True,\n",
        MONEY,
    ),
    Bug(
        "a period closes the moment it ends",
        None,
        "domain/account/closing.py",
        "account.opened_at) + LATE_GRACE",
        "account.opened_at)",
        CLOSING,
    ),
    Bug(
        "a period closed early closes again when it is due",
        None,
        "domain/account/closing.py",
        'due_id("close", account.team_id, start)',
        'due_id("close", account.team_id, effective_at)',
        CLOSING,
    ),
    Bug(
        "a period is as long as the one before",
        None,
        "domain/account/closing.py",
        "following_end=period_after(account, decision.index, end)",
        "following_end=end + (end - start)",
        CLOSING,
    ),
    Bug(
        "new zone data leaves a period of an hour",
        None,
        "domain/account/calendar.py",
        "    return end if end - start >= STUB_MIN else period_at(account, index, end)[1]\n",
        "    return end\n",
        CLOSING,
    ),
    Bug(
        "a closed account's books close for ever",
        None,
        "domain/account/closing.py",
        "account.closed_at < account.books_start",
        "account.closed_at is None",
        CLOSING,
    ),
    Bug(
        "one payment pays an invoice twice",
        None,
        "domain/account/collecting.py",
        "    _require_new_reference(decision, payment_reference)\n",
        "",
        INVOICES,
    ),
    Bug(
        "credit notes give more back than the invoice was",
        None,
        "domain/account/collecting.py",
        "max(money.gross_minor - money.credited_minor, 0)",
        "max(money.gross_minor, 0)",
        INVOICES,
    ),
    Bug(
        "two closers issue two invoices of one period",
        None,
        "domain/account/invoicing.py",
        "    require_waiting(decision, waiting)\n    require_fresh",
        "    require_fresh",
        INVOICES,
    ),
    Bug(
        "a plan spends everything on its first day",
        None,
        "domain/spending/laying.py",
        "steps.append(Step(start + (end - start) / 2, use,",
        "steps.append(Step(at, use,",
        PLANS,
    ),
    Bug(
        "a plan puts a day's uses into one hour",
        None,
        "domain/spending/laying.py",
        "    return working or [hour for hour, _ in hours]",
        "    return working[:1] or [hour for hour, _ in hours]",
        PLANS,
    ),
    Bug(
        "a plan sees no limit once credits have run out",
        None,
        "domain/spending/planning.py",
        "        if self._bite is not None or not amount_micros:",
        "        if self._bite is not None or not amount_micros or self._uncovered:",
        PLANS,
    ),
    Bug(
        "an admin alone buys whatever a plan needs",
        None,
        "domain/spending/authority.py",
        "amount_micros <= ALONE_MICROS.get((remedy, role), amount_micros)",
        "amount_micros >= 0",
        BUYING,
    ),
    Bug(
        "a handover passes while the account is in debt",
        None,
        "domain/handover.py",
        "    if not of_account.passes:\n",
        "    if not of_account.passes and total.charges:\n",
        REVIEWS,
    ),
    Bug(
        "a preflight looks at the first task only",
        None,
        "domain/spending/preflight.py",
        "missing = estimates.debt_micros",
        "missing = estimates.uses[0].debt_micros",
        PREFLIGHT,
    ),
]
