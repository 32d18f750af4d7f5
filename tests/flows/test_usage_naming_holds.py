"""Usage that names a hold, through a real Kafka: the worked cases E4c, E8b and E24 on their dates, and a live one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.account.decision import account_id
from domain.account.events import LimitTerms
from domain.commands import GrantCredits, OpenAccount, PlaceHold, RefundCharge, SetLimit
from domain.ledger import Answer, Ledger
from domain.usage import usage_key
from infra.postgres import batch_writer
from infra.postgres.application import LedgerApplication
from infra.postgres.ledger_store import PostgresLedgerStore
from tests.builders import when
from tests.streams_on_kafka import HISTORIC, SOURCE, Stream


class Story:
    """A ledger whose clock stands where the story is; usage comes from a historic source, so its dates may be any."""

    def __init__(self, stream: Stream) -> None:
        self.at = when("2026-01-01 00:00")
        self.stream = stream
        stream.register()
        stream.ledger = Ledger(PostgresLedgerStore(stream.shards, clock=self.clock))

    def clock(self, _: Cursor[TupleRow]) -> datetime:
        return self.at

    def open(self, team: str, at: str, zone: str = "UTC") -> None:
        self.at = when(at)
        self.stream.command(OpenAccount(team_id=team, zone=zone))

    def grant(self, team: str, amount: int, expires: str | None = None) -> str:
        granted = self.stream.command(
            GrantCredits(
                team_id=team, amount_micros=amount * 1_000_000, expires_at=when(expires) if expires else None
            )
        )
        assert granted.lot_id is not None
        return granted.lot_id

    def hold(self, team: str, amount: int, at: str, member: str | None = None) -> Answer:
        self.at = when(at)
        return self.stream.command(
            PlaceHold(team_id=team, action="image.generate", amount_micros=amount * 1_000_000, member=member)
        )

    def use(
        self, team: str, record_id: str, units: int, *, occurred: str, recorded: str, **changes: Any
    ) -> int:
        offset = self.stream.use(
            record_id, units, team=team, occurred=when(occurred), source=HISTORIC, **changes
        )
        self.at = when(recorded)
        self.stream.work()
        return offset

    def events(self, team: str, topic: str) -> list[dict[str, object]]:
        rows = self.stream.rows(
            "SELECT convert_from(state, 'UTF8')::jsonb FROM ledger_events WHERE originator_id = %s AND topic LIKE %s"
            " ORDER BY originator_version",
            account_id(team),
            f"{topic}.%",
        )
        return [row[0] for row in rows]

    def lots(self, team: str) -> dict[str, int]:
        with LedgerApplication(self.stream.shards, self.stream.shards.shard_of(team)) as application:
            return {
                lot.terms.lot_id: lot.remaining_micros // 1_000_000 for lot in application.account(team).lots
            }


@pytest.fixture
def story(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> Story:
    told = Story(stream)
    monkeypatch.setattr(batch_writer, "database_clock", told.clock)
    return told


@pytest.mark.parametrize("recorded", ["2026-11-20 12:10", "2026-11-20 12:40"])
def test_e4c_usage_takes_what_its_hold_had_set_aside_also_when_recorded_after_the_hold(
    story: Story, recorded: str
) -> None:
    """E4c, I12, I19: A 25 used, 25 lapsed, then breakage 25; B 100."""
    story.open("globex", "2026-11-20 11:00")
    a = story.grant("globex", 50, "2026-11-20 12:00")
    b = story.grant("globex", 100)
    held = story.hold("globex", 40, "2026-11-20 11:30")
    assert held.hold_id is not None
    story.use("globex", "u", 25, occurred="2026-11-20 12:10", recorded=recorded, hold=held.hold_id)

    (charge,) = story.events("globex", "CreditsCharged")
    assert charge["lines"] == [[a, 25_000_000]]
    assert charge["hold_lines"] == [[a, 25_000_000]]
    assert charge["hold_id"] == held.hold_id
    assert story.lots("globex") == {a: 25, b: 100}

    story.at = when("2026-11-21 12:41")
    story.grant("globex", 1)
    (broken,) = story.events("globex", "CreditsExpired")
    assert (broken["lot_id"], broken["amount_micros"]) == (a, 25_000_000)
    assert story.lots("globex")[b] == 100


def test_e8b_usage_of_a_hold_counts_in_the_window_in_which_it_occurred(story: Story) -> None:
    """E8b, I21: 26 Oct used 80, then 0; the days beside it 0 throughout."""
    story.open("globex", "2026-10-20 00:00", "Europe/Berlin")
    story.grant("globex", 1_000)
    story.stream.command(
        SetLimit(
            team_id="globex",
            limit=LimitTerms(limit_id="day", window="day", cap_micros=100_000_000, member="kim"),
        )
    )
    held = story.hold("globex", 80, "2026-10-25 22:50", "kim")
    denied = story.hold("globex", 30, "2026-10-25 23:05", "kim")
    assert (held.outcome, denied.outcome) == ("held", "denied")
    story.use(
        "globex",
        "u",
        80,
        occurred="2026-10-25 23:10",
        recorded="2026-10-25 23:20",
        hold=held.hold_id,
        member="kim",
    )

    (charge,) = story.events("globex", "CreditsCharged")
    assert charge["windows"] == [["day", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z", 80_000_000, []]]
    story.at = when("2026-10-27 09:00")
    story.stream.command(RefundCharge(team_id="globex", charge_id=usage_key("globex", HISTORIC, "u")))
    (refund,) = story.events("globex", "ChargeRefunded")
    assert refund["windows"] == [["day", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z", 0, []]]
    assert story.lots("globex") == {"lot-2": 1_000}


def test_e24_a_record_waived_by_an_earlier_correction_releases_its_hold(story: Story) -> None:
    """E24."""
    story.open("globex", "2026-11-20 11:00")
    lot = story.grant("globex", 100)
    held = story.hold("globex", 50, "2026-11-20 11:30")
    story.use(
        "globex",
        "8",
        50,
        occurred="2026-11-20 11:40",
        recorded="2026-11-20 11:41",
        status="failed",
        corrects="7",
    )
    story.use("globex", "7", 50, occurred="2026-11-20 11:35", recorded="2026-11-20 11:50", hold=held.hold_id)

    assert [each["waiver"] for each in story.events("globex", "UsageWaived")] == ["failed", "corrected"]
    (released,) = story.events("globex", "HoldReleased")
    assert (released["hold_id"], released["amount_micros"]) == (held.hold_id, 50_000_000)
    assert story.lots("globex") == {lot: 100}
    assert story.stream.fates() == ["waived failed", "waived corrected"]


def test_a_hold_is_captured_by_the_usage_of_its_work_and_released_by_its_failure(stream: Stream) -> None:
    """Live: one worker, the database's clock; a parked record that is retried late still takes its hold."""
    first = stream.command(PlaceHold(team_id="acme", action="image.generate", amount_micros=40_000_000))
    second = stream.command(PlaceHold(team_id="acme", action="image.generate", amount_micros=10_000_000))
    third = stream.command(PlaceHold(team_id="acme", action="image.generate", amount_micros=5_000_000))
    now = datetime.now(UTC) + timedelta(milliseconds=1)
    stream.use("a", 30, hold=first.hold_id, occurred=now)
    stream.use("b", 10, hold=second.hold_id, status="cancelled", occurred=now)
    stream.use("c", 4, hold=third.hold_id, occurred=now - timedelta(days=500))
    stream.work()

    assert stream.fates() == ["charged", "waived failed", "parked too_old"]
    holds = {hold.hold_id: hold.held_micros for hold in stream.account().holds}
    assert holds == {first.hold_id: 10_000_000, third.hold_id: 5_000_000}

    stream.register(SOURCE)
    assert [each.outcome for each in stream.retry()] == ["charged"]
    holds = {hold.hold_id: hold.held_micros for hold in stream.account().holds}
    assert holds == {first.hold_id: 10_000_000, third.hold_id: 1_000_000}
    assert stream.account().settled_micros == 966_000_000
