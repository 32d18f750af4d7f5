"""Automatic top-up and a payment provider, both told everything twice: one request at a time, a cap on money, an end."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from consumers.payments import settle_payments
from consumers.usage import settle_reads
from domain.account.auto_top_up import configure_auto_top_up
from domain.account.decision import Decision, copy_of
from domain.account.events import (
    AccountEvent,
    AutoTopUpFailed,
    AutoTopUpRequested,
    CostBasis,
    CreditsToppedUp,
)
from infra.local.provider import Asked, FakeProvider, ProviderTerms
from tests.builders import TESTER
from tests.consumers.batch_stories import PARTITIONS, a_card, a_read, a_record
from tests.consumers.payment_stories import PAYMENTS, a_payments_read
from tests.memory_batches import MemoryBatchStore

START = datetime(2026, 3, 1, tzinfo=UTC)
BASIS = CostBasis(2_000, "EUR", 380)
REQUESTS_A_DAY = 10
FAILURES_MAX = 3


class Town:
    """A ledger in memory, its team acme, a provider, and a clock."""

    def __init__(self, terms: ProviderTerms) -> None:
        self.store = MemoryBatchStore(START)
        self.store.open("acme", 10_000_000)
        for partition in (*PAYMENTS, *PARTITIONS):
            self.store.register(partition, 0)
        self.provider = FakeProvider(terms)
        self.told = 0
        self.used = 0
        self._read = 0
        self._counted = 0
        self._counts: Counter[type[AccountEvent]] = Counter()

    def count(self, kind: type[AccountEvent]) -> int:
        """How many events of a kind there are."""
        self._counts.update(map(type, self.events[self._counted :]))
        self._counted = len(self.events)
        return self._counts[kind]

    @property
    def events(self) -> list[AccountEvent]:
        return self.store.events["acme"]

    def configure(self) -> None:
        decision = Decision(
            copy_of(self.store.accounts["acme"]), self.store.now, TESTER, self.store.indexes["acme"]
        )
        configure_auto_top_up(
            decision,
            enabled=True,
            threshold_micros=5_000_000,
            amount_micros=100_000_000,
            cost_basis=BASIS,
            money_cap_minor=REQUESTS_A_DAY * 2_380,
            window="day",
            failures_max=FAILURES_MAX,
        )
        self.store.accounts["acme"] = decision.account
        self.events.extend(decision.events)

    def use(self) -> None:
        """Ten credits are used; then the provider reads what is new, twice, and is heard, twice."""
        record = a_record(self.used, f"r{self.used}", 10, occurred=self.store.now, arrived=self.store.now)
        settle_reads(self.store, [a_read(record)], a_card())
        self.used += 1
        self._let_the_provider_read()

    def hear(self) -> None:
        """What the provider has to tell by now arrives, each fact twice."""
        for payment in list(self.provider.due(self.store.now.timestamp())):
            settle_payments(self.store, [a_payments_read(payment, payment, first=self.told)])
            self.told += 2

    def _let_the_provider_read(self) -> None:
        fresh = [each for each in self.events[self._read :] if isinstance(each, AutoTopUpRequested)]
        self._read = len(self.events)
        for each in (*fresh, *fresh):
            asked = Asked(each.payment_reference, each.amount_micros, each.cost_basis)
            self.provider.ask("acme", asked, self.store.now.timestamp())

    def of(self, kind: type[AccountEvent]) -> list[AccountEvent]:
        return [each for each in self.events if isinstance(each, kind)]


@pytest.fixture
def failing() -> Town:
    town = Town(ProviderTerms(delay_seconds=60, fail_teams=frozenset({"acme"})))
    town.configure()
    return town


def test_h7_a_provider_that_fails_500_times_is_asked_one_by_one_within_the_cap_and_then_no_more(
    failing: Town,
) -> None:
    """H7, I24: single flight, money cap, it stops. An operator starts it again each time."""
    in_flight_max = 0
    stopped_quietly = 0
    while failing.count(AutoTopUpFailed) < 500:
        failing.store.now += timedelta(minutes=25)
        asked_before = failing.count(AutoTopUpRequested)
        auto = failing.store.accounts["acme"].auto_top_up
        assert auto is not None
        was_stopped = auto.stopped
        failing.use()
        asked = failing.count(AutoTopUpRequested)
        in_flight_max = max(in_flight_max, asked - failing.count(AutoTopUpFailed))
        if was_stopped:
            assert asked == asked_before
            stopped_quietly += 1
            failing.configure()
        failing.store.now += timedelta(minutes=5)
        failing.hear()

    requested = [each for each in failing.events if isinstance(each, AutoTopUpRequested)]
    failed = [each for each in failing.events if isinstance(each, AutoTopUpFailed)]
    assert in_flight_max == 1
    assert len(requested) == len(failed) == 500
    assert max(Counter(each.recorded_at.date() for each in requested).values()) <= REQUESTS_A_DAY
    assert {each.failures for each in failed} == {1, 2, 3}
    assert stopped_quietly >= 500 // FAILURES_MAX
    assert failing.provider.charges("acme") == 0
    assert failing.of(CreditsToppedUp) == []


def test_h7_a_provider_that_fails_stops_it_for_good_until_somebody_configures_it(failing: Town) -> None:
    """H7: 500 more uses change nothing."""
    for _ in range(500):
        failing.store.now += timedelta(hours=1)
        failing.use()
        failing.store.now += timedelta(minutes=5)
        failing.hear()

    assert len(failing.of(AutoTopUpRequested)) == FAILURES_MAX
    last = failing.of(AutoTopUpFailed)[-1]
    assert isinstance(last, AutoTopUpFailed)
    assert last.retry_at is None


def test_a_provider_told_everything_twice_charges_once_and_the_team_is_topped_up_once() -> None:
    """H7, I4: at least once on every way."""
    town = Town(ProviderTerms(delay_seconds=60, fail_teams=frozenset({"acme"}), fail_times=1))
    town.configure()
    for _ in range(12):
        town.store.now += timedelta(minutes=30)
        town.use()
        town.store.now += timedelta(minutes=5)
        town.hear()

    bought = town.of(CreditsToppedUp)
    assert len(town.of(AutoTopUpFailed)) == 1
    assert len(bought) == town.provider.charges("acme") == len(town.of(AutoTopUpRequested)) - 1 >= 1
    account = town.store.accounts["acme"]
    assert (
        account.settled_micros == 10_000_000 + 100_000_000 * len(bought) - 120_000_000 + account.debt_micros
    )


def test_a_bank_takes_the_first_settled_payment_back_and_decides() -> None:
    provider = FakeProvider(ProviderTerms(delay_seconds=1, chargebacks={"acme": "lost"}))
    asked = Asked("pay-1", 1, BASIS)
    provider.ask("acme", asked, 0)
    provider.ask("acme", Asked("pay-2", 1, BASIS), 0)
    provider.ask("other", asked, 0)
    told = [(each.team_id, each.payment_reference, each.kind) for at in range(9) for each in provider.due(at)]

    assert [kind for *_, kind in told].count("topup.settled") == 3
    assert [each for each in told if each[2].startswith("chargeback")] == [
        ("acme", "pay-1", "chargeback.opened"),
        ("acme", "pay-1", "chargeback.lost"),
    ]


def test_a_provider_that_starts_again_goes_on_where_it_was() -> None:
    """Its memory is what it told; the requests come once more from the beginning."""
    terms = ProviderTerms(delay_seconds=0, chargebacks={"acme": "won"})
    asked = Asked("pay-1", 1, BASIS)
    whole = FakeProvider(terms)
    whole.ask("acme", asked, 0)
    everything = [each.kind for each in whole.due(0)]
    assert everything == ["topup.settled", "chargeback.opened", "chargeback.won"]

    for place in range(len(everything) + 1):
        again = FakeProvider(terms)
        for kind in everything[:place]:
            again.remember("acme", "pay-1", kind)
        again.ask("acme", asked, 0)
        assert [each.kind for each in again.due(0)] == everything[place:]


def test_a_payment_method_that_is_declined_never_pays() -> None:
    provider = FakeProvider(ProviderTerms(delay_seconds=0))
    provider.set_method("acme", "tok_declined_1")
    provider.ask("acme", Asked("pay-1", 1, BASIS), 0)
    provider.set_method("globex", "tok_visa_1")
    provider.ask("globex", Asked("pay-1", 1, BASIS), 0)

    assert sorted((each.team_id, each.kind) for each in provider.due(0)) == [
        ("acme", "topup.failed"),
        ("globex", "topup.settled"),
    ]
