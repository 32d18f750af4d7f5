"""Events of closed months leave for files and come back; nothing is lost, doubled or believed unread on the way."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from api.errors import EventsArchived
from domain.commands import RefundCharge
from infra.failpoints import OF_ARCHIVERS, OF_RESTORERS
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.application import LedgerApplication
from infra.postgres.archive_files import MANIFEST, ArchiveDamaged
from infra.postgres.archiving import ArchiveRefused, archive, restore
from infra.postgres.histories import PostgresEvents
from infra.postgres.read_models import StatementModel
from infra.postgres.rebuilding import RebuildHalted, rebuild
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.settings import REPOSITORY
from tests.builders import when
from tests.conftest import database_of, fresh_database
from tests.infra.archives import (
    BEFORE,
    SMALL,
    TEAMS,
    an_old_ledger,
    dump,
    manifests,
    project,
    run,
    streamed,
    used,
)
from tests.infra.stored import execute, rows
from tests.infra.test_chain_in_sql import documented_query

NOW = when("2026-11-20 09:00")

ARCHIVER = """
import sys
from pathlib import Path
from infra.postgres.archiving import archive
from infra.postgres.shards import ShardMap
from tests.infra.archives import BEFORE, SMALL

shards = ShardMap(sys.argv[1])
archive(shards, Path(sys.argv[2]), BEFORE, sizes=SMALL)
shards.close()
"""

RESTORER = """
import sys
from pathlib import Path
from infra.postgres.archiving import restore
from infra.postgres.shards import ShardMap
from tests.infra.archives import SMALL

shards = ShardMap(sys.argv[1])
for manifest in sys.argv[2:]:
    restore(shards, Path(manifest), sizes=SMALL)
shards.close()
"""


@pytest.fixture(scope="module")
def old_ledger(server_url: str, migrated_template: str) -> Iterator[str]:
    """The name of a database with a ledger of a hundred days, that others are copied from."""
    with fresh_database(server_url, migrated_template) as url:
        shards = ShardMap(url)
        an_old_ledger(shards)
        shards.close()
        yield database_of(url)


@pytest.fixture
def database_url(server_url: str, old_ledger: str) -> Iterator[str]:
    """A copy of the old ledger for one test."""
    with fresh_database(server_url, old_ledger) as url:
        yield url


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    yield shards
    shards.close()


def events(database_url: str) -> int:
    return int(rows(database_url, "SELECT count(*) FROM ledger_events")[0][0])


def gone(database_url: str) -> int:
    asked = "SELECT coalesce(sum(gone_through - gone_after), 0)::bigint FROM archive_stream"
    return int(rows(database_url, asked)[0][0])


def test_what_is_archived_and_restored_is_as_it_was(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    before = dump(database_url)

    told = archive(shards, tmp_path, BEFORE, sizes=SMALL)

    assert sum(each.removed for each in told) == sum(each.events for each in told) > 100
    assert events(database_url) == len(before["ledger_events"]) - sum(each.removed for each in told)
    archived = dump(database_url)
    assert {name for name in before if before[name] != archived[name]} == {"ledger_events", "archived_claim"}
    for manifest in manifests(database_url):
        restore(shards, manifest, sizes=SMALL)
    assert dump(database_url) == before
    for manifest in manifests(database_url):
        assert restore(shards, manifest, sizes=SMALL).events == 0
    assert dump(database_url) == before


def test_archiving_again_moves_only_months_that_were_closed_since(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    archived = dump(database_url)

    assert archive(shards, tmp_path, BEFORE, sizes=SMALL) == []
    assert dump(database_url) == archived

    march = archive(shards, tmp_path, when("2026-04-01 00:00"), sizes=SMALL)

    assert {each.month for each in march} == {"2026-03"}
    assert verify(shards).findings == []


def test_what_was_restored_stays_until_it_is_asked_to_leave_again(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    archived = dump(database_url)
    for manifest in manifests(database_url, shards.shard_of("acme")):
        restore(shards, manifest, "acme", sizes=SMALL)
    restored = dump(database_url)

    assert archive(shards, tmp_path, BEFORE, sizes=SMALL) == []
    assert dump(database_url) == restored != archived

    archive(shards, tmp_path, BEFORE, again=True, sizes=SMALL)
    assert dump(database_url) == archived


def test_one_team_is_restored_alone(database_url: str, shards: ShardMap, tmp_path: Path) -> None:
    of_acme = "SELECT e.* FROM ledger_events e JOIN account_head ON account_id = originator_id WHERE team_id = 'acme' ORDER BY 3"
    before, all_before = rows(database_url, of_acme), events(database_url)
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    left = gone(database_url)

    for manifest in manifests(database_url, shards.shard_of("acme")):
        restore(shards, manifest, "acme", sizes=SMALL)

    assert rows(database_url, of_acme) == before
    assert 0 < gone(database_url) < left
    assert events(database_url) + gone(database_url) == all_before
    assert verify(shards).findings == []


def test_the_ledger_verifies_before_meanwhile_and_after(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    before = verify(shards)

    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    archived = verify(shards)
    for manifest in manifests(database_url):
        restore(shards, manifest, sizes=SMALL)
    after = verify(shards)

    assert before.findings == archived.findings == after.findings == []
    assert (archived.teams, archived.events) == (before.teams, before.events) == (after.teams, after.events)


# --- killed anywhere ---


@pytest.mark.parametrize("name", OF_ARCHIVERS)
@pytest.mark.parametrize("count", [1, 3])
def test_an_archiver_killed_at_any_place_loses_nothing_and_goes_on_i5(
    database_url: str, shards: ShardMap, tmp_path: Path, name: str, count: int
) -> None:
    before = dump(database_url)

    killed = run(f"{name}:{count}", ARCHIVER, database_url, str(tmp_path))

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert events(database_url) + gone(database_url) == len(before["ledger_events"])
    assert verify(shards).findings == []
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    assert gone(database_url) > 100
    assert verify(shards).findings == []
    for manifest in manifests(database_url):
        restore(shards, manifest, sizes=SMALL)
    assert dump(database_url) == before


@pytest.mark.parametrize("name", OF_RESTORERS)
@pytest.mark.parametrize("count", [1, 4])
def test_a_restore_killed_at_any_place_goes_on_or_is_taken_back_i5(
    database_url: str, shards: ShardMap, tmp_path: Path, name: str, count: int
) -> None:
    before = dump(database_url)
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    archived = dump(database_url)
    paths = manifests(database_url)

    killed = run(f"{name}:{count}", RESTORER, database_url, *map(str, paths))

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert events(database_url) + gone(database_url) == len(before["ledger_events"])
    assert verify(shards).findings == []
    archive(shards, tmp_path, BEFORE, again=True, sizes=SMALL)
    assert dump(database_url) == archived
    run(f"{name}:{count}", RESTORER, database_url, *map(str, paths))
    finished = run("", RESTORER, database_url, *map(str, paths))
    assert finished.returncode == 0, finished.stderr
    assert dump(database_url) == before


# --- claims ---


def test_a_duplicate_that_comes_months_after_its_event_left_is_a_duplicate_i4(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    told = streamed(shards, used("acme", "early", 3, "2026-01-06 10:00"), now=when("2026-04-20 00:00"))
    assert told == []
    again, other = used("acme", "r0-0", 1, "2026-01-05 00:00"), used("acme", "early", 4, "2026-01-06 10:00")
    charged = rows(
        database_url,
        "SELECT convert_from(state, 'UTF8')::jsonb ->> 'id' FROM ledger_events WHERE topic LIKE 'CreditsCharged%%'",
    )
    project(shards)
    archive(shards, tmp_path, when("2026-05-01 00:00"), sizes=SMALL)
    assert events(database_url) == 0
    late = NOW + timedelta(days=500)

    told = streamed(shards, used("acme", "early", 3, "2026-01-06 10:00"), other, now=late)

    assert [outcome for outcome, _ in told] == ["duplicate", "conflict"]
    assert charged
    assert events(database_url) == 0
    assert again.usage_key() != other.usage_key()
    assert verify(shards).findings == []


def test_new_charges_need_nothing_that_left(database_url: str, shards: ShardMap, tmp_path: Path) -> None:
    project(shards)
    archive(shards, tmp_path, when("2026-05-01 00:00"), sizes=SMALL)
    balances = rows(database_url, "SELECT team_id, version FROM account_balance ORDER BY 1")

    told = streamed(shards, *(used(team, "fresh", 2, "2026-11-20 08:00") for team in TEAMS), now=NOW)

    assert told == []
    moved = rows(database_url, "SELECT team_id, version FROM account_balance ORDER BY 1")
    assert all(after[1] > before[1] for before, after in zip(balances, moved, strict=True))
    assert verify(shards).findings == []


def test_a_correction_of_archived_usage_is_parked_and_names_what_restores_it(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    early = used("acme", "early", 3, "2026-01-06 10:00")
    assert streamed(shards, early, now=when("2026-04-20 00:00")) == []
    project(shards)
    archive(shards, tmp_path, when("2026-05-01 00:00"), sizes=SMALL)
    correcting = used("acme", "mend", 0, "2026-11-20 08:00")
    correcting = msgspec.structs.replace(correcting, status="failed", corrects="early")

    ((outcome, detail),) = streamed(shards, correcting, now=NOW)

    assert outcome == "parked"
    assert "coffer restore " in detail
    assert "--team acme" in detail
    for manifest in manifests(database_url, shards.shard_of("acme")):
        restore(shards, manifest, "acme", sizes=SMALL)
    once_more = msgspec.structs.replace(correcting, id="mend-again")
    assert streamed(shards, once_more, now=NOW) == []
    assert verify(shards).findings == []


# --- damage, and doors ---


def test_a_changed_byte_is_refused_by_the_name_of_its_file(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    archived = dump(database_url)
    manifest = manifests(database_url)[0]
    file = sorted(manifest.parent.glob("*.parquet"))[0]
    written = file.read_bytes()
    for place in (5, len(written) // 2, len(written) - 5):
        file.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])

        with pytest.raises(ArchiveDamaged, match=file.name):
            restore(shards, manifest, sizes=SMALL)

        found = verify(shards).findings
        assert [(each.table, file.name in each.found) for each in found] == [("archive", True)]
    file.unlink()
    with pytest.raises(ArchiveDamaged, match=f"{file.name} cannot be read"):
        restore(shards, manifest, sizes=SMALL)
    file.write_bytes(written)
    manifest.write_bytes(manifest.read_bytes().replace(b'"events"', b'"event2"', 1))
    with pytest.raises(ArchiveDamaged, match=f"{MANIFEST}"):
        restore(shards, manifest, sizes=SMALL)
    assert dump(database_url) == archived


def test_files_damaged_before_they_were_read_back_are_never_believed_i5(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    before = dump(database_url)
    run(
        "archive.after_verified:1",
        ARCHIVER.replace("archive(", "print(archive, "),
        database_url,
        str(tmp_path),
    )
    killed = run("archive.after_files:2", ARCHIVER, database_url, str(tmp_path))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    killed = run("archive.after_verified:3", ARCHIVER, database_url, str(tmp_path))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE archive SET status = 'written' WHERE status = 'verified'")
    ((path,),) = rows(database_url, "SELECT manifest FROM archive WHERE status = 'written'")
    file = sorted(Path(path).parent.glob("*.parquet"))[0]
    file.write_bytes(file.read_bytes()[:-9])

    with pytest.raises(ArchiveDamaged, match=file.name):
        archive(shards, tmp_path, BEFORE, sizes=SMALL)

    assert events(database_url) + gone(database_url) == len(before["ledger_events"])
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    assert verify(shards).findings == []


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE archived_claim SET content = NULL WHERE usage_key = (SELECT min(usage_key::text)::uuid FROM archived_claim)",
        "DELETE FROM archived_claim WHERE usage_key = (SELECT usage_key FROM archived_claim LIMIT 1)",
        "INSERT INTO archived_claim SELECT gen_random_uuid(), NULL, 1, shard, 1 FROM archived_claim LIMIT 1",
        "DELETE FROM ledger_events WHERE ctid = (SELECT ctid FROM ledger_events ORDER BY position LIMIT 1)",
        "UPDATE archive_stream SET gone_through = gone_through - 1 WHERE gone_after = 0 AND team_id = 'acme'",
    ],
)
def test_damage_done_by_hand_after_archiving_is_found(
    database_url: str, shards: ShardMap, tmp_path: Path, tampering: str
) -> None:
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        assert connection.execute(tampering.encode()).rowcount == 1

    assert verify(shards).findings


def test_an_event_edited_before_it_leaves_is_not_archived(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE ledger_events SET state = state || ' '::bytea WHERE originator_version = 2 AND originator_id ="
            " (SELECT account_id FROM account_head WHERE team_id = 'acme')"
        )
    before = events(database_url)

    with pytest.raises(ArchiveRefused, match="'acme', version 2"):
        archive(shards, tmp_path, BEFORE, shard=shards.shard_of("acme"), sizes=SMALL)

    assert events(database_url) == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger_events",
        "SET coffer.archiving = 'on'; DELETE FROM ledger_events WHERE position = (SELECT max(position) FROM ledger_events)",
        "UPDATE ledger_events SET topic = topic",
        "SET coffer.archiving = 'on'; UPDATE ledger_events SET topic = topic",
        "TRUNCATE ledger_events",
        "DELETE FROM archived_claim",
        "UPDATE archived_claim SET originator_version = 1",
        "TRUNCATE archived_claim",
    ],
)
def test_no_other_door_is_open(database_url: str, shards: ShardMap, tmp_path: Path, statement: str) -> None:
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    before = dump(database_url)

    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())

    assert dump(database_url) == before


def test_the_open_period_and_late_grace_are_never_archived(shards: ShardMap, tmp_path: Path) -> None:
    with shards.connection_for(0) as connection:
        (now,) = connection.execute("SELECT now()").fetchone() or (None,)
    assert now is not None

    with pytest.raises(ArchiveRefused, match="open period or late grace"):
        archive(shards, tmp_path, now - timedelta(days=31))

    archive(shards, tmp_path, now - timedelta(days=32, minutes=1))


def test_an_archive_of_another_ledger_is_refused(database_url: str, shards: ShardMap, tmp_path: Path) -> None:
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    manifest = manifests(database_url)[0]
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM archive_stream")
        connection.execute("DELETE FROM archive")

    with pytest.raises(ArchiveRefused, match="is another's"):
        restore(shards, manifest)


def test_an_operator_archives_and_restores_by_two_commands(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    before = dump(database_url)

    told = coffer(database_url, "archive", str(tmp_path), "--before", "2026-03", "-o", "json")

    assert told.returncode == 0, told.stderr
    listed = json.loads(told.stdout)
    assert {(each["month"], each["status"]) for each in listed} == {
        ("2026-01", "removed"),
        ("2026-02", "removed"),
    }
    assert verify(shards).findings == []
    for each in listed:
        restored = coffer(database_url, "restore", each["manifest"], "-o", "json")
        assert json.loads(restored.stdout)["events"] == each["events"]
    assert dump(database_url) == before
    refused = coffer(database_url, "archive", str(tmp_path), "--before", "2026-13")
    assert (refused.returncode, "a month such as 2026-01 would be right" in refused.stderr) == (2, True)


def coffer(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as an operator types it."""
    return subprocess.run(
        [sys.executable, "-m", "infra.cli.main", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "COFFER_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# --- whoever needs what left ---


def test_whoever_needs_archived_events_is_told_what_restores_them(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    ((account, version, charge),) = rows(
        database_url,
        "SELECT originator_id, originator_version, usage_key FROM ledger_events JOIN account_head"
        " ON account_id = originator_id WHERE team_id = 'acme' AND topic LIKE 'CreditsCharged%%' ORDER BY 2 LIMIT 1",
    )
    last = rows(database_url, "SELECT version FROM account_head WHERE team_id = 'acme'")[0][0]
    archive(shards, tmp_path, BEFORE, sizes=SMALL)
    shard = shards.shard_of("acme")
    manifest = manifests(database_url, shard)[0]
    source = PostgresEvents(shards)
    recorder = LedgerApplication(shards, shard)
    asked: dict[str, Callable[[], object]] = {
        "a replay from the beginning": lambda: list(source.events("acme")),
        "a replay of a part": lambda: list(source.events("acme", version - 1, version)),
        "a refund of an archived charge": lambda: execute(
            shards, RefundCharge(team_id="acme", charge_id=charge.hex, reason="late")
        ),
        "a page from the oldest": lambda: reading(database_url, lambda it: it.events("acme", limit=5)),
        "a page down to the oldest": lambda: reading(
            database_url, lambda it: it.events("acme", limit=last, newest_first=True)
        ),
        "the charge": lambda: reading(database_url, lambda it: it.usage("acme", charge.hex)),
        "the version in an archived month": lambda: reading(
            database_url, lambda it: it.version_as_of("acme", when("2026-01-20 00:00"))
        ),
        "the version at an archived position": lambda: reading(
            database_url, lambda it: it.version_at("acme", 5)
        ),
        "the log of the shard": lambda: recorder.recorder.select_notifications(1, 10),
        "the stream of the account": lambda: recorder.recorder.select_events(account),
    }
    for name, ask in asked.items():
        with pytest.raises(EventsArchived) as told:
            ask()
        assert f"`coffer restore {manifest}" in told.value.detail, name
    recorder.close()
    kept = reading(database_url, lambda it: it.events("acme", limit=3, newest_first=True))
    assert [each.version for each in kept] == [last, last - 1, last - 2]
    april = reading(database_url, lambda it: it.version_as_of("acme", when("2026-04-14 00:00")))
    assert reading(database_url, lambda it: it.version_at("acme", 10**6)) == last >= april > version
    with pytest.raises(RebuildHalted, match=re.escape(f"coffer restore {manifests(database_url)[0]}")):
        rebuild(shards, StatementModel())


def test_an_idle_team_all_of_whose_events_left_is_still_found_at_its_version(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    last = rows(database_url, "SELECT version FROM account_head WHERE team_id = 'acme'")[0][0]
    project(shards)
    archive(shards, tmp_path, when("2026-05-01 00:00"), sizes=SMALL)

    assert reading(database_url, lambda it: it.version_at("acme", 10**6)) == last
    assert reading(database_url, lambda it: it.version_as_of("acme", NOW)) == last
    assert reading(database_url, lambda it: it.account("acme")).account.version == last
    with pytest.raises(EventsArchived):
        list(PostgresEvents(shards).events("acme"))


def reading(database_url: str, question: Callable[[PostgresAccountReads], Awaitable[Any]]) -> Any:
    """The answer of the API's own reads."""

    async def answer() -> Any:
        shards = ShardMap(database_url)
        reads_of = AsyncShards(database_url, shards.count)
        try:
            return await question(PostgresAccountReads(reads_of))
        finally:
            await reads_of.close()
            shards.close()

    return asyncio.run(answer())


def test_the_chain_of_what_stayed_is_recomputed_in_sql_from_where_the_archive_ends_i11(
    database_url: str, shards: ShardMap, tmp_path: Path
) -> None:
    archive(shards, tmp_path, BEFORE, sizes=SMALL)

    assert rows(database_url, documented_query()) == []

    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE archive_stream SET last_hash = sha256('') WHERE team_id = 'acme'")
    assert [row[3] for row in rows(database_url, documented_query())] == ["predecessor"]
