"""What a work cost is the same however far the statement is behind the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.rows import tuple_row

from domain import commands as c
from domain.ledger import Caller, Ledger
from domain.work.costs import StepCost, cost_of
from domain.work.state import Work
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.read_models import Projector, StatementModel
from infra.postgres.shards import ShardMap
from infra.postgres.work_costs import work_moves
from infra.works import WorkDesk
from tests.builders import micros

POSTER = Work(team_id="acme", work_id="poster")


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    """Acme has held, captured and refunded for a poster, and for something else."""
    shards = ShardMap(database_url)
    ledger = Ledger(PostgresLedgerStore(shards))
    asked = iter(range(100))

    def do(command: c.Command) -> str:
        answer = ledger.execute(command, Caller("mira", "operator"), f"key-{next(asked)}")
        return answer.hold_id or answer.charge_id or ""

    def charged(amount: int, step: str, work: str = "poster") -> str:
        hold = do(
            c.PlaceHold(
                team_id="acme", action="image.generate", amount_micros=micros(amount), work=work, step=step
            )
        )
        answer = c.CaptureHold(team_id="acme", hold_id=hold, amount_micros=micros(amount))
        done = ledger.execute(answer, Caller("mira", "operator"), f"key-{next(asked)}")
        assert done.charge_id is not None
        return done.charge_id

    do(c.OpenAccount(team_id="acme"))
    do(c.GrantCredits(team_id="acme", amount_micros=micros(100), reason="a start"))
    first = charged(10, "draft")
    other = charged(20, "draft", "film")
    charged(7, "refine")
    for charge, amount in ((first, 4), (other, 5), (first, 1)):
        do(c.RefundCharge(team_id="acme", charge_id=charge, amount_micros=micros(amount), reason="poor"))
    yield shards
    shards.close()


def told(cost: StepCost) -> tuple[int, int, int]:
    return cost.charges, cost.charged_micros, cost.refunded_micros


def test_i6_a_cost_is_the_same_from_the_statement_from_the_log_and_from_any_part_of_both(
    shards: ShardMap,
) -> None:
    shard = shards.shard_of("acme")
    asked = WorkDesk(shards).cost("acme", "poster")
    expected = (2, micros(17), micros(5))
    assert told(asked.cost.total) == expected
    with shards.connection_for(shard) as connection:
        connection.autocommit = True
        for position in range(1, asked.position + 1):
            Projector(StatementModel()).advance(connection, shard, until=position)
            cursor = connection.cursor(row_factory=tuple_row)
            moves = work_moves(cursor, shard, "acme", "poster", asked.account_version)

            assert told(cost_of(POSTER, moves).total) == expected, position
            earlier = work_moves(cursor, shard, "acme", "poster", asked.account_version - 1)
            assert told(cost_of(POSTER, earlier).total) == (2, micros(17), micros(4)), position


def test_each_step_is_told_with_its_own_refunds_and_other_works_are_not(shards: ShardMap) -> None:
    steps = {each.step: each for each in WorkDesk(shards).cost("acme", "poster").cost.steps}

    assert {name: told(each) for name, each in steps.items()} == {
        "draft": (1, micros(10), micros(5)),
        "refine": (1, micros(7), 0),
    }
    assert told(WorkDesk(shards).cost("acme", "film").cost.total) == (1, micros(20), micros(5))
