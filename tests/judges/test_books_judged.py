"""hledger, ledger and beancount accept the books, and refuse them for one micro-credit that is wrong."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.account.events import (
    ACCOUNT_EVENTS,
    CHARGES,
    AccountEvent,
    Charge,
    ChargeRefunded,
    CreditsCharged,
    HoldCaptured,
    LotLine,
    RecordedEvent,
)
from infra.cli.export import CUT_SHORT
from projections.books import BookAccount, BookEntry, Bookkeeper, entries, use_of
from projections.books_files import BookFormat
from projections.books_names import account_name, text_of
from projections.replay import Replay
from tests.judges.programs import PROGRAMS, Verdict, hledger_balances, judged, written
from tests.judges.rich_account import TEAM, Histories, rich_account
from tests.projections.lives import Life
from tests.simulation.product import Product
from tests.simulation.stories import story_of

pytestmark = pytest.mark.usefixtures("judges")

ODD_TEAM = "@Ä team: (of) [2026-01-01], \"odd\"; %41 -- | = 'names'"
SEEDS = [101, 102, 103]


@pytest.fixture(scope="module")
def story() -> list[AccountEvent]:
    """All that can happen to an account."""
    events = rich_account().events
    assert {type(event) for event in events} == set(ACCOUNT_EVENTS)
    return events


@pytest.fixture(scope="module")
def simulated() -> dict[str, list[AccountEvent]]:
    """Teams that a simulator lived through."""
    teams: dict[str, list[AccountEvent]] = {}
    for seed in SEEDS:
        told = story_of(seed)
        product = Product(told.steps[0].at)
        for step in told.steps:
            if product.may_hear(step):
                product.hear(step)
        for team_id, team in product.store.teams.items():
            teams[f"{team_id}-{seed}"] = [each.event for each in team.events]
    return teams


# --- accepted ---


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("team_id", [TEAM, ODD_TEAM])
def test_an_account_to_which_everything_happens_is_accepted(
    program: BookFormat, team_id: str, story: list[AccountEvent], tmp_path: Path
) -> None:
    file = written(tmp_path / "books", program, entries(Histories({team_id: story}), team_id))

    verdict = judged(program, file)

    assert verdict.is_accepted, verdict.said
    assert TEAM.capitalize() in file.read_text() or team_id == ODD_TEAM


@pytest.mark.parametrize("program", PROGRAMS)
def test_simulated_teams_are_accepted(
    program: BookFormat, simulated: dict[str, list[AccountEvent]], tmp_path: Path
) -> None:
    file = written(tmp_path / "books", program, books_of(simulated))

    verdict = judged(program, file)

    assert verdict.is_accepted, verdict.said[:3_000]


def test_hledger_adds_up_the_balances_that_the_accounts_have(
    simulated: dict[str, list[AccountEvent]], tmp_path: Path
) -> None:
    teams = simulated | {f"life-{seed}": Life(seed).live(150).events for seed in range(3)}
    file = written(tmp_path / "books", "hledger", books_of(teams))

    told = hledger_balances(file)

    assert sums_by_team(told, "Assets", 1) == without_zeros(
        {team: folded(events).settled_micros for team, events in teams.items()}
    )
    assert sums_by_team(told, "Liabilities", 1) == without_zeros(
        {team: -folded(events).debt_micros for team, events in teams.items()}
    )
    assert {name: sum_ for name, sum_ in told.items() if name.startswith("Income:")} == used_less_refunds(
        teams
    )


# --- refused ---


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_micro_credit_in_any_posting_is_refused_and_its_entry_named(
    program: BookFormat, story: list[AccountEvent], tmp_path: Path
) -> None:
    """Each kind of account once, where it is first posted to: the entry does not sum to zero."""
    file = written(tmp_path / "books", program, entries(Histories({TEAM: story}), TEAM))
    lines = file.read_text().splitlines()
    places = first_postings(lines)
    assert len(places) == 13

    for place in places:
        planted = [more(line) if number == place else line for number, line in enumerate(lines)]
        verdict = judged(program, rewritten(file, planted))

        assert_refused(verdict, file, lines[place], version_at(lines, place))


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_micro_credit_on_both_sides_of_an_entry_is_refused_by_the_claimed_balance(
    program: BookFormat, story: list[AccountEvent], tmp_path: Path
) -> None:
    """The entry still sums to zero: only the balance that we claim contradicts it."""
    file = written(tmp_path / "books", program, entries(Histories({TEAM: story}), TEAM))
    lines = file.read_text().splitlines()
    lot, used = next(
        (number, number + 1)
        for number, line in enumerate(lines)
        if re.search(r"^ +Assets:Acme:Lots:\S+  -\d", line) and " Income:Used:" in lines[number + 1]
    )

    planted = [*lines[:lot], less(lines[lot]), more(lines[used]), *lines[used + 1 :]]
    verdict = judged(program, rewritten(file, planted))

    assert_refused(verdict, file, lines[lot], version_at(lines, lot))


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_micro_credit_in_any_amount_of_an_event_is_refused_and_its_version_named(
    program: BookFormat, story: list[AccountEvent], tmp_path: Path
) -> None:
    """The claims are those of the account as it was; the postings are made from an event with one amount changed."""
    planted = list(plants(story))
    assert len(planted) >= 30

    for version, what, event in planted:
        file = written(tmp_path / "books", program, books_with(story, version, event))
        verdict = judged(program, file)

        assert not verdict.is_accepted, f"{what} of version {version} went unnoticed"
        named = versions_named(verdict, file)
        assert named & versions_of_day(story, version), f"{what} of {version}: {verdict.said}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_claim_of_one_micro_credit_more_is_refused(
    program: BookFormat, story: list[AccountEvent], tmp_path: Path
) -> None:
    def boasting() -> Iterator[BookEntry]:
        for entry in entries(Histories({TEAM: story}), TEAM):
            boasts = [
                each._replace(claimed_micros=each.claimed_micros + 1)
                if entry.is_end and each.account.kind == "lot" and each.claimed_micros
                else each
                for each in entry.postings
            ]
            yield msgspec.structs.replace(entry, postings=boasts)

    verdict = judged(program, written(tmp_path / "books", program, boasting()))

    assert not verdict.is_accepted
    assert "Assets:Acme:Lots:" in verdict.said


@pytest.mark.parametrize("program", PROGRAMS)
def test_books_cut_short_on_standard_output_are_refused(
    program: BookFormat, story: list[AccountEvent], tmp_path: Path
) -> None:
    file = written(tmp_path / "books", program, entries(Histories({TEAM: story}), TEAM))
    lines = file.read_text().splitlines()
    whole_entries = [number for number, line in enumerate(lines) if not line]

    verdict = judged(program, rewritten(file, [*lines[: whole_entries[20]], CUT_SHORT]))

    assert not verdict.is_accepted


# --- telling the above ---


def books_of(teams: dict[str, list[AccountEvent]]) -> Iterator[BookEntry]:
    source = Histories(teams)
    for team_id in teams:
        yield from entries(source, team_id)


def books_with(story: list[AccountEvent], version: int, planted: AccountEvent) -> Iterator[BookEntry]:
    """The postings of the story with one event exchanged, beside the claims of the story as it was."""
    refunded = {event.charge_id for event in story if isinstance(event, ChargeRefunded)}
    keeper, replay = Bookkeeper(TEAM, refunded), Replay(keeps_index=False)
    for recorded in Histories({TEAM: story}).events(TEAM):
        account = replay.play(recorded)
        if recorded.originator_version == version:
            recorded = RecordedEvent(None, version, planted)  # noqa: PLW2901 - the one that is exchanged
        yield from keeper.entries(recorded, account)
    yield keeper.end(replay.account)  # type: ignore[arg-type]


def plants(story: list[AccountEvent]) -> Iterator[tuple[int, str, AccountEvent]]:
    """The first event of every kind that is posted, with one micro-credit more in one amount, for each of its amounts."""
    seen = set()
    posted = {entry.version for entry in entries(Histories({TEAM: story}), TEAM) if not entry.is_end}
    for version, event in enumerate(story, 1):
        for name in event.__struct_fields__:
            value: Any = getattr(event, name)
            place = type(event), name
            if version not in posted or place in seen:
                continue
            if name == "hold_lines" and getattr(event, "hold_left", None) is not None:
                continue  # They say what an ended hold had set aside: nothing moves by it.
            if name in AMOUNTS or (name in LINES and value):
                seen.add(place)
                more_of = value + 1 if name in AMOUNTS else [_line_with_more(value[0]), *value[1:]]
                what = f"{name} of {type(event).__name__}"
                yield version, what, msgspec.structs.replace(event, **{name: more_of})


AMOUNTS = {"amount_micros", "debt_micros", "withheld_micros", "voided_micros", "drawn_micros"}
LINES = {"lines", "hold_lines", "holds"}


def _line_with_more(line: LotLine) -> LotLine:
    return msgspec.structs.replace(line, amount_micros=line.amount_micros + 1)


def versions_of_day(story: list[AccountEvent], version: int) -> set[int]:
    """The versions that may be named: beancount asserts the balances of a day by the last event that touched them."""
    day = story[version - 1].recorded_at.date()
    return {
        each for each, event in enumerate(story, 1) if each >= version and event.recorded_at.date() == day
    }


def versions_named(verdict: Verdict, file: Path) -> set[int]:
    """The versions of the entries that the program shows, or (ledger) of the line that it names first."""
    shown = re.findall(r"\((\d+)\) acme|version: (\d+)", verdict.said)
    named = {int(journal or beancount) for journal, beancount in shown}
    line = re.search(r", line (\d+):", verdict.said)
    return named | {version_at(file.read_text().splitlines(), int(line[1]))} if line else named


def first_postings(lines: list[str]) -> list[int]:
    """The line of the first posting that moves something, for each kind of account."""
    found: dict[str, int] = {}
    for number, line in enumerate(lines):
        match = re.match(r" +((?:Assets|Liabilities|Equity|Income):\S+)  -?[1-9]", line)
        if match:
            root, first, second = f"{match[1]}:".split(":")[:3]
            kind = second if root == "Assets" else first
            found.setdefault(
                f"{root} {kind} {second}" if first in ("Issued", "Used") else f"{root} {kind}", number
            )
    return list(found.values())


def more(line: str) -> str:
    return _changed(line, 1)


def less(line: str) -> str:
    return _changed(line, -1)


def _changed(line: str, by: int) -> str:
    return re.sub(r"(?<=  )-?\d+(?= MICROCREDIT)", lambda amount: str(int(amount[0]) + by), line, count=1)


def rewritten(file: Path, lines: list[str]) -> Path:
    file.write_text("\n".join([*lines, ""]))
    return file


def version_at(lines: list[str], place: int) -> int:
    """The version of the entry that the line belongs to."""
    for line in reversed(lines[:place]):
        match = re.match(r"\d{4}-\d\d-\d\d \((\d+)\)|  version: (\d+)", line)
        if match:
            return int(match[1] or match[2])
    raise AssertionError("no entry before it")


def assert_refused(verdict: Verdict, file: Path, posting: str, version: int) -> None:
    assert not verdict.is_accepted, posting
    assert posting.split(maxsplit=1)[0] in verdict.said, posting
    assert version in versions_named(verdict, file), verdict.said


def folded(events: list[AccountEvent]) -> Any:
    replay = Replay(keeps_index=False)
    for version, event in enumerate(events, 1):
        replay.play(RecordedEvent(None, version, event))
    return replay.account


def sums_by_team(told: dict[str, int], root: str, place: int) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for name, balance in told.items():
        parts = name.split(":")
        if parts[0] == root:
            sums[text_of(parts[place])] += balance
    return sums


def without_zeros(sums: dict[str, int]) -> dict[str, int]:
    return {name: sum_ for name, sum_ in sums.items() if sum_}


def used_less_refunds(teams: dict[str, list[AccountEvent]]) -> dict[str, int]:
    """What charges took less what was refunded, by action, month and team, from the events alone."""
    sums: dict[str, int] = defaultdict(int)
    for team_id, events in teams.items():
        charges: dict[str, Charge] = {each.charge_id: each for each in events if isinstance(each, CHARGES)}
        for event in events:
            if isinstance(event, CreditsCharged | HoldCaptured | ChargeRefunded):
                sign = -1 if isinstance(event, ChargeRefunded) else 1
                account = BookAccount("used", *use_of(charges[event.charge_id]))
                sums[account_name(team_id, account)] += sign * event.amount_micros
    return without_zeros(sums)
