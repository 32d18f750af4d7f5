"""Questions about what is open on an account: balance, lots, holds, limits, plan, payments, disputes; now or then."""

from __future__ import annotations

from datetime import datetime

import msgspec

from api.answers import AccountAnswer, BalanceAnswer, CostBasisAnswer, LotsAnswer
from api.answers_disputes import DisputeAnswer, DisputesAnswer, OpenDispute
from api.answers_holds import HoldAnswer, HoldsAnswer, OneHold
from api.answers_limits import LimitAnswer, LimitsAnswer
from api.answers_payments import AutoTopUpAnswer, ChargebackAnswer, ChargebacksAnswer, TopUpAnswer
from api.answers_plans import (
    PendingPlanAnswer,
    PendingZoneAnswer,
    PeriodAnswer,
    PlanAnswer,
    PlanTermsAnswer,
)
from api.moments import NOW, Moment, Moments, Standing
from api.ports import AccountReads, StoredEvent
from domain.account.calendar import period_at
from domain.account.events import ChargeDisputeOpened, CostBasis, CreditsHeld
from domain.account.index import AccountIndex, DecidedDispute, TopUp
from domain.account.state import TeamAccount, in_force
from domain.errors import UnknownDispute, UnknownHold, UnknownPayment
from projections.balance import Balance, balance_of
from projections.holds import hold_of, holds_of
from projections.limits import limits_as_booked


class AccountQueries:
    """Reads of one account. Raises, everywhere: UnknownTeam, VersionNotReached, Busy."""

    def __init__(self, accounts: AccountReads, moments: Moments) -> None:
        self._accounts = accounts
        self._moments = moments

    async def account(self, team_id: str, moment: Moment = NOW) -> AccountAnswer:
        """The account and its terms."""
        standing = await self._moments.standing(team_id, moment)
        return await self._moments.booked(
            standing, lambda account, _: AccountAnswer.at(standing.place(), account, standing.at)
        )

    async def balance(self, team_id: str, moment: Moment = NOW) -> BalanceAnswer:
        """The balance now; as of a time, as the ledger knew it then; or at a version."""
        return BalanceAnswer.of(await self._balance(team_id, moment))

    async def lots(self, team_id: str, moment: Moment = NOW) -> LotsAnswer:
        """Every lot with a remainder, in burn order."""
        return LotsAnswer.of(await self._balance(team_id, moment))

    async def holds(self, team_id: str, moment: Moment = NOW) -> HoldsAnswer:
        """Every open hold."""
        standing = await self._moments.standing(team_id, moment)
        holds = await self._moments.booked(standing, lambda account, _: holds_of(account))
        return HoldsAnswer(**standing.place(), data=[OneHold.of(hold) for hold in holds])

    async def hold(self, team_id: str, hold_id: str, moment: Moment = NOW) -> HoldAnswer:
        """One hold, open or ended. Raises: UnknownHold."""
        standing = await self._moments.standing(team_id, moment)
        # A hold is named after the version that made it.
        stored = await self._event(standing, hold_id)
        if stored is not None and isinstance(stored.event, CreditsHeld):
            made = stored.event
            hold = await self._moments.booked(
                standing, lambda account, index: hold_of(account, index, hold_id, made)
            )
            if hold is not None:
                return HoldAnswer.at(standing.place(), hold)
        raise UnknownHold(f"hold {hold_id!r} is not one of this team's", hold_id=hold_id)

    async def limits(self, team_id: str, moment: Moment = NOW) -> LimitsAnswer:
        """Every limit, with what its running window has left."""
        standing = await self._moments.standing(team_id, moment)
        limits = await self._moments.booked(
            standing, lambda account, index: limits_as_booked(account, index, standing.at)
        )
        return LimitsAnswer(**standing.place(), data=[LimitAnswer.of(limit) for limit in limits])

    async def plan(self, team_id: str, moment: Moment = NOW) -> PlanAnswer:
        """The plan in force, the running period, and what follows."""
        standing = await self._moments.standing(team_id, moment)
        return await self._moments.booked(standing, lambda account, index: _plan(standing, account, index))

    async def auto_top_up(self, team_id: str, moment: Moment = NOW) -> AutoTopUpAnswer:
        """Automatic top-up: its terms and how it stands."""
        standing = await self._moments.standing(team_id, moment)
        return _auto_top_up(standing)

    async def top_up(self, team_id: str, payment_reference: str, moment: Moment = NOW) -> TopUpAnswer:
        """What became of a payment. Raises: UnknownPayment."""
        standing = await self._moments.standing(team_id, moment)
        entry, chargeback = await self._moments.computed(
            standing,
            lambda index: (
                index.entry("top_up", payment_reference),
                index.entry("chargeback", payment_reference),
            ),
        )
        if entry is None:
            raise UnknownPayment(
                f"payment {payment_reference!r} is not one of this team's: neither requested nor settled",
                payment_reference=payment_reference,
            )
        top_up = msgspec.json.decode(entry, type=TopUp)
        return TopUpAnswer(
            **standing.place(),
            payment_reference=payment_reference,
            status=top_up.status,
            amount=top_up.amount_micros,
            cost_basis=_paid(top_up.cost_basis),
            lot_id=top_up.lot_id,
            chargeback=msgspec.json.decode(chargeback, type=str) if chargeback else None,
            since_version=top_up.version,
        )

    async def chargebacks(self, team_id: str, moment: Moment = NOW) -> ChargebacksAnswer:
        """The open chargebacks and what each withholds."""
        standing = await self._moments.standing(team_id, moment)
        told = await self._moments.booked(standing, lambda account, _: _chargebacks(account))
        return ChargebacksAnswer(**standing.place(), data=told)

    async def disputes(self, team_id: str, moment: Moment = NOW) -> DisputesAnswer:
        """The open disputes."""
        standing = await self._moments.standing(team_id, moment)
        told = [
            OpenDispute(dispute_id=each, charge_ids=dispute.charge_ids, opened_at=dispute.opened_at)
            for each, dispute in standing.account.disputes.items()
        ]
        return DisputesAnswer(**standing.place(), data=told)

    async def dispute(self, team_id: str, dispute_id: str, moment: Moment = NOW) -> DisputeAnswer:
        """One dispute, open or decided. Raises: UnknownDispute."""
        standing = await self._moments.standing(team_id, moment)
        # A dispute is named after the version that opened it.
        stored = await self._event(standing, dispute_id)
        if stored is None or not isinstance(stored.event, ChargeDisputeOpened):
            raise UnknownDispute(f"dispute {dispute_id!r} is not one of this team's", dispute_id=dispute_id)
        entry = await self._moments.computed(standing, lambda index: index.entry("dispute", dispute_id))
        return DisputeAnswer(
            **standing.place(),
            dispute_id=dispute_id,
            state=msgspec.json.decode(entry, type=DecidedDispute).how if entry else "open",
            charge_ids=stored.event.charge_ids,
            evidence=stored.event.evidence,
            opened_at=stored.event.recorded_at,
            opened_by=stored.event.actor.id,
        )

    async def _balance(self, team_id: str, moment: Moment) -> Balance:
        standing = await self._moments.standing(team_id, moment)
        return await self._moments.computed(
            standing,
            lambda index: balance_of(
                standing.account, standing.at, standing.position, standing.version, index
            ),
        )

    async def _event(self, standing: Standing, named: str) -> StoredEvent | None:
        """The event that an id with a version in it is named after, if the account had come so far."""
        version = int(named.rpartition("-")[2])
        if version > standing.version:
            return None
        stored = await self._accounts.events(standing.team_id, after=version - 1, until=version, limit=1)
        return stored[0] if stored else None


def _plan(standing: Standing, account: TeamAccount, index: AccountIndex) -> PlanAnswer:
    at, pending = standing.at, account.pending_plan
    start, end = _period(account, index, at)
    following = [each for each in account.zones if each.since > at]
    turning = account.plan is not None or pending is not None
    return PlanAnswer(
        **standing.place(),
        zone=in_force(account.zones, at),
        anchor_day=account.anchor_day,
        card_id=in_force(account.cards, at),
        plan=PlanTermsAnswer.of(account.plan) if account.plan else None,
        period=PeriodAnswer(start=start, end=end),
        next_turn=end if turning and account.status != "closed" else None,
        pending_plan=PendingPlanAnswer(
            plan=PlanTermsAnswer.of(pending.plan), effective_at=pending.effective_at
        )
        if pending
        else None,
        pending_zone=PendingZoneAnswer(zone=following[0].value, effective_at=following[0].since)
        if following
        else None,
    )


def _period(account: TeamAccount, index: AccountIndex, at: datetime) -> tuple[datetime, datetime]:
    """The period of the plan as it was stored when it began; without a plan, that of the calendar."""
    start, end = account.period_start, account.period_end
    if start is not None and end is not None and start <= at < end:
        return start, end
    return period_at(account, index, at)


def _auto_top_up(standing: Standing) -> AutoTopUpAnswer:
    auto = standing.account.auto_top_up
    terms = auto.terms if auto else None
    return AutoTopUpAnswer(
        **standing.place(),
        configured=auto is not None,
        enabled=terms.enabled if terms else False,
        threshold=terms.threshold_micros if terms else 0,
        amount=terms.amount_micros if terms else 0,
        cost_basis=_paid(terms.cost_basis) if terms else None,
        money_cap_minor=terms.money_cap_minor if terms else 0,
        window=terms.window if terms else "month",
        failures_max=terms.failures_max if terms else 0,
        in_flight=auto.in_flight if auto else None,
        failures=auto.failures if auto else 0,
        retry_at=auto.retry_at if auto else None,
        stopped=auto.stopped if auto else False,
        window_start=auto.window_start if auto else None,
        spent_minor=auto.spent_minor if auto else 0,
    )


def _chargebacks(account: TeamAccount) -> list[ChargebackAnswer]:
    return [
        ChargebackAnswer(
            payment_reference=reference,
            origin_lot_id=chargeback.origin_lot_id,
            opened_at=chargeback.opened_at,
            withheld=sum(
                lot.remaining_micros - lot.held_micros
                for lot in account.lots
                if lot.terms.origin_lot_id == chargeback.origin_lot_id and lot.withheld_since is not None
            ),
        )
        for reference, chargeback in account.chargebacks.items()
    ]


def _paid(cost_basis: CostBasis | None) -> CostBasisAnswer | None:
    if cost_basis is None:
        return None
    return CostBasisAnswer(
        price_minor=cost_basis.price_minor, currency=cost_basis.currency, tax_minor=cost_basis.tax_minor
    )
