"""Duplicate, reordered and late usage, through a real Kafka. The codes D1 to D11 are those of the catalogue of failures."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from time import sleep

from domain.account.decision import account_id
from domain.commands import OpenAccount
from domain.times import instant_text
from tests.streams_on_kafka import HISTORIC, Stream, usage_headers, usage_value

NOW = datetime.now(UTC).replace(microsecond=0)


def test_d1_a_record_is_charged_once_in_a_batch_across_partitions_and_across_restarts(stream: Stream) -> None:
    """D1, K2, I4: the outcome names the record that was charged."""
    stream.use("once", 3, occurred=NOW)
    stream.use("once", 3, occurred=NOW)
    stream.use("once", 3, occurred=NOW, partition=1)
    stream.work()
    stream.use("once", 3, occurred=NOW)
    stream.work()

    assert stream.totals() == {"charged": {"": 1}, "duplicate": {"": 3}}
    assert stream.used() == "3"
    first, again = stream.fate(0), stream.fate(2)
    assert again.version == first.version
    assert again.charge_id == first.charge_id
    assert f"offset 0 of {stream.topic}/0" in again.detail


def test_d1_a_duplicate_that_arrives_after_400_days_is_still_a_duplicate(stream: Stream) -> None:
    """D1, I4: the claim is asked before the time window, so no time makes a charged record anything else."""
    stream.register()
    long_ago = NOW - timedelta(days=500)
    stream.use("old", 3, occurred=long_ago, source=HISTORIC)
    stream.work()
    # From now on that source is an ordinary one, for which 500 days are too old.
    stream.register(HISTORIC, historic=False)
    stream.use("old", 3, occurred=long_ago, source=HISTORIC)
    stream.use("other", 3, occurred=long_ago, source=HISTORIC)
    stream.work()

    assert stream.fates() == ["charged", "duplicate", "parked too_old"]


def test_d2_the_same_id_with_other_content_is_a_conflict_that_shows_both_digests(stream: Stream) -> None:
    """D2, I4, I15."""
    stream.use("one", 3, occurred=NOW)
    stream.use("one", 4, occurred=NOW)
    stream.work()

    fate = stream.fate(1)
    assert fate.kind == "conflict"
    digests = [word.strip(",;") for word in fate.detail.split() if len(word.strip(",;")) == 64]
    assert len(set(digests)) == 2
    assert stream.used() == "3"


def test_d3_one_id_under_two_teams_is_two_records(stream: Stream) -> None:
    """D3, I16."""
    stream.open("globex", granted=10)
    stream.use("same", 3)
    stream.use("same", 4, team="globex")
    stream.work()

    assert (stream.used("acme"), stream.used("globex")) == ("3", "4")


def test_d4_any_order_with_any_duplication_ends_in_the_same_account(stream: Stream) -> None:
    """D4, I10."""
    records = [("a", 1), ("b", 2), ("c", 4)]
    for number, order in enumerate(permutations(records)):
        team = f"team-{number}"
        stream.open(team, granted=5)
        for position, (record_id, units) in enumerate([*order, order[number % 3]]):
            stream.use(record_id, units, team=team, occurred=NOW, partition=position % 2)
    stream.work()

    ends = set()
    for number in range(6):
        account = stream.account(f"team-{number}")
        ends.add((stream.used(f"team-{number}"), account.settled_micros, account.debt_micros))
    assert ends == {("7", 0, 2_000_000)}
    assert stream.totals() == {"charged": {"": 18}, "duplicate": {"": 6}}


def test_d5_late_usage_is_booked_at_the_time_it_occurred(stream: Stream) -> None:
    """D5: recorded now, priced and dated when it happened."""
    late = NOW - timedelta(days=20)
    stream.use("late", 3, occurred=late)
    stream.work()

    fate = stream.fate(0)
    assert fate.kind == "charged"
    assert fate.occurred_at == late


def test_d7_a_correction_that_comes_before_its_record_waives_it(stream: Stream) -> None:
    """D7, E12b, I4, I10."""
    stream.use("8", 20, status="failed", corrects="7", occurred=NOW)
    stream.use("7", 20, occurred=NOW)
    stream.work()

    assert stream.fates() == ["waived failed", "waived corrected"]
    assert stream.account().settled_micros == 1_000_000_000


def test_e12_a_correction_in_the_same_batch_refunds_the_record_charged_before_it(stream: Stream) -> None:
    """E12: what was decided earlier in the batch is found."""
    stream.use("7", 20, occurred=NOW)
    stream.use("8", 20, status="failed", corrects="7", occurred=NOW)
    stream.work()

    assert stream.fates() == ["charged", "waived failed"]
    assert stream.account().settled_micros == 1_000_000_000


def test_d8_a_batch_whose_write_failed_leaves_no_claim_and_is_charged_once(stream: Stream) -> None:
    """D8, I4, I15: the claim is part of the write."""
    stream.use("a", 3)
    stream.use("b", 4)
    killed = stream.spawn(failpoint="batch.before_commit")
    assert killed.wait(60) == -9
    assert stream.charges() == 0

    stream.work()

    assert stream.fates() == ["charged", "charged"]
    assert stream.used() == "7"


def test_d9_many_copies_of_one_record_make_one_version(stream: Stream) -> None:
    """D9, I24."""
    before = stream.account().version
    stream.use_many(["same"] * 3_000, partitions=2)
    stream.work()

    assert stream.totals() == {"charged": {"": 1}, "duplicate": {"": 2_999}}
    assert stream.account().version == before + 1


def test_d10_records_that_share_a_request_are_each_charged(stream: Stream) -> None:
    """D10, I4: the identity is the record's, not that of the request or step it belongs to."""
    for record_id in ("item-1", "item-2", "item-3"):
        stream.use(record_id, 2, work="work-1", step="step-1")
    stream.work()

    assert stream.charges() == 3
    assert stream.used() == "6"


def test_d11_usage_without_credit_is_charged_at_once_and_its_copy_after_a_top_up_is_a_duplicate(
    stream: Stream,
) -> None:
    """D11, I4: what happened is charged as debt; credit that comes later repays it and charges nothing again."""
    stream.open("poor")
    stream.use("a", 5, team="poor", occurred=NOW)
    stream.work()
    assert stream.account("poor").debt_micros == 5_000_000
    stream.grant("poor", 20)
    stream.use("a", 5, team="poor", occurred=NOW)
    stream.work()

    assert stream.fates() == ["charged", "duplicate"]
    account = stream.account("poor")
    assert (account.settled_micros, account.debt_micros) == (15_000_000, 0)


def test_e18_the_same_id_twice_and_then_with_another_quantity(stream: Stream) -> None:
    """E18: charged; duplicate that names the first; conflict. Nothing parked, nothing charged again."""
    stream.use("7", 10, occurred=NOW)
    stream.use("7", 10, occurred=NOW)
    stream.use("7", 11, occurred=NOW)
    stream.work()

    assert stream.totals() == {"charged": {"": 1}, "conflict": {"": 1}, "duplicate": {"": 1}}
    assert stream.fate(1).version == stream.fate(0).version
    assert stream.used() == "10"
    assert stream.letter_counts() == {}


def test_k17_a_record_under_a_foreign_key_is_charged_to_its_team(stream: Stream) -> None:
    """K17, I3."""
    stream.open("globex", granted=10)
    stream.use("a", 1)
    stream.send(usage_value(3), usage_headers("b", "globex", NOW), key=b"acme", partition=1)
    stream.work()

    assert (stream.used("acme"), stream.used("globex")) == ("1", "3")


def test_d6_usage_of_a_period_that_is_over_is_a_new_event_of_that_period_and_changes_no_earlier_one(
    stream: Stream,
) -> None:
    """D6, I3: priced at the card then in force, on from where that period stood; what was recorded stays byte for byte."""
    last_period = NOW - timedelta(days=40)
    stream.publish(card_id="tiered", rates=[_tiered("1", "0.5")])
    dearer_from = datetime.now(UTC) + timedelta(seconds=1)
    stream.publish(card_id="tiered", rates=[_tiered("3", "2")], effective_at=instant_text(dearer_from))
    stream.command(OpenAccount(team_id="late", card_id="tiered"))
    sleep((dearer_from - datetime.now(UTC)).total_seconds())
    stream.use("then", 80, team="late", occurred=last_period)
    stream.use("now", 10, team="late", occurred=dearer_from)
    stream.work()
    before = _stored(stream, "late")
    counters = stream.account("late").counters
    this_period = {max(counters): counters[max(counters)]}

    stream.use("late", 40, team="late", occurred=last_period)
    stream.work()

    *earlier, (version, state, _) = _stored(stream, "late")
    charge = json.loads(state)
    assert earlier == before
    assert (version, charge["id"], charge["card"]["version"]) == (len(before) + 1, "late", 1)
    # 80 units stood there: 20 more at the first price, 20 at the second.
    assert charge["amount_micros"] == 30_000_000
    counters = stream.account("late").counters
    [[key, start, position_after]] = charge["counters"]
    period_start = instant_text(datetime.fromisoformat(start))
    assert (period_start, position_after) == (min(counters), counters[min(counters)][key])
    assert {period: counters[period] for period in counters if period != period_start} == this_period
    assert stream.used("late") == "140"


def _tiered(first: str, then: str) -> dict[str, object]:
    """The first 100 units of a period at one price, all further ones at another."""
    tiers = [{"up_to": "100", "price": first}, {"price": then}]
    return {
        "action": "image.generate",
        "terms": [{"model": "graduated", "meters": ["units"], "tiers": tiers}],
    }


def _stored(stream: Stream, team: str) -> list[tuple[int, bytes, bytes]]:
    """Every event of the team as stored: version, bytes, hash."""
    rows = stream.rows(
        "SELECT originator_version, state, hash FROM ledger_events WHERE originator_id = %s ORDER BY 1",
        account_id(team),
    )
    return [(version, state, digest) for version, state, digest in rows]
