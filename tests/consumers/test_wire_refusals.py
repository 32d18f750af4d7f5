"""What the wire reads and what it refuses, as tables: valid and refused cases of one rule together (M1 to M12)."""

from __future__ import annotations

import json

import pytest

from consumers.rejections import Rejection
from consumers.stream_record import StreamRecord
from consumers.wire import read_usage
from consumers.wire_exact import read_exactly
from consumers.wire_rules import CONTEXT_BYTES_MAX, HEADERS_MAX, VALUE_BYTES_MAX
from tests.consumers.wire_cases import (
    ATTRIBUTES,
    DATA,
    a_stream_record,
    binary,
    binary_data,
    binary_headers,
    reason_of,
    structured,
    with_context,
)

GOOD = json.dumps(DATA).encode()
READ = None


def _answers(record: StreamRecord, reason: str | None) -> None:
    assert reason_of(record) == reason
    assert read_usage(record) == read_exactly(record)


def _in_both_modes(value: bytes, reason: str | None) -> None:
    """The same data, alone and inside an event, get the same answer."""
    _answers(binary(value), reason)
    event = json.dumps(ATTRIBUTES).encode()[:-1] + b',"data":' + value + b"}"
    _answers(structured(event), reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (GOOD, READ),
        (b" \t\r\n" + GOOD + b"\n", READ),
        (GOOD[:-1], "not_json"),
        (GOOD + b"x", "not_json"),
        (GOOD + GOOD, "not_json"),
        (b"\xef\xbb\xbf" + GOOD, "byte_order_mark"),
        (GOOD.decode().encode("utf-16"), "not_utf8"),
        (GOOD.decode().encode("utf-16-le"), "nul"),
        (GOOD.replace(b"M0001", b"M\xff"), "not_utf8"),
        (GOOD.replace(b"M0001", b"\xc0\x80"), "not_utf8"),
        (GOOD.replace(b"M0001", b"\xed\xa0\x80"), "not_utf8"),
        (bytes(range(128, 256)), "not_utf8"),
        (b"\x00\x01\x02", "nul"),
        (b"\x1f\x8b\x08", "not_utf8"),
        (b"'single': 'quotes'", "not_json"),
        (b'{"action":"image.generate",}', "not_json"),
        (b'{"action":"a\nb","status":"succeeded"}', "not_json"),
        (b"", "empty"),
        (b" ", "not_json"),
    ],
)
def test_m1_broken_text_is_refused(value: bytes, reason: str | None) -> None:
    _answers(binary(value), reason)


def test_m1_a_null_value_is_empty_and_the_head_is_shown_in_hex() -> None:
    _answers(a_stream_record(None, binary_headers()), "empty")

    answer = read_usage(binary(b"<usage>" + b"x" * 100))

    assert isinstance(answer, Rejection)
    assert bytes.fromhex(answer.head_hex) == b"<usage>" + b"x" * 57
    assert answer.outcome == "rejected"


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (b"[" * 60_000, "too_deep"),
        (b'{"a":' * 8_000 + b"1" + b"}" * 8_000, "too_deep"),
        (b'{"a":' + b"[" * 30 + b"]" * 30 + b"}", READ),
        (b'{"a":' + b"[" * 31 + b"]" * 31 + b"}", "too_deep"),
        (b'{"a":"' + b"[" * 100 + b'"}', READ),
        (b'{"a":"\\"' + b"[" * 100 + b'"}', READ),
        (b'{"a":"' + b"[" * 100 + b"}", "not_json"),
        (b'{"a":' + b"[]" + b",[]" * 100 + b"}", "not_json"),
        (b'{"a":[' + b"[]" + b",[]" * 100 + b"]}", READ),
        (b'{"a":' + b"9" * 5_000 + b"}", "number_too_large"),
        (b'{"a":0.' + b"1" * 5_000 + b"}", "number_too_large"),
    ],
)
def test_m2_deep_nesting_and_long_numbers_are_refused(context: bytes, reason: str | None) -> None:
    _in_both_modes(with_context(context), reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"action":"a","status":"failed"}', READ),
        (b'{"action":"a","status":"failed","action":"a"}', "duplicate_key"),
        (b'{"action":"a","status":"failed","acti\\u006fn":"b"}', "duplicate_key"),
        (b'{"action":"a","status":"failed","meters":{"q":"1","q":"2"}}', "duplicate_key"),
        (b'{"action":"a","status":"failed","meters":{},"meters":{}}', "duplicate_key"),
        (b'{"action":"a","status":"failed","dimensions":{"m":"1","n":"1","m":"1"}}', "duplicate_key"),
        (
            b'{"action":"a","status":"failed","dimensions":{"m":"\\u0022\\u0022","m":"\\u0022\\u0022"}}',
            "duplicate_key",
        ),
        (b'{"action":"a","status":"failed","dimensions":{"m":"1","n":"1"}}', READ),
        (b'{"action":"a","status":"failed","context":{},"context":{"a":1}}', "duplicate_key"),
        (with_context(b'{"a":1,"a":1}'), "duplicate_key"),
        (with_context(b'{"":1,"":1}'), "duplicate_key"),
        (with_context(b'{"a":{"b":[{"c":1,"d":2,"c":3}]}}'), "duplicate_key"),
        (with_context(b'{"a":{"b":[{"c":1},{"c":1}]},"b":1}'), READ),
        (with_context(b'{"a":"\\u0022\\u0022","b":1,"b":2}'), "duplicate_key"),
        (with_context(b'{"a":1,"b":"\\"\\"","a":"x"}'), "duplicate_key"),
        (with_context(b'{"a":1,"b":"\\"\\":"}'), READ),
    ],
)
def test_m3_a_key_that_comes_twice_is_refused_at_any_depth(value: bytes, reason: str | None) -> None:
    _in_both_modes(value, reason)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (b"7.5", READ),
        (b"-0.0", READ),
        (b"1E+3", READ),
        (b"1e-400", READ),
        (b"4611686018427387904", READ),
        (b"4611686018427387905", "number_too_large"),
        (b"-4611686018427387905", "number_too_large"),
        (b"1e18", READ),
        (b"1e19", "number_too_large"),
        (b"1e400", "number_too_large"),
        (b"1e99999999999999999999999", "number_too_large"),
        (b"0.12345678901234567890123456789012345678", READ),
        (b"0.123456789012345678901234567890123456789", "number_too_large"),
        (b"NaN", "not_a_number"),
        (b"Infinity", "not_a_number"),
        (b"-Infinity", "not_a_number"),
        (b"01", "not_json"),
        (b"+1", "not_json"),
        (b".5", "not_json"),
        (b"1.", "not_json"),
        (b"0x10", "not_json"),
        (b"1_000", "not_json"),
        (b"null", READ),
        (b"true", READ),
        (b"True", "not_json"),
    ],
)
def test_m4_numbers_of_the_context_are_finite_and_bounded(number: bytes, reason: str | None) -> None:
    _in_both_modes(with_context(b'{"a":' + number + b"}"), reason)
    _in_both_modes(with_context(b'{"b":[1, ' + number + b" ]}"), reason)


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        (b'"30"', READ),
        (b'"0"', READ),
        (b'"3.0"', READ),
        (b'"0.000000001"', READ),
        (b'"4611686018427387904"', READ),
        (b'"9007199254740993"', READ),
        (b'"\\u0033"', READ),
        (b"30", "wrong_type"),
        (b"3.0", "wrong_type"),
        (b"true", "wrong_type"),
        (b"null", "null_value"),
        (b'["1"]', "wrong_type"),
        (b'{"value":"1"}', "wrong_type"),
        (b"NaN", "not_a_number"),
        (b"1e400", "number_too_large"),
        (b'"NaN"', "quantity"),
        (b'"Infinity"', "quantity"),
        (b'"1e400"', "quantity"),
        (b'"1E+3"', "quantity"),
        (b'"-0.0"', "quantity"),
        (b'"-1"', "quantity"),
        (b'"+1"', "quantity"),
        (b'""', "quantity"),
        (b'" 1"', "quantity"),
        (b'"1\\n"', "quantity"),
        (b'"01"', "quantity"),
        (b'"1."', "quantity"),
        (b'".5"', "quantity"),
        (b'"1,5"', "quantity"),
        (b'"1_000"', "quantity"),
        (b'"0.0000000001"', "quantity"),
        (b'"4611686018427387904.000000001"', "quantity"),
        (b'"4611686018427387905"', "quantity"),
        (b'"9223372036854775808"', "quantity"),
        (b'"1000000000000000000000000000000"', "quantity"),
        ('"١٢"'.encode(), "quantity"),
        ('"１２"'.encode(), "quantity"),
        ('"²"'.encode(), "quantity"),
    ],
)
def test_m4_m5_m6_a_quantity_is_a_plain_decimal_string(quantity: bytes, reason: str | None) -> None:
    _in_both_modes(b'{"action":"a","status":"succeeded","meters":{"images":' + quantity + b"}}", reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, READ),
        ({"type": "com.coffer.usage.recorded.v2"}, "unknown_schema"),
        ({"type": "com.coffer.usage.recorded"}, "unknown_schema"),
        ({"type": "COM.COFFER.USAGE.RECORDED.V1"}, "unknown_schema"),
        ({"type": ""}, "unknown_schema"),
        ({"specversion": "1.1"}, "unknown_schema"),
        ({"specversion": "0.3"}, "unknown_schema"),
    ],
)
def test_m8_an_unknown_version_is_parked_since_an_upgrade_may_read_it(
    changes: dict[str, str], reason: str | None
) -> None:
    for record in (binary(**changes), structured(**changes)):
        _answers(record, reason)
        answer = read_usage(record)
        if isinstance(answer, Rejection):
            assert answer.outcome == "parked"


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2026-12-01T09:00:00Z", READ),
        ("2026-12-01T09:00:00.5Z", READ),
        ("2026-12-01T09:00:00.123456+00:00", READ),
        ("2026-12-01T09:00:00+14:00", READ),
        ("2026-12-01T09:00:00-00:00", READ),
        ("2024-02-29T00:00:00Z", READ),
        ("0001-01-01T00:00:00Z", READ),
        ("9999-12-31T23:59:59.999999Z", READ),
        ("0001-01-01T00:00:00+14:00", "time"),
        ("9999-12-31T23:59:59-00:01", "time"),
        ("0000-01-01T00:00:00Z", "time"),
        ("2026-02-29T00:00:00Z", "time"),
        ("2026-12-01T09:00:60Z", "time"),
        ("2026-12-01T24:00:00Z", "time"),
        ("2026-12-01T09:00:00+24:00", "time"),
        ("2026-12-01T09:00:00+0100", "time"),
        ("2026-12-01T09:00Z", "time"),
        ("2026-12-01", "time"),
        ("2026-W49-2T09:00:00Z", "time"),
        ("20261201T090000Z", "time"),
        ("2026-12-01t09:00:00z", "time"),
        ("2026-12-01 09:00:00Z", "time"),
        ("1764579600", "time"),
        ("1764579600000", "time"),
        ("", "time"),
        ("2026-12-01T09:00:00Z\n", "time"),
        ("٢٠٢٦-12-01T09:00:00Z", "time"),
        ("2026-12-01T09:00:00", "time_zone"),
        ("2026-12-01 09:00:00.25", "time_zone"),
        ("2026-10-25T01:30:00[Europe/Berlin]", "time"),
        ("2026-12-01T09:00:00.1234567Z", "time_precision"),
        ("2026-12-01T09:00:00.000000000Z", "time_precision"),
        ("2026-12-01T09:00:00." + "1" * 90_000 + "Z", "time"),
    ],
)
def test_m9_m10_a_time_states_its_offset_and_loses_no_digit(time: str, reason: str | None) -> None:
    _answers(binary(time=time), reason)
    if len(time) < 1_000:
        _answers(structured(time=time), reason)


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("a", True),
        ("A-Z_0.9:x@y~z+=", True),
        ("-_nanoid", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("x" * 60_000, False),
        ("", False),
        (".", False),
        ("../admin", False),
        ("a b", False),
        ("a\x00b", False),
        ("a\nb", False),
        ("a\u202eb", False),
        ("cafe\u0301", False),
        ("caf\u00e9", False),
        ("\u0430dmin", False),
        ("a\u200bb", False),
        ("a\u00adb", False),
    ],
)
def test_m11_ids_are_visible_ascii_so_that_no_two_look_alike(text: str, is_read: bool) -> None:
    field_reason = READ if is_read else "nul" if "\x00" in text else "identifier"
    for field in ("member", "project", "work", "step", "hold"):
        _answers(binary_data(**{field: text}), field_reason)
    _answers(binary(subject=text), READ if is_read else "team")
    _answers(binary(id=text), READ if is_read else "record_id")
    corrects = binary_data(status="failed", corrects=text)
    _answers(corrects, READ if is_read else "nul" if "\x00" in text else "corrects")


def test_m11_a_record_id_may_hold_slashes_and_a_team_may_not() -> None:
    _answers(binary(id="run/7/step/2"), READ)
    _answers(binary_data(status="failed", corrects="run/7"), READ)
    _answers(binary(subject="a/b"), "team")
    _answers(binary_data(work="a/b"), "identifier")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("urn:render:eu-1", READ),
        ("/render", READ),
        ("https://render.example/a%20b?c=d#e", READ),
        ("u" * 256, READ),
        ("u" * 257, "source"),
        ("", "source"),
        ("a b", "source"),
        ("a%2", "source"),
        ("a#b#c", "source"),
        ('a"b', "source"),
        ("caf\u00e9", "source"),
        ("a\n", "source"),
    ],
)
def test_m11_a_source_is_an_ascii_uri_reference(source: str, reason: str | None) -> None:
    _answers(binary(source=source), reason)
    _answers(structured(source=source), reason)


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("image.generate", True),
        ("video_1080p", True),
        ("a.1b._c", True),
        ("a" * 100, True),
        ("a" * 101, False),
        ("Image", False),
        ("1a", False),
        ("a-b", False),
        ("a..b", False),
        (".a", False),
        ("a.", False),
        ("a b", False),
        ("a\n", False),
        ("", False),
        ("im\u00e0ge", False),
    ],
)
def test_m11_names_of_actions_meters_and_dimensions_are_lower_case_ascii(name: str, is_read: bool) -> None:
    _answers(binary_data(action=name), READ if is_read else "action")
    _answers(binary_data(meters={name: "1"}), READ if is_read else "meter_name")
    _answers(binary_data(dimensions={name: "1"}), READ if is_read else "dimension_name")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("flux dev 1.0 (fp8)", READ),
        ('say "x" \\ y', READ),
        ("caf\u00e9", READ),
        ("\u6c34\u58a8\u753b", READ),
        ("\U0001f600", READ),
        ("x" * 128, READ),
        ("x" * 129, "dimension_value"),
        ("", "dimension_value"),
        (" a", "dimension_value"),
        ("a ", "dimension_value"),
        ("a\u00a0b", "dimension_value"),
        ("cafe\u0301", "dimension_value"),
        ("\u212b", "dimension_value"),
        ("a\u202eb", "dimension_value"),
        ("a\u2066b", "dimension_value"),
        ("a\u200db", "dimension_value"),
        ("a\ufeffb", "dimension_value"),
        ("a\ufe0f", "dimension_value"),
        ("a\u034fb", "dimension_value"),
        ("\u3164", "dimension_value"),
        ("a\x7f", "dimension_value"),
        ("a\tb", "dimension_value"),
        ("a\x00b", "nul"),
        ("a\ud800b", "surrogate"),
        ("\udc00\ud800", "surrogate"),
    ],
)
def test_m11_a_dimension_value_is_visible_and_has_one_spelling(text: str, reason: str | None) -> None:
    _answers(binary_data(dimensions={"model": text}), reason)
    _answers(structured(data=DATA | {"dimensions": {"model": text}}), reason)


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (b'{"a":"\\ud83d\\ude00"}', READ),
        (b'{"a":"\\ud83d"}', "surrogate"),
        (b'{"\\ud83d":1}', "surrogate"),
        (b'{"a":["\\ude00\\ud83d"]}', "surrogate"),
        (b'{"a":"\\u0000"}', "nul"),
        (b'{"\\u0000":1}', "nul"),
        (b'{"a":"\\\\u0000"}', READ),
        (b'{"a":"\\\\u0022"}', READ),
        (b'{"a":"\\u0022"}', READ),
        (b'{"a":"\\u00e9"}', READ),
        ('{"a":"\u202e"}'.encode(), READ),
        (b'{"a":"\x7f"}', READ),
        (b'{"a":"\\x41"}', "not_json"),
        (b'{"a":"\xff"}', "not_utf8"),
        (b"{}", READ),
        (b"[]", "wrong_type"),
        (b'"text"', "wrong_type"),
        (b"null", "null_value"),
        (b"1", "wrong_type"),
        (b'{"a":"' + b"x" * (CONTEXT_BYTES_MAX - 8) + b'"}', READ),
        (b'{"a":"' + b"x" * (CONTEXT_BYTES_MAX - 7) + b'"}', "context_too_large"),
        (b'{"a":1' + b" " * (CONTEXT_BYTES_MAX - 7) + b"}", READ),
        (b'{"a":1' + b" " * (CONTEXT_BYTES_MAX - 6) + b"}", "context_too_large"),
        (b'{"a":"' + "\u00e9".encode() * (CONTEXT_BYTES_MAX // 2) + b'"}', "context_too_large"),
    ],
)
def test_m11_the_context_is_free_text_without_nul_and_half_characters(
    context: bytes, reason: str | None
) -> None:
    _in_both_modes(with_context(context), reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"action":"a","status":"cancelled"}', READ),
        (b'{"action":"a","status":"succeeded","meters":{},"dimensions":{}}', READ),
        (b'{"action":"a","status":"succeeded","colour":"red"}', "unknown_field"),
        (b'{"action":"a","status":"succeeded","Member":"m"}', "unknown_field"),
        (b'{"action":"a","status":"succeeded","hold_id":"h"}', "unknown_field"),
        (b'{"action":"a","status":"succeeded","data":{}}', "unknown_field"),
        (b'{"action":"a"}', "missing_field"),
        (b'{"status":"succeeded"}', "missing_field"),
        (b"{}", "missing_field"),
        (b'{"action":"a","status":"SUCCEEDED"}', "status"),
        (b'{"action":"a","status":"ok"}', "status"),
        (b'{"action":"a","status":true}', "wrong_type"),
        (b'{"action":1,"status":"failed"}', "wrong_type"),
        (b'{"action":null,"status":"failed"}', "null_value"),
        (b'{"action":"a","status":"failed","member":null}', "null_value"),
        (b'{"action":"a","status":"failed","member":7}', "wrong_type"),
        (b'{"action":"a","status":"failed","meters":null}', "null_value"),
        (b'{"action":"a","status":"failed","meters":[["a","1"]]}', "wrong_type"),
        (b'{"action":"a","status":"failed","dimensions":"m"}', "wrong_type"),
        (b'{"action":"a","status":"failed","dimensions":{"loras":3}}', "wrong_type"),
        (b'{"action":"a","status":"failed","dimensions":{"loras":null}}', "null_value"),
        (b'{"action":"a","status":"failed","corrects":"01JDXOTHER"}', READ),
        (b'{"action":"a","status":"cancelled","corrects":"01JDXOTHER"}', READ),
        (b'{"action":"a","status":"succeeded","corrects":"01JDXOTHER"}', "corrects_without_failure"),
        (b'{"action":"a","status":"failed","corrects":"01JDXRECORD"}', "corrects_itself"),
        (b'{"action":"a","status":"failed","corrects":""}', "corrects"),
        (b'{"action":"a","status":"failed","corrects":null}', "null_value"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"7", "not_an_object"),
        (b"null", "not_an_object"),
    ],
)
def test_m12_fields_are_known_present_and_of_their_kind(value: bytes, reason: str | None) -> None:
    _in_both_modes(value, reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"<?xml version='1.0'?><usage/>", "not_json"),
        (b"\x0a\x06team-7\x12\x0eimage.generate", "not_json"),
        (b"\x00\x00\x00\x00\x07\x0cteam-7", "nul"),
        (b"action=image.generate&status=succeeded", "not_json"),
        (b"%PDF-1.7", "not_json"),
    ],
)
def test_m12_other_formats_are_refused(value: bytes, reason: str) -> None:
    _answers(binary(value), reason)
    _answers(structured(value), reason)


@pytest.mark.parametrize(("count", "meters", "dimensions"), [(16, READ, READ), (17, "too_many_meters", READ)])
def test_meters_are_counted(count: int, meters: str | None, dimensions: str | None) -> None:
    _answers(binary_data(meters={f"m{n}": "1" for n in range(count)}), meters)
    _answers(binary_data(dimensions={f"m{n}": "1" for n in range(count)}), dimensions)


def test_dimensions_are_counted() -> None:
    _answers(binary_data(dimensions={f"m{n}": "1" for n in range(32)}), READ)
    _answers(binary_data(dimensions={f"m{n}": "1" for n in range(33)}), "too_many_dimensions")


def test_a_value_has_at_most_64_kib_and_one_as_large_as_the_broker_allows_is_refused() -> None:
    padded = GOOD + b" " * (VALUE_BYTES_MAX - len(GOOD))

    _answers(binary(padded), READ)
    _answers(binary(padded + b" "), "too_large")
    _answers(binary(b"[" * 10_000_000), "too_large")


JSON_TYPE = ("content-type", b"application/json")
EVENT_TYPE = ("content-type", b"application/cloudevents+json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ([], READ),
        ([("ce_traceparent", b"00-abc"), ("ce_partitionkey", b"other"), ("ce_dataschema", b"x")], READ),
        ([("traceparent", b"1"), ("traceparent", None), ("X-Any", b"\xff")], READ),
        ([("ce_ext", None)], READ),
        ([("ce_ext", b"\xff")], READ),
        ([("ce_id", b"01JDXRECORD")], "attribute_twice"),
        ([("ce_ext", b"1"), ("ce_ext", b"1")], "attribute_twice"),
        ([JSON_TYPE], "attribute_twice"),
        ([("CE_id", b"other")], "attribute_name"),
        ([("ce_ID", b"other")], "attribute_name"),
        ([("Content-Type", b"application/json")], "attribute_name"),
        ([("ce_", b"x")], "attribute_name"),
        ([("ce_data", b"{}")], "attribute_name"),
        ([("ce_datacontenttype", b"application/json")], "attribute_name"),
        ([("ce_caf\u00e9", b"x")], "attribute_name"),
        ([("ce_id\x00", b"x")], "attribute_name"),
        ([(f"h{n}", b"x") for n in range(HEADERS_MAX - 7)], READ),
        ([(f"h{n}", b"x") for n in range(HEADERS_MAX - 6)], "too_many_headers"),
        ([(f"h{n}", b"x") for n in range(10_000)], "too_many_headers"),
        ([("ce_ext", b"x")] * 10_000, "too_many_headers"),
    ],
)
def test_headers_are_unambiguous(change: list[tuple[str, bytes | None]], reason: str | None) -> None:
    _answers(a_stream_record(GOOD, [*binary_headers(), *change]), reason)


@pytest.mark.parametrize("name", ["specversion", "type", "id", "source", "subject", "time"])
def test_every_attribute_is_required(name: str) -> None:
    bad: list[tuple[bytes | None, str]] = [(None, "attribute_value"), (b"\xff", "attribute_value")]

    _answers(binary(**{name: None}), "attribute_missing")
    _answers(structured(**{name: ...}), "attribute_missing")
    _answers(structured(**{name: None}), "null_value")
    _answers(structured(**{name: 1}), "wrong_type")
    for value, reason in bad:
        headers = [(header, value if header == f"ce_{name}" else text) for header, text in binary_headers()]
        _answers(a_stream_record(GOOD, headers), reason)


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        (b"application/json", READ),
        (b"application/json; charset=utf-8", READ),
        (b'Application/JSON;charset="UTF-8"', READ),
        (b"application/json; charset=latin-1", "content_type"),
        (b"application/jsonp", "content_type"),
        (b"application/xml", "content_type"),
        (b"application/cloudevents-batch+json", "content_type"),
        (b"application/cloudevents+avro", "content_type"),
        (b"text/json", "content_type"),
        (b"", "content_type"),
        (None, "attribute_value"),
        (b"\xff", "attribute_value"),
        (b"application/cloudevents+json", "not_an_event"),
    ],
)
def test_the_content_type_says_the_mode(content_type: bytes | None, reason: str | None) -> None:
    headers = [*binary_headers()[:-1], ("content-type", content_type)]
    # Data read as an event: its members are no attributes.
    expected = "attribute_missing" if reason == "not_an_event" else reason

    _answers(a_stream_record(GOOD, headers), expected)
    _answers(a_stream_record(GOOD, headers[:-1]), "content_type")


@pytest.mark.parametrize(
    ("changes", "headers", "reason"),
    [
        ({}, [], READ),
        ({"datacontenttype": "application/json", "dataschema": "urn:x", "traceparent": "00"}, [], READ),
        ({"myext": 7, "other": True, "third": None}, [], READ),
        ({"datacontenttype": "text/xml"}, [], "content_type"),
        ({"datacontenttype": "application/cloudevents+json"}, [], "content_type"),
        ({"datacontenttype": None}, [], "null_value"),
        ({"my_ext": "x"}, [], "attribute_name"),
        ({"Subject": "x"}, [], "attribute_name"),
        ({"data_base64": "e30="}, [], "data_encoding"),
        ({"data": ...}, [], "attribute_missing"),
        ({"data": None}, [], "not_an_object"),
        ({"data": "{}"}, [], "not_an_object"),
        ({}, [("ce_id", b"01JDXRECORD"), ("ce_ext", b"x")], READ),
        ({}, [("ce_id", b"other")], "header_disagrees"),
        ({}, [("ce_subject", None)], "header_disagrees"),
        ({}, [("ce_ID", b"other")], "attribute_name"),
        ({}, [EVENT_TYPE], "attribute_twice"),
    ],
)
def test_a_structured_event_is_unambiguous(
    changes: dict[str, object], headers: list[tuple[str, bytes | None]], reason: str | None
) -> None:
    _answers(structured(None, headers, **changes), reason)


def test_a_key_twice_in_an_event_is_refused() -> None:
    event = json.dumps({**ATTRIBUTES, "data": DATA}).encode()

    _answers(structured(event), READ)
    _answers(structured(event[:-1] + b',"id":"01JDXRECORD"}'), "duplicate_key")
    _answers(structured(event[:-1] + b',"sub\\u006aect":"team-8"}'), "duplicate_key")
    _answers(structured(event[:-1] + b',"ext":1,"ext":1}'), "duplicate_key")


@pytest.mark.parametrize(
    "record",
    [
        binary_data(member="a\x1b[31m\u202e\n" + "x" * 5_000),
        binary_data(**{"evil\x1b\u202e\n" + "k" * 5_000: 1}),
        binary_data(meters={"\x1b\n" + "k" * 5_000: "1"}),
        binary(subject="\x1b[2J" * 2_000),
        a_stream_record(GOOD, [("ce_\x1b\n" + "k" * 5_000, b"x")]),
        structured(None, [("ce_id", b"\x1b\n\xff" * 2_000)]),
    ],
)
def test_a_detail_is_one_short_safe_line(record: StreamRecord) -> None:
    answer = read_usage(record)

    assert isinstance(answer, Rejection)
    assert answer.detail.isprintable()
    assert answer.detail.isascii()
    assert len(answer.detail) < 400
