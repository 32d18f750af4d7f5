"""What the bench compares is the same work: the same charges, the same rows, whoever makes them durable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from infra.postgres.migrations import migrate
from tests.bench.contestants import BatchPath, LibraryDefault, RawCopy
from tests.bench.demand import Demand
from tests.infra.stored import rows

TEAMS, RECORDS, SEED = 40, 300, 7


def test_the_batch_path_and_the_library_charge_the_same_records_the_same(
    database_url: str, empty_database: Callable[[], AbstractContextManager[str]]
) -> None:
    records = Demand(TEAMS, SEED).stream(RECORDS)
    with empty_database() as for_library:
        batch_path, library = BatchPath(database_url, TEAMS, SEED), LibraryDefault(for_library, TEAMS, SEED)

        ours, theirs = batch_path.charge(records, 100), library.charge(records)

        batch_path.close()
        library.close()
        stored = rows(
            for_library, "SELECT count(*) FROM application_events WHERE strpos(topic, 'CreditsCharged') > 0"
        )
    assert ours.records == theirs.records == RECORDS
    assert ours.charged_micros == theirs.charged_micros > 0
    assert stored == [(RECORDS,)]
    charged = rows(
        database_url,
        "SELECT count(*), sum((convert_from(state, 'UTF8')::jsonb ->> 'amount_micros')::bigint)::bigint"
        " FROM ledger_events WHERE topic = 'CreditsCharged.2'",
    )
    assert charged == [(RECORDS, ours.charged_micros)]


def test_raw_copy_repeats_the_very_rows_of_the_batches(
    database_url: str, empty_database: Callable[[], AbstractContextManager[str]]
) -> None:
    batch_path = BatchPath(database_url, TEAMS, SEED)
    measured = batch_path.run(RECORDS, 100)
    batch_path.close()
    with empty_database() as for_copy:
        migrate(for_copy)
        raw_copy = RawCopy(for_copy, database_url)

        copied = raw_copy.run(measured.batches)

        raw_copy.close()
        everything = "SELECT * FROM ledger_events WHERE topic = 'CreditsCharged.2' ORDER BY shard, position"
        assert rows(for_copy, everything) == rows(database_url, everything)
    assert len(measured.batches) == 3
    assert copied.records == RECORDS
