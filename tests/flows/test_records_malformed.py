"""Hostile and broken records, through a real Kafka: each ends in one outcome, and the next record is charged.

The codes M1 to M15 are those of the catalogue of failures.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.streams_on_kafka import HISTORIC, Headers, Stream, usage_headers, usage_value

NOW = datetime.now(UTC).replace(microsecond=0)


def headers(record_id: str = "poison", **changes: Any) -> Headers:
    return usage_headers(record_id, "acme", NOW, **changes)


def fates_before_a_good_record(stream: Stream, *records: tuple[bytes | None, Headers]) -> list[str]:
    """What became of these records; the good record sent after them was charged, which is asserted here."""
    for value, its_headers in records:
        stream.send(value, its_headers)
    stream.use("good", 1)
    stream.work()
    *fates, good = stream.fates()
    assert good == "charged"
    assert stream.used() == "1"
    return fates


def data(**changes: Any) -> bytes:
    return usage_value(**changes)


def raw(meters: str) -> bytes:
    """Data whose meters are these very characters."""
    return b'{"action": "image.generate", "status": "succeeded", "meters": %s}' % meters.encode()


def test_m1_bytes_that_are_no_text_are_rejected_with_their_beginning_in_hex(stream: Stream) -> None:
    """M1, I15."""
    fates = fates_before_a_good_record(
        stream,
        (b'{"action": "image.gen', headers()),
        (b'{"action": "\xff\xfe"}', headers()),
        (b"\xef\xbb\xbf" + data(), headers()),
        (b"\x00\x01\x02\x03", headers()),
    )

    assert fates == ["rejected not_json", "rejected not_utf8", "rejected byte_order_mark", "rejected nul"]
    assert "00010203" in stream.fate(3).detail


def test_m2_deep_nesting_and_endless_numbers_are_rejected_at_once(stream: Stream) -> None:
    """M2."""
    deep = b'{"context": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    long = raw('{"units": ' + "9" * 5_000 + "}")
    began = time.monotonic()

    fates = fates_before_a_good_record(stream, (deep, headers()), (long, headers()))

    assert fates == ["rejected too_deep", "rejected number_too_large"]
    assert time.monotonic() - began < 10


def test_m3_a_key_that_comes_twice_is_rejected(stream: Stream) -> None:
    """M3: which of the two counts is unknown."""
    twice = raw('{"units": "1", "units": "2"}')

    assert fates_before_a_good_record(stream, (twice, headers())) == ["rejected duplicate_key"]


def test_m4_no_number_that_is_not_exact_is_taken(stream: Stream) -> None:
    """M4: NaN, infinities, and quantities that are not plain decimal strings."""
    texts = [
        '{"units": NaN}',
        '{"units": Infinity}',
        '{"units": 1e400}',
        '{"units": "-0.0"}',
        '{"units": "1E+3"}',
    ]
    records = [(raw(text), headers(f"m4-{number}")) for number, text in enumerate(texts)]

    fates = fates_before_a_good_record(stream, *records)

    assert fates[:2] == ["rejected not_a_number"] * 2
    assert fates[2] in {"rejected number_too_large", "rejected wrong_type"}
    assert fates[3:] == ["rejected quantity"] * 2


@pytest.mark.parametrize("quantity", ["true", "12", "null", "[1]", "3.0"])
def test_m5_a_quantity_of_another_kind_is_rejected(stream: Stream, quantity: str) -> None:
    """M5: nothing is turned into a number that was none."""
    (fate,) = fates_before_a_good_record(stream, (raw(f'{{"units": {quantity}}}'), headers()))

    assert fate in {"rejected wrong_type", "rejected null_value"}


def test_m6_zero_costs_nothing_negatives_are_rejected_and_large_quantities_are_exact(stream: Stream) -> None:
    """M6: never truncated, never rounded by a binary number."""
    quantities = ["0", "-1", str(2**62 + 1), str(2**63), str(10**30)]
    records = [(data(units=each), headers(f"m6-{each}")) for each in quantities]

    fates = fates_before_a_good_record(stream, *records)

    assert fates == ["waived nothing_to_price", *["rejected quantity"] * 4]


def test_m6_a_quantity_beyond_binary_precision_is_charged_to_the_last_unit(stream: Stream) -> None:
    """M6: 2^53 + 1 would lose its last unit as a float; a thousandth of a micro-credit each, and then it is seen."""
    stream.publish(
        card_id="standard",
        effective_at=(datetime.now(UTC) + timedelta(seconds=0.3)).isoformat(),
        rates=[
            {
                "action": "image.generate",
                "terms": [{"model": "unit", "meters": ["units"], "price": "0.000001"}],
            }
        ],
    )
    time.sleep(0.5)
    stream.use("exact", 2**53 + 1)
    stream.work()

    assert stream.fates() == ["charged"]
    assert stream.used() == "9007199254.740993"


def test_m7_a_price_beyond_the_range_is_parked_before_anything_is_written(stream: Stream) -> None:
    """M7: quantity times rate above 2^62 micro-credits."""
    fates = fates_before_a_good_record(stream, (data(units=10**15), headers()))

    assert fates == ["parked price_out_of_range"]


def test_m8_what_is_not_known_yet_is_parked_and_charged_once_the_cause_is_gone(stream: Stream) -> None:
    """M8: unknown action, team and schema; a closed account."""
    stream.open("closed-team")
    stream.shut("closed-team")
    fates = fates_before_a_good_record(
        stream,
        (data(action="video.dream"), headers("unknown-action")),
        (data(), usage_headers("unknown-team", "newcomers", NOW)),
        (data(), usage_headers("closed", "closed-team", NOW)),
        (data(), headers("later", type="com.coffer.usage.recorded.v9")),
    )
    assert fates == [
        "parked unknown_action",
        "parked unknown_team",
        "parked account_closed",
        "parked unknown_schema",
    ]

    stream.open("newcomers", granted=10)
    retried = {report.outcome for report in stream.retry(reason="unknown_team")}

    assert retried == {"charged"}
    assert stream.used("newcomers") == "1"
    assert stream.fates()[1] == "charged"


def test_m9_usage_outside_the_time_window_is_parked_by_the_brokers_clock(stream: Stream) -> None:
    """M9, T2, I20: from 400 days before arrival to 5 minutes after it; historic sources have no lower bound."""
    stream.register()
    inside = [NOW - timedelta(days=399), NOW + timedelta(minutes=4)]
    outside = [NOW + timedelta(hours=2), NOW - timedelta(days=3 * 365)]
    for number, at in enumerate([*inside, *outside]):
        stream.use(f"m9-{number}", occurred=at)
    for number, text in enumerate(
        ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", str(int(NOW.timestamp()))]
    ):
        stream.send(data(), headers(f"m9-odd-{number}", time=text))
    stream.use("old", occurred=NOW - timedelta(days=3 * 365), source=HISTORIC)
    stream.work()

    assert stream.fates() == [
        "charged",
        "charged",
        "parked in_the_future",
        "parked too_old",
        "parked in_the_future",
        "parked too_old",
        "rejected time",
        "charged",
    ]


def test_m10_a_time_states_its_offset_and_no_leap_second(stream: Stream) -> None:
    """M10, I20: with an offset, the hour that comes twice on a clock-change day is two different hours."""
    local = NOW.astimezone(timezone(timedelta(hours=14)))
    fates = fates_before_a_good_record(
        stream,
        (data(), headers("naive", time=NOW.replace(tzinfo=None).isoformat())),
        (data(), headers("leap", time=f"{NOW:%Y-%m-%dT%H:%M}:60Z")),
        (data(units=0), headers("east", time=local.isoformat())),
        (data(units=0), headers("summer", time="2026-10-25T02:30:00+02:00")),
        (data(units=0), headers("winter", time="2026-10-25T02:30:00+01:00")),
    )

    assert fates == ["rejected time_zone", "rejected time", *["waived nothing_to_price"] * 3]
    (summer, winter) = (stream.fate(offset) for offset in (3, 4))
    assert summer.charge_id != winter.charge_id


def test_m11_text_that_could_look_like_other_text_is_rejected(stream: Stream) -> None:
    """M11: NUL, half characters, direction marks, twins by normalisation, endless and homoglyph ids."""
    fates = fates_before_a_good_record(
        stream,
        (data(dimensions={"model": "a\x00b"}), headers("nul")),
        (raw('{"units": "1"}, "dimensions": {"model": "\\ud800"}'), headers("half")),
        (data(dimensions={"model": "\u202eabc"}), headers("bidi")),
        (data(dimensions={"model": "e\u0301"}), headers("twin")),
        (data(), headers("x" * 60_000)),
        (data(), headers("p\u0430ypal")),
    )

    assert fates == [
        "rejected nul",
        "rejected surrogate",
        "rejected dimension_value",
        "rejected dimension_value",
        "rejected record_id",
        fates[5],
    ]
    assert fates[5] in {"rejected record_id", "rejected attribute_value"}


def test_m12_unknown_and_missing_fields_and_other_formats_are_rejected(stream: Stream) -> None:
    """M12: nothing is ignored in silence."""
    fates = fates_before_a_good_record(
        stream,
        (data(surprise="1"), headers("unknown")),
        (data(status=None), headers("missing")),
        (data(meters={"units": {"value": "1"}}), headers("nested")),
        (b"<usage action='image.generate'/>", headers("xml")),
        (b"\x0a\x04acme\x12\x0eimage.generate", headers("protobuf")),
        (json.dumps([1, 2]).encode(), headers("list")),
    )

    assert fates == [
        "rejected unknown_field",
        "rejected missing_field",
        "rejected wrong_type",
        "rejected not_json",
        "rejected not_json",
        "rejected not_an_object",
    ]


def test_m13_poison_at_the_head_of_each_partition_holds_nobody_up(stream: Stream) -> None:
    """M13."""
    for partition in (0, 1):
        stream.send(b"{", headers(f"head-{partition}"), partition=partition)
        stream.use(f"after-{partition}", 2, partition=partition)
    stream.work()

    assert [stream.fates(partition) for partition in (0, 1)] == [["rejected not_json", "charged"]] * 2
    assert stream.used() == "4"


def test_m14_without_its_dead_letter_table_a_worker_stops_and_drops_nothing(stream: Stream) -> None:
    """M14, I5: no offset is passed before its dead letter is stored."""
    stream.execute("ALTER TABLE dead_letter RENAME TO dead_letter_away")
    stream.send(b"{", headers())
    stream.use("good")
    with pytest.raises(Exception, match="dead_letter"):
        stream.work()
    assert stream.next_offset() == 0
    assert stream.charges() == 0

    stream.execute("ALTER TABLE dead_letter_away RENAME TO dead_letter")
    stream.work()

    assert stream.fates() == ["rejected not_json", "charged"]


def test_m15_a_dead_letter_retried_twice_and_out_of_order_ends_as_if_it_had_been_valid_at_first(
    stream: Stream,
) -> None:
    """M15, I4."""
    for record_id, units in [("first", 1), ("second", 2), ("third", 4)]:
        stream.use(record_id, units, team="newcomers", occurred=NOW)
    stream.use("second", 2, team="newcomers", occurred=NOW)
    stream.work()
    assert stream.fates() == ["parked unknown_team"] * 4
    stream.open("newcomers", granted=100)

    stream.retry(offset=3)
    stream.retry(offset=2)
    for _ in range(2):
        stream.retry()

    assert stream.used("newcomers") == "7"
    assert stream.charges("newcomers") == 3
    assert stream.totals() == {"charged": {"": 3}, "duplicate": {"": 1}}
    assert stream.fates() == ["charged", "duplicate", "charged", "charged"]
    assert stream.retry() == []


def test_m15_two_people_who_retry_at_once_charge_each_record_once(stream: Stream) -> None:
    """M15, I4, I17: the letter's row is locked, the record's claim stands."""
    for number in range(20):
        stream.use(f"r{number}", 1, team="newcomers")
    stream.work()
    stream.open("newcomers", granted=100)

    with ThreadPoolExecutor(2) as both:
        reports = [
            report for each in [both.submit(stream.retry) for _ in range(2)] for report in each.result()
        ]

    assert stream.charges("newcomers") == 20
    assert stream.totals() == {"charged": {"": 20}}
    assert sum(not report.already_settled for report in reports) == 20


def test_k10_a_record_above_the_fetch_size_is_rejected_and_the_next_one_charged(stream: Stream) -> None:
    """K10, I24."""
    fates = fates_before_a_good_record(stream, (data(context={"prompt": "x" * 900_000}), headers()))

    assert fates == ["rejected too_large"]


def test_k14_null_and_empty_parts_of_a_record_each_have_an_outcome(stream: Stream) -> None:
    """K14, I15."""
    stream.send(None, headers("null-value"))
    stream.send(None, (), key=None)
    stream.send(b"", headers("empty-value"))
    stream.send(data(), headers("null-key"), key=None)
    stream.send(data(), [*headers("many"), *[(f"x{number}", b"1") for number in range(10_000)]])
    stream.work()

    assert stream.fates() == ["rejected empty"] * 3 + ["charged", "rejected too_many_headers"]
