"""What a good record becomes, in both modes, and that the reference SDK reads and writes the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.v1.event import CloudEvent

from consumers.stream_record import StreamRecord, append_time, key_matches_team
from consumers.usage_encoding import EncodedUsage, encode_usage, encode_usage_structured
from consumers.wire import time_window_violation
from domain.usage import Origin, UsageRecord
from tests.consumers.wire_cases import (
    ARRIVED,
    ATTRIBUTES,
    DATA,
    a_stream_record,
    binary,
    structured,
    the_usage,
    with_context,
)

CONTEXT = b'{"prompt": "a fox,\\n\\"red\\"", "cfg":7.50, "seed":1e3,"files":[]}'
USAGE = UsageRecord(
    team_id="team-7",
    source="urn:render:eu-1",
    id="01JDXRECORD",
    occurred_at=datetime(2026, 12, 1, 9, tzinfo=UTC),
    arrived_at=ARRIVED,
    action="image.generate",
    status="failed",
    meters={"images": "4", "seconds": "1.250"},
    dimensions={"model": "M0001", "style": "caf\u00e9"},
    member="member-1",
    project="project-1",
    work="work-1",
    step="step-1",
    hold_id="hold-1",
    corrects="01JDXEARLIER",
    context=CONTEXT,
    origin=Origin("credits.usage.v1", 3, 42),
)


def _as_received(sent: EncodedUsage) -> StreamRecord:
    return a_stream_record(sent.value, sent.headers)


def test_what_is_encoded_is_read_back_whole_in_both_modes() -> None:
    assert the_usage(_as_received(encode_usage(USAGE))) == USAGE
    assert the_usage(_as_received(encode_usage_structured(USAGE))) == USAGE


def test_what_is_left_out_stays_out() -> None:
    bare = UsageRecord(
        team_id="team-7",
        source="urn:render:eu-1",
        id="1",
        occurred_at=datetime(2026, 12, 1, 9, 0, 0, 5, tzinfo=UTC),
        arrived_at=ARRIVED,
        action="a",
        status="cancelled",
        meters={},
        dimensions={},
        origin=Origin("credits.usage.v1", 3, 42),
    )

    sent = encode_usage(bare)

    assert sent.value == b'{"action":"a","status":"cancelled"}'
    assert the_usage(_as_received(sent)) == bare
    assert the_usage(_as_received(encode_usage_structured(bare))) == bare


def test_the_context_is_kept_byte_for_byte() -> None:
    spaced = b'{ "a" :\t[ 1.50 , 1E2 ] , "b" : "\\u00e9\\/" }'
    event = json.dumps(ATTRIBUTES).encode()[:-1] + b',"data":' + with_context(b" " + spaced + b"\n") + b"}"

    assert the_usage(binary(with_context(b" " + spaced + b"\n"))).context == spaced
    assert the_usage(structured(event)).context == spaced


def test_a_time_with_an_offset_is_read_as_utc() -> None:
    usage = the_usage(binary(time="2026-12-01T09:00:00.25+14:00"))

    assert usage.occurred_at == datetime(2026, 11, 30, 19, 0, 0, 250_000, tzinfo=UTC)
    assert usage.occurred_at.tzinfo is UTC


def test_the_same_local_hour_twice_is_two_instants() -> None:
    first, second = (the_usage(binary(time=f"2026-10-25T02:30:00+0{hours}:00")) for hours in (2, 1))

    assert second.occurred_at - first.occurred_at == timedelta(hours=1)


def test_two_spellings_of_one_instant_are_one_content() -> None:
    here, there = binary(time="2026-12-01T09:00:00Z"), binary(time="2026-12-01T10:00:00.000+01:00")

    assert the_usage(here).content_digest() == the_usage(there).content_digest()


def test_the_append_time_is_exact() -> None:
    assert append_time(1_796_115_605_123) == datetime(2026, 12, 1, 9, 0, 5, 123_000, tzinfo=UTC)
    assert append_time(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "matches"), [(b"team-7", True), (None, True), (b"team-8", False), (b"", False), (b"\xff", False)]
)
def test_a_key_of_another_team_is_noticed_and_the_record_still_read(key: bytes | None, matches: bool) -> None:
    record = msgspec.structs.replace(binary(), key=key)

    assert key_matches_team(record, the_usage(record).team_id) is matches


MICROSECOND = timedelta(microseconds=1)
YEAR_1, YEAR_9999 = datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("occurred_at", "violation", "historic_violation"),
    [
        (ARRIVED, None, None),
        (ARRIVED + timedelta(minutes=5), None, None),
        (ARRIVED + timedelta(minutes=5) + MICROSECOND, "in_the_future", "in_the_future"),
        (ARRIVED + timedelta(hours=2), "in_the_future", "in_the_future"),
        (ARRIVED - timedelta(days=400), None, None),
        (ARRIVED - timedelta(days=400) - MICROSECOND, "too_old", None),
        (ARRIVED - timedelta(days=3 * 365), "too_old", None),
        (datetime(1970, 1, 21, 10, 9, 39, tzinfo=UTC), "too_old", None),
        (YEAR_1, "too_old", None),
        (YEAR_9999, "in_the_future", "in_the_future"),
    ],
)
def test_m9_the_time_window_is_judged_by_the_append_time(
    occurred_at: datetime, violation: str | None, historic_violation: str | None
) -> None:
    usage = msgspec.structs.replace(USAGE, occurred_at=occurred_at)

    assert time_window_violation(usage, historic=False) == violation
    assert time_window_violation(usage, historic=True) == historic_violation


# --- the reference SDK as oracle ---

SDK_EVENT_TIME = datetime(2026, 12, 1, 9, 0, 0, 125_000, tzinfo=timezone(timedelta(hours=5, minutes=30)))


def _sdk_event() -> CloudEvent:
    return CloudEvent(
        {**ATTRIBUTES, "time": SDK_EVENT_TIME, "datacontenttype": "application/json"}, dict(DATA)
    )


@pytest.mark.parametrize("write", [sdk.to_binary_event, sdk.to_structured_event])
def test_we_read_what_the_reference_sdk_writes(write: object) -> None:
    assert callable(write)
    message = write(_sdk_event())

    usage = the_usage(a_stream_record(message.value, list(message.headers.items())))

    assert (usage.team_id, usage.source, usage.id) == ("team-7", "urn:render:eu-1", "01JDXRECORD")
    assert usage.occurred_at == SDK_EVENT_TIME
    assert usage.meters == DATA["meters"]
    assert usage.step == "step-1"


@pytest.mark.parametrize("encode", [encode_usage, encode_usage_structured])
def test_the_reference_sdk_reads_what_we_write(encode: object) -> None:
    assert callable(encode)
    sent = encode(USAGE)

    event = sdk.from_kafka_event(sdk.KafkaMessage(dict(sent.headers), sent.key, sent.value))

    assert event.get_specversion() == "1.0"
    assert event.get_type() == "com.coffer.usage.recorded.v1"
    assert (event.get_subject(), event.get_source(), event.get_id()) == (
        USAGE.team_id,
        USAGE.source,
        USAGE.id,
    )
    assert event.get_time() == USAGE.occurred_at
    data = event.get_data()
    assert isinstance(data, dict)
    assert data["meters"] == USAGE.meters
    assert data["dimensions"] == USAGE.dimensions
    assert data["corrects"] == USAGE.corrects
    assert data["context"] == json.loads(CONTEXT)
