"""The fast reading equals the exact one on whatever comes, no exception escapes, and nothing makes it slow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sized

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumers import wire
from consumers.rejections import REASONS, Rejection
from consumers.stream_record import StreamRecord
from consumers.usage_encoding import encode_usage, encode_usage_structured
from consumers.wire import read_usage, read_usages
from consumers.wire_exact import read_exactly
from consumers.wire_rules import VALUE_BYTES_MAX, check_id
from domain.usage import UsageRecord
from tests.consumers.wire_cases import (
    ARRIVED,
    ATTRIBUTES,
    DATA,
    a_stream_record,
    binary,
    binary_data,
    binary_headers,
    structured,
    the_usage,
    with_context,
)

# COFFER_TEST_LOOKS=50 looks fifty times as often: for the nightly run, and after a change of the readings.
LOOKS = int(os.environ.get("COFFER_TEST_LOOKS", "1"))

# Text that likes trouble: quotes, escapes, half characters, what looks alike, what is long.
_nasty = st.sampled_from(
    [
        "",
        '"',
        '""',
        "\\",
        "\\u0022",
        "\x00",
        "\ud800",
        "\udc00",
        "\U0001f600",
        "\u202e",
        "e\u0301",
        "\x7f",
        "\n",
    ]
)
_text = st.one_of(st.sampled_from(["a", "image.generate", "team-7", "30"]), _nasty, st.text(max_size=6))
_number = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([2**62, 2**62 + 1, -(2**62), 10**15, 1e300])
)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), _number, _text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_text, inner, max_size=3)),
    max_leaves=6,
)
_ids = st.sampled_from(["member-1", "a", "01JDXRECORD", "x/y", ""])
_data = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["image.generate", "a_1.b", "Bad"]),
        "status": st.sampled_from(["succeeded", "failed", "cancelled", "ok"]),
    },
    optional={
        "meters": st.one_of(
            st.dictionaries(
                st.sampled_from(["images", "seconds", "X"]),
                st.sampled_from(["1", "0.5", "01", ""]),
                max_size=3,
            ),
            _json,
        ),
        "dimensions": st.one_of(
            st.dictionaries(st.sampled_from(["model", "loras", "é"]), _text, max_size=3), _json
        ),
        "member": _ids,
        "project": _ids,
        "work": st.one_of(_ids, _json),
        "step": _ids,
        "hold": _ids,
        "corrects": _ids,
        "context": st.one_of(st.dictionaries(_text, _json, max_size=4), _json),
        "other": _json,
    },
)
_attributes = st.fixed_dictionaries(
    {
        name: st.one_of(st.just(text), _text) if name != "type" else st.just(text)
        for name, text in ATTRIBUTES.items()
    },
    optional={"traceparent": _text, "myext": _text},
)
_good_attributes = st.just(ATTRIBUTES)


class _Written:
    """JSON as careless producers write it: any spacing, any escapes, keys that come twice."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.ascii = draw(st.booleans())
        self.separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r")]))
        self.doubles = draw(st.integers(0, 4)) == 0

    def text(self, value: object) -> str:
        if isinstance(value, dict):
            members = [
                f"{self.string(key)}{self.separators[1]}{self.text(item)}" for key, item in value.items()
            ]
            if members and self.doubles:
                members.append(self.draw(st.sampled_from(members)))
            return "{" + self.separators[0].join(members) + "}"
        if isinstance(value, list):
            return "[" + self.separators[0].join(self.text(item) for item in value) + "]"
        return self.string(value) if isinstance(value, str) else json.dumps(value)

    def string(self, value: str) -> str:
        if self.draw(st.integers(0, 9)) == 0:
            return '"' + "".join(f"\\u{ord(one):04x}" if ord(one) < 0x10000 else one for one in value) + '"'
        return json.dumps(value, ensure_ascii=self.ascii)


@st.composite
def written_records(draw: st.DrawFn) -> StreamRecord:
    """Records in both modes, from good to absurd."""
    written = _Written(draw)
    data, attributes = draw(_data), draw(st.one_of(*[_good_attributes] * 5, _attributes))
    if draw(st.booleans()):
        return binary(written.text(data).encode("utf-8", "surrogatepass"), **attributes)
    event = written.text({**attributes, "data": data})
    return structured(event.encode("utf-8", "surrogatepass"))


CONTEXT = b'{"prompt":"a \\"red\\" fox","seed":12345,"cfg":7.5,"files":["a","b"],"m":{"x":null}}'
_USAGE = the_usage(binary_data(hold="hold-1"))
GOOD_VALUES = [
    encode(msgspec.structs.replace(_USAGE, context=context))
    for encode in (encode_usage, encode_usage_structured)
    for context in (None, CONTEXT)
]
_pieces = st.one_of(
    st.sampled_from(
        [b'"', b'""', b"\\", b"\\u0022", b"\\u0000", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\xff"]
    ),
    st.sampled_from([b"null", b"true", b"1", b"-", b"e5", b"NaN", b"9" * 50, b'\\"', b"\x00"]),
    st.sampled_from([b'"action":"a",', b'"seed":1,', b'"prompt":"",']),
)


@st.composite
def _with_a_member(draw: st.DrawFn, value: bytes) -> bytes:
    """One more member at the front of one of the objects: still JSON, perhaps with a key that comes twice."""
    places = [place + 1 for place, byte in enumerate(value) if byte == ord("{")]
    place = draw(st.sampled_from(places))
    names = [
        "action",
        "images",
        "model",
        "hold",
        "prompt",
        "seed",
        "x",
        "n",
        "traceparent",
        "data",
        "se\\u0065d",
    ]
    items = [
        "1",
        '"1"',
        '"h-1"',
        '"\\u0022"',
        '"\\\\u0022"',
        '"\\""',
        "{}",
        "[]",
        "null",
        "1e5",
        "1e19",
        "7.25",
        '"\\u00e9"',
    ]
    items += [
        "123456789012345",
        "1234567890123456",
        "-4611686018427387905",
        '"\\ud800"',
        '{"x":1}',
        '{"x":1,"x":1}',
    ]
    member = f'"{draw(st.sampled_from(names))}":{draw(st.sampled_from(items))},'
    return value[:place] + member.encode() + value[place:]


@st.composite
def _with_a_cut(draw: st.DrawFn, value: bytes) -> bytes:
    """A few bytes cut out, put in, or there twice."""
    start = draw(st.integers(0, len(value)))
    end = min(len(value), start + draw(st.integers(0, 12)))
    return (
        value[:start]
        + draw(st.one_of(_pieces, st.binary(max_size=2), st.just(value[start:end] * 2)))
        + value[end:]
    )


@st.composite
def mutated_records(draw: st.DrawFn) -> StreamRecord:
    """Good records with a few bytes cut out, put in or copied, in the value and in a header."""
    key, headers, value = draw(st.sampled_from(GOOD_VALUES))
    for _ in range(draw(st.integers(0, 2))):
        value = draw(st.one_of(_with_a_member(value), _with_a_member(value), _with_a_cut(value)))
    received: list[tuple[str, bytes | None]] = list(headers)
    if draw(st.integers(0, 9)) == 0:
        received.append(
            draw(st.tuples(st.sampled_from([*dict(headers), "ce_x", "CE_id", "x"]), st.binary(max_size=3)))
        )
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(received) - 1))
        received[place] = (received[place][0], draw(st.one_of(st.none(), st.binary(max_size=30))))
    return StreamRecord("credits.usage.v1", 0, 1, key, value, received, ARRIVED)


def _agree(record: StreamRecord) -> None:
    answer = read_usage(record)
    assert answer == read_exactly(record)
    if isinstance(answer, Rejection):
        assert answer.reason in REASONS
        assert answer.detail.isprintable()
        assert answer.detail.isascii()
        assert len(answer.detail) < 400


EDGES = {
    "a context at the largest number": (binary(with_context(b'{"n":4611686018427387904}')), True),
    "a context beyond the largest number": (binary(with_context(b'{"n":4611686018427387905}')), False),
    "a context at the smallest number": (binary(with_context(b'{"n":-4611686018427387904}')), True),
    "a context six levels deep": (binary(with_context(b'{"a":[[[[[1]]]]]}')), True),
    "a context seven levels deep": (binary(with_context(b'{"a":[[[[[[1]]]]]]}')), True),
    "a key twice within the context": (binary(with_context(b'{"a":{"b":1,"b":1}}')), False),
    "a context's key within another string": (binary_data(dimensions={"note": '"context":{'}), True),
    "midnight written as 24:00": (binary(time="2026-11-23T24:00:00Z"), False),
    "the last microsecond of a day": (binary(time="2026-11-23T23:59:59.999999Z"), True),
    "a leap second": (binary(time="2026-11-23T23:59:60Z"), False),
}


@pytest.mark.parametrize("edge", EDGES)
def test_both_readings_agree_on_what_lies_at_an_edge(edge: str) -> None:
    record, is_read = EDGES[edge]

    _agree(record)

    assert isinstance(read_usage(record), UsageRecord) is is_read


@settings(max_examples=200 * LOOKS, deadline=None)
@given(st.lists(st.one_of(written_records(), mutated_records()), max_size=6))
def test_records_read_together_are_read_as_each_alone(records: list[StreamRecord]) -> None:
    assert read_usages(records) == [read_exactly(record) for record in records]


SPLIT_VALUES = {
    "an object ends in the next value": [
        b'{"action":"a","status":"failed","context":{"x":[{}',
        b"{}]}}",
    ],
    "two objects in one value, none in the next": [
        b'{"action":"a","status":"failed"}\n{"action":"b","status":"failed"}',
        b"",
    ],
    "two objects on one line": [
        b'{"action":"a","status":"failed"} {"action":"b","status":"failed"}',
        b'{"action":"a","status":"failed"}',
    ],
    "a line break at the end": [
        b'{"action":"a","status":"failed"}\n',
        b'{"action":"b","status":"failed"}',
    ],
    "a line break within": [
        b'{"action":"a",\n"status":"failed"}',
        b'{"action":"b","status":"failed"}',
    ],
    "nothing between two": [
        b'{"action":"a","status":"failed"}',
        b"",
        b'{"action":"b","status":"failed"}',
    ],
    "one that cannot be read among many": [
        *[b'{"action":"a","status":"failed"}'] * 200,
        b'{"action":"a"',
        *[b'{"action":"b","status":"failed"}'] * 200,
    ],
}


@pytest.mark.parametrize("case", SPLIT_VALUES)
def test_values_read_together_keep_their_bounds(case: str) -> None:
    records = [binary(value) for value in SPLIT_VALUES[case]]

    assert read_usages(records) == [read_exactly(record) for record in records]


@settings(max_examples=500 * LOOKS, deadline=None)
@given(written_records())
def test_both_readings_agree_on_written_records(record: StreamRecord) -> None:
    _agree(record)


@settings(max_examples=750 * LOOKS, deadline=None)
@given(mutated_records())
def test_both_readings_agree_on_mutated_records(record: StreamRecord) -> None:
    _agree(record)


@settings(max_examples=200 * LOOKS, deadline=None)
@given(
    st.one_of(st.none(), st.binary(max_size=200)),
    st.lists(st.tuples(st.text(max_size=12), st.one_of(st.none(), st.binary(max_size=20))), max_size=8),
)
@example(b"", [])
def test_no_exception_escapes_whatever_the_bytes(
    value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    _agree(a_stream_record(value, headers))
    _agree(a_stream_record(value, [*binary_headers(), *headers]))
    _agree(structured(b"" if value is None else value, headers))


@pytest.mark.parametrize("sent", GOOD_VALUES)
def test_the_usual_record_takes_the_fast_way(sent: tuple[bytes, list[tuple[str, bytes]], bytes]) -> None:
    record = a_stream_record(sent[2], sent[1])

    assert wire._read_fast(record) == read_exactly(record)
    assert isinstance(wire._read_fast(record), UsageRecord)


def test_json_as_python_writes_it_takes_the_fast_way() -> None:
    spaced = json.dumps(
        DATA | {"context": {"prompt": 'ein "roter" Fuchs im Tal \u2013 gr\u00fcn', "cfg": 7.5}}
    )
    record = binary(spaced.encode())

    assert isinstance(wire._read_fast(record), UsageRecord)
    assert wire._read_fast(record) == read_exactly(record)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "KNOWN_MAX", 10)
    monkeypatch.setattr(wire, "_LAYOUTS_MAX", 10)
    for number in range(50):
        data = DATA | {
            "member": f"m-{number}",
            "dimensions": {f"d{number}": f"v{number}"},
            "meters": {"m": f"{number}"},
        }
        value = json.dumps(data).encode()
        headers = [*binary_headers(subject=f"team-{number}", source=f"urn:{number}"), (f"x-{number}", b"")]
        _agree(a_stream_record(value, headers))

    kinds: list[Sized] = [
        wire._teams,
        wire._sources,
        wire._layouts,
        wire._names,
        wire._quantities,
        wire._dimension_values,
        wire._ids,
    ]
    # A clear happens at the bound, so what was learned before the test may leave fewer.
    assert [len(kind) for kind in kinds if len(kind) > 10] == []


HOSTILE: dict[str, Callable[[], StreamRecord]] = {
    "100,000 nested lists": lambda: binary(b"[" * 100_000),
    "lists up to the limit": lambda: binary(b"[" * VALUE_BYTES_MAX),
    "nested objects": lambda: binary(b'{"a":' * (VALUE_BYTES_MAX // 5)),
    "nested lists in the context": lambda: binary(with_context(b"[" * 30_000 + b"]" * 30_000)),
    "a 5,000-digit integer": lambda: binary(with_context(b'{"a":' + b"9" * 5_000 + b"}")),
    "a 60,000-digit integer": lambda: binary(b"9" * 60_000),
    "a 5,000-digit quantity": lambda: binary(
        b'{"action":"a","status":"failed","meters":{"m":"' + b"9" * 5_000 + b'"}}'
    ),
    "an unterminated string of escapes": lambda: binary(b"[[" * 20 + b'"' + b'\\"' * 32_000),
    "an unterminated string": lambda: binary(b"[" * 40 + b'"' + b"x" * 60_000),
    "brackets and escapes": lambda: binary(b'["\\"' * 16_000),
    "many keys": lambda: binary(with_context(b"{" + b",".join(b'"%d":1' % n for n in range(6_000)) + b"}")),
    "one key many times": lambda: binary(with_context(b"{" + b",".join([b'"a":1'] * 6_000) + b"}")),
    "many unknown fields": lambda: binary(b"{" + b",".join(b'"%d":1' % n for n in range(6_000)) + b"}"),
    "spaces": lambda: binary(with_context(b'{"a":' + b" " * 60_000 + b"}")),
    "commas and spaces": lambda: binary(with_context(b'{"a":"' + b", " * 4_000 + b'"}')),
    "digits in a string": lambda: binary(with_context(b'{"a":"' + b":1" * 4_000 + b'"}')),
    "many escapes": lambda: binary(with_context(b'{"a":"' + b"\\u0000" * 10_000 + b'"}')),
    "a long id": lambda: binary(id="x" * 1_000_000),
    "a long time": lambda: binary(time="2026-12-01T09:00:00." + "1" * 1_000_000),
    "a long source": lambda: binary(source="%41" * 300_000),
    "10,000 headers": lambda: a_stream_record(b"{}", [(f"ce_{n}", b"x") for n in range(10_000)]),
    "the broker's limit": lambda: binary(b" " * 1_048_576),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_m2_no_record_costs_more_than_50_ms(name: str) -> None:
    record = HOSTILE[name]()

    spent = []
    for _ in range(3):
        started = time.process_time()
        read_usage(record)
        spent.append(time.process_time() - started)

    assert min(spent) < 0.05
    _agree(record)


def test_a_check_that_passes_returns_what_it_checked() -> None:
    assert check_id("team-7", "team", "subject") == "team-7"
