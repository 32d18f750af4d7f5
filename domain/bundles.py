"""An audit bundle: one team's events as stored, and what proves that a checkpoint covers them; verified by anyone, anywhere.

Lines of canonical JSON: who it is of, with the witness; every event of the account, of the team's people and of its works; then
the signed end, which says how far each stream went. Events up to the version that a checkpoint covers are *verified*; newer ones
are *unwitnessed*, since whoever wrote the bundle could have written them otherwise.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

import msgspec

from domain.account.decision import account_id
from domain.chain import GENESIS, event_hash
from domain.checkpoints import Checkpoint, Leaf, Signed, StreamHead, read_document, read_leaf, shown
from domain.errors import Malformed
from domain.merkle import root_by_path
from domain.team.state import team_stream_id
from domain.work.state import work_stream_id

FORMAT = "coffer.bundle.1"
END_FORMAT = "coffer.bundle.end.1"
ACCOUNT, TEAM, WORK = "account", "team", "work "
"""The streams of a team: its account, its people and paperwork, and each work by its id."""

IsSigned = Callable[[str, bytes, bytes], bool]
"""Whether a public key in hex, of a message, made this signature. Raises: ValueError for no key."""


class Witness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What covers the events: a signed checkpoint, the team's leaf in it as it was hashed, and the path to the root."""

    checkpoint: Signed
    leaf: str
    index: int
    path: list[str]


class Heading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line."""

    format: str
    team_id: str
    witness: Witness | None


class BundledEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An event as it is stored; bytes that are no text are in Base64."""

    stream: str
    version: int
    topic: str
    state: str | None = None
    state_base64: str | None = None
    hash: str


class End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far each stream went when the bundle was written."""

    format: str
    team_id: str
    made_at: str
    streams: list[StreamHead]


class Ending(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line."""

    end: Signed


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bundle is not what was written: stream and version, and what should be there."""

    team_id: str | None
    stream: str | None = None
    version: int | None = None
    what: str
    expected: str
    found: str


class StreamChecked(msgspec.Struct, frozen=True, kw_only=True):
    """A stream: events read, how many of them a checkpoint covers and are sound, and how many no checkpoint covers."""

    stream: str
    events: int
    verified: int
    unwitnessed: int


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What verifying a bundle found; the keys are those that its signatures were made with."""

    team_id: str | None
    checkpoint: Checkpoint | None
    keys: list[str]
    streams: list[StreamChecked]
    differences: list[Difference]

    @property
    def is_sound(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def unwitnessed(self) -> int:
        """Events that no checkpoint covers."""
        return sum(each.unwitnessed for each in self.streams)


_encoder = msgspec.json.Encoder(order="sorted")
encode_line = _encoder.encode
_read_heading = msgspec.json.Decoder(Heading).decode
_read_line = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_event = msgspec.json.Decoder(BundledEvent).decode
_read_ending = msgspec.json.Decoder(Ending).decode
_read_end = msgspec.json.Decoder(End).decode


def stream_id_of(team_id: str, stream: str) -> str:
    """The id, in hex, of the stream that a team has under this name. Raises: Malformed."""
    if stream == ACCOUNT:
        return account_id(team_id).hex
    if stream == TEAM:
        return team_stream_id(team_id).hex
    if stream.startswith(WORK):
        return work_stream_id(team_id, stream.removeprefix(WORK)).hex
    raise Malformed(f"stream {stream[:80]!r} is none of {ACCOUNT}, {TEAM}, {WORK}and an id")


def bundled(stream: str, version: int, topic: str, state: bytes, own_hash: bytes) -> BundledEvent:
    """The event with its stored bytes."""
    try:
        text, coded = state.decode(), None
    except UnicodeDecodeError:
        text, coded = None, b64encode(state).decode()
    return BundledEvent(
        stream=stream, version=version, topic=topic, state=text, state_base64=coded, hash=own_hash.hex()
    )


def verify_bundle(
    lines: Iterable[bytes],
    is_signed: IsSigned,
    *,
    keys: Collection[str] = (),
    held: str | None = None,
) -> Checked:
    """Compares a bundle, line by line, with its own hashes, its witness and its signed end. Never refuses.

    ``keys`` are the public keys of the ledger, in hex; without any, those in the bundle are taken, which whoever made it chose.
    ``held`` is the document of a checkpoint that the reader kept: the bundle must be witnessed by that very one.
    Of each stream the first difference is told; later ones follow from it.
    """
    return _Reading(is_signed, keys, held).run(lines)


class _Witnessed(NamedTuple):
    """What the witness says, once it is proved."""

    checkpoint: Checkpoint
    heads: dict[str, StreamHead]


class _Stream:
    """One stream while its events pass by."""

    def __init__(self, name: str, stream_id: bytes, covered: StreamHead | None) -> None:
        self.name = name
        self.covered = covered
        self.version = 0
        self.last_hash = GENESIS
        self.events = 0
        self.verified = 0
        self.is_broken = False
        self._stream_id = stream_id

    def take(self, event: BundledEvent, state: bytes) -> tuple[str, str, str] | None:
        """The event is the newest; what differs, should be and is, if anything does."""
        self.events += 1
        if event.version != self.version + 1:
            return "event", f"version {self.version + 1}", f"version {event.version}"
        own = event_hash(self.last_hash, self._stream_id, event.version, event.topic, state)
        self.version, self.last_hash = event.version, own
        if own.hex() != event.hash:
            return "hash over the stored bytes", own.hex(), event.hash
        if self.covered is not None and self.covered.version == event.version != 0:
            return self._compare_covered(event)
        return None

    def _compare_covered(self, event: BundledEvent) -> tuple[str, str, str] | None:
        assert self.covered is not None
        if self.covered.hash == event.hash:
            self.verified = event.version
            return None
        return (
            "hash that the checkpoint witnesses, of this or an earlier version",
            self.covered.hash,
            event.hash,
        )

    def checked(self) -> StreamChecked:
        """How many events are what."""
        covered = min(self.covered.version if self.covered else 0, self.events)
        return StreamChecked(
            stream=self.name, events=self.events, verified=self.verified, unwitnessed=self.events - covered
        )


class _Reading:
    """One bundle while it is read."""

    def __init__(self, is_signed: IsSigned, keys: Collection[str], held: str | None) -> None:
        self._is_signed = is_signed
        self._trusted = frozenset(keys)
        self._held = held
        self._team: str | None = None
        self._witnessed: _Witnessed | None = None
        self._streams: dict[str, _Stream] = {}
        self._keys: list[str] = []
        self._differences: list[Difference] = []
        self._now: _Stream | None = None

    def run(self, lines: Iterable[bytes]) -> Checked:
        numbered = enumerate(lines, 1)
        self._begin(next(numbered, (1, b""))[1])
        if self._team is not None:
            self._read(numbered)
            self._check_covered()
        return Checked(
            team_id=self._team,
            checkpoint=self._witnessed.checkpoint if self._witnessed else None,
            keys=self._keys,
            streams=[each.checked() for each in self._streams.values()],
            differences=self._differences,
        )

    def _differs(
        self,
        what: str,
        expected: object,
        found: object,
        stream: str | None = None,
        version: int | None = None,
    ) -> None:
        self._differences.append(
            Difference(
                team_id=self._team,
                stream=stream,
                version=version,
                what=what,
                expected=str(expected),
                found=str(found),
            )
        )

    # --- the first line ---

    def _begin(self, line: bytes) -> None:
        try:
            heading = _read_heading(_without_end(line, encode_line))
        except (msgspec.MsgspecError, Malformed) as error:
            self._differs("line 1", "the heading of a bundle", error)
            return
        if heading.format != FORMAT:
            self._differs("format", FORMAT, heading.format)
            return
        self._team = heading.team_id
        if heading.witness is not None:
            self._witnessed = self._proved(heading.team_id, heading.witness)
        if self._held is not None and (
            heading.witness is None or heading.witness.checkpoint.document != self._held
        ):
            self._differs(
                "checkpoint", "the one that you hold", "none" if heading.witness is None else "another"
            )

    def _proved(self, team_id: str, witness: Witness) -> _Witnessed | None:
        """What the witness says, if key, signature, path and leaf are right."""
        before = len(self._differences)
        self._check_signature("checkpoint", witness.checkpoint)
        try:
            checkpoint = read_document(witness.checkpoint.document)
            leaf = read_leaf(witness.leaf.encode())
            path = [_hex(each, 32, "path") for each in witness.path]
        except Malformed as error:
            self._differs("witness", "a checkpoint with the path of a leaf", error.detail)
            return None
        root = root_by_path(witness.leaf.encode(), witness.index, checkpoint.leaves, path)
        if root is None or root.hex() != checkpoint.root:
            found = "no path of a tree of that size" if root is None else root.hex()
            self._differs("Merkle path of the leaf", checkpoint.root, found)
        self._check_leaf(team_id, leaf)
        if len(self._differences) > before:
            return None
        return _Witnessed(checkpoint, {head.stream: head for head in leaf.streams})

    def _check_leaf(self, team_id: str, leaf: Leaf) -> None:
        if leaf.team_id != team_id:
            self._differs("team of the leaf", team_id, leaf.team_id)
        for head in leaf.streams:
            self._check_head("leaf", team_id, head)

    def _check_head(self, where: str, team_id: str, head: StreamHead) -> None:
        try:
            right = stream_id_of(team_id, head.stream)
        except Malformed as error:
            self._differs(f"stream of the {where}", "a stream of the team", error.detail)
            return
        if head.stream_id != right:
            self._differs(f"id of the stream in the {where}", right, head.stream_id, head.stream)

    def _check_signature(self, what: str, signed: Signed) -> None:
        if signed.public_key not in self._keys:
            self._keys.append(signed.public_key)
        if self._trusted and signed.public_key not in self._trusted:
            self._differs(f"key of the {what}", " or ".join(sorted(self._trusted)), signed.public_key)
            return
        try:
            key = _hex(signed.public_key, 32, "public key").hex()
            sound = self._is_signed(key, signed.document.encode(), _hex(signed.signature, 64, "signature"))
        except (Malformed, ValueError) as error:
            self._differs(f"signature of the {what}", "64 bytes in hex by an Ed25519 key", error)
            return
        if not sound:
            self._differs(f"signature of the {what}", "one that this key made of this document", "another")

    # --- events ---

    def _read(self, numbered: Iterator[tuple[int, bytes]]) -> None:
        for number, line in numbered:
            try:
                told = _without_end(line, encode_line)
                if "end" in _read_line(told):
                    self._finish(_read_ending(told).end)
                    self._check_nothing_follows(numbered)
                    return
                self._take(_read_event(told))
            except (msgspec.MsgspecError, Malformed) as error:
                self._differs(f"line {number}", self._awaited(), error, *self._place())
                if self._now is not None:
                    self._now.is_broken = True
        self._differs("end", "the signed end of the bundle", f"none after {self._awaited()}", *self._place())

    def _take(self, event: BundledEvent) -> None:
        """Raises: Malformed."""
        assert self._team is not None
        stream = self._streams.get(event.stream)
        if stream is None:
            stream_id = bytes.fromhex(stream_id_of(self._team, event.stream))
            covered = self._witnessed.heads.get(event.stream) if self._witnessed else None
            stream = self._streams[event.stream] = _Stream(event.stream, stream_id, covered)
        elif stream is not self._now:
            raise Malformed(f"events of {event.stream!r} are in two places")
        self._now = stream
        if stream.is_broken:
            stream.events += 1
            return
        expected = stream.version + 1
        if (differs := stream.take(event, _state_of(event))) is not None:
            stream.is_broken = True
            self._differs(*differs, stream.name, expected)

    def _place(self) -> tuple[str | None, int | None]:
        return (None, None) if self._now is None else (self._now.name, self._now.version + 1)

    def _awaited(self) -> str:
        stream, version = self._place()
        return "an event" if stream is None else f"version {version} of {stream}, or what follows"

    # --- the end ---

    def _finish(self, signed: Signed) -> None:
        """Raises: MsgspecError."""
        assert self._team is not None
        self._check_signature("end", signed)
        end = _read_end(signed.document)
        if (end.format, end.team_id) != (END_FORMAT, self._team):
            self._differs("end", f"{END_FORMAT} of {self._team}", f"{end.format} of {end.team_id}")
        stated = {head.stream: head for head in end.streams}
        for head in end.streams:
            self._check_head("end", self._team, head)
            if head.stream not in self._streams:
                self._differs("event", f"{head.version} events", "none", head.stream, 1)
        for stream in self._streams.values():
            if not stream.is_broken:
                self._compare_end(stream, stated.get(stream.name))

    def _compare_end(self, stream: _Stream, head: StreamHead | None) -> None:
        version = head.version if head else 0
        if stream.version != version:
            stream.is_broken = True
            first = min(stream.version, version) + 1
            self._differs("event", f"{version} events", f"{stream.version} events", stream.name, first)
        elif head is not None and stream.last_hash.hex() != head.hash:
            stream.is_broken = True
            found = stream.last_hash.hex()
            self._differs("hash at the end of the stream", head.hash, found, stream.name, version)

    def _check_nothing_follows(self, numbered: Iterator[tuple[int, bytes]]) -> None:
        following = next(numbered, None)
        if following is not None:
            self._differs(f"line {following[0]}", "nothing after the end", shown(following[1]))

    def _check_covered(self) -> None:
        """Every version that the checkpoint covers is there."""
        covered = self._witnessed.heads if self._witnessed else {}
        for name, head in covered.items():
            stream = self._streams.get(name)
            if stream is None:
                self._differs("event", f"{head.version} events, by the checkpoint", "none", name, 1)
            elif not stream.is_broken and stream.version < head.version:
                stream.is_broken = True
                found = f"{stream.version} events"
                expected = f"{head.version} events, by the checkpoint"
                self._differs("event", expected, found, name, stream.version + 1)


def _without_end(line: bytes, encode: Callable[[object], bytes]) -> bytes:
    """The line without its end, in the one form that its content has. Raises: Malformed, MsgspecError."""
    told = line.removesuffix(b"\n")
    if told == line:
        raise Malformed(f"{shown(line)} is cut off: a line ends with a line feed")
    try:
        is_as_written = encode(msgspec.json.decode(told)) == told
    except (RecursionError, UnicodeError) as error:
        raise Malformed(f"{shown(told)} is no line of a bundle: {error}") from error
    if not is_as_written:
        raise Malformed(f"{shown(told)} is not in the form in which it was written")
    return told


def _state_of(event: BundledEvent) -> bytes:
    """The stored bytes. Raises: Malformed."""
    if event.state is not None and event.state_base64 is None:
        return event.state.encode()
    try:
        state = b64decode(event.state_base64 or "", validate=True)
    except ValueError:
        state = b""
    if event.state is not None or b64encode(state).decode() != event.state_base64:
        raise Malformed(f"version {event.version}: either state or state_base64 would be right")
    return state


def _hex(text: str, length: int, field: str) -> bytes:
    """The bytes of a text of lower-case hex digits. Raises: Malformed."""
    if len(text) != 2 * length or not set(text) <= set("0123456789abcdef"):
        raise Malformed(f"{field} {text[:80]!r}: {2 * length} lower-case hex digits would be right")
    return bytes.fromhex(text)
