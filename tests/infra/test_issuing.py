"""Closed periods get one invoice each, under numbers without a gap, whoever comes first and whoever dies (I8, I14)."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import msgspec
import psycopg
import pytest

from consumers.batches import MovedHeads
from domain import commands as c
from domain.account.events import CreditNoteLine
from domain.errors import Busy, InvoiceRefused, LedgerError, UnknownInvoice
from domain.invoices.document import canonical_invoice
from domain.ledger import Answer, Caller, Ledger
from infra.closing import Closed, Closer, read_document, reading
from infra.failpoints import OF_CLOSERS
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.connections import Timeouts
from infra.postgres.documents import PostgresDocuments
from infra.postgres.invoice_model import InvoiceModel, PostgresInvoices
from infra.postgres.issuer_heads import known_issuers, write_details
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.rebuilding import rebuild
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from tests.builders import when
from tests.infra.invoicing import (
    CLOSED,
    OPERATOR,
    SELLER,
    a_seller,
    a_team,
    close_one,
    documents,
    gapless,
    invoiced,
    issued_events,
    months,
    numbers,
    printed,
    start_closer,
    ticked,
    used,
)
from tests.infra.stored import charge, rows, usage
from tests.infra.test_chain_in_sql import documented_query

TEAMS = [f"studio-{number}" for number in range(1, 13)]
CALLER = Caller("olga", "operator")


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url, timeouts=Timeouts(lock_milliseconds=5_000), connections_max=16)
    yield shards
    shards.close()


def asked(shards: ShardMap, command: c.Command, key: str = "key") -> Answer:
    """What the command came to, after November was closed."""
    store = PostgresLedgerStore(shards, clock=lambda _: CLOSED)
    return Ledger(store).execute(command, CALLER, key)


def test_each_closed_period_has_one_invoice_under_numbers_without_a_gap(
    database_url: str, shards: ShardMap
) -> None:
    a_seller(shards)
    months(shards, TEAMS)

    done = invoiced(shards)

    assert done == Closed(invoices=len(TEAMS), pdfs=len(TEAMS))
    given = numbers(database_url)
    assert gapless([number for number, _ in given])
    assert sorted(team for _, team in given) == sorted(TEAMS)
    assert issued_events(database_url) == [(number, "2026-11") for number, _ in sorted(given)]
    assert [(number, team) for number, team, has_pdf in documents(database_url) if has_pdf] == sorted(given)
    assert verify(shards).findings == []


def test_another_pass_issues_nothing_and_the_next_month_counts_on(
    database_url: str, shards: ShardMap
) -> None:
    a_seller(shards)
    months(shards, TEAMS[:3])
    invoiced(shards)

    again = invoiced(shards)
    used(shards, TEAMS[0], "december", 5, "2026-12-20 09:00")
    january = invoiced(shards, when("2027-01-02 06:00"))

    assert again == Closed()
    # Two teams did nothing in December: they get no invoice, and no number.
    assert (january.invoices, january.omitted) == (1, 2)
    assert [number for number, _ in numbers(database_url)][-1] == "CO-2027-000001"
    assert verify(shards).findings == []


def test_a_document_is_derived_again_byte_for_byte_and_its_credits_tie(shards: ShardMap) -> None:
    a_seller(shards)
    months(shards, TEAMS[:2])
    invoiced(shards)

    invoice = PostgresInvoices(shards)
    ProjectorLoop(shards).catch_up()
    found = invoice.page(TEAMS[1]).documents[0]
    issued = read_document(shards, TEAMS[1], found.invoice)

    assert hashlib.sha256(canonical_invoice(issued.document)).hexdigest() == found.digest
    credits_told = issued.document.credits
    assert credits_told is not None
    assert (credits_told.opening, credits_told.topped_up, credits_told.used, credits_told.closing) == (
        "0",
        "100",
        "2",
        "98",
    )
    assert [(total.gross_minor, total.due_minor) for total in issued.document.totals] == [(1_200, 0)]
    assert found.status == "paid"


def test_an_issuer_without_details_issues_nothing_and_nothing_is_lost(
    database_url: str, shards: ShardMap
) -> None:
    months(shards, TEAMS[:3])

    before = invoiced(shards)
    a_seller(shards)
    after = invoiced(shards)

    assert before == Closed(waiting=3)
    assert after.invoices == 3
    assert gapless([number for number, _ in numbers(database_url)])


def test_two_closers_that_race_issue_each_invoice_once_r5(database_url: str, shards: ShardMap) -> None:
    a_seller(shards)
    months(shards, TEAMS)
    ticked(shards)
    together = Barrier(2)

    def one(_: int) -> Closed:
        together.wait()
        return Closer(shards, printed, clock=lambda _: CLOSED).run()

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(one, range(2)))
    rest = invoiced(shards)

    assert sum(each.invoices for each in done) + rest.invoices == len(TEAMS)
    assert gapless([number for number, _ in numbers(database_url)])
    assert len(issued_events(database_url)) == len(TEAMS)
    assert verify(shards).findings == []


@pytest.mark.parametrize("place", OF_CLOSERS)
def test_a_closer_killed_at_any_place_leaves_one_number_one_event_and_the_pdf_appears_r5(
    database_url: str, shards: ShardMap, place: str
) -> None:
    a_seller(shards)
    months(shards, TEAMS[:4])

    struck = start_closer(database_url, failpoint=f"{place}:2")
    told, _ = struck.communicate(timeout=60)
    assert struck.returncode == -signal.SIGKILL, f"it was not at {place}: {told}"
    invoiced(shards)

    given = [number for number, _ in numbers(database_url)]
    assert gapless(given)
    assert [number for number, _ in issued_events(database_url)] == sorted(given)
    assert [number for number, _, has_pdf in documents(database_url) if has_pdf] == sorted(given)
    assert len(given) == 4
    assert verify(shards).findings == []


def test_usage_that_streams_while_periods_close_is_on_exactly_one_invoice_each_r4(
    database_url: str, shards: ShardMap
) -> None:
    a_seller(shards)
    teams = TEAMS[:4]
    months(shards, teams)
    stop = threading.Event()

    def stream(team: str) -> int:
        count = 0
        while not stop.is_set() or count < 10:
            count += 1
            occurred = "2026-11-30 23:00" if count % 2 else "2026-12-01 09:00"
            used(shards, team, f"{team}-late-{count}", 1, occurred, "2026-12-02 05:59")
        return count

    with ThreadPoolExecutor(5) as pool:
        streams = [pool.submit(stream, team) for team in teams]
        for _ in range(5):
            invoiced(shards)
        stop.set()
        used_late = {team: future.result() for team, future in zip(teams, streams, strict=True)}
    used(shards, teams[0], "last", 1, "2026-12-31 09:00")
    invoiced(shards, when("2027-01-02 06:00"))

    for team in teams:
        with reading(shards, team) as invoices:
            assert invoices is not None
            issued = rows(
                database_url, "SELECT invoice FROM invoice_document WHERE team_id = %s ORDER BY version", team
            )
            found = [invoices.issued(invoice).document for (invoice,) in issued]
        told = sum(line.charges for each in found for line in each.lines)
        adjusted = sum(line.charges for each in found for line in each.adjustments)
        assert told + adjusted == 1 + used_late[team] + (team == teams[0])
    assert verify(shards).findings == []


def test_a_stored_pdf_never_changes_and_the_first_writer_wins(database_url: str, shards: ShardMap) -> None:
    a_seller(shards)
    months(shards, TEAMS[:1])
    invoiced(shards)
    kept = PostgresDocuments(shards)
    ((invoice, team, _),) = documents(database_url)
    first = kept.pdf(team, invoice)

    assert first is not None
    assert not kept.store(team, invoice, b"another")
    assert kept.pdf(team, invoice) == first
    assert hashlib.sha256(first.pdf).hexdigest() == first.pdf_digest
    for change in (
        "UPDATE invoice_document SET pdf = 'x'",
        "UPDATE invoice_document SET pdf = NULL, pdf_digest = NULL, stored_at = NULL",
        "DELETE FROM invoice_document",
    ):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            psycopg.connect(database_url) as connection,
        ):
            connection.execute(change.encode())


def test_a_void_is_a_new_document_and_its_period_is_issued_anew(database_url: str, shards: ShardMap) -> None:
    a_seller(shards)
    months(shards, TEAMS[:1])
    team = TEAMS[0]
    invoiced(shards)
    void = c.VoidInvoice(team_id=team, invoice="CO-2026-000001", reissue=True, reason="wrong address")

    told = asked(shards, void)
    again = asked(shards, void)
    write_details(shards, msgspec.structs.replace(SELLER, name="Coffer AG"), OPERATOR)
    invoiced(shards)

    assert (told.invoice, again.invoice, again.is_replayed) == ("CO-2026-000002", "CO-2026-000002", True)
    assert [number for number, _ in numbers(database_url)] == [f"CO-2026-00000{n}" for n in (1, 2, 3)]
    ProjectorLoop(shards).catch_up()
    newest, voided, first = PostgresInvoices(shards).page(team).documents
    assert (first.status, first.voided_by) == ("void", "CO-2026-000002")
    assert (voided.kind, voided.corrects) == ("void", "CO-2026-000001")
    assert (newest.kind, newest.label) == ("invoice", "2026-11")
    seller = read_document(shards, team, newest.invoice).document.issuer
    assert seller is not None
    assert seller.name == "Coffer AG"
    assert verify(shards).findings == []


def test_a_credit_note_has_a_number_and_gives_no_more_than_the_invoice(
    database_url: str, shards: ShardMap
) -> None:
    a_seller(shards)
    months(shards, TEAMS[:1])
    invoiced(shards)
    lines = [CreditNoteLine(text="Outage of 12 November", net_minor=100, tax_minor=19)]
    note = c.IssueCreditNote(
        team_id=TEAMS[0], invoice="CO-2026-000001", currency="EUR", lines=lines, reason="goodwill"
    )

    told = asked(shards, note)
    with pytest.raises(UnknownInvoice):
        asked(shards, msgspec.structs.replace(note, invoice="CO-2026-000009"), "other")
    with pytest.raises(InvoiceRefused):
        asked(
            shards,
            c.MarkUncollectible(team_id=TEAMS[0], invoice="CO-2026-000001", reason="nothing is due"),
            "third",
        )

    assert told.invoice == "CO-2026-000002"
    document = read_document(shards, TEAMS[0], "CO-2026-000002").document
    assert (document.kind, document.corrects) == ("credit_note", "CO-2026-000001")
    assert [total.gross_minor for total in document.totals] == [119]
    assert gapless([number for number, _ in numbers(database_url)])
    assert invoiced(shards).pdfs == 1
    assert verify(shards).findings == []


def test_several_issuers_count_for_themselves(database_url: str, shards: ShardMap) -> None:
    for issuer in ("main", "studio"):
        a_seller(shards, issuer)
    for number, team in enumerate(TEAMS[:6]):
        a_team(shards, team, issuer=("main", "studio")[number % 2])

    invoiced(shards)

    given = [number for number, _ in numbers(database_url)]
    assert given == [f"CO-2026-{number:06d}" for number in (1, 2, 3)] * 2
    assert list(known_issuers(shards)) == ["main", "studio"]
    assert verify(shards).findings == []


def test_history_of_many_months_is_invoiced_month_by_month(database_url: str, shards: ShardMap) -> None:
    a_seller(shards)
    a_team(shards, "old", at=when("2026-03-10 08:00"))
    for month in (3, 4, 7):
        used(shards, "old", f"of-{month}", month, f"2026-{month:02d}-20 09:00")
    close_one(shards, "old")

    done = invoiced(shards)

    assert (done.invoices, done.omitted) == (3, 6)
    assert [label for _, label in issued_events(database_url)] == ["2026-03", "2026-04", "2026-07"]


def test_the_invoice_read_model_rebuilt_is_the_same(database_url: str, shards: ShardMap) -> None:
    """I7."""
    a_seller(shards)
    months(shards, TEAMS[:3])
    invoiced(shards)
    asked(
        shards,
        c.VoidInvoice(team_id=TEAMS[0], invoice=numbers(database_url)[0][0], reason="wrong")
        if numbers(database_url)[0][1] == TEAMS[0]
        else c.GrantCredits(team_id=TEAMS[0], amount_micros=1),
    )
    ProjectorLoop(shards).catch_up()
    live = rows(database_url, "SELECT * FROM invoice_entry ORDER BY team_id, version")

    rebuild(shards, InvoiceModel())

    assert live
    assert rows(database_url, "SELECT * FROM invoice_entry ORDER BY team_id, version") == live
    assert verify(shards).findings == []


def test_verify_names_a_number_without_document_a_changed_pdf_and_a_changed_row(
    database_url: str, shards: ShardMap
) -> None:
    a_seller(shards)
    months(shards, TEAMS[:3])
    invoiced(shards)
    ProjectorLoop(shards).catch_up()
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE invoice_document SET pdf = 'forged' WHERE invoice = 'CO-2026-000001'")
        connection.execute("DELETE FROM invoice_document WHERE invoice = 'CO-2026-000002'")
        connection.execute("UPDATE invoice_entry SET money = '[]' WHERE document = 'CO-2026-000003'")

    found = [(finding.table, finding.what) for finding in verify(shards).findings]

    assert ("invoice_document", "SHA-256 of the PDF of CO-2026-000001") in found
    assert ("ledger_events", "document with the number CO-2026-000002") in found
    assert ("invoice_entry", "money") in found


def test_a_closer_needs_no_more_than_one_connection(database_url: str, shards: ShardMap) -> None:
    """P10."""
    a_seller(shards)
    months(shards, TEAMS[:3])
    ticked(shards)
    narrow = ShardMap(database_url, connections_max=1)

    done = Closer(narrow, printed, clock=lambda _: CLOSED).run()

    narrow.close()
    assert (done.invoices, done.pdfs, done.failed) == (3, 3, 0)


def test_the_chain_of_an_issuer_is_recomputed_in_sql_i11(database_url: str, shards: ShardMap) -> None:
    a_seller(shards)
    months(shards, TEAMS[:3])
    invoiced(shards)

    assert rows(database_url, documented_query()) == []

    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE issuer_head SET chain_hash = sha256('') WHERE year = 2026")
    assert [(row[0], row[1], row[3]) for row in rows(database_url, documented_query())] == [
        ("main", "issuer 2026", "head")
    ]
    assert [(finding.table, finding.what) for finding in verify(shards).findings] == [
        ("issuer_head", "chain_hash")
    ]


def test_closers_batches_and_commands_on_the_same_accounts_never_wait_in_a_circle_p8(
    database_url: str, shards: ShardMap
) -> None:
    """Locks are taken in one order: heads by team, the numbers of the year, the counters."""
    a_seller(shards)
    months(shards, TEAMS)
    ticked(shards)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = rows(database_url, deadlocks)
    stop = threading.Event()

    def batches() -> int:
        store = PostgresBatchStore(shards)
        count = 0
        while not stop.is_set():
            count += 1
            # In the order of no lock: the store has to see to that.
            records = [usage(team, f"batch-{count}") for team in reversed(TEAMS)]
            with contextlib.suppress(MovedHeads, Busy):
                charge(store, records)
        store.close()
        return count

    def voids() -> int:
        count = 0
        while not stop.is_set():
            count += 1
            for number, team in numbers(database_url)[:6]:
                void = c.VoidInvoice(team_id=team, invoice=number, reissue=True, reason="again")
                with contextlib.suppress(LedgerError, Busy):
                    asked(shards, void, f"void-{count}-{number}")
        return count

    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(batches), pool.submit(voids)]
        closers = [pool.submit(invoiced, shards, ticking=False) for _ in range(12)]
        told = [each.result() for each in closers]
        stop.set()
        assert all(each.result() > 1 for each in busy)
    invoiced(shards)

    assert sum(each.invoices for each in told) >= len(TEAMS)
    assert gapless([number for number, _ in numbers(database_url)])
    assert rows(database_url, deadlocks) == before
    assert verify(shards).findings == []
