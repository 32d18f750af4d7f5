"""The account lives through arbitrary commands and agrees with the model after each: I1, I2, I3, I6, I9, I13, I19, I20, I27."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.account.applying import fold
from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.account.due import next_due_at, pass_time
from domain.account.events import AccountEvent, CostBasis, CreditsCharged, MovingEvent
from domain.account.funding import grant_credits, top_up_credits
from domain.account.index import IndexChange, IndexOverlay
from domain.account.opening import open_account
from domain.account.refunding import refund_charge
from domain.account.state import TeamAccount
from domain.errors import LedgerError
from domain.usage import UsageRecord, usage_key
from tests.builders import SOURCE, TESTER, a_catalogue, unit_card
from tests.domain.model import GRACE, Model, ModelRefusal

START = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)
CARD = unit_card(
    rates=[
        {"action": "image.generate", "terms": [{"model": "unit", "meters": ["units"], "price": "1"}]},
        {
            "action": "video.generate",
            "terms": [
                {
                    "model": "graduated",
                    "meters": ["units"],
                    "tiers": [{"up_to": "100", "price": "1"}, {"price": "0.5"}],
                }
            ],
        },
    ]
)
CATALOGUE = a_catalogue(CARD)

ids = st.integers(0, 30).map(str)
quantities = st.one_of(
    st.integers(0, 60).map(str), st.sampled_from(["0.000000001", "33.3333333", "0.5", "150"])
)
amounts = st.one_of(st.integers(1, 120_000_000), st.sampled_from([1, 10_000_000, 50_000_000]))
scopes = st.sampled_from([None, None, None, "image.generate", "video.generate"])
projects = st.sampled_from([None, None, "p1", "p2"])
steps = st.one_of(
    st.sampled_from(
        [timedelta(0), timedelta(seconds=1), timedelta(hours=1), GRACE, timedelta(days=7), timedelta(days=40)]
    ),
    st.integers(0, 3 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
)
spans = st.one_of(
    st.none(), st.sampled_from([timedelta(hours=1), timedelta(days=1), timedelta(days=30), timedelta(0)])
)


class AccountMachine(RuleBasedStateMachine):
    """Free arguments, clock jumps to every bound that matters, loss of all process state, and the model beside it."""

    @initialize()
    def opened(self) -> None:
        self.clock = START
        self.index = IndexOverlay()
        self.events: list[AccountEvent] = []
        self.changes: list[IndexChange] = []
        decision = Decision(None, START, TESTER, self.index)
        open_account(decision, "acme")
        self.account: TeamAccount = decision.account
        self.events += decision.events
        self.model = Model(plain(START))

    # Time.

    @rule(step=steps)
    def time_goes_on(self, step: timedelta) -> None:
        self.clock += step

    @rule(data=st.data())
    def time_jumps_to_a_bound(self, data: st.DataObject) -> None:
        bounds = [lot.terms.effective_at for lot in self.account.lots]
        bounds += [
            lot.terms.expires_at + late
            for lot in self.account.lots
            if lot.terms.expires_at
            for late in (timedelta(0), GRACE)
        ]
        ahead = sorted({bound for bound in bounds if bound > self.clock})
        if ahead:
            self.clock = data.draw(st.sampled_from(ahead))

    @rule()
    def somebody_looks(self) -> None:
        self.model.pass_to(plain(self.clock))
        self.decide(pass_time)

    @rule()
    def the_process_dies(self) -> None:
        """Nothing but the stored bytes survives: the head and the index are read back."""
        self.account = msgspec.json.decode(msgspec.json.encode(self.account), type=TeamAccount)

    # Commands.

    @rule(
        amount=amounts,
        wait=spans,
        life=spans,
        priority=st.sampled_from([10, 20, 20]),
        action=scopes,
        project=projects,
        bought=st.booleans(),
    )
    def credits_come_in(
        self,
        amount: int,
        wait: timedelta | None,
        life: timedelta | None,
        priority: int,
        action: str | None,
        project: str | None,
        bought: bool,
    ) -> None:
        effective = None if wait is None else self.clock + wait
        expires = None if life is None else (effective or self.clock) + life
        terms: dict[str, Any] = {"priority": priority, "action": action, "project": project}

        def command(decision: Decision) -> None:
            dates: dict[str, Any] = {"effective_at": effective, "expires_at": expires}
            if bought:
                basis = CostBasis(100, "EUR")
                top_up_credits(decision, amount, payment_reference="p", cost_basis=basis, **dates, **terms)
            else:
                grant_credits(decision, amount, **dates, **terms)

        source = "purchased" if bought else "promotional"
        self.both(
            lambda: self.model.issue(
                plain(self.clock),
                amount,
                source,
                eff=None if effective is None else plain(effective),
                exp=None if expires is None else plain(expires),
                **terms,
            ),
            command,
        )

    @rule(
        rid=ids,
        units=quantities,
        late=st.one_of(
            st.just(timedelta(0)), steps, st.integers(0, 200).map(lambda days: timedelta(days=days))
        ),
        status=st.sampled_from(["succeeded", "succeeded", "succeeded", "failed", "cancelled"]),
        corrects=st.one_of(st.none(), ids),
        action=st.sampled_from(["image.generate", "video.generate"]),
        project=projects,
    )
    def usage_arrives(
        self,
        rid: str,
        units: str,
        late: timedelta,
        status: str,
        corrects: str | None,
        action: str,
        project: str | None,
    ) -> None:
        if rid in self.model.records:
            assert self.index.usage(usage_key("acme", SOURCE, rid)) is not None
            return
        corrects = None if status == "succeeded" or corrects == rid else corrects
        occurred = self.clock - late
        record = UsageRecord(
            team_id="acme",
            source=SOURCE,
            id=rid,
            occurred_at=occurred,
            arrived_at=self.clock,
            action=action,
            status=status,  # type: ignore[arg-type]
            meters={"units": units},
            dimensions={},
            project=project,
            corrects=corrects,
        )
        expected = self.model.use(
            plain(self.clock), rid, status, corrects, action, project, Fraction(units), plain(occurred)
        )
        self.decide(lambda decision: charge_usage(decision, record, CATALOGUE))
        on_file = self.index.usage(record.usage_key())
        assert on_file is not None
        event = on_file.event
        assert (event.waiver if not isinstance(event, CreditsCharged) else "charged") == expected
        if isinstance(event, CreditsCharged):
            assert event.amount_micros == self.model.records[rid]["amount"]

    @precondition(lambda self: self.model.records)
    @rule(data=st.data(), amount=st.one_of(st.none(), amounts, st.integers(0, 3)), whole=st.booleans())
    def a_refund_is_asked(self, data: st.DataObject, amount: int | None, whole: bool) -> None:
        rid = data.draw(st.sampled_from(sorted(self.model.records)))
        charge_id = usage_key("acme", SOURCE, rid)
        asked = None if whole else amount
        self.both(
            lambda: self.model.refund(plain(self.clock), rid, asked),
            lambda decision: refund_charge(decision, charge_id, asked, "r"),
        )

    # Deciding as the ledger does it: on a copy, kept only if nothing was refused.

    def decide(self, command: Any) -> None:
        overlay = IndexOverlay(self.index)
        decision = Decision(copy_of(self.account), self.clock, TESTER, overlay)
        command(decision)
        self.account = decision.account
        self.events += decision.events
        for change in decision.index_changes:
            self.index.put(change)
        self.index.usages |= overlay.usages

    def both(self, model: Any, command: Any) -> None:
        """The product refuses exactly what the model refuses, and a refusal changes nothing."""
        before = msgspec.json.encode(self.account)
        try:
            model()
        except ModelRefusal:
            try:
                self.decide(command)
            except LedgerError:
                assert msgspec.json.encode(self.account) == before
                return
            raise AssertionError("the model refuses what the product allows") from None
        self.decide(command)

    # What holds after each step.

    @invariant()
    def lots_and_debt_are_the_models(self) -> None:
        seen = Decision(copy_of(self.account), self.clock, TESTER, IndexOverlay(self.index))
        pass_time(seen)
        self.model.pass_to(plain(self.clock))
        ours = sorted((order_of(lot.terms), lot.remaining_micros) for lot in seen.account.lots)
        theirs = sorted((self.model.order(lot), lot["left"]) for lot in self.model.lots if lot["left"])
        assert [left for _, left in ours] == [left for _, left in theirs]
        assert [order[:6] for order, _ in ours] == [order[:6] for order, _ in theirs]
        assert seen.account.debt_micros == self.model.debt
        due = next_due_at(seen.account)
        assert due is None or due > self.clock

    @invariant()
    def i9_the_fold_of_the_events_is_the_state(self) -> None:
        folded, changes = fold(None, self.events)
        assert folded == self.account
        rebuilt: dict[tuple[str, str], bytes | None] = {(c.kind, c.key): c.entry for c in changes}
        kept = {
            (kind, key): entry
            for kind, entries in self.index.entries.items()
            for key, entry in entries.items()
        }
        assert rebuilt == kept

    @invariant()
    def i3_i20_versions_count_and_recorded_times_never_decrease(self) -> None:
        assert self.account.version == len(self.events)
        times = [event.recorded_at for event in self.events]
        assert times == sorted(times)

    @invariant()
    def i2_i6_nothing_is_negative_and_settled_is_the_sum_of_the_lots(self) -> None:
        assert all(lot.remaining_micros > 0 for lot in self.account.lots)
        assert self.account.settled_micros == sum(lot.remaining_micros for lot in self.account.lots)
        moving = [event for event in self.events if isinstance(event, MovingEvent)]
        assert all(event.settled_after_micros >= 0 and event.debt_after_micros >= 0 for event in moving)

    @invariant()
    def i27_no_idle_credit_beside_debt(self) -> None:
        if not self.account.debt_micros or self.account.passed_at < self.clock:
            return
        for lot in self.account.lots:
            terms = lot.terms
            is_open = terms.effective_at <= self.clock and (
                terms.expires_at is None or self.clock < terms.expires_at
            )
            assert not (is_open and terms.action is None and terms.project is None)


def order_of(terms: Any) -> tuple[Any, ...]:
    """The burn order, spelled out here once more from the published text."""
    scope = 3 - 2 * (terms.action is not None) - (terms.project is not None)
    far = datetime.max  # noqa: DTZ901 - the model keeps plain UTC
    return (
        terms.priority,
        scope,
        far if terms.expires_at is None else plain(terms.expires_at),
        1 if terms.source == "purchased" else 0,
        plain(terms.effective_at),
        plain(terms.granted_at),
        terms.number,
        terms.lot_id,
    )


def plain(at: datetime) -> datetime:
    """UTC without its zone, as the model keeps time."""
    return at.replace(tzinfo=None)


AccountMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("COFFER_MACHINE_EXAMPLES", "300")),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_the_account_agrees_with_the_model = AccountMachine.TestCase
