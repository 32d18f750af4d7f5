"""However closers are killed, numbers have no gap, every invoice is issued once, and what they say ties (I8, I14)."""

from __future__ import annotations

import os
import random
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from domain.invoices.document import Invoice, invoice_digest
from infra.closing import read_document
from infra.failpoints import OF_CLOSERS
from infra.forms.einvoice import NotAnInvoiceForMachines, invoice_xml
from infra.postgres.issuing import BATCH_TEAMS
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from tests.infra.forms.business_rules import broken_rules
from tests.infra.generated_months import a_generated_team
from tests.infra.invoicing import (
    a_seller,
    documents,
    gapless,
    invoiced,
    issued_events,
    numbers,
    start_closer,
    ticked,
)
from tests.infra.stored import rows

INVOICES = int(os.environ.get("COFFER_INVOICES", "250"))
KILLS = int(os.environ.get("COFFER_CLOSER_KILLS", "12"))
RULED = int(os.environ.get("COFFER_INVOICES_RULED", "60"))
OF_PDFS = [place for place in OF_CLOSERS if place.endswith("_pdf")]
OF_ISSUING = [place for place in OF_CLOSERS if place not in OF_PDFS]
EACH_DOCUMENT = ("close.after_number", *OF_PDFS)
"""Places that are passed for each document; the others once for so many accounts."""

# The money of the sales in the stored bytes, without any of our code.
SOLD = """
SELECT b ->> 'currency', sum((b ->> 'price_minor')::bigint)::bigint, sum(coalesce((b ->> 'tax_minor')::bigint, 0))::bigint
FROM ledger_events e CROSS JOIN LATERAL (
    SELECT convert_from(e.state, 'UTF8')::jsonb -> 'lot' -> 'cost_basis' AS b
) AS s WHERE e.topic LIKE 'CreditsToppedUp.%%' GROUP BY 1
"""
COLUMNS = """
SELECT sum((convert_from(state, 'UTF8')::jsonb ->> 'amount_micros')::bigint)::bigint FROM ledger_events WHERE topic LIKE %s
"""


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    opened = ShardMap(database_url, application_name="coffer tests", connections_max=16)
    yield opened
    opened.close()


def test_generated_invoices_tie_and_have_numbers_without_a_gap_however_closers_are_killed(
    database_url: str, shards: ShardMap, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("COFFER_KILL_SEED") or int.from_bytes(os.urandom(4)))
    dice = random.Random(seed)
    a_seller(shards)
    with ThreadPoolExecutor(4) as threads:
        teams = list(threads.map(lambda number: a_generated_team(shards, number), range(INVOICES)))
    ticked(shards)

    killed = kill_closers(database_url, dice)
    invoiced(shards)

    given = [number for number, _ in numbers(database_url)]
    with capsys.disabled():
        print(
            f"\n  {len(teams)} teams, {len(given)} invoices, {killed} closers killed, seed {seed}"
            f" (COFFER_KILL_SEED={seed} repeats them)"
        )
    assert killed >= KILLS // 4
    assert gapless(given)
    assert [number for number, _ in issued_events(database_url)] == sorted(given)
    assert [number for number, _, has_pdf in documents(database_url) if has_pdf] == sorted(given)
    told = [read_document(shards, team, number) for number, team in numbers(database_url)]
    assert [each.event.invoice for each in told if invoice_digest(each.document) != each.event.digest] == []
    found = [each.document for each in told]
    assert_money_ties(database_url, found)
    assert_credits_tie(database_url, found)
    assert_standard_accepts(found, dice)
    ProjectorLoop(shards).catch_up()
    assert verify(shards).findings == []


def kill_closers(url: str, dice: random.Random) -> int:
    """Two closers at a time, each killed somewhere; returns how many died."""
    killed = 0
    for pair in range(KILLS // 2):
        # Who dies at a PDF has issued all that waited: those come last.
        over = OF_PDFS if pair * 4 >= KILLS else OF_ISSUING
        places = [a_place(dice, over) for _ in range(2)]
        for closer in [start_closer(url, failpoint=place) for place in places]:
            told, _ = closer.communicate(timeout=600)
            assert closer.returncode in (0, -signal.SIGKILL), told
            killed += closer.returncode != 0
    return killed


def a_place(dice: random.Random, over: Sequence[str]) -> str:
    """A place that a closer passes, early enough that work is left for those after it."""
    place = dice.choice(over)
    times = INVOICES if place in EACH_DOCUMENT else INVOICES // BATCH_TEAMS
    return f"{place}:{dice.randint(1, max(1, times // KILLS))}"


def assert_money_ties(url: str, found: list[Invoice]) -> None:
    """Top-ups on invoices are those of the events, and totals are the sums of their lines."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for document in found:
        for purchase in document.purchases:
            if purchase.kind == "top_up":
                sums[purchase.currency][0] += purchase.net_minor
                sums[purchase.currency][1] += purchase.tax_minor
        for total in document.totals:
            own = [each for each in document.purchases if each.currency == total.currency]
            assert total.net_minor == sum(each.net_minor for each in own)
            assert total.gross_minor == sum(each.gross_minor for each in own)
            assert total.due_minor == total.gross_minor - total.paid_minor
    assert {(currency, *sum_) for currency, sum_ in sums.items()} == set(rows(url, SOLD))


def assert_credits_tie(url: str, found: list[Invoice]) -> None:
    """What invoices say was used and given back is what the events say, to the micro-credit."""

    def micros(text: str) -> int:
        whole, _, places = text.partition(".")
        return int(whole + places.ljust(6, "0"))

    told = [document.credits for document in found if document.credits is not None]
    for field, topic in (("used", "CreditsCharged.%"), ("refunded", "ChargeRefunded.%")):
        ours = sum(micros(getattr(each, field)) for each in told)
        assert ours == (rows(url, COLUMNS, topic)[0][0] or 0), field
    for document in found:
        assert document.credits is not None
        lines = sum(
            -micros(amount[1:]) if amount.startswith("-") else micros(amount)
            for amount in [each.amount for each in document.lines]
            + [each.amount for each in document.adjustments]
        )
        assert lines == micros(document.credits.used) - micros(document.credits.refunded)


def assert_standard_accepts(found: list[Invoice], dice: random.Random) -> None:
    """EN 16931: all that the standard can say is valid by its schema, and a sample by its business rules."""
    valid: list[bytes] = []
    reasons: dict[str, int] = defaultdict(int)
    for document in found:
        try:
            # Made, and checked against the schema.
            valid.append(invoice_xml(document))
        except NotAnInvoiceForMachines as error:
            reasons[str(error).split(":")[0][:60]] += 1
    ruled = dice.sample(valid, min(RULED, len(valid)))
    broken = [rules for xml in ruled if (rules := broken_rules(xml))]
    print(
        f"\n  EN 16931: {len(valid)} of {len(found)} valid by the schema, {len(ruled)} judged by its rules;"
        f" without XML: {dict(reasons)}"
    )
    assert broken == []
    assert len(valid) >= len(found) // 2
