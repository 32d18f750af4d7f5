"""Why a hold was denied: the rule with its numbers, the charges and holds behind them, and what would make it pass.

The use of a window is told charge by charge, less what was refunded of each: the newest one by one, the others by month. Their
sum is the use that the denial names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import msgspec

from domain.account import lots
from domain.account.applying import find_limit
from domain.account.decision import copy_of
from domain.account.events import CHARGES, Charge, ChargeRefunded, HoldDenied, LimitTerms, RecordedEvent
from domain.account.index import AccountIndex
from domain.account.limiting import AHEAD_MAX, counts, rooms
from domain.account.state import Hold, TeamAccount
from domain.amounts import format_credits
from projections.movements import NEWEST_DEFAULT, NEWEST_MAX
from projections.replay import Replay
from projections.words import (
    actor_words,
    credits_words,
    limit_words,
    scope_words,
    time_words,
    window_words,
)

Rule = Literal["available", "limit"]


class RuleTold(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that a hold must meet: ``left`` = limit − used − held; of the rule "available" it is what is available."""

    rule: Rule
    limit_id: str | None
    words: str
    window_start: datetime | None
    window_end: datetime | None
    used_micros: int
    held_micros: int
    limit_micros: int
    left_micros: int
    has_room: bool


class UsedCharge(msgspec.Struct, frozen=True, kw_only=True):
    """One charge in the window; ``kept`` = amount − refunded is what it counts for."""

    charge_id: str
    version: int
    occurred_at: datetime
    words: str
    amount_micros: int
    refunded_micros: int
    kept_micros: int


class UsedMonth(msgspec.Struct, frozen=True, kw_only=True):
    """The other charges of the window that occurred in one month, summed; months are those of UTC."""

    month: str
    charges: int
    kept_micros: int


class HoldCounted(msgspec.Struct, frozen=True, kw_only=True):
    """One open hold that the rule counts, with what it sets aside of it."""

    hold_id: str
    held_micros: int
    expires_at: datetime
    words: str


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would make the request pass this rule; ``at`` is when it happens by itself."""

    words: str
    amount_micros: int | None = None
    at: datetime | None = None


class Since(msgspec.Struct, frozen=True, kw_only=True):
    """The same request at the moment of the question: every rule, and whether all of them have room."""

    at: datetime
    version: int
    would_pass: bool
    rules: list[RuleTold]


class DenialExplained(msgspec.Struct, frozen=True, kw_only=True):
    """A denial and what lay behind it when it was decided; ``since`` says how the same request would fare now.

    Sums: ``charges`` and ``earlier`` make up the use that the rule names, ``holds`` what it names as held; ``contradictions``
    says where they do not, and is empty for a sound ledger. ``short_micros`` is what is missing: requested − left.
    """

    team_id: str
    version: int
    recorded_at: datetime
    by: str
    reason: str | None
    action: str
    member: str | None
    project: str | None
    work: str | None
    requested_micros: int
    rule: RuleTold
    short_micros: int
    other_rules: list[RuleTold]
    charges: list[UsedCharge]
    earlier: list[UsedMonth]
    holds: list[HoldCounted]
    ways: list[Way]
    contradictions: list[str]
    since: Since


class UseStory:
    """Collects the charges of one window in the scope of a limit; memory grows with those, not with the stream."""

    def __init__(self, terms: LimitTerms, start: datetime, end: datetime | None) -> None:
        self._terms, self._start, self._end = terms, start, end
        self._charges: dict[str, UsedCharge] = {}

    @property
    def recorded_from(self) -> datetime:
        """No charge recorded before counts: usage occurs at most so much later than it is recorded."""
        return self._start - AHEAD_MAX

    def play(self, recorded: RecordedEvent) -> None:
        """The event was there when the denial was decided."""
        event = recorded.event
        if isinstance(event, CHARGES):
            if self._counts(event):
                self._charges[event.charge_id] = _used(recorded.originator_version, event)
        elif isinstance(event, ChargeRefunded) and (charge := self._charges.get(event.charge_id)):
            refunded = charge.refunded_micros + event.amount_micros
            self._charges[event.charge_id] = msgspec.structs.replace(
                charge, refunded_micros=refunded, kept_micros=charge.amount_micros - refunded
            )

    def told(self, newest: int) -> tuple[list[UsedCharge], list[UsedMonth]]:
        """The newest charges one by one, and all before them by month."""
        charges = list(self._charges.values())
        split = max(0, len(charges) - max(0, min(newest, NEWEST_MAX)))
        months: dict[str, UsedMonth] = {}
        for charge in charges[:split]:
            month = charge.occurred_at.strftime("%Y-%m")
            before = months.get(month) or UsedMonth(month=month, charges=0, kept_micros=0)
            months[month] = UsedMonth(
                month=month, charges=before.charges + 1, kept_micros=before.kept_micros + charge.kept_micros
            )
        return charges[split:], [months[month] for month in sorted(months)]

    def _counts(self, charge: Charge) -> bool:
        return (
            self._start <= charge.occurred_at
            and (self._end is None or charge.occurred_at < self._end)
            and counts(self._terms, charge.member, charge.project, charge.action)
        )


class DenialStory:
    """Plays a team's stream up to the moment of the question, and keeps the account as it was when the denial was decided.

    It begins where ``replay`` stands, which is before the denial.
    """

    def __init__(self, version: int, replay: Replay | None = None) -> None:
        self._version = version
        self._replay = replay or Replay()
        self._then: TeamAccount | None = None
        self._rules: list[RuleTold] = []
        self.denial: HoldDenied | None = None

    def play(self, recorded: RecordedEvent) -> None:
        """The event was known at the moment of the question."""
        if recorded.originator_version == self._version and isinstance(recorded.event, HoldDenied):
            self.meet(recorded.event)
        self._replay.play(recorded)

    def meet(self, denial: HoldDenied, index: AccountIndex | None = None) -> None:
        """The denial is the next event to be played: the account and every rule are kept as it met them."""
        account = self._replay.account
        assert account is not None, "no hold is asked for before there is an account"
        self._rules = rules_at(account, index or self._replay.index, denial.recorded_at, denial)
        self.denial, self._then = denial, copy_of(account)

    def go_on(self, replay: Replay) -> None:
        """The rest is played from where ``replay`` stands, which is not before the denial."""
        self._replay = replay

    @property
    def index(self) -> AccountIndex:
        """The index as the events played have left it, without charges."""
        return self._replay.index

    def use(self) -> UseStory | None:
        """Who collects the charges behind the denial, from the events before it; None when no limit denied."""
        denial = self.denial
        assert denial is not None, "there is no such denial"
        terms = self._terms()
        if terms is None or denial.window_start is None:
            return None
        return UseStory(terms, denial.window_start, denial.window_end)

    def told(
        self,
        use: UseStory | None,
        at: datetime | None = None,
        newest: int = NEWEST_DEFAULT,
        index: AccountIndex | None = None,
    ) -> DenialExplained:
        """The explanation, once the stream was played, and the events before the denial to ``use``."""
        denial, then = self.denial, self._then
        assert denial is not None, "there is no such denial"
        assert then is not None, "the account was kept with its denial"
        charges, earlier = use.told(newest) if use else ([], [])
        rule = _named(denial, self._terms())
        holds = list(_holds(then, denial, self._terms()))
        used = sum(c.kept_micros for c in charges) + sum(m.kept_micros for m in earlier)
        return DenialExplained(
            team_id=then.team_id,
            version=self._version,
            recorded_at=denial.recorded_at,
            by=actor_words(denial),
            reason=denial.reason,
            action=denial.action,
            member=denial.member,
            project=denial.project,
            work=denial.work,
            requested_micros=denial.requested_micros,
            rule=rule,
            short_micros=denial.requested_micros - rule.left_micros,
            other_rules=[
                each for each in self._rules if (each.rule, each.limit_id) != (rule.rule, rule.limit_id)
            ],
            charges=charges,
            earlier=earlier,
            holds=holds,
            ways=list(_limit_ways(denial, rule) if rule.rule == "limit" else _available_ways(denial, then)),
            contradictions=list(_contradictions(rule, self._rules, used, sum(h.held_micros for h in holds))),
            since=self._since(denial, at, index or self._replay.index),
        )

    def _terms(self) -> LimitTerms | None:
        denial, then = self.denial, self._then
        if denial is None or then is None or denial.limit_id is None:
            return None
        limit = find_limit(then, denial.limit_id)
        return limit.terms if limit else None

    def _since(self, denial: HoldDenied, at: datetime | None, index: AccountIndex) -> Since:
        account = self._replay.account
        assert account is not None, "the denial was played"
        passed = account
        if at is None:
            at = account.recorded_at
        else:
            at = max(at, account.recorded_at)
            passed, _ = self._replay.due(at, index)
        rules = rules_at(passed, index, at, denial)
        return Since(
            at=at, version=account.version, would_pass=all(rule.has_room for rule in rules), rules=rules
        )


def rules_at(account: TeamAccount, index: AccountIndex, at: datetime, request: HoldDenied) -> list[RuleTold]:
    """Every rule that the request must meet at the instant; everything due by then is booked on the account."""
    asked = request.requested_micros
    available = lots.available_micros(account, at, request.action, request.project)
    return [
        _available_rule(available, _held_beside(account, request), asked),
        *(
            RuleTold(
                rule="limit",
                limit_id=room.limit.terms.limit_id,
                words=limit_words(room.limit.terms),
                window_start=room.start,
                window_end=room.end,
                used_micros=room.used_micros,
                held_micros=room.held_micros,
                limit_micros=room.limit.terms.cap_micros,
                left_micros=room.left_micros,
                has_room=room.left_micros >= asked,
            )
            for room in rooms(account, index, at, request.member, request.project, request.action)
        ),
    ]


def denial_text(told: DenialExplained) -> str:
    """The explanation as plain text of short lines, fit for a mail."""
    return "\n".join(_text(told)) + "\n"


def _available_rule(available_micros: int, held_micros: int, asked_micros: int) -> RuleTold:
    return RuleTold(
        rule="available",
        limit_id=None,
        words="credits available for the request",
        window_start=None,
        window_end=None,
        used_micros=0,
        held_micros=held_micros,
        limit_micros=available_micros,
        left_micros=available_micros,
        has_room=available_micros >= asked_micros,
    )


def _named(denial: HoldDenied, terms: LimitTerms | None) -> RuleTold:
    """The rule with the numbers that the denial states."""
    if denial.rule == "available":
        return _available_rule(denial.limit_micros, denial.held_micros, denial.requested_micros)
    left = denial.limit_micros - denial.used_micros - denial.held_micros
    return RuleTold(
        rule="limit",
        limit_id=denial.limit_id,
        words=limit_words(terms) if terms else f"limit {denial.limit_id}",
        window_start=denial.window_start,
        window_end=denial.window_end,
        used_micros=denial.used_micros,
        held_micros=denial.held_micros,
        limit_micros=denial.limit_micros,
        left_micros=left,
        has_room=left >= denial.requested_micros,
    )


def _used(version: int, charge: Charge) -> UsedCharge:
    return UsedCharge(
        charge_id=charge.charge_id,
        version=version,
        occurred_at=charge.occurred_at,
        words=scope_words(charge.member, charge.project, charge.action),
        amount_micros=charge.amount_micros,
        refunded_micros=0,
        kept_micros=charge.amount_micros,
    )


def _held_beside(account: TeamAccount, request: HoldDenied) -> int:
    return sum(
        lot.held_micros for lot in account.lots if lots.pays_for(lot.terms, request.action, request.project)
    )


def _holds(account: TeamAccount, denial: HoldDenied, terms: LimitTerms | None) -> Iterator[HoldCounted]:
    """The open holds that the rule counted: those of the limit's scope, or on lots that would pay for the request."""
    paying = {
        lot.terms.lot_id for lot in account.lots if lots.pays_for(lot.terms, denial.action, denial.project)
    }
    for hold in account.holds:
        if terms is not None:
            held = hold.held_micros if counts(terms, hold.member, hold.project, hold.action) else 0
        else:
            held = sum(line.amount_micros for line in hold.lines if line.lot_id in paying)
        if held:
            yield HoldCounted(
                hold_id=hold.hold_id, held_micros=held, expires_at=hold.expires_at, words=_for(hold)
            )


def _for(hold: Hold) -> str:
    return f"{scope_words(hold.member, hold.project, hold.action)}, since {time_words(hold.made_at)}"


def _contradictions(
    rule: RuleTold, rules: list[RuleTold], used_micros: int, held_micros: int
) -> Iterator[str]:
    if used_micros != rule.used_micros:
        yield f"the charges sum to {format_credits(used_micros)}, the denial says {format_credits(rule.used_micros)} used"
    if held_micros != rule.held_micros:
        yield f"the holds sum to {format_credits(held_micros)}, the denial says {format_credits(rule.held_micros)} held"
    again = next((each for each in rules if (each.rule, each.limit_id) == (rule.rule, rule.limit_id)), None)
    if again is None or again != rule:
        yield "the rule, worked out again from the events before, says otherwise"


def _limit_ways(denial: HoldDenied, rule: RuleTold) -> Iterator[Way]:
    asked, limit = denial.requested_micros, denial.limit_id
    short = asked - rule.left_micros
    if rule.window_end is not None:
        fresh = rule.limit_micros - rule.held_micros
        fits = "then it fits" if fresh >= asked else f"even then only {format_credits(fresh)} would fit"
        yield Way(
            words=f"wait until the window ends, {time_words(rule.window_end)}: {fits}, if holds stay as they are",
            at=rule.window_end,
        )
    if rule.left_micros > 0:
        yield Way(words=f"ask for at most {format_credits(rule.left_micros)}", amount_micros=rule.left_micros)
    needed = rule.used_micros + rule.held_micros + asked
    yield Way(words=f"raise limit {limit} to at least {credits_words(needed)}", amount_micros=needed)
    if rule.held_micros >= short:
        yield Way(
            words=f"release holds of at least {format_credits(short)} that this limit counts",
            amount_micros=short,
        )
    if rule.used_micros >= short:
        yield Way(
            words=f"a refund of at least {format_credits(short)} of the charges in this window",
            amount_micros=short,
        )


def _available_ways(denial: HoldDenied, account: TeamAccount) -> Iterator[Way]:
    at, asked = denial.recorded_at, denial.requested_micros
    short = asked - denial.limit_micros
    debt = (
        f" ({format_credits(account.debt_micros)} of it repays the debt first)" if account.debt_micros else ""
    )
    yield Way(
        words=f"a top-up or grant of at least {credits_words(short + account.debt_micros)}{debt}",
        amount_micros=short + account.debt_micros,
    )
    if denial.limit_micros > 0:
        yield Way(
            words=f"ask for at most {format_credits(denial.limit_micros)}", amount_micros=denial.limit_micros
        )
    if denial.held_micros >= short:
        yield Way(
            words=f"holds of at least {format_credits(short)} end without being captured", amount_micros=short
        )
    for lot in account.lots:
        if at < lot.terms.effective_at and lots.pays_for(lot.terms, denial.action, denial.project):
            yield Way(
                words=f"{lot.terms.lot_id} with {format_credits(lot.free_micros)} becomes effective",
                amount_micros=lot.free_micros,
                at=lot.terms.effective_at,
            )
    if account.plan is not None and account.period_end is not None:
        yield Way(
            words=f"the allowance of plan {account.plan.plan_id} comes: {credits_words(account.plan.allowance_micros)}",
            amount_micros=account.plan.allowance_micros,
            at=account.period_end,
        )


def _text(told: DenialExplained) -> Iterator[str]:
    scope = scope_words(told.member, told.project, told.action)
    yield f"Team {told.team_id} was denied a hold of {credits_words(told.requested_micros)} for {scope}"
    yield f"  on {time_words(told.recorded_at)}, version {told.version}, asked by {told.by}"
    yield f"  rule: {told.rule.words}"
    if told.rule.window_start is not None:
        yield f"  window: {window_words(told.rule.window_start, told.rule.window_end)}"
    yield f"  {_numbers(told)}"
    for rule in told.other_rules:
        if not rule.has_room:
            yield f"  it would also have met: {_rule_text(rule)}"
    for words in told.contradictions:
        yield f"  CONTRADICTION: {words}"
    if told.rule.rule == "limit":
        yield ""
        yield "Used in the window:"
        yield from _used_text(told)
    if told.holds:
        yield "Held:"
        for hold in told.holds:
            yield f"  {format_credits(hold.held_micros)} by {hold.hold_id} until {time_words(hold.expires_at)}: {hold.words}"
    yield ""
    yield "What would make it pass:"
    for way in told.ways:
        when = f", {time_words(way.at)}" if way.at and time_words(way.at) not in way.words else ""
        yield f"  - {way.words}{when}"
    yield ""
    yield f"The same request as of {time_words(told.since.at)}, version {told.since.version}: " + (
        "it would pass" if told.since.would_pass else "it would be denied"
    )
    yield from (f"  {_rule_text(rule)}" for rule in told.since.rules)


def _numbers(told: DenialExplained) -> str:
    rule, asked = told.rule, format_credits(told.requested_micros)
    short = f"{credits_words(told.short_micros)} short"
    if rule.rule == "available":
        held = f" ({format_credits(rule.held_micros)} more are held)" if rule.held_micros else ""
        return f"{format_credits(rule.left_micros)} available{held}, {asked} requested: {short}"
    return (
        f"{format_credits(rule.used_micros)} used + {format_credits(rule.held_micros)} held + {asked} requested"
        f" > {format_credits(rule.limit_micros)}: {short}"
    )


def _used_text(told: DenialExplained) -> Iterator[str]:
    for month in told.earlier:
        yield f"  {month.month}  {month.charges} charges: {format_credits(month.kept_micros)}"
    for charge in told.charges:
        refunded = f" ({format_credits(charge.amount_micros)} less {format_credits(charge.refunded_micros)} refunded)"
        yield (
            f"  {time_words(charge.occurred_at)}  charge {charge.charge_id}: {format_credits(charge.kept_micros)}"
            f"{refunded if charge.refunded_micros else ''} for {charge.words}, version {charge.version}"
        )
    yield f"  sum: {format_credits(told.rule.used_micros)}"


def _rule_text(rule: RuleTold) -> str:
    room = "has room" if rule.has_room else "has no room"
    if rule.rule == "available":
        return f"{format_credits(rule.left_micros)} available: {room}"
    return (
        f"{rule.words}: {format_credits(rule.used_micros)} used, {format_credits(rule.held_micros)} held,"
        f" {format_credits(rule.left_micros)} left: {room}"
    )
