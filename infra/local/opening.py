"""The ledger is ready for a stream: card and plans published, source registered, the seller's details set, teams opened and given
what they start with.
"""

from __future__ import annotations

import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
from psycopg.rows import tuple_row

from domain.account.decision import Decision, copy_of
from domain.account.events import CostBasis
from domain.account.funding import grant_credits, top_up_credits
from domain.account.opening import open_account
from domain.account.planning import assign_plan
from domain.actors import Actor
from domain.amounts import MICROS_PER_CREDIT
from domain.catalogue import (
    Catalogue,
    CatalogueEvent,
    apply,
    publish_plan,
    publish_rate_card,
    register_source,
)
from domain.issuer.details import IssuerDetails
from domain.ledger import Answer
from infra.local.streams import CARD_ID, Member, StartingCredits, UsageStream, starting_credits
from infra.postgres.application import CatalogueApplication
from infra.postgres.issuer_heads import read_issuer, write_details
from infra.postgres.ledger_store import PostgresAccountSession
from infra.postgres.shards import ShardMap

CATALOGUE = Path(__file__).parent / "catalogue"
DEMO_CARD = CATALOGUE / "demo.toml"
DEMO_PLANS = tuple(CATALOGUE / f"{plan_id}.toml" for plan_id in ("free", "studio", "studio-plus"))
LOCAL_STACK = Actor("local-stack", "operator")
PRICE_MINOR_PER_CREDIT = 2
CURRENCY = "EUR"
DEMO_ISSUER = IssuerDetails(
    name="Coffer Demo Studio",
    address_lines=["Example Street 1", "20095 Hamburg"],
    country="DE",
    tax_id="DE123456789",
    email="billing@coffer.example",
    prefix="DEMO-",
    tax_percent="19",
    note="A made-up seller: nothing on this document is owed to anybody.",
)
THREADS = 2
TEAMS_TOGETHER = 100


def publish_demo(shards: ShardMap, stream: UsageStream) -> Catalogue:
    """The demo card and plans are published, a historic source registered, the seller has details; what stands stays as it is."""
    with CatalogueApplication(shards) as application:
        catalogue = application.catalogue()
        now = datetime.now(UTC)
        card = publish_rate_card(catalogue, _document(DEMO_CARD), now, LOCAL_STACK, "the demo card")
        _record(application, catalogue, card)
        for plan in map(_document, DEMO_PLANS):
            # Whoever published a plan of this id has made it their own: it is not set back at the next start.
            if catalogue.plan(str(plan["plan_id"])) is None:
                _record(
                    application, catalogue, publish_plan(catalogue, plan, now, LOCAL_STACK, "the demo plans")
                )
        if stream.is_historic:
            source = register_source(catalogue, stream.source, True, now, LOCAL_STACK, "a trace")
            _record(application, catalogue, source)
        if read_issuer(shards, DEMO_ISSUER.issuer_id).details is None:
            write_details(shards, DEMO_ISSUER, LOCAL_STACK, reason="the demo seller")
        return catalogue


def _document(file: Path) -> dict[str, object]:
    return tomllib.loads(file.read_text())


def _record(application: CatalogueApplication, catalogue: Catalogue, events: list[CatalogueEvent]) -> None:
    if events:
        application.record(catalogue, events)
    for event in events:
        apply(catalogue, event)


def open_teams(shards: ShardMap, stream: UsageStream, catalogue: Catalogue) -> int:
    """Every team of the stream has an account and its starting credits, once for ever; returns how many were opened now.

    A team gets all of it in one decision under one idempotency key made of the stream's source, so an interrupted start
    goes on where it stopped and a second one changes nothing.
    """
    key = f"start-{sha256(stream.source.encode()).hexdigest()[:16]}"
    started = _started(shards, key)
    by_shard: dict[int, list[Member]] = {}
    for member in sorted(stream.members()):
        if member.team_id not in started:
            by_shard.setdefault(shards.shard_of(member.team_id), []).append(member)
    starts = starting_credits(stream, catalogue) if by_shard else {}

    def open_shard(shard: int) -> int:
        members = by_shard[shard]
        chunks = (members[at : at + TEAMS_TOGETHER] for at in range(0, len(members), TEAMS_TOGETHER))
        return sum(
            _open_together(shards, shard, chunk, starts, key, catalogue, stream.books_from)
            for chunk in chunks
        )

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(open_shard, by_shard))


def _started(shards: ShardMap, key: str) -> set[str]:
    """The teams that got their start under this key before."""
    started: set[str] = set()
    for shard in range(shards.count):
        with shards.connection_for(shard) as connection, connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(
                "SELECT team_id FROM idempotency WHERE shard = %s AND principal = %s AND key = %s",
                (shard, LOCAL_STACK.id, key),
            )
            started.update(str(team_id) for (team_id,) in cursor)
    return started


def _open_together(
    shards: ShardMap,
    shard: int,
    members: list[Member],
    starts: dict[str, StartingCredits],
    key: str,
    catalogue: Catalogue,
    books_from: datetime | None,
) -> int:
    """One transaction for many teams: waiting for the disk once, not thousands of times."""
    with shards.connection_for(shard) as connection, connection.transaction():
        cursor = connection.cursor(row_factory=tuple_row)
        # All heads are locked before the first event is written: the order in which every writer takes its locks.
        sessions = [PostgresAccountSession(cursor, shard, member.team_id) for member in members]
        opened = 0
        for member, session in zip(members, sessions, strict=True):
            opened += session.account is None
            if session.answer_on_file(LOCAL_STACK.id, key) is None:
                _start(session, member, starts[member.team_id], key, catalogue, books_from)
        return opened


def _start(
    session: PostgresAccountSession,
    member: Member,
    start: StartingCredits,
    key: str,
    catalogue: Catalogue,
    books_from: datetime | None,
) -> None:
    before = session.account.version if session.account else 0
    account = copy_of(session.account) if session.account else None
    decision = Decision(account, session.now, LOCAL_STACK, session.index, reason="welcome")
    if not decision.is_open:
        open_account(decision, member.team_id, member.zone, member.anchor_day, CARD_ID, books_from=books_from)
    grant_credits(decision, start.granted_micros)
    if start.bought_micros:
        price_minor = start.bought_micros // MICROS_PER_CREDIT * PRICE_MINOR_PER_CREDIT
        top_up_credits(
            decision,
            start.bought_micros,
            payment_reference=key,
            cost_basis=CostBasis(price_minor, CURRENCY),
        )
    plan = catalogue.plan(member.plan_id) if member.plan_id else None
    if plan is not None and decision.account.plan is None:
        assign_plan(decision, plan, "now")
    account = decision.account
    answer = Answer(
        team_id=member.team_id,
        version=account.version,
        recorded_at=account.recorded_at,
        settled_micros=account.settled_micros,
        debt_micros=account.debt_micros,
    )
    session.save(
        account,
        decision,
        before,
        principal=LOCAL_STACK.id,
        key=key,
        body_digest=sha256(msgspec.json.encode((member, start))).digest(),
        answer=msgspec.json.encode(answer),
    )
