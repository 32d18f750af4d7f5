"""A seed becomes a story: what five teams ask for and use in 13 months, drawn freely and without asking the product anything.

Ids that only a ledger can give are written as placeholders ("@12.hold_id": what step 12 of this team was given), so that a story
is told to both sides, and still makes sense with steps left out.
"""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from typing_extensions import override

from domain import commands as c
from domain.account.events import CostBasis, LimitTerms, LimitWindow, LotSource
from domain.usage import UsageRecord, UsageStatus

TEAMS = 5
MONTHS = 13
SOURCE = "urn:simulation:usage"
CREDIT = 1_000_000
GRACE = timedelta(hours=24)
NEVER = "@0.nothing"
"""A placeholder that nothing was ever given for."""

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Santiago",
    "Pacific/Chatham",
    "America/St_Johns",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
]
PLANS = ["free", "starter", "studio", "scale"]
ACTIONS = [
    *["image.generate"] * 4,
    *["video.generate"] * 4,
    *["voice.generate"] * 2,
    *["text.generate"] * 2,
    "badge.mint",
]
MEMBERS = ["mira", "noor", None]
PROJECTS = ["atlas", "boreal", None, None]
WINDOWS: list[LimitWindow] = ["hour", "day", "week", "month", "period", "lifetime"]


class Tick(msgspec.Struct, frozen=True, tag=True):
    """Somebody looks at the team."""


class AskQuote(msgspec.Struct, frozen=True, tag=True):
    """A quote is asked for a use at today's price, good for so long."""

    action: str
    meters: dict[str, str]
    lasts_seconds: int
    project: str | None = None


class ProviderAnswers(msgspec.Struct, frozen=True, tag=True):
    """The payment provider answers the latest automatic request; ``amount_off_micros`` is its mistake."""

    how: Literal["settled", "failed"]
    amount_off_micros: int = 0


class Again(msgspec.Struct, frozen=True, tag=True):
    """An earlier step is sent again: the same, or with another body under the same identity."""

    step: int
    is_changed: bool = False


Ask = (
    Tick
    | AskQuote
    | ProviderAnswers
    | Again
    | UsageRecord
    | c.OpenAccount
    | c.SuspendAccount
    | c.ResumeAccount
    | c.CloseAccount
    | c.AssignPlan
    | c.ScheduleZoneChange
    | c.GrantCredits
    | c.VoidGrant
    | c.TopUpCredits
    | c.RequestTopUp
    | c.FailTopUp
    | c.ConfigureAutoTopUp
    | c.OpenChargeback
    | c.WinChargeback
    | c.LoseChargeback
    | c.AdjustBalance
    | c.ApproveAdjustment
    | c.RefundCharge
    | c.OpenChargeDispute
    | c.UpholdChargeDispute
    | c.RejectChargeDispute
    | c.PlaceHold
    | c.ExtendHold
    | c.CaptureHold
    | c.ReleaseHold
    | c.WithdrawQuote
    | c.SetLimit
    | c.RemoveLimit
    | c.EraseContexts
)


class Step(msgspec.Struct, frozen=True):
    """One thing that is asked of one team at one instant; ``number`` counts within the team, and is the idempotency key."""

    at: datetime
    team: str
    number: int
    principal: str
    ask: Ask


class Story(msgspec.Struct, frozen=True):
    """All steps of a seed in the order of time; month ends are looked at when the clock passes them.

    ``order_free`` names the team, if any, whose life satisfies the conditions under which the order of arrival means nothing.
    """

    seed: int
    steps: list[Step]
    month_ends: list[datetime]
    order_free: str | None = None


def story_of(seed: int) -> Story:
    """The story of a seed, the same for ever on every machine (as long as this file says the same)."""
    rng = Random(seed)
    first = date(2027, 1, 1) + timedelta(days=rng.randrange(900))
    start = datetime(first.year, first.month, first.day, rng.randrange(24), tzinfo=UTC)
    zones = rng.sample(ZONES, TEAMS)
    free = rng.randrange(TEAMS) if rng.random() < 0.6 else None
    steps: list[Step] = []
    for number, zone in enumerate(zones):
        kind = CalmLife if number == free else TeamLife
        steps += kind(rng, f"team{number}", zone, start).lived()
    steps += _erasures(steps, seed)
    steps.sort(key=_when)
    ends = [_month_later(start, months) for months in range(1, MONTHS + 1)]
    return Story(seed, steps, ends, None if free is None else f"team{free}")


def _erasures(steps: list[Step], seed: int) -> list[Step]:
    """A member leaves and asks to be forgotten, in one story of ten; by dice of its own, so every other step stays."""
    rng = Random(f"{seed} erased")
    if rng.random() >= 0.1:
        return []
    last = rng.choice([step for step in steps if not isinstance(step.ask, c.OpenAccount)])
    number = 1 + max(step.number for step in steps if step.team == last.team)
    erase = c.EraseContexts(team_id=last.team, member="mira", reason="left the team")
    return [Step(last.at, last.team, number, "ana", erase)]


def _when(step: Step) -> tuple[datetime, str, int]:
    return step.at, step.team, step.number


def _month_later(start: datetime, months: int) -> datetime:
    index = start.year * 12 + start.month - 1 + months
    year, month = divmod(index, 12)
    return start.replace(year=year, month=month + 1, day=min(start.day, monthrange(year, month + 1)[1]))


@lru_cache(maxsize=512)
def _local_midnight(zone: str, year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


@lru_cache(maxsize=256)
def _clock_changes(zone: str, year: int) -> tuple[datetime, ...]:
    """The instants of a year, to the hour, at which the zone's clocks are changed."""
    tz, at, changes = ZoneInfo(zone), datetime(year, 1, 1, tzinfo=UTC), []
    before = at.astimezone(tz).utcoffset()
    for day in range(1, 366):
        after = (at + timedelta(days=day)).astimezone(tz).utcoffset()
        if after != before:
            low = at + timedelta(days=day - 1)
            while (low + timedelta(minutes=30)).astimezone(tz).utcoffset() == before:
                low += timedelta(minutes=30)
            changes.append(low + timedelta(minutes=30))
        before = after
    return tuple(changes)


class MadeHold(msgspec.Struct):
    """A hold as the storyteller believes it to be."""

    ref: str
    made_at: datetime
    expires_at: datetime
    amount_micros: int
    hold: c.PlaceHold
    quoted: AskQuote | None = None


class Payment(msgspec.Struct):
    """A payment as the storyteller believes it to be."""

    reference: str
    amount_micros: int
    basis: CostBasis
    stage: str


class TeamLife:
    """Draws one team's 13 months, from what it has drawn so far alone."""

    def __init__(self, rng: Random, team: str, zone: str, start: datetime) -> None:
        self.rng, self.team, self.zone, self.start = rng, team, zone, start
        self.at = start
        self.anchor = rng.choice([1, 15, 28, 29, 30, 31, rng.randint(1, 31)])
        self.steps: list[Step] = []
        self.bounds: list[datetime] = []
        self.holds: list[MadeHold] = []
        self.quotes: list[tuple[str, AskQuote]] = []
        self.records: list[UsageRecord] = []
        self.used: list[str] = []
        self.charges: list[str] = []
        self.grants: list[str] = []
        self.payments: list[Payment] = []
        self.limits: dict[str, LimitTerms] = {}
        self.disputes: list[str] = []
        self.adjustments: list[str] = []
        self.chargebacks: list[Payment] = []
        self.is_suspended = False
        self.has_auto = False
        self.closes = rng.random() < 0.06
        year = start.year
        for each in (year, year + 1, year + 2):
            self.bounds += _clock_changes(zone, each)
            for month in range(1, 13):
                day = min(self.anchor, monthrange(each, month)[1])
                self.bounds.append(_local_midnight(zone, each, month, day))
        self.bounds.sort()

    def lived(self) -> list[Step]:
        """Every step of the team's life."""
        self.add(c.OpenAccount(team_id=self.team, zone=self.zone, anchor_day=self.anchor))
        self.begin()
        for month in range(MONTHS):
            since, until = _month_later(self.start, month), _month_later(self.start, month + 1)
            self.at = max(self.at, since + (until - since) * self.rng.random())
            self.month(until, month == MONTHS - 1)
        return self.steps

    def begin(self) -> None:
        """What nearly every team has from the start."""
        if self.rng.random() < 0.75:
            self.add(c.AssignPlan(team_id=self.team, plan_id=self.rng.choice(PLANS)))
        if self.rng.random() < 0.6:
            self.top_up()
        for _ in range(self.rng.choice([0, 1, 1, 2])):
            self.set_limit()

    def month(self, until: datetime, is_last: bool) -> None:
        """A few bursts of things that have to do with each other."""
        for _ in range(self.rng.choice([3, 4, 4, 5])):
            if self.at >= until:
                break
            self.act()
            self.wait(until)
        if is_last and self.closes:
            self.add(c.CloseAccount(team_id=self.team))
            for _ in range(3):
                self.act()
                self.wait(until)

    def act(self) -> None:
        """One thing, by its weight."""
        place = bisect_right(_WEIGHTS, self.rng.random() * _WEIGHTS[-1])
        _ACTS[place](self)

    # --- time ---

    def wait(self, until: datetime) -> None:
        """The clock goes on: not at all, a little, to the instant of something, or further."""
        rng, dice = self.rng, self.rng.random()
        if dice < 0.12:
            return
        if dice < 0.40:
            self.at += timedelta(seconds=rng.choice([1, 30, 59, 60, 61, rng.randrange(1, 3_600)]))
        elif dice < 0.58:
            self.at += timedelta(microseconds=rng.randrange(60_000_000, 86_400_000_000))
        elif dice < 0.82:
            self.at = self.instant_ahead(until)
        else:
            self.at += timedelta(seconds=rng.randrange(86_400, 6 * 86_400))

    def instant_ahead(self, until: datetime) -> datetime:
        """An instant at which something becomes due, or one microsecond beside it."""
        ahead = sorted(bound for bound in set(self.bounds) if self.at < bound <= until)[:4]
        if not ahead:
            return self.at + timedelta(hours=self.rng.randrange(1, 48))
        beside = self.rng.choice([0, 0, 0, 1, -1, 3_600_000_000, 90_000_000])
        return max(self.at, self.rng.choice(ahead) + timedelta(microseconds=beside))

    def soon(self) -> datetime:
        """An instant to come, at which a term of something may begin or end."""
        rng = self.rng
        dice = rng.random()
        if dice < 0.2:
            return self.at + timedelta(hours=rng.randrange(1, 72))
        if dice < 0.35:
            ahead = [bound for bound in self.bounds if bound > self.at]
            if ahead:
                return rng.choice(ahead[:3])
        return self.at + timedelta(days=rng.randrange(1, 90), seconds=rng.choice([0, rng.randrange(86_400)]))

    def occurred(self) -> datetime:
        """When a use happened that is recorded now: mostly just before, sometimes long ago, or slightly ahead."""
        rng, dice = self.rng, self.rng.random()
        if dice < 0.35:
            return self.at
        if dice < 0.55:
            return self.at - timedelta(seconds=rng.randrange(1, 3_600))
        if dice < 0.72:
            return self.at - timedelta(seconds=rng.randrange(3_600, 86_400))
        if dice < 0.82:
            past = [bound for bound in set(self.bounds) if self.at - timedelta(days=40) < bound <= self.at]
            if past:
                past.sort()
                return min(self.at, rng.choice(past[-3:]) + timedelta(microseconds=rng.choice([0, 0, -1, 1])))
        if dice < 0.92:
            return self.at - timedelta(seconds=rng.randrange(86_400, 10 * 86_400))
        if dice < 0.98:
            return self.at - timedelta(seconds=rng.randrange(10 * 86_400, 400 * 86_400))
        return self.at + timedelta(seconds=rng.randrange(1, 300))

    # --- what is drawn again and again ---

    def add(self, ask: Ask, principal: str = "ana") -> str:
        """The step is part of the story; the prefix of the placeholders of what it will be given."""
        number = len(self.steps) + 1
        self.steps.append(Step(self.at, self.team, number, principal, ask))
        return f"@{number}"

    def amount(self, most: int = 200) -> int:
        """Micro-credits, more often than not whole credits."""
        dice = self.rng.random()
        if dice < 0.7:
            return self.rng.randint(1, most) * CREDIT
        if dice < 0.97:
            return self.rng.randint(1, most * CREDIT)
        return self.rng.choice([1, 0, 999_999, 3])

    def meters(self, action: str) -> dict[str, str]:
        """Quantities for an action of the card, at times odd, zero or missing."""
        rng = self.rng
        dice = rng.random()
        if dice < 0.04:
            return {} if rng.random() < 0.5 else {"units": "0"}
        if dice < 0.12:
            return {"units": rng.choice(["0.000000001", "0.5", "33.3333333", "150"])}
        return {"units": str(rng.randint(1, 700 if action == "text.generate" else 45))}

    def old(self, things: list[str]) -> str:
        """One of the things of before, mostly of late; now and then one that never was."""
        if not things or self.rng.random() < 0.03:
            return NEVER
        return self.rng.choice(things[-4:] if self.rng.random() < 0.7 else things)

    # --- usage ---

    def use(self) -> None:
        """A record of work that went well."""
        hold = self.a_hold() if self.rng.random() < 0.4 else None
        self.take(self.record("succeeded", hold))

    def fail(self) -> None:
        """A record of work that failed; it may name a hold, and may correct a record of before or one still to come."""
        hold = self.a_hold() if self.rng.random() < 0.5 else None
        corrects, dice = None, self.rng.random()
        if dice < 0.5 and self.used:
            corrects = self.old(self.used)
        elif dice < 0.7:
            corrects = self.next_id(ahead=self.rng.choice([1, 1, 2, 5]))
        status: UsageStatus = self.rng.choice(["failed", "cancelled"])
        self.take(self.record(status, hold, None if corrects == NEVER else corrects))

    def next_id(self, ahead: int = 0) -> str:
        """The id that one of the next records will have."""
        return f"r{len(self.records) + ahead}"

    def record(
        self, status: UsageStatus, hold: MadeHold | None = None, corrects: str | None = None
    ) -> UsageRecord:
        """A usage record that arrives now."""
        rng = self.rng
        action, occurred, meters, project = rng.choice(ACTIONS), self.occurred(), None, rng.choice(PROJECTS)
        if hold is not None and rng.random() < 0.85:
            action, project = hold.hold.action, hold.hold.project
            since = min(hold.made_at, self.at)
            occurred = since + (min(self.at, hold.expires_at) - since) * rng.choice([0, 1, 1, rng.random()])
            if hold.quoted is not None and rng.random() < 0.7:
                meters = hold.quoted.meters
        if rng.random() < 0.01:
            action = "dance.perform"
        return UsageRecord(
            team_id=self.team,
            source=SOURCE,
            id=self.next_id(),
            occurred_at=occurred,
            arrived_at=self.at,
            action=action,
            status=status,
            meters=self.meters(action) if meters is None else meters,
            dimensions={},
            member=rng.choice(MEMBERS),
            project=project,
            hold_id=None if hold is None else hold.ref,
            corrects=corrects,
        )

    def take(self, record: UsageRecord) -> None:
        """The record arrives."""
        self.records.append(record)
        self.used.append(record.id)
        if record.status == "succeeded":
            self.charges.append(f"usage:{record.id}")
        self.add(record)

    def use_again(self) -> None:
        """A record arrives once more, the same or with other content."""
        if not self.records:
            self.use()
            return
        record = self.rng.choice(self.records[-12:])
        if self.rng.random() < 0.4:
            record = msgspec.structs.replace(record, meters={"units": "7.5"})
        self.add(msgspec.structs.replace(record, arrived_at=self.at))

    # --- holds and quotes ---

    def a_hold(self) -> MadeHold | None:
        """A hold of before, mostly one that may still be open."""
        if not self.holds:
            return None
        if self.rng.random() < 0.75:
            open_ones = [hold for hold in self.holds[-8:] if hold.expires_at > self.at]
            if open_ones:
                return self.rng.choice(open_ones)
        return self.rng.choice(self.holds[-6:])

    def hold(self) -> None:
        """Credits are set aside, mostly shortly before something becomes due, and work goes on while they are."""
        rng = self.rng
        if rng.random() < 0.35:
            ahead = [bound for bound in self.bounds if timedelta(0) < bound - self.at < timedelta(days=6)]
            if ahead:
                self.at = max(self.at, min(ahead) - timedelta(seconds=rng.choice([1, 60, 1_800, 20_000])))
        self.place()
        for _ in range(rng.choice([0, 1, 2, 2, 3, 4, 5])):
            self.work_on(self.holds[-1])

    def work_on(self, hold: MadeHold) -> None:
        """Something happens while the hold is open, or just as it ends."""
        rng = self.rng
        left = hold.expires_at - self.at
        if left <= timedelta(0):
            return
        self.at += left * rng.choice([0, 0.001, 0.01, 0.1, rng.random(), 1])
        place = bisect_right(_WORK_WEIGHTS, rng.random() * _WORK_WEIGHTS[-1])
        _WORK[place](self)

    def place(self) -> None:
        """Credits are set aside, at times by a quote asked for before."""
        rng = self.rng
        lasts = rng.choice([1, 60, 3_600, 3_600, 7_200, 86_400, 86_400, 86_400, rng.randrange(1, 86_401)])
        if rng.random() < 0.02:
            lasts = rng.choice([0, 86_401])
        member, work = rng.choice(MEMBERS), rng.choice([None, "w1"])
        quoted = rng.choice(self.quotes[-3:]) if self.quotes and rng.random() < 0.5 else None
        if quoted is not None:
            token, asked = quoted
            ask = c.PlaceHold(
                team_id=self.team,
                action=asked.action if rng.random() < 0.95 else "image.generate",
                quote=token,
                lasts_seconds=lasts,
                project=asked.project,
                member=member,
                work=work,
            )
            amount = 0
        else:
            amount = self.amount(rng.choice([5, 20, 60, 120]))
            ask = c.PlaceHold(
                team_id=self.team,
                action=rng.choice(ACTIONS),
                amount_micros=amount,
                lasts_seconds=lasts,
                project=rng.choice(PROJECTS),
                member=member,
                work=work,
            )
        ref = self.add(ask) + ".hold_id"
        until = self.at + timedelta(seconds=lasts)
        self.holds.append(MadeHold(ref, self.at, until, amount, ask, quoted[1] if quoted else None))
        self.note(until)

    def extend(self) -> None:
        """A hold is to last longer."""
        hold = self.a_hold()
        if hold is None:
            self.hold()
            return
        lasts = self.rng.choice([60, 3_600, 86_400, 86_400, 86_400])
        self.add(c.ExtendHold(team_id=self.team, hold_id=hold.ref, lasts_seconds=lasts))
        until = self.at + timedelta(seconds=lasts)
        if hold.expires_at > self.at and until <= hold.made_at + timedelta(days=7):
            hold.expires_at = max(hold.expires_at, until)
            self.note(hold.expires_at)

    def capture(self) -> None:
        """A hold, or a part of it, or more than it, becomes a charge."""
        hold, rng = self.a_hold(), self.rng
        if hold is None:
            self.hold()
            return
        dice = rng.random()
        if dice < 0.02:
            self.add(c.CaptureHold(team_id=self.team, hold_id=NEVER, amount_micros=CREDIT))
            return
        amount = hold.amount_micros if dice < 0.3 else self.amount(max(1, hold.amount_micros // CREDIT))
        if dice > 0.7:
            amount = hold.amount_micros + self.amount(60)
        occurred = None
        if rng.random() < 0.5 and hold.made_at < self.at:
            occurred = hold.made_at + (self.at - hold.made_at) * rng.choice([0, rng.random()])
        if rng.random() < 0.02:
            occurred = hold.made_at - timedelta(seconds=1)
        ref = self.add(
            c.CaptureHold(team_id=self.team, hold_id=hold.ref, amount_micros=amount, occurred_at=occurred)
        )
        self.charges.append(ref + ".charge_id")

    def release(self) -> None:
        """A hold ends by request."""
        hold = self.a_hold()
        if hold is None:
            self.hold()
            return
        self.add(c.ReleaseHold(team_id=self.team, hold_id=hold.ref if self.rng.random() < 0.97 else NEVER))

    def quote(self) -> None:
        """A price is asked for that holds, and soon a hold names it, or it is withdrawn."""
        rng = self.rng
        action = rng.choice(ACTIONS)
        asked = AskQuote(
            action, self.meters(action), rng.choice([60, 600, 3_600, 86_400]), rng.choice(PROJECTS)
        )
        ref = self.add(asked)
        self.quotes.append((ref + ".quote", asked))
        if rng.random() < 0.12:
            self.add(c.WithdrawQuote(team_id=self.team, quote_id=ref + ".quote_id"))
        if rng.random() < 0.75:
            self.at += timedelta(seconds=rng.choice([0, 1, 30, 60, 540]))
            self.place()
            for _ in range(rng.choice([0, 1, 1, 2, 3])):
                self.at += timedelta(seconds=rng.choice([1, 60, 1_800, 90_000]))
                self.take(self.record("succeeded", self.holds[-1]))

    # --- credits that come and go ---

    def grant(self) -> None:
        """Credits are given, with terms of any kind."""
        rng = self.rng
        dice = rng.random()
        effective = None if dice < 0.7 else self.soon()
        expires = None if rng.random() < 0.25 else self.soon() + ((effective or self.at) - self.at)
        if rng.random() < 0.03:
            effective = self.at - timedelta(hours=1)
        source: LotSource = rng.choice(["promotional", "promotional", "included"])
        ref = self.add(
            c.GrantCredits(
                team_id=self.team,
                amount_micros=self.amount(),
                source=source,
                effective_at=effective,
                expires_at=expires,
                priority=rng.choice([10, 20, 20, 20, 30]),
                action=rng.choice([None, None, None, "image.generate", "video.generate"]),
                project=rng.choice([None, None, None, "atlas"]),
            )
        )
        self.grants.append(ref + ".lot_id")
        if effective is not None:
            self.note(effective)
        if expires is not None:
            self.note(expires)

    def void(self) -> None:
        """A grant is taken back."""
        if not self.grants:
            self.grant()
            return
        self.add(c.VoidGrant(team_id=self.team, lot_id=self.old(self.grants), reason="given by mistake"))

    def basis(self) -> CostBasis:
        """What credits are bought for."""
        price = self.rng.randint(1, 20_000)
        return CostBasis(price, "EUR", self.rng.choice([0, price // 5]))

    def top_up(self) -> None:
        """Credits are bought, for ever or for a time."""
        payment = Payment(f"pay-{len(self.payments)}", max(1, self.amount()), self.basis(), "settled")
        self.payments.append(payment)
        self.settle(payment, self.soon() if self.rng.random() < 0.4 else None)

    def settle(self, payment: Payment, expires: datetime | None = None, *, off: int = 0) -> None:
        """The payment brings its credits."""
        payment.stage = "settled"
        self.add(
            c.TopUpCredits(
                team_id=self.team,
                amount_micros=payment.amount_micros + off,
                payment_reference=payment.reference,
                cost_basis=payment.basis,
                expires_at=expires,
            )
        )
        if expires is not None:
            self.note(expires)

    def request_top_up(self) -> None:
        """A top-up is asked for; what becomes of it comes later."""
        payment = Payment(f"pay-{len(self.payments)}", max(1, self.amount()), self.basis(), "requested")
        self.payments.append(payment)
        self.add(
            c.RequestTopUp(
                team_id=self.team,
                amount_micros=payment.amount_micros,
                payment_reference=payment.reference,
                cost_basis=payment.basis,
            )
        )
        if self.rng.random() < 0.6:
            self.at += timedelta(seconds=self.rng.choice([1, 40, 3_600]))
            self.answer_payment()

    def answer_payment(self) -> None:
        """A payment is settled or fails, now and then one for which that is no longer possible."""
        rng = self.rng
        if rng.random() < 0.03:
            self.add(c.FailTopUp(team_id=self.team, payment_reference="pay-never", failure="unheard"))
            return
        waiting = [payment for payment in self.payments if payment.stage in ("requested", "failed")]
        if not waiting or rng.random() < 0.12:
            waiting = self.payments
        if not waiting:
            self.top_up()
            return
        payment = rng.choice(waiting)
        if rng.random() < 0.6:
            off = rng.choice([0, 0, 0, 0, 0, 0, 0, 1])
            self.settle(payment, off=off)
            return
        payment.stage = "failed"
        self.add(c.FailTopUp(team_id=self.team, payment_reference=payment.reference, failure="card_declined"))

    def configure_auto(self) -> None:
        """Automatic top-up is set or switched off."""
        rng = self.rng
        self.has_auto = rng.random() < 0.9
        if not self.has_auto:
            self.add(c.ConfigureAutoTopUp(team_id=self.team, enabled=False))
            return
        basis = self.basis()
        self.add(
            c.ConfigureAutoTopUp(
                team_id=self.team,
                enabled=True,
                threshold_micros=rng.choice([20, 100, 300]) * CREDIT,
                amount_micros=rng.randint(20, 150) * CREDIT,
                cost_basis=basis,
                money_cap_minor=(basis.price_minor + basis.tax_minor) * rng.choice([0, 1, 2, 2, 5, 5, 20]),
                window=rng.choice(["day", "week", "month", "period", "lifetime"]),
                failures_max=rng.choice([1, 2, 3]),
            )
        )

    def provider_answers(self) -> None:
        """The provider answers what was requested automatically."""
        if not self.has_auto:
            self.configure_auto()
            return
        how: Literal["settled", "failed"] = "settled" if self.rng.random() < 0.55 else "failed"
        self.add(ProviderAnswers(how, self.rng.choice([0] * 15 + [1])))

    def chargeback(self) -> None:
        """A bank takes a top-up back, or decides about one that it took back."""
        rng = self.rng
        if self.chargebacks and rng.random() < 0.7:
            payment = rng.choice(self.chargebacks)
            kind = c.WinChargeback if rng.random() < 0.5 else c.LoseChargeback
            self.add(kind(team_id=self.team, payment_reference=payment.reference))
            if rng.random() < 0.9:
                self.chargebacks.remove(payment)
            return
        if not self.payments:
            self.top_up()
            return
        payment = rng.choice(self.payments[-4:])
        self.add(c.OpenChargeback(team_id=self.team, payment_reference=payment.reference))
        self.chargebacks.append(payment)

    def adjust(self) -> None:
        """The balance is raised or lowered by hand."""
        rng = self.rng
        amount = rng.choice([self.amount(40), self.amount(40), self.amount(40), 1_200 * CREDIT])
        reason = None if rng.random() < 0.05 else "goodwill"
        direction: Literal["raise", "lower"] = rng.choice(["raise", "lower"])
        ref = self.add(
            c.AdjustBalance(team_id=self.team, direction=direction, amount_micros=amount, reason=reason)
        )
        if amount > 1_000 * CREDIT:
            self.adjustments.append(ref + ".adjustment_id")
        elif direction == "raise":
            self.grants.append(ref + ".lot_id")
        if self.adjustments and rng.random() < 0.8:
            adjustment = self.old(self.adjustments)
            principal = "ben" if rng.random() < 0.8 else "ana"
            self.add(c.ApproveAdjustment(team_id=self.team, adjustment_id=adjustment), principal)

    # --- charges that come back ---

    def refund(self) -> None:
        """A charge is given back, whole or in part."""
        rng = self.rng
        if not self.charges:
            self.use()
            return
        charge = self.old(self.charges)
        amount = None if rng.random() < 0.4 else self.amount(12)
        self.add(c.RefundCharge(team_id=self.team, charge_id=charge, amount_micros=amount))
        if amount is not None and rng.random() < 0.5:
            self.add(c.RefundCharge(team_id=self.team, charge_id=charge, amount_micros=self.amount(12)))

    def dispute(self) -> None:
        """Charges are contested, or a dispute is decided."""
        rng = self.rng
        if self.disputes and rng.random() < 0.55:
            dispute = self.old(self.disputes)
            kind = c.UpholdChargeDispute if rng.random() < 0.5 else c.RejectChargeDispute
            self.add(kind(team_id=self.team, dispute_id=dispute, reason="looked at"))
            return
        if not self.charges:
            self.use()
            return
        contested = list(dict.fromkeys(self.old(self.charges) for _ in range(rng.choice([1, 1, 2, 3]))))
        evidence = "" if rng.random() < 0.03 else "the picture never came"
        ref = self.add(c.OpenChargeDispute(team_id=self.team, charge_ids=contested, evidence=evidence))
        self.disputes.append(ref + ".dispute_id")

    # --- limits, plans, zones, the account ---

    def set_limit(self) -> None:
        """A limit is set, or changed, at times in what may not change."""
        rng = self.rng
        if self.limits and rng.random() < 0.45:
            terms = rng.choice(list(self.limits.values()))
            terms = msgspec.structs.replace(terms, cap_micros=self.cap(), hard=rng.random() < 0.6)
            if rng.random() < 0.06:
                terms = msgspec.structs.replace(terms, window=rng.choice(WINDOWS), member="mira")
                self.add(c.SetLimit(team_id=self.team, limit=terms))
                return
        else:
            terms = LimitTerms(
                limit_id=f"l{rng.randrange(6)}",
                window=rng.choice(WINDOWS),
                cap_micros=self.cap(),
                hard=rng.random() < 0.6,
                member=rng.choice(MEMBERS) if rng.random() < 0.4 else None,
                project=rng.choice(PROJECTS) if rng.random() < 0.3 else None,
                action=rng.choice(ACTIONS) if rng.random() < 0.4 else None,
                thresholds=rng.choice([[], [50, 80, 100], [50, 80, 100], [10, 1_000]]),
            )
            if terms.limit_id in self.limits:
                before = self.limits[terms.limit_id]
                terms = msgspec.structs.replace(
                    terms,
                    window=before.window,
                    member=before.member,
                    project=before.project,
                    action=before.action,
                )
        self.limits[terms.limit_id] = terms
        self.add(c.SetLimit(team_id=self.team, limit=terms))

    def cap(self) -> int:
        """The cap of a limit."""
        return self.rng.choice([0, 10, 50, 50, 100, 100, 300, 1_000]) * CREDIT

    def remove_limit(self) -> None:
        """A limit is taken away."""
        if not self.limits:
            self.set_limit()
            return
        limit_id = self.rng.choice(list(self.limits)) if self.rng.random() < 0.9 else "l9"
        self.limits.pop(limit_id, None)
        self.add(c.RemoveLimit(team_id=self.team, limit_id=limit_id))

    def change_plan(self) -> None:
        """Another plan, now or at the turn."""
        takes: Literal["now", "turn"] = self.rng.choice(["now", "turn"])
        plan = self.rng.choice(PLANS) if self.rng.random() < 0.97 else "unheard-of"
        self.add(c.AssignPlan(team_id=self.team, plan_id=plan, takes_effect=takes))

    def change_zone(self) -> None:
        """The team moves."""
        zone = self.rng.choice(ZONES) if self.rng.random() < 0.95 else "Mars/Olympus"
        self.add(c.ScheduleZoneChange(team_id=self.team, zone=zone))

    def suspend_or_resume(self) -> None:
        """The account is suspended, and some steps later resumed."""
        if self.is_suspended or self.rng.random() < 0.08:
            self.add(c.ResumeAccount(team_id=self.team))
            self.is_suspended = False
            return
        self.add(c.SuspendAccount(team_id=self.team))
        self.is_suspended = True
        for _ in range(self.rng.choice([1, 2, 3])):
            self.at += timedelta(seconds=self.rng.choice([1, 60, 40_000]))
            self.rng.choice(
                [TeamLife.hold, TeamLife.use, TeamLife.extend, TeamLife.change_plan, TeamLife.top_up]
            )(self)
        self.suspend_or_resume()

    def look(self) -> None:
        """Nothing is asked; time is passed."""
        self.add(Tick())

    def again(self) -> None:
        """An earlier command is sent again under its key."""
        asked = [step for step in self.steps if isinstance(step.ask, c.Command)]
        self.add(Again(self.rng.choice(asked[-10:]).number, self.rng.random() < 0.25))

    def open_again(self) -> None:
        """The account is opened once more."""
        self.add(c.OpenAccount(team_id=self.team, zone=self.zone, anchor_day=self.anchor))

    def note(self, instant: datetime) -> None:
        """Something becomes due then, and a day later perhaps something more."""
        self.bounds += (instant, instant + GRACE)


class CalmLife(TeamLife):
    """A life in which the order of arrival means nothing: unscoped lots of one priority, no hold, refund, quote, void,
    correction, lowering or chargeback; what starts after the first use is bought and never expires; usage arrives within grace.
    """

    @override
    def begin(self) -> None:
        """Lots of every expiry, all there before anything is used."""
        self.closes = False
        for _ in range(self.rng.randint(1, 5)):
            expires = self.at + timedelta(days=self.rng.randint(2, 400), seconds=self.rng.randrange(86_400))
            source: LotSource = self.rng.choice(["promotional", "included"])
            self.add(
                c.GrantCredits(
                    team_id=self.team, amount_micros=self.amount(), source=source, expires_at=expires
                )
            )
            self.note(expires)
        self.at += timedelta(hours=30)

    @override
    def act(self) -> None:
        """A use, within grace; or credits are bought for ever; or somebody looks."""
        dice = self.rng.random()
        if dice < 0.75:
            self.use()
        elif dice < 0.9:
            self.payments.append(
                Payment(f"pay-{len(self.payments)}", max(1, self.amount()), self.basis(), "")
            )
            self.settle(self.payments[-1])
        elif dice < 0.97:
            self.look()
        else:
            self.use_again()

    @override
    def use(self) -> None:
        """A record of work of the last day."""
        late = self.rng.choice([0, 1, self.rng.randrange(3_600), self.rng.randrange(86_399), 86_399])
        record = self.record("succeeded")
        self.take(msgspec.structs.replace(record, occurred_at=self.at - timedelta(seconds=late)))


_AT_WORK = [
    (30.0, TeamLife.capture),
    (18.0, TeamLife.use),
    (14.0, TeamLife.extend),
    (8.0, TeamLife.release),
    (6.0, TeamLife.fail),
    (6.0, TeamLife.place),
    (4.0, TeamLife.refund),
    (3.0, TeamLife.chargeback),
    (2.0, TeamLife.void),
    (3.0, TeamLife.adjust),
    (2.0, TeamLife.set_limit),
    (4.0, TeamLife.top_up),
    (4.0, TeamLife.look),
    (3.0, TeamLife.again),
]
_WORK = [act for _, act in _AT_WORK]
_WORK_WEIGHTS = [sum(weight for weight, _ in _AT_WORK[: place + 1]) for place in range(len(_AT_WORK))]

_WEIGHTED = [
    (26.0, TeamLife.use),
    (5.0, TeamLife.fail),
    (4.0, TeamLife.use_again),
    (9.0, TeamLife.hold),
    (0.6, TeamLife.extend),
    (1.2, TeamLife.capture),
    (0.6, TeamLife.release),
    (3.0, TeamLife.quote),
    (5.0, TeamLife.grant),
    (1.5, TeamLife.void),
    (3.5, TeamLife.top_up),
    (2.0, TeamLife.request_top_up),
    (1.0, TeamLife.answer_payment),
    (1.5, TeamLife.configure_auto),
    (2.5, TeamLife.provider_answers),
    (3.5, TeamLife.chargeback),
    (2.5, TeamLife.adjust),
    (6.0, TeamLife.refund),
    (3.0, TeamLife.dispute),
    (3.0, TeamLife.set_limit),
    (0.7, TeamLife.remove_limit),
    (2.5, TeamLife.change_plan),
    (1.0, TeamLife.change_zone),
    (0.8, TeamLife.suspend_or_resume),
    (4.0, TeamLife.look),
    (3.0, TeamLife.again),
    (0.2, TeamLife.open_again),
]
_ACTS = [act for _, act in _WEIGHTED]
_WEIGHTS = [sum(weight for weight, _ in _WEIGHTED[: place + 1]) for place in range(len(_WEIGHTED))]
