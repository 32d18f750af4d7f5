"""An audit bundle proves what a checkpoint covers, and whoever changes it anywhere is found out without any ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.bundles import (
    END_FORMAT,
    FORMAT,
    Checked,
    End,
    Ending,
    Heading,
    Witness,
    bundled,
    encode_line,
    stream_id_of,
    verify_bundle,
)
from domain.chain import GENESIS, event_hash
from domain.checkpoints import FORMAT as CHECKPOINT_FORMAT
from domain.checkpoints import Checkpoint, Leaf, Signed, StreamHead, document_of, leaf_bytes, read_leaf
from domain.errors import Malformed
from domain.merkle import MerkleTree
from infra.signing import SigningKey, is_signed

KEY = SigningKey(b"the key of this ledger, thirty-two bytes or more")
STRANGER = SigningKey(b"the key of somebody else, thirty-two bytes or more")
STREAMS = {"account": 6, "team": 2, "work poster": 3}
TEAMS = ("acme", "borealis", "cygnus", "delta", "echo")
Lines = list[bytes]


def signed(document: str, key: SigningKey = KEY) -> Signed:
    return Signed(document=document, public_key=key.public_key, signature=key.sign(document.encode()).hex())


class Ledger:
    """Streams of a few teams, chained as the store chains them, of which anything can be bundled."""

    def __init__(self, edited: tuple[str, int] | None = None, state: bytes = b'{"amount":"1"}') -> None:
        self._edited = edited
        self._state = state

    def events(self, team: str, stream: str, upto: int) -> list[tuple[int, str, bytes, bytes]]:
        """Version, topic, state, hash."""
        last, told = GENESIS, []
        for version in range(1, upto + 1):
            state = self._state + f" {team} {version}".encode()
            if self._edited == (stream, version):
                state += b" edited"
            last = event_hash(
                last, bytes.fromhex(stream_id_of(team, stream)), version, "CreditsCharged.2", state
            )
            told.append((version, "CreditsCharged.2", state, last))
        return told

    def heads(self, team: str, lengths: dict[str, int]) -> list[StreamHead]:
        return [
            StreamHead(
                stream=stream,
                stream_id=stream_id_of(team, stream),
                version=length,
                hash=self.events(team, stream, length)[-1][3].hex(),
            )
            for stream, length in lengths.items()
        ]

    def witness(self, team: str, lengths: dict[str, int], key: SigningKey = KEY) -> Witness:
        tree, own = MerkleTree(), b""
        for each in TEAMS:
            entry = leaf_bytes(Leaf(team_id=each, streams=self.heads(each, lengths)))
            own = entry if each == team else own
            tree.add(entry, wanted=each == team)
        made = Checkpoint(
            format=CHECKPOINT_FORMAT,
            ledger="2026-11-23T12:00:00.000000Z",
            number=3,
            made_at="2026-11-23T18:00:00.000000Z",
            positions=[40, 15],
            leaves=tree.size,
            root=tree.root().hex(),
            previous=None,
        )
        path = [each.hex() for each in tree.path()]
        return Witness(
            checkpoint=signed(document_of(made), key), leaf=own.decode(), index=tree.wanted or 0, path=path
        )

    def bundle(
        self,
        team: str = "acme",
        *,
        lengths: dict[str, int] | None = None,
        witness: Witness | None = None,
        key: SigningKey = KEY,
    ) -> Lines:
        lengths = lengths or STREAMS
        lines = [encode_line(Heading(format=FORMAT, team_id=team, witness=witness))]
        for stream, length in lengths.items():
            lines += [encode_line(bundled(stream, *each)) for each in self.events(team, stream, length)]
        end = End(
            format=END_FORMAT,
            team_id=team,
            made_at="2026-11-23T19:00:00.000000Z",
            streams=self.heads(team, lengths),
        )
        lines.append(encode_line(Ending(end=signed(encode_line(end).decode(), key))))
        return [line + b"\n" for line in lines]


WHOLE = Ledger().bundle(witness=Ledger().witness("acme", STREAMS))


def check(lines: Lines, keys: tuple[str, ...] = (KEY.public_key,), held: str | None = None) -> Checked:
    return verify_bundle(lines, is_signed, keys=keys, held=held)


def found(lines: Lines, **asked: Any) -> list[tuple[str | None, str | None, int | None]]:
    """Where the differences are: team, stream, version."""
    return [(each.team_id, each.stream, each.version) for each in check(lines, **asked).differences]


def changed(line: bytes, **values: Any) -> bytes:
    """The line with other values, in the form in which lines are written."""
    return encode_line({**json.loads(line), **values}) + b"\n"


def line_of(stream: str, version: int, lines: Lines = WHOLE) -> int:
    """The number of the line of an event."""
    told = [json.loads(line) for line in lines]
    return next(
        n for n, each in enumerate(told) if (each.get("stream"), each.get("version")) == (stream, version)
    )


# --- sound bundles ---


def test_a_whole_bundle_is_verified_up_to_the_checkpoint() -> None:
    told = check(WHOLE)

    assert told.is_sound
    assert told.checkpoint is not None
    assert [(each.stream, each.verified, each.unwitnessed) for each in told.streams] == [
        ("account", 6, 0),
        ("team", 2, 0),
        ("work poster", 3, 0),
    ]


def test_events_newer_than_the_checkpoint_are_unwitnessed_and_never_verified() -> None:
    covered = {"account": 4, "team": 2}

    told = check(Ledger().bundle(witness=Ledger().witness("acme", covered)))

    assert told.is_sound
    assert [(each.stream, each.verified, each.unwitnessed) for each in told.streams] == [
        ("account", 4, 2),
        ("team", 2, 0),
        ("work poster", 0, 3),
    ]
    assert told.unwitnessed == 5


def test_without_a_checkpoint_everything_is_unwitnessed() -> None:
    told = check(Ledger().bundle())

    assert (told.is_sound, told.checkpoint, told.unwitnessed) == (True, None, 11)
    assert sum(each.verified for each in told.streams) == 0


def test_stored_bytes_that_are_no_text_are_verified_as_well() -> None:
    odd = Ledger(state=b"\xff\xfe")

    lines = odd.bundle(witness=odd.witness("acme", STREAMS))

    assert check(lines).is_sound
    assert b"state_base64" in lines[1]
    assert found([*lines[:1], changed(lines[1], state_base64="//4="), *lines[2:]]) == [("acme", "account", 1)]


@pytest.mark.parametrize("team", TEAMS)
def test_every_team_of_the_tree_has_its_path(team: str) -> None:
    assert check(Ledger().bundle(team, witness=Ledger().witness(team, STREAMS))).is_sound


def test_a_bundle_is_verified_by_what_is_documented_without_our_code() -> None:
    """The page of the room, read by somebody who has hashlib and a library for Ed25519 only."""
    lines = [json.loads(line) for line in WHOLE]
    witness, end = lines[0]["witness"], lines[-1]["end"]
    for each in (witness["checkpoint"], end):
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(each["public_key"]))
        key.verify(bytes.fromhex(each["signature"]), each["document"].encode())
    leaf, checkpoint = json.loads(witness["leaf"]), json.loads(witness["checkpoint"]["document"])
    last = dict.fromkeys(STREAMS, bytes(32))
    for event in lines[1:-1]:
        stream_id = next(each["stream_id"] for each in leaf["streams"] if each["stream"] == event["stream"])
        topic, state = event["topic"].encode(), event["state"].encode()
        told = last[event["stream"]] + bytes.fromhex(stream_id) + event["version"].to_bytes(8, "big")
        told += len(topic).to_bytes(4, "big") + topic + len(state).to_bytes(4, "big") + state
        last[event["stream"]] = sha256(told).digest()
    assert {each["stream"]: each["hash"] for each in leaf["streams"]} == {n: h.hex() for n, h in last.items()}

    # Acme is the first of five leaves: whatever is beside its way to the root is on the right.
    root = sha256(b"\x00" + witness["leaf"].encode()).digest()
    for beside in witness["path"]:
        root = sha256(b"\x01" + root + bytes.fromhex(beside)).digest()
    assert (witness["index"], root.hex()) == (0, checkpoint["root"])


# --- whatever is done to it ---


@pytest.mark.parametrize(
    ("stream", "version"), [("account", 1), ("account", 6), ("team", 2), ("work poster", 2)]
)
def test_i11_an_edited_event_is_named(stream: str, version: int) -> None:
    number = line_of(stream, version)
    lines = [*WHOLE]
    lines[number] = changed(lines[number], state=json.loads(lines[number])["state"].replace('"1"', '"0"'))

    assert found(lines) == [("acme", stream, version)]


@pytest.mark.parametrize("field", ["topic", "hash", "version"])
def test_i11_an_edited_field_is_named(field: str) -> None:
    number = line_of("account", 3)
    other = {"topic": "CreditsGranted.2", "hash": "ab" * 32, "version": 4}[field]
    lines = [*WHOLE]
    lines[number] = changed(lines[number], **{field: other})

    assert found(lines) == [("acme", "account", 3)]


@pytest.mark.parametrize(("stream", "version"), [("account", 1), ("account", 4), ("work poster", 1)])
def test_i11_a_dropped_event_is_named(stream: str, version: int) -> None:
    lines = [*WHOLE]
    del lines[line_of(stream, version)]

    assert found(lines) == [("acme", stream, version)]


def test_i11_the_last_event_of_a_stream_dropped_is_named() -> None:
    lines = [*WHOLE]
    del lines[line_of("team", 2)]

    assert ("acme", "team", 2) in found(lines)


def test_i11_a_stream_dropped_is_named() -> None:
    lines = [line for line in WHOLE if b'"stream":"work poster"' not in line or b'"end"' in line]

    assert ("acme", "work poster", 1) in found(lines)


def test_i11_swapped_events_are_named() -> None:
    lines = [*WHOLE]
    first, second = line_of("account", 3), line_of("account", 4)
    lines[first], lines[second] = lines[second], lines[first]
    renumbered = [*WHOLE]
    renumbered[first] = changed(WHOLE[second], version=3)
    renumbered[second] = changed(WHOLE[first], version=4)

    assert found(lines) == [("acme", "account", 3)]
    assert found(renumbered) == [("acme", "account", 3)]


def test_i11_an_event_given_twice_is_named() -> None:
    number = line_of("account", 3)

    assert found([*WHOLE[: number + 1], *WHOLE[number:]]) == [("acme", "account", 4)]


def test_i11_a_stream_in_two_places_is_named() -> None:
    number = line_of("account", 6)
    lines = [*WHOLE[:number], *WHOLE[number + 1 : -1], WHOLE[number], WHOLE[-1]]

    assert not check(lines).is_sound


@pytest.mark.parametrize("kept", range(len(WHOLE)))
def test_i11_a_bundle_cut_off_after_any_line_is_found_out(kept: int) -> None:
    told = check(WHOLE[:kept])

    assert not told.is_sound
    if 1 < kept < line_of("account", 6):
        assert ("acme", "account", kept) in found(WHOLE[:kept])


@given(st.integers(1, len(b"".join(WHOLE)) - 1))
def test_i11_a_bundle_cut_off_after_any_byte_is_found_out(kept: int) -> None:
    lines = b"".join(WHOLE)[:kept].splitlines(keepends=True)

    assert not check(lines).is_sound


@settings(max_examples=400)
@given(st.integers(0, len(b"".join(WHOLE)) - 1), st.integers(0, 7))
def test_i11_a_bit_flipped_anywhere_is_found_out(place: int, bit: int) -> None:
    told = bytearray(b"".join(WHOLE))
    told[place] ^= 1 << bit

    assert not check(bytes(told).splitlines(keepends=True)).is_sound


@pytest.mark.parametrize(
    "more",
    [b"\n", b'{"hash":"","state":"","stream":"account","topic":"","version":7}\n', WHOLE[-1]],
)
def test_i11_whatever_follows_the_end_is_found_out(more: bytes) -> None:
    assert not check([*WHOLE, more]).is_sound


def test_i11_unwitnessed_events_cannot_be_cut_off_or_edited_unseen_either() -> None:
    lines = Ledger().bundle(witness=Ledger().witness("acme", {"account": 4, "team": 2, "work poster": 3}))
    newest = line_of("account", 6, lines)
    edited = [*lines]
    edited[newest] = changed(lines[newest], state="{}")

    assert found([*lines[:newest], *lines[newest + 1 :]]) == [("acme", "account", 6)]
    assert found(edited) == [("acme", "account", 6)]
    assert check(edited).streams[0].verified == 4


# --- whoever can compute all hashes anew ---


@pytest.mark.parametrize("edited", [("account", 2), ("team", 1), ("work poster", 3)])
def test_i11_a_history_rewritten_with_all_its_hashes_is_not_what_the_checkpoint_covers(
    edited: tuple[str, int],
) -> None:
    """As somebody with all rights on the database could; here even the end is signed, by the ledger's own key."""
    forged = Ledger(edited).bundle(witness=Ledger().witness("acme", STREAMS))
    told = check(forged)

    assert found(forged) == [("acme", edited[0], STREAMS[edited[0]])]
    assert {each.stream: each.verified for each in told.streams}[edited[0]] == 0


def test_i11_a_shorter_history_rewritten_with_its_end_is_missing_what_the_checkpoint_covers() -> None:
    shorter = {**STREAMS, "account": 5}
    gone = {"account": 6, "team": 2}

    assert found(Ledger().bundle(lengths=shorter, witness=Ledger().witness("acme", STREAMS))) == [
        ("acme", "account", 6)
    ]
    assert found(Ledger().bundle(lengths=gone, witness=Ledger().witness("acme", STREAMS))) == [
        ("acme", "work poster", 1)
    ]


def test_i11_the_path_of_another_team_proves_nothing() -> None:
    witness = Ledger().witness("borealis", STREAMS)

    told = check(Ledger().bundle("acme", witness=witness))

    assert "team of the leaf" in [each.what for each in told.differences]
    assert sum(each.verified for each in told.streams) == 0


def test_i11_the_bundle_of_another_team_under_this_name_is_found_out() -> None:
    other = Ledger().bundle("borealis", witness=Ledger().witness("borealis", STREAMS))
    heading = json.loads(other[0])

    lines = [encode_line({**heading, "team_id": "acme"}) + b"\n", *other[1:]]

    assert ("acme", "account", 1) in found(lines)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("index", 1),
        ("index", -1),
        ("path", []),
        ("path", ["00" * 32] * 3),
        ("path", ["zz"]),
        ("leaf", "{}"),
        ("leaf", '{ "streams":[],"team_id":"acme"}'),
    ],
)
def test_i11_a_witness_of_another_place_proves_nothing(field: str, value: object) -> None:
    heading = json.loads(WHOLE[0])
    heading["witness"][field] = value

    told = check([encode_line(heading) + b"\n", *WHOLE[1:]])

    assert not told.is_sound
    assert sum(each.verified for each in told.streams) == 0


def test_i11_a_checkpoint_edited_or_signed_by_a_stranger_proves_nothing() -> None:
    by_stranger = Ledger().bundle(witness=Ledger().witness("acme", STREAMS, STRANGER), key=STRANGER)
    heading = json.loads(WHOLE[0])
    told = heading["witness"]["checkpoint"]
    told["document"] = told["document"].replace('"number":3', '"number":4')

    assert {each.what for each in check(by_stranger).differences} == {
        "key of the checkpoint",
        "key of the end",
    }
    assert sum(each.verified for each in check(by_stranger).streams) == 0
    assert check(by_stranger, keys=()).keys == [STRANGER.public_key]
    assert not check([encode_line(heading) + b"\n", *WHOLE[1:]]).is_sound


def test_i11_the_right_key_without_its_signature_is_found_out() -> None:
    lines = [*WHOLE]
    end = json.loads(lines[-1])["end"]
    lines[-1] = (
        encode_line({"end": {**end, "signature": STRANGER.sign(end["document"].encode()).hex()}}) + b"\n"
    )

    assert [each.what for each in check(lines).differences] == ["signature of the end"]
    assert [each.what for each in check(WHOLE, keys=(STRANGER.public_key,)).differences] == [
        "key of the checkpoint",
        "key of the end",
    ]


def test_a_key_that_was_changed_meanwhile_is_one_of_several() -> None:
    later = Ledger().bundle(witness=Ledger().witness("acme", STREAMS, STRANGER), key=KEY)

    assert check(later, keys=(KEY.public_key, STRANGER.public_key)).is_sound
    assert not check(later).is_sound


def test_i11_another_checkpoint_than_the_one_that_was_kept_is_named() -> None:
    kept = Ledger().witness("acme", STREAMS).checkpoint.document
    older = Ledger().witness("acme", {"account": 2}).checkpoint.document

    assert check(WHOLE, held=kept).is_sound
    assert [each.what for each in check(WHOLE, held=older).differences] == ["checkpoint"]
    assert [each.what for each in check(Ledger().bundle(), held=kept).differences] == ["checkpoint"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda line: line.replace(b'{"', b'{ "', 1),
        lambda line: line.replace(b'"hash"', b'"more":1,"hash"', 1),
        lambda line: line.replace(b'"account"', b'"\\u0061ccount"', 1),
        lambda line: line.upper(),
        lambda line: b"\xff" + line,
        lambda line: b"[]\n",
        lambda line: b"[" * 100_000 + b"\n",
        lambda line: line.replace(b"acme", b"ac\xffe", 1),
        lambda line: b"null\n",
    ],
)
def test_a_line_in_any_other_form_is_found_out_by_its_number(edit: Callable[[bytes], bytes]) -> None:
    lines = [*WHOLE]
    lines[2] = edit(lines[2])

    told = check(lines)

    assert (told.differences[0].what, told.differences[0].version) == ("line 3", 2)


@pytest.mark.parametrize("lines", [[], [b"\n"], [b"a picture\xff\n"], [b"{}\n"], [WHOLE[1]]])
def test_a_file_that_is_no_bundle_is_found_out(lines: Lines) -> None:
    assert [each.what for each in check(lines).differences] == ["line 1"]


def test_a_leaf_has_one_form() -> None:
    entry = leaf_bytes(Leaf(team_id="acme", streams=[]))

    assert read_leaf(entry) == Leaf(team_id="acme", streams=[])
    with pytest.raises(Malformed, match="another form"):
        read_leaf(entry.replace(b":", b": "))
    with pytest.raises(Malformed, match="is none of"):
        stream_id_of("acme", "purse")
