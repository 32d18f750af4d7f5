"""Commands that race on one account of a real PostgreSQL: H1 to H4, H8, H9 and R1, each with the end that is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier
from time import monotonic

import pytest

from consumers.batches import MovedHeads
from domain.commands import (
    CaptureHold,
    CloseAccount,
    Command,
    GrantCredits,
    OpenAccount,
    PlaceHold,
    RefundCharge,
    ReleaseHold,
)
from domain.errors import (
    AccountClosed,
    HoldNotOpen,
    InsufficientCredits,
    RefundExceedsCharge,
    UnknownCharge,
)
from domain.ledger import Answer, Ledger
from domain.ticking import tick
from domain.usage import UsageRecord
from infra.postgres.application import LedgerApplication
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.connections import Timeouts
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from tests.builders import micros, when
from tests.infra.stored import CALLER, charge, execute, opened, rows, usage

LOCK_SECONDS = 5
START = when("2026-11-01 12:00")


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    """The ledger; at the end what is stored agrees with its own replay."""
    shards = ShardMap(
        database_url, timeouts=Timeouts(lock_milliseconds=LOCK_SECONDS * 1_000), connections_max=16
    )
    yield shards
    assert verify(shards).findings == []
    shards.close()


def raced(work: Sequence[Callable[[], object]]) -> list[object]:
    """What each of these got, all begun at once, an exception included; in the order of the list."""
    begin = Barrier(len(work))

    def outcome(one: Callable[[], object]) -> object:
        begin.wait()
        try:
            return one()
        except Exception as error:  # noqa: BLE001 - the outcome is what the test is about
            return error

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(outcome, work))


def asking(shards: ShardMap, *commands: Command) -> list[Callable[[], Answer]]:
    """Each command, to be asked under a key of its own."""
    return [lambda command=command: execute(shards, command) for command in commands]  # type: ignore[misc]


def hold(amount: int, **terms: str) -> PlaceHold:
    return PlaceHold(team_id="acme", action="image.generate", amount_micros=micros(amount), **terms)  # type: ignore[arg-type]


def capture(hold_id: str, amount: int) -> CaptureHold:
    return CaptureHold(team_id="acme", hold_id=hold_id, amount_micros=micros(amount))


def refund(charge_id: str, amount: int) -> RefundCharge:
    return RefundCharge(team_id="acme", charge_id=charge_id, amount_micros=micros(amount), reason="black")


def held(shards: ShardMap, amount: int) -> str:
    """The id of a new hold."""
    hold_id = execute(shards, hold(amount)).hold_id
    assert hold_id is not None
    return hold_id


def count_of(database_url: str, *names: str) -> int:
    """How many stored events have one of these names."""
    topics = rows(database_url, "SELECT split_part(topic, '.', 1) FROM ledger_events")
    return sum(topic in names for (topic,) in topics)


def kinds(outcomes: Sequence[object]) -> list[str]:
    """The names of what came out, sorted."""
    return sorted(type(each).__name__ for each in outcomes)


def test_h1_of_200_requests_at_once_for_one_credit_of_100_half_are_held_and_half_denied_on_record(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=100)

    outcomes = raced(asking(shards, *[hold(1)] * 200))

    answers = [each for each in outcomes if isinstance(each, Answer)]
    assert len(answers) == 200, kinds(outcomes)
    assert [answer.outcome for answer in answers].count("held") == 100
    [(repeated,)] = rows(database_url, "SELECT coalesce(sum(repeats), 0) FROM denial_repeat")
    assert count_of(database_url, "HoldDenied") + repeated == 100
    assert count_of(database_url, "CreditsHeld") == 100


def test_h2_open_holds_never_exceed_what_there_is_at_any_version(shards: ShardMap) -> None:
    opened(shards, "acme", granted=100)
    amounts = [7, 30, 1, 45, 20, 12, 60, 3, 9, 33]

    outcomes = raced(asking(shards, *[hold(amount, member=f"m{amount}") for amount in amounts * 2]))

    assert kinds(outcomes) == ["Answer"] * 20
    application = LedgerApplication(
        shards, shards.shard_of("acme"), {"IS_SNAPSHOTTING_ENABLED": "n", "AGGREGATE_CACHE_MAXSIZE": ""}
    )
    for version in range(1, application.account("acme").version + 1):
        account = application.account("acme", version=version)
        set_aside = sum(line.amount_micros for each in account.holds for line in each.lines)
        assert set_aside == sum(lot.held_micros for lot in account.lots) <= account.settled_micros
    assert application.account("acme").settled_micros - set_aside < micros(60), "room for one more was left"


def test_h3_a_capture_that_races_a_release_leaves_one_end_of_the_hold(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=1_000)

    for n in range(1, 11):
        hold_id = held(shards, 50)
        outcomes = raced(asking(shards, capture(hold_id, 50), ReleaseHold(team_id="acme", hold_id=hold_id)))
        assert kinds(outcomes) == ["Answer", "HoldNotOpen"]
        assert count_of(database_url, "HoldCaptured", "HoldReleased") == n


def test_h3_at_the_instant_of_its_expiry_a_hold_has_expired_whoever_comes_first(
    database_url: str, shards: ShardMap
) -> None:
    def at(now: datetime) -> Ledger:
        return Ledger(PostgresLedgerStore(shards, clock=lambda _: now))

    at(START).execute(OpenAccount(team_id="acme"), CALLER, "open")
    at(START).execute(GrantCredits(team_id="acme", amount_micros=micros(100)), CALLER, "grant")
    placed = at(START).execute(hold(50), CALLER, "hold")
    assert placed.hold_id is not None
    expiry = when("2026-11-01 13:00")
    ending = [capture(placed.hold_id, 50), ReleaseHold(team_id="acme", hold_id=placed.hold_id)]

    outcomes = raced(
        [
            *(
                lambda n=n, one=one: at(expiry).execute(one, CALLER, f"end-{n}")
                for n, one in enumerate(ending)
            ),
            lambda: tick(PostgresLedgerStore(shards, clock=lambda _: expiry), "acme"),
        ]
    )

    assert [type(each) for each in outcomes[:2]] == [HoldNotOpen, HoldNotOpen]
    # A tick that met the account locked has left it to whoever comes next.
    tick(PostgresLedgerStore(shards, clock=lambda _: expiry), "acme")
    assert count_of(database_url, "HoldExpired", "HoldCaptured", "HoldReleased") == 1


def test_h4_captures_at_once_never_take_more_than_was_held(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme", granted=100)
    hold_id = held(shards, 100)

    outcomes = raced(asking(shards, *[capture(hold_id, 30)] * 8))

    assert kinds(outcomes) == ["Answer"] * 3 + ["InsufficientCredits"] * 5
    assert rows(database_url, "SELECT settled_micros, debt_micros FROM account_balance") == [(micros(10), 0)]
    assert all(isinstance(each, Answer | InsufficientCredits) for each in outcomes)


def test_h4_a_hold_released_by_many_at_once_is_given_back_once(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme", granted=100)
    hold_id = held(shards, 60)

    outcomes = raced(asking(shards, *[ReleaseHold(team_id="acme", hold_id=hold_id)] * 8))

    assert kinds(outcomes) == ["Answer"] + ["HoldNotOpen"] * 7
    assert count_of(database_url, "HoldReleased") == 1


def test_h8_fifty_writers_of_one_team_are_all_served_and_none_starves(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=0)
    waited: list[float] = []

    def writer() -> None:
        for _ in range(4):
            began = monotonic()
            execute(shards, GrantCredits(team_id="acme", amount_micros=1))
            waited.append(monotonic() - began)

    outcomes = raced([writer] * 50)

    assert [each for each in outcomes if each is not None] == []
    assert rows(database_url, "SELECT settled_micros, version FROM account_balance") == [(200, 201)]
    assert max(waited) < LOCK_SECONDS


def test_h9_the_first_commands_of_a_new_team_race_and_all_happen(database_url: str, shards: ShardMap) -> None:
    grants = [GrantCredits(team_id="acme", amount_micros=10**n) for n in range(4)]
    execute(shards, OpenAccount(team_id="acme"))

    outcomes = raced(asking(shards, *grants))

    answers = [each for each in outcomes if isinstance(each, Answer)]
    assert sorted(answer.version for answer in answers) == [2, 3, 4, 5]
    assert not any(answer.is_replayed for answer in answers)
    assert rows(database_url, "SELECT settled_micros, version FROM account_balance") == [(1_111, 5)]


def test_r1_refunds_of_one_charge_at_once_never_give_back_more_than_it(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=100)
    store = PostgresBatchStore(shards)
    charge(store, [usage("acme", "u", units=100)])
    store.close()

    outcomes = raced(asking(shards, *[refund(usage("acme", "u").usage_key(), 30)] * 8))

    assert kinds(outcomes) == ["Answer"] * 3 + ["RefundExceedsCharge"] * 5
    assert all(isinstance(each, Answer | RefundExceedsCharge) for each in outcomes)
    assert rows(database_url, "SELECT settled_micros FROM account_balance") == [(micros(90),)]


def test_r1_a_refund_that_races_its_own_charge_finds_it_or_says_that_it_is_unknown(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=1_000)
    store = PostgresBatchStore(shards)

    def charged(record: UsageRecord) -> None:
        try:
            charge(store, [record])
        except MovedHeads:
            # As the consumer does: decided again on the account as it is now, which is locked this time.
            charge(store, [record])

    refunded = 0
    for n in range(1, 31):
        record = usage("acme", f"u{n}", units=10)
        met, outcome = raced(
            [
                lambda record=record: charged(record),  # type: ignore[misc]
                *asking(shards, refund(record.usage_key(), 10)),
            ]
        )
        assert met is None, met
        assert isinstance(outcome, Answer | UnknownCharge), outcome
        refunded += isinstance(outcome, Answer)
    store.close()

    assert count_of(database_url, "ChargeRefunded") == refunded
    assert rows(database_url, "SELECT settled_micros FROM account_balance") == [
        (micros(1_000 - 300 + 10 * refunded),)
    ]


def test_r1_a_refund_that_races_the_close_of_its_account_happens_before_it_or_not_at_all(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=100)
    store = PostgresBatchStore(shards)
    charge(store, [usage("acme", "u", units=40)])
    store.close()

    outcomes = raced(asking(shards, refund(usage("acme", "u").usage_key(), 40), CloseAccount(team_id="acme")))

    assert isinstance(outcomes[1], Answer)
    assert isinstance(outcomes[0], Answer | AccountClosed)
    settled = micros(100 if isinstance(outcomes[0], Answer) else 60)
    assert rows(database_url, "SELECT settled_micros FROM account_balance") == [(settled,)]
