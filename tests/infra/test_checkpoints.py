"""Checkpoints and bundles of a real ledger: what somebody with all rights on the database does is found out from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from domain import commands as c
from domain.account.decision import account_id
from domain.bundles import Checked
from domain.errors import Conflict, Refused, UnknownTeam
from domain.issuer.details import IssuerDetails
from domain.merkle import MerkleTree
from domain.work.state import work_stream_id
from domain.work.texts import WorkText
from infra.bundles import check_bundle, write_bundle
from infra.checkpoints import (
    DOCUMENT,
    LEAVES,
    CheckpointDamaged,
    CheckpointOnFile,
    Checkpoints,
    read_checkpoint,
)
from infra.invoices import InvoiceDesk
from infra.postgres.archiving import archive
from infra.postgres.shards import ShardMap
from infra.postgres.witnessing import Compared, all_heads, compare_leaves
from infra.signing import SigningKey
from tests.infra.archives import BEFORE, SMALL, an_old_ledger
from tests.infra.stored import CALLER, execute, opened, rows
from tests.infra.test_cli import Coffer, bare, coffer
from tests.infra.test_two_servers import second_server, template, urls
from tests.infra.test_two_servers import shards as two_databases
from tests.infra.two_servers import TEAMS, Urls, grant

__all__ = ["bare", "coffer", "second_server", "template", "two_databases", "urls"]

KEY = SigningKey(b"the key of this ledger, thirty-two bytes or more")

# What somebody does who may do anything, and knows how hashes are made: from a version on all of a stream is told anew.
REWRITTEN = """
DO $$
DECLARE
    each record;
    last bytea := (SELECT previous_hash FROM ledger_events WHERE originator_id = '{stream}' AND originator_version = {version});
BEGIN
    FOR each IN SELECT * FROM ledger_events WHERE originator_id = '{stream}' AND originator_version >= {version}
        ORDER BY originator_version
    LOOP
        IF each.originator_version = {version} THEN
            each.state := convert_to(replace(convert_from(each.state, 'UTF8'), 'a start', 'a gift'), 'UTF8');
        END IF;
        UPDATE ledger_events SET state = each.state, previous_hash = last, hash = sha256(
            last || uuid_send(originator_id) || int8send(originator_version) || int4send(octet_length(topic))
            || convert_to(topic, 'UTF8') || int4send(octet_length(each.state)) || each.state)
        WHERE originator_id = each.originator_id AND originator_version = each.originator_version
        RETURNING hash INTO last;
    END LOOP;
    UPDATE account_head SET chain_hash = last WHERE account_id = '{stream}';
END $$
"""


class Books:
    """A ledger with a directory of checkpoints, and what can be done to either."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.shards = ShardMap(url)
        self.directory = directory
        self.checkpoints = Checkpoints(directory / "checkpoints")

    def checkpoint(self) -> CheckpointOnFile:
        """One more."""
        return self.checkpoints.make(self.shards, KEY)

    def bundle(self, team: str = "acme") -> Path:
        """A bundle of the team, against the newest checkpoint."""
        out = self.directory / f"{team}.jsonl"
        write_bundle(self.shards, team, KEY, self.checkpoints.newest(), out)
        return out

    def checked(self, team: str = "acme") -> Checked:
        """What verifying a bundle made now finds."""
        return check_bundle(self.bundle(team), [KEY.public_key])

    def compared(self) -> Compared:
        """The log beside the newest checkpoint."""
        newest = self.checkpoints.newest()
        assert newest is not None
        return compare_leaves(self.shards, newest.checked_leaves())

    def edit(self, statement: str) -> None:
        """What a superuser may do."""
        with psycopg.connect(self.url) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement.encode())

    def account_id(self, team: str = "acme") -> str:
        """The id of the account's stream."""
        found = rows(self.url, "SELECT account_id::text FROM account_head WHERE team_id = %s", team)
        return str(found[0][0])


@pytest.fixture
def books(database_url: str, tmp_path: Path) -> Iterator[Books]:
    """Acme with members and a work, two other teams, and an issuer."""
    books = Books(database_url, tmp_path)
    opened(books.shards, "acme", "borealis", "cygnus", granted=0)
    for team in ("acme", "borealis"):
        execute(books.shards, c.GrantCredits(team_id=team, amount_micros=5_000_000, reason="a start"))
    execute(books.shards, c.AddMember(team_id="acme", member="olga", role="owner"))
    brief = WorkText(goal="a poster", audience="all")
    execute(books.shards, c.StartWork(team_id="acme", work_id="poster", brief=brief, member="olga"))
    yield books
    books.shards.close()


def verified(told: Checked) -> dict[str, tuple[int, int]]:
    return {each.stream: (each.verified, each.unwitnessed) for each in told.streams}


# --- what is made ---


def test_a_checkpoint_covers_every_stream_and_a_bundle_proves_one_teams(books: Books) -> None:
    made = books.checkpoint()
    leaves = [json.loads(line) for line in (made.directory / LEAVES).read_text().splitlines()]
    execute(books.shards, c.GrantCredits(team_id="acme", amount_micros=1))

    told = books.checked()

    assert sorted(leaf["team_id"] for leaf in leaves) == ["acme", "borealis", "cygnus"]
    assert made.checkpoint.leaves == 3
    assert sum(made.checkpoint.positions) == rows(books.url, "SELECT count(*) FROM ledger_events")[0][0] - 1
    assert told.differences == []
    assert verified(told) == {"account": (2, 1), "team": (1, 0), "work poster": (1, 0)}
    assert told.unwitnessed == 1
    assert books.compared() == Compared(5, 0, [])
    assert verified(books.checked("cygnus")) == {"account": (1, 0)}


def test_the_root_can_be_recomputed_from_the_leaves_and_these_from_plain_sql(books: Books) -> None:
    made = books.checkpoint()
    stored = rows(books.url, "SELECT team_id, account_id, version, chain_hash FROM account_head")
    tree = MerkleTree()
    for line in (made.directory / LEAVES).read_bytes().splitlines():
        tree.add(line)
    told = {
        (leaf["team_id"], head["stream_id"], head["version"], head["hash"])
        for leaf in map(json.loads, (made.directory / LEAVES).read_text().splitlines())
        for head in leaf["streams"]
        if head["stream"] == "account"
    }

    assert tree.root().hex() == made.checkpoint.root
    assert told == {(team, stream.hex, version, own.hex()) for team, stream, version, own in stored}


def test_checkpoints_are_numbered_and_each_names_the_one_before(books: Books) -> None:
    first = books.checkpoint()
    execute(books.shards, c.GrantCredits(team_id="acme", amount_micros=1))
    second = books.checkpoint()

    assert (first.checkpoint.number, first.checkpoint.previous) == (1, None)
    assert second.checkpoint.number == 2
    assert second.checkpoint.previous == sha256(first.signed.document.encode()).hexdigest()
    assert second.checkpoint.root != first.checkpoint.root
    assert books.checkpoints.newest() == second
    assert read_checkpoint(first.directory / DOCUMENT) == first
    assert sorted(each.name for each in (books.directory / "checkpoints").iterdir()) == [
        "checkpoint-00000001",
        "checkpoint-00000002",
    ]


def test_of_two_checkpoints_made_at_once_one_has_the_number(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = books.checkpoint()
    monkeypatch.setattr(books.checkpoints, "newest", lambda: None)

    with pytest.raises(Conflict, match="checkpoint 1 was made by somebody else"):
        books.checkpoint()

    assert [each.name for each in (books.directory / "checkpoints").iterdir()] == [first.directory.name]


def test_i11_a_log_that_became_shorter_is_not_signed_over(books: Books) -> None:
    books.checkpoint()
    shard = books.shards.shard_of("acme")
    books.edit(f"UPDATE shard_log SET position = position - 1 WHERE shard = {shard}")

    with pytest.raises(Refused, match=f"the log of shard {shard} ends at position"):
        books.checkpoint()


def test_the_checkpoints_of_another_ledger_are_not_taken_for_its_own(books: Books) -> None:
    made = books.checkpoint()
    books.edit("UPDATE installation SET installed_at = installed_at - interval '1 day'")

    with pytest.raises(Refused, match="name a directory of its own"):
        books.checkpoint()
    with pytest.raises(Refused, match="is of the ledger that was installed at"):
        books.checkpoints.newest_of(books.shards)
    assert books.checkpoints.newest() == made


def test_a_checkpoint_is_of_one_instant_whatever_is_written_meanwhile(books: Books) -> None:
    with all_heads(books.shards) as heads:
        execute(books.shards, c.GrantCredits(team_id="acme", amount_micros=1))
        opened(books.shards, "delta")
        leaves = list(heads.leaves())

    assert [leaf.team_id for leaf in leaves if leaf.team_id == "delta"] == []
    account = next(leaf.streams[0] for leaf in leaves if leaf.team_id == "acme")
    assert account.version == 2
    assert sum(heads.positions) == sum(head.version for leaf in leaves for head in leaf.streams)


def test_a_team_opened_after_the_checkpoint_is_unwitnessed_and_nobodys_bundle_is_not_written(
    books: Books,
) -> None:
    made = books.checkpoint()
    opened(books.shards, "delta", granted=0)

    assert verified(books.checked("delta")) == {"account": (0, 1)}
    assert check_bundle(books.bundle("delta"), held=made.signed.document).differences[0].what == "checkpoint"
    with pytest.raises(UnknownTeam):
        books.bundle("nobody")
    assert not (books.directory / "nobody.jsonl").exists()


def test_issuers_are_covered_as_well(books: Books) -> None:
    details = IssuerDetails(
        issuer_id="default", name="Coffer GmbH", address_lines=["Bergweg 1", "10115 Berlin"], country="DE"
    )
    InvoiceDesk(books.shards).set_details(details, CALLER, None)

    made = books.checkpoint()

    assert made.checkpoint.leaves == 4
    assert b'"issuer_id":"default"' in (made.directory / LEAVES).read_bytes()
    assert books.compared().astray == []


# --- what is done to the ledger ---


def test_i11_a_history_rewritten_with_all_its_hashes_is_named(books: Books) -> None:
    books.checkpoint()
    execute(books.shards, c.GrantCredits(team_id="acme", amount_micros=1))

    books.edit(REWRITTEN.format(stream=books.account_id(), version=2))
    told = books.checked()

    assert rows(
        books.url, "SELECT count(*) FROM ledger_events WHERE position('a gift'::bytea IN state) > 0"
    ) == [(1,)]
    assert [(each.team_id, each.stream, each.version) for each in told.differences] == [
        ("acme", "account", 2)
    ]
    assert [(each.owner, each.stream, each.version) for each in books.compared().astray] == [
        ("acme", "account", 2)
    ]
    assert books.checked("borealis").is_sound


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        (
            "UPDATE ledger_events SET state = state || ' ' WHERE originator_version = 1 AND {acme}",
            ("account", 1),
        ),
        ("DELETE FROM ledger_events WHERE originator_version = 1 AND {acme}", ("account", 1)),
        ("DELETE FROM ledger_events WHERE originator_version = 2 AND {acme}", ("account", 2)),
        (
            (
                "DELETE FROM ledger_events WHERE originator_version = 2 AND {acme};"
                " UPDATE account_head SET version = 1, chain_hash = (SELECT hash FROM ledger_events WHERE {acme})"
                " WHERE team_id = 'acme'"
            ),
            ("account", 2),
        ),
        ("DELETE FROM ledger_events WHERE {poster}; DELETE FROM work_head", ("work poster", 1)),
        ("UPDATE ledger_events SET topic = 'WorkSaved.1' WHERE {poster}", ("work poster", 1)),
    ],
)
def test_i11_whatever_is_edited_dropped_or_cut_off_is_named(
    books: Books, statement: str, place: tuple[str, int]
) -> None:
    books.checkpoint()
    told = statement.format(
        acme=f"originator_id = '{books.account_id()}'",
        poster=f"originator_id = '{work_stream_id('acme', 'poster')}'",
    )
    for each in told.split(";"):
        books.edit(each)

    assert ("acme", *place) in [
        (each.team_id, each.stream, each.version) for each in books.checked().differences
    ]


def test_i11_a_whole_team_that_is_gone_is_named(books: Books) -> None:
    books.checkpoint()
    books.edit(f"DELETE FROM ledger_events WHERE originator_id = '{books.account_id('borealis')}'")
    books.edit("DELETE FROM account_head WHERE team_id = 'borealis'")

    assert [(each.owner, each.found) for each in books.compared().astray] == [("borealis", None)]


# --- what is done to the checkpoint ---


def test_leaves_that_were_edited_prove_nothing(books: Books) -> None:
    made = books.checkpoint()
    file = made.directory / LEAVES
    file.write_bytes(file.read_bytes().replace(b'"version":2', b'"version":3'))

    with pytest.raises(CheckpointDamaged, match="not the list that was signed"):
        books.bundle()
    with pytest.raises(CheckpointDamaged, match="not the list that was signed"):
        books.compared()
    file.unlink()
    with pytest.raises(CheckpointDamaged, match="cannot be read"):
        books.bundle()
    assert [each.name for each in books.directory.iterdir()] == ["checkpoints"]


def test_a_document_that_was_edited_is_refused(books: Books) -> None:
    made = books.checkpoint()
    file = made.directory / DOCUMENT
    file.write_text(file.read_text().replace('\\"number\\":1', '\\"number\\":2'))

    with pytest.raises(CheckpointDamaged, match="not what its key signed"):
        books.checkpoints.newest()
    file.unlink()
    with pytest.raises(CheckpointDamaged, match="cannot be read"):
        books.checkpoint()


# --- other places ---


def test_events_in_an_archive_are_in_the_bundle(database_url: str, tmp_path: Path) -> None:
    books = Books(database_url, tmp_path)
    an_old_ledger(books.shards, days=60, teams=("acme", "orion"))
    books.checkpoint()
    before = books.bundle().read_bytes().splitlines()

    archive(books.shards, tmp_path / "archives", BEFORE, sizes=SMALL)
    told = books.checked()

    assert books.bundle().read_bytes().splitlines()[:-1] == before[:-1]
    assert rows(
        database_url,
        "SELECT min(originator_version) > 1 FROM ledger_events WHERE originator_id = %s",
        account_id("acme"),
    ) == [(True,)]
    assert told.is_sound
    assert told.unwitnessed == 0
    assert books.compared().astray == []
    books.shards.close()


def test_a_ledger_in_two_databases_has_one_checkpoint(
    urls: Urls, two_databases: ShardMap, tmp_path: Path
) -> None:
    books = Checkpoints(tmp_path)
    made = books.make(two_databases, KEY)
    grant(two_databases, TEAMS[0], "later")

    told = {}
    for team in TEAMS:
        write_bundle(two_databases, team, KEY, made, tmp_path / "bundle")
        told[team] = check_bundle(tmp_path / "bundle", [KEY.public_key], made.signed.document)

    assert made.checkpoint.leaves == len(TEAMS)
    assert len(made.checkpoint.positions) == two_databases.count
    assert all(each.is_sound for each in told.values())
    assert {team for team, each in told.items() if each.unwitnessed} == {TEAMS[0]}
    assert compare_leaves(two_databases, made.checked_leaves()) == Compared(len(TEAMS), 0, [])


# --- the command ---


def test_the_command_makes_writes_and_verifies_with_its_exit_codes(
    coffer: Coffer, bare: Coffer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COFFER_CHECKPOINT_DIRECTORY", str(tmp_path / "elsewhere"))
    bundle, key, kept = tmp_path / "acme.jsonl", tmp_path / "key.json", tmp_path / "kept.json"
    none_yet = coffer("bundle", "acme", "--out", str(bundle))
    unwitnessed = coffer("verify-bundle", str(bundle), "-o", "json")
    made = coffer("checkpoint", "-o", "json")
    kept.write_text(made.out)
    coffer("grant", "acme", "1", "--reason", "later")
    written = coffer("bundle", "acme", "--out", str(bundle), "-o", "json")
    compared = coffer("checkpoint", "--check", "-o", "json")
    by_kept = coffer("checkpoint", "--check", "--checkpoint", str(kept), "-o", "json")
    key.write_text(coffer("signing-key", "-o", "json").out)
    monkeypatch.delenv("COFFER_DATABASE_URL")

    sound = bare("verify-bundle", str(bundle), "--key", str(key), "--checkpoint", str(kept), "-o", "json")
    own_key = bare("verify-bundle", str(bundle))
    stranger = bare("verify-bundle", str(bundle), "--key", "ab" * 32)
    bundle.write_bytes(bundle.read_bytes().replace(b"a start", b"a gift!"))
    edited = bare("verify-bundle", str(bundle), "--key", str(key), "-o", "json")
    nothing = bare("verify-bundle", str(tmp_path / "nothing"))
    no_key = bare("verify-bundle", str(bundle), "--key", "a key")

    assert "unwitnessed" in none_yet.err
    assert (unwitnessed.json["verified"], unwitnessed.json["unwitnessed"]) == (0, 2)
    assert json.loads(kept.read_text())["public_key"] == json.loads(key.read_text())["public_key"]
    assert (tmp_path / "elsewhere" / "checkpoint-00000001" / "checkpoint.json").read_text() == made.out
    assert (written.json["checkpoint"], written.json["events"]) == (1, 3)
    assert (compared.code, compared.json["unwitnessed"], compared.json["differences"]) == (0, 1, 0)
    assert (by_kept.code, by_kept.json) == (0, compared.json)
    assert (sound.code, sound.json["verified"], sound.json["unwitnessed"]) == (0, 2, 1)
    assert (own_key.code, "the bundle's own" in own_key.err) == (0, True)
    assert stranger.code == 1
    assert edited.code == 1
    assert [(each["team_id"], each["version"]) for each in edited.json["findings"]] == [("acme", 2)]
    assert (nothing.code, no_key.code) == (2, 2)


def test_the_command_finds_a_log_that_is_not_what_was_signed(coffer: Coffer, database_url: str) -> None:
    assert coffer("checkpoint", "--check").code == 2
    assert coffer("checkpoint").code == 0
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE ledger_events SET hash = sha256(hash) WHERE originator_version = 2")

    told = coffer("checkpoint", "--check")

    assert told.code == 1
    assert "acme" in told.out
    assert "differences 1" in told.err
