"""`verify` finds nothing in a sound ledger, and names table, team and version of whatever was changed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import pytest

from domain.chain import event_hash
from infra.postgres import verification
from infra.postgres.shards import ShardMap
from infra.postgres.verification import Verified, verify
from infra.project import ProjectorLoop
from projections.verify import Finding
from tests.conftest import database_of, fresh_database
from tests.projections.ledgers import ATeam, a_ledger, more_life, tamper
from tests.projections.test_projector import one


@pytest.fixture(scope="module")
def living(module_database_url: str) -> dict[str, ATeam]:
    """A sound ledger with its statement, that each test gets a copy of."""
    shards = ShardMap(module_database_url)
    teams = a_ledger(shards, teams=["acme", "beta", "gamma", "delta"], steps=30)
    ProjectorLoop(shards).catch_up()
    shards.close()
    return teams


@pytest.fixture
def shards(server_url: str, module_database_url: str, living: dict[str, ATeam]) -> Iterator[ShardMap]:
    """The copy."""
    with fresh_database(server_url, database_of(module_database_url)) as url:
        shards = ShardMap(url, application_name="coffer tests")
        yield shards
        shards.close()


@pytest.fixture
def teams(shards: ShardMap, living: dict[str, ATeam]) -> dict[str, ATeam]:
    """The teams, on the copy."""
    return {team_id: team.on(shards) for team_id, team in living.items()}


def places(told: Verified) -> list[tuple[str, str | None, int | None]]:
    return [(finding.table, finding.team_id, finding.version) for finding in told.findings]


def version_of(shards: ShardMap, topic: str, team_id: str = "beta") -> int:
    """The version of the third event of that topic on the team, or its last if there are fewer."""
    with shards.own_connection_for(0) as connection:
        rows = connection.execute(
            "SELECT originator_version FROM ledger_events e JOIN account_head h ON h.shard = e.shard"
            " AND h.account_id = e.originator_id WHERE h.team_id = %s AND topic = %s ORDER BY 1 LIMIT 3",
            (team_id, topic),
        ).fetchall()
    return int(rows[-1][0])


def of_team(team_id: str = "beta") -> str:
    return f"originator_id = (SELECT account_id FROM account_head WHERE team_id = '{team_id}')"


def test_a_sound_ledger_has_no_finding(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    told = verify(shards)

    assert told.findings == []
    assert told.is_sound
    assert told.teams == len(teams)
    assert told.events == told.events_in_log == sum(team.version for team in teams.values())


def test_a_projection_that_is_behind_is_no_difference(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    more_life(teams, steps=5, seed=8)

    assert verify(shards).findings == []


def test_an_empty_ledger_is_sound(database_url: str) -> None:
    shards = ShardMap(database_url)

    told = verify(shards)
    shards.close()

    assert (told.findings, told.events) == ([], 0)


def test_an_edited_amount_in_the_log_is_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    version = version_of(shards, "CreditsCharged.2")
    changed = tamper(
        shards,
        0,
        "UPDATE ledger_events SET state = convert_to(replace(convert_from(state, 'UTF8'), '\"debt_after_micros\":',"
        f" '\"debt_after_micros\":1'), 'UTF8') WHERE {of_team()} AND originator_version = %s",
        version,
    )

    told = verify(shards)

    assert changed == 1
    assert ("ledger_events", "beta", version) in places(told)
    assert {team for _, team, _ in places(told)} == {"beta"}
    first = next(finding for finding in told.findings if finding.table == "ledger_events")
    assert first.what == "hash of the stored bytes"
    assert f"team beta, version {version}" in first.text()


def test_an_edited_event_with_a_fitting_hash_breaks_the_chain_at_the_next(
    shards: ShardMap, teams: dict[str, ATeam]
) -> None:
    version = version_of(shards, "CreditsGranted.1")
    with shards.own_connection_for(0) as connection:
        account, previous, topic, state = one(
            connection,
            f"SELECT originator_id, previous_hash, topic, state FROM ledger_events WHERE {of_team()}"
            " AND originator_version = %s",
            version,
        )
    edited = state.replace(b'"role":"operator"', b'"role":"owner"')
    own = event_hash(previous, account.bytes, version, topic, edited)
    tamper(
        shards, 0,
        f"UPDATE ledger_events SET state = %s, hash = %s WHERE {of_team()} AND originator_version = %s",
        edited, own, version,
    )  # fmt: skip

    told = verify(shards)

    assert ("ledger_events", "beta", version + 1) in places(told)
    assert next(f for f in told.findings if f.table == "ledger_events").what == "previous_hash"
    assert ("statement_entry", "beta", version) in places(told)


def test_a_deleted_event_is_named_by_version_and_by_position(
    shards: ShardMap, teams: dict[str, ATeam]
) -> None:
    tamper(shards, 0, f"DELETE FROM ledger_events WHERE {of_team()} AND originator_version = 9")

    told = verify(shards)

    assert ("ledger_events", "beta", 9) in places(told)
    assert any("position of the shard" in finding.what for finding in told.findings)


def test_a_truncated_stream_is_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    last = teams["beta"].version
    tamper(shards, 0, f"DELETE FROM ledger_events WHERE {of_team()} AND originator_version = %s", last)

    told = verify(shards, team_id="beta")

    assert ("ledger_events", "beta", last) in places(told)


def test_an_edited_head_is_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    tamper(
        shards,
        0,
        "UPDATE account_head SET state = convert_to(jsonb_set(convert_from(state, 'UTF8')::jsonb, '{settled_micros}',"
        " '77000000')::text, 'UTF8') WHERE team_id = 'beta'",
    )

    told = verify(shards)

    assert places(told) == [("account_head", "beta", teams["beta"].version)]
    assert told.findings[0].what == "state.settled_micros"
    assert told.findings[0].found == "77000000"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("version = version + 1", "version"),
        ("chain_hash = decode(repeat('00', 32), 'hex')", "chain_hash"),
        ("next_due_at = '2030-01-01'", "next_due_at"),
        ("recorded_at = '2030-01-01'", "recorded_at"),
    ],
)
def test_every_column_of_a_head_is_compared(
    shards: ShardMap, teams: dict[str, ATeam], change: str, what: str
) -> None:
    tamper(shards, 0, f"UPDATE account_head SET {change} WHERE team_id = 'gamma'")

    told = verify(shards)

    assert ("account_head", "gamma", what) in [(f.table, f.team_id, f.what) for f in told.findings]


def test_a_head_rewritten_in_other_bytes_of_the_same_meaning_is_sound(
    shards: ShardMap, teams: dict[str, ATeam]
) -> None:
    tamper(
        shards, 0,
        "UPDATE account_head SET state = convert_to((convert_from(state, 'UTF8')::jsonb)::text, 'UTF8')",
    )  # fmt: skip

    assert verify(shards).findings == []


def test_a_head_of_another_schema_says_nothing_about_its_state(
    shards: ShardMap, teams: dict[str, ATeam]
) -> None:
    tamper(shards, 0, "UPDATE account_head SET state = '{}'::bytea, state_schema = 0 WHERE team_id = 'beta'")

    assert verify(shards).findings == []


@pytest.mark.parametrize("column", ["amount_micros", "settled_after_micros", "debt_after_micros"])
def test_j11_an_edited_statement_row_is_named_with_its_column(
    shards: ShardMap, teams: dict[str, ATeam], column: str
) -> None:
    version = version_of(shards, "CreditsCharged.2")
    tamper(
        shards, 0,
        f"UPDATE statement_entry SET {column} = {column} + 5 WHERE team_id = 'beta' AND version = %s", version,
    )  # fmt: skip

    told = verify(shards)

    assert places(told) == [("statement_entry", "beta", version)]
    assert told.findings[0].what == column
    assert int(told.findings[0].found) == int(told.findings[0].expected) + 5


def test_a_statement_row_too_few_or_too_many_is_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    version = version_of(shards, "CreditsCharged.2")
    tamper(shards, 0, "DELETE FROM statement_entry WHERE team_id = 'beta' AND version = %s", version)
    tamper(
        shards, 0,
        "UPDATE statement_entry SET version = version + 1000 WHERE team_id = 'gamma' AND version = %s",
        teams["gamma"].version,
    )  # fmt: skip
    tamper(shards, 0, "UPDATE statement_entry SET team_id = 'nobody' WHERE team_id = 'delta' AND version = 2")

    told = verify(shards)

    assert ("statement_entry", "beta", version) in places(told)
    assert "gamma" in {finding.team_id for finding in told.findings}
    assert ("statement_entry", "delta", 2) in places(told)
    assert ("statement_entry", "nobody", 2) in places(told)


def test_an_edited_index_entry_is_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    changed = tamper(
        shards, 0,
        "UPDATE account_index SET entry = '{\"refunded_micros\":1}'::bytea WHERE (team_id, kind, key) ="
        " (SELECT team_id, kind, key FROM account_index WHERE kind = 'refund' AND team_id = 'acme' LIMIT 1)",
    )  # fmt: skip

    told = verify(shards)

    assert changed == 1
    assert places(told) == [("account_index", "acme", teams["acme"].version)]
    assert told.findings[0].what.startswith("refund ")


def test_a_missing_index_entry_is_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    tamper(shards, 0, "DELETE FROM account_index WHERE team_id = 'acme' AND kind = 'lot'")

    assert places(verify(shards)) == [("account_index", "acme", teams["acme"].version)]


def test_a_claim_that_is_not_the_events_is_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    version = version_of(shards, "CreditsCharged.2")
    tamper(
        shards, 0,
        f"UPDATE ledger_events SET usage_key = gen_random_uuid() WHERE {of_team()} AND originator_version = %s", version,
    )  # fmt: skip

    told = verify(shards)

    assert [(f.table, f.team_id, f.version, f.what) for f in told.findings] == [
        ("ledger_events", "beta", version, "usage_key")
    ]


def test_i3_a_counter_that_disagrees_with_the_log_is_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    shard = shards.shard_of("beta")
    tamper(shards, shard, "UPDATE shard_log SET position = position + 1 WHERE shard = %s", shard)

    assert [(f.table, f.shard) for f in verify(shards).findings] == [("shard_log", shard)]


def test_events_of_an_account_without_a_head_are_named(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    tamper(shards, 0, "DELETE FROM account_head WHERE team_id = 'beta'")

    tables = {finding.table for finding in verify(shards).findings}

    assert {"ledger_events", "statement_entry"} <= tables


def test_a_halted_projection_is_reported(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    halt = "UPDATE tracking SET halted = 'no idea' WHERE shard = %s AND projection = 'statement'"
    tamper(shards, 0, halt, shards.shard_of("beta"))

    (finding,) = verify(shards).findings

    assert (finding.table, finding.found) == ("tracking", "halted: no idea")


def test_one_team_or_one_shard_can_be_asked_for(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    tamper(shards, 0, "UPDATE statement_entry SET amount_micros = 1 WHERE team_id = 'beta' AND version = 2")

    assert verify(shards, team_id="acme").findings == []
    assert len(verify(shards, team_id="beta").findings) == 1
    assert len(verify(shards, shard=shards.shard_of("beta")).findings) == 1


def test_many_chunks_and_portions_find_the_same(
    shards: ShardMap, teams: dict[str, ATeam], monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(shards, 0, "UPDATE statement_entry SET amount_micros = 1 WHERE version = 2")
    tamper(shards, 0, "UPDATE statement_entry SET version = 5000 WHERE version = 20 AND team_id = 'acme'")
    whole = verify(shards).findings
    monkeypatch.setattr(verification, "FETCH_ROWS", 3)
    for events_max in (1, 60):
        monkeypatch.setattr(verification, "CHUNK_EVENTS_MAX", events_max)

        assert verify(shards).findings == whole
    assert len(whole) == len(teams)


def test_progress_is_told_and_findings_are_bounded(
    shards: ShardMap, teams: dict[str, ATeam], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "FINDINGS_MAX", 2)
    tamper(shards, 0, "UPDATE statement_entry SET amount_micros = 1 WHERE version = 2")
    seen: list[int] = []

    told = verify(shards, progress=lambda so_far: seen.append(so_far.events))

    assert seen == sorted(seen)
    assert seen
    assert len(told.findings) == 2
    assert not told.is_complete


def test_a_ledger_that_is_written_meanwhile_is_sound(shards: ShardMap, teams: dict[str, ATeam]) -> None:
    loop = ProjectorLoop(shards, poll_seconds=0.05)
    done = Event()

    def write() -> None:
        seed = 100
        while not done.is_set():
            seed += 1
            more_life(teams, steps=2, seed=seed)

    threads = [Thread(target=write), Thread(target=loop.run)]
    for thread in threads:
        thread.start()
    found: list[Finding] = []
    for _ in range(8):
        found += verify(shards).findings
    done.set()
    loop.stop()
    for thread in threads:
        thread.join(timeout=10)

    assert found == []
