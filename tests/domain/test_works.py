"""A work goes from brief to saved result; what people write stays off its events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from domain import commands as c
from domain.actors import Actor
from domain.errors import (
    IdempotencyKeyReused,
    LedgerError,
    Malformed,
    UnknownAction,
    UnknownWork,
    WorkRefused,
)
from domain.ledger import Answer, Caller, Ledger
from domain.work.applying import fold
from domain.work.deciding import STEPS_MAX, record_handover, save_step, save_work, start_work
from domain.work.decision import WorkDecision
from domain.work.events import PlannedUse, WorkStarted, WorkStepSaved
from domain.work.state import SavedStep, Work, work_stream_id
from domain.work.texts import TEXT_BYTES_MAX, WorkText, read_text, salted_digest, text_bytes
from tests.builders import micros, unit_card
from tests.memory_store import MemoryLedger

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MIRA = Actor("mira", "member")
BRIEF = WorkText(goal="a poster of a fox", audience="visitors of the autumn fair")
DRAFT = WorkText(
    prompts=["a fox, flat colours"],
    parameters={"guidance": "7.5"},
    versions={"model": "xl-2"},
    files=["draft/1.png"],
    links=["https://example.org/draft/1.png"],
)


def deciding(work: Work | None = None, at: datetime = NOON) -> WorkDecision:
    """A decision on the work, by default on a new one."""
    salts = iter(range(1, 1_000))
    return WorkDecision(
        work or Work(team_id="acme", work_id="poster"), at, MIRA, lambda: next(salts).to_bytes(16, "big")
    )


def started() -> WorkDecision:
    """A decision on a work that has just begun."""
    decision = deciding()
    start_work(decision, BRIEF, "mira", "autumn")
    return decision


def refused(error: type[LedgerError], decide: Callable[[], object]) -> LedgerError:
    """The error, which is this one."""
    with pytest.raises(error) as caught:
        decide()
    return caught.value


def test_a_work_goes_from_brief_to_saved_result_step_by_step() -> None:
    decision = started()

    assert save_step(decision, "draft", DRAFT, "mira") == 1
    assert save_step(decision, "refine", DRAFT, "jo") == 1
    assert save_step(decision, "draft", DRAFT, "mira") == 2
    record_handover(decision, 9, "{}", True, "k1", "ab")
    save_work(decision, WorkText(files=["poster.png"]), "mira")

    work = decision.work
    assert (work.status, work.version, work.started_by, work.project) == ("saved", 6, "mira", "autumn")
    assert work.steps == {"draft": SavedStep(2, 4, NOON), "refine": SavedStep(1, 3, NOON)}
    assert (work.handover_version, work.handover_passes, work.saved_at) == (5, True, NOON)
    assert fold(Work(team_id="acme", work_id="poster"), decision.events) == work


def test_i9_a_state_read_from_its_bytes_is_the_state_of_the_fold() -> None:
    decision = started()
    save_step(decision, "draft", DRAFT, "mira")

    stored = msgspec.json.encode(decision.work)

    assert msgspec.json.decode(stored, type=Work) == decision.work


def test_i23_no_event_and_no_state_repeats_a_word_of_what_was_written() -> None:
    decision = started()
    save_step(decision, "draft", DRAFT, "mira")
    save_work(decision, WorkText(files=["poster.png"]), "mira")

    told = msgspec.json.encode([decision.events, decision.work]).decode()

    for word in ("fox", "visitors", "flat", "7.5", "xl-2", "1.png", "example.org", "poster.png"):
        assert word not in told
    for event, kept in zip(decision.events, decision.texts, strict=True):
        digest = event.context_digest  # type: ignore[attr-defined]
        assert digest == salted_digest(kept.salt, kept.text)
    assert [kept.version for kept in decision.texts] == [1, 2, 3]
    assert [kept.step for kept in decision.texts] == [None, "draft", None]
    assert read_text(decision.texts[1].text) == DRAFT


def test_a_work_begins_once_with_a_goal_and_an_audience() -> None:
    refused(WorkRefused, lambda: start_work(started(), BRIEF, "mira"))
    for brief, missing in (
        (WorkText(goal="a poster"), "audience"),
        (WorkText(audience="all"), "goal"),
    ):
        error = refused(Malformed, lambda brief=brief: start_work(deciding(), brief, "mira"))  # type: ignore[misc]
        assert missing in error.detail


def test_what_was_never_begun_takes_no_step_no_check_and_no_result() -> None:
    for decide in (
        lambda: save_step(deciding(), "draft", DRAFT, "mira"),
        lambda: record_handover(deciding(), 1, "{}", True, "k1", "ab"),
        lambda: save_work(deciding(), DRAFT, "mira"),
    ):
        assert "'poster'" in refused(UnknownWork, decide).detail


def test_once_its_result_is_saved_a_work_takes_no_step_but_its_handover_may_be_checked() -> None:
    decision = started()
    save_work(decision, WorkText(files=["poster.png"]), "mira")

    refused(WorkRefused, lambda: save_step(decision, "draft", DRAFT, "mira"))
    refused(WorkRefused, lambda: save_work(decision, DRAFT, "mira"))
    record_handover(decision, 9, "{}", False, "k1", "ab")

    assert (decision.work.status, decision.work.handover_passes) == ("saved", False)


def test_i24_a_work_has_a_bounded_number_of_steps_each_saved_any_number_of_times() -> None:
    decision = started()
    for number in range(STEPS_MAX):
        save_step(decision, f"step-{number}", WorkText(note="as before"), "mira")

    assert save_step(decision, "step-7", WorkText(note="again"), "mira") == 2
    refused(WorkRefused, lambda: save_step(decision, "one-more", DRAFT, "mira"))
    assert len(msgspec.json.encode(decision.work)) < 64 * 1024


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (WorkText(prompts=[" "]), "prompts"),
        (WorkText(prompts=["x" * 8_001]), "prompts"),
        (WorkText(prompts=["a\x00b"]), "prompts"),
        (WorkText(note="a\x1b[2Jb"), "note"),
        (WorkText(files=["f"] * 101), "files"),
        (WorkText(links=["javascript:alert(1)"]), "links"),
        (WorkText(links=["https://a b"]), "links"),
        (WorkText(parameters={"": "1"}), "parameters"),
        (WorkText(versions={"model": "x" * 1_025}), "versions"),
        (WorkText(prompts=["é" * 4_000] * 3), "bytes as JSON"),
    ],
)
def test_a22_a_text_beyond_its_bounds_is_refused_by_the_name_of_its_field(text: WorkText, field: str) -> None:
    assert field in refused(Malformed, lambda: save_step(started(), "draft", text, "mira")).detail


def test_a_text_up_to_its_bounds_is_kept_as_it_is() -> None:
    text = WorkText(prompts=["two\nlines\t🦊"], note="é" * 4_000)

    assert read_text(text_bytes(text)) == text
    assert len(text_bytes(WorkText(prompts=["x" * 8_000, "x" * 8_000]))) <= TEXT_BYTES_MAX


def test_i20_recorded_at_never_decreases_within_a_work() -> None:
    decision = started()

    later = deciding(decision.work, NOON - timedelta(hours=1))
    save_step(later, "draft", DRAFT, "mira")

    assert later.events[0].recorded_at == NOON


def test_the_id_of_a_works_stream_never_changes_and_tells_teams_apart() -> None:
    assert work_stream_id("acme", "poster") == UUID("6d97b6e5-c7ac-59a3-9287-37f4fccdc1af")
    assert work_stream_id("acme", "poster") != work_stream_id("acm", "eposter")


# --- through the ledger's door ---


class Desk:
    """Asks the ledger, as a member of team acme, which has 100 credits."""

    def __init__(self) -> None:
        self.memory = MemoryLedger(NOON)
        self.memory.publish(unit_card())
        self.ledger = Ledger(self.memory, self.memory.current)
        self.do(c.OpenAccount(team_id="acme"), "open")
        self.do(c.GrantCredits(team_id="acme", amount_micros=micros(100), reason="a start"), "grant")

    def do(self, command: c.Command, key: str) -> Answer:
        """The command under the key."""
        return self.ledger.execute(command, Caller("mira", "operator"), key)


def planned(units: str, times: int = 1, step: str = "draft") -> PlannedUse:
    """So many units of pictures, so many times."""
    return PlannedUse(action="image.generate", meters={"units": units}, step=step, times=times)


def test_a_brief_is_estimated_as_it_would_be_charged_and_says_so_by_step() -> None:
    desk = Desk()
    uses = [planned("4", 3), planned("2.5", 1, "refine"), planned("1", 1, "refine")]

    told = desk.do(c.StartWork(team_id="acme", work_id="poster", brief=BRIEF, planned=uses), "start")

    assert (told.work_id, told.work_version, told.amount_micros) == ("poster", 1, micros("15.5"))
    kept = desk.memory.teams["acme"]
    assert kept.works["poster"].estimates_micros == {"draft": micros(12), "refine": micros("3.5")}
    event = kept.work_events["poster"][0]
    assert isinstance(event, WorkStarted)
    assert event.estimate is not None
    assert event.estimate.account_version == kept.account.version == told.version


def test_more_uses_than_one_call_estimates_are_each_times_what_one_would_be() -> None:
    desk = Desk()

    told = desk.do(
        c.StartWork(team_id="acme", work_id="film", brief=BRIEF, planned=[planned("0.000001", 1_000)]),
        "start",
    )

    assert told.amount_micros == 1_000


def test_a_brief_that_cannot_be_priced_begins_nothing() -> None:
    desk = Desk()
    nothing = PlannedUse(action="sculpture.print", meters={"units": "1"})

    refused(
        UnknownAction,
        lambda: desk.do(c.StartWork(team_id="acme", work_id="film", brief=BRIEF, planned=[nothing]), "start"),
    )
    refused(
        Malformed,
        lambda: desk.do(
            c.StartWork(team_id="acme", work_id="film", brief=BRIEF, planned=[planned("1", 0)]), "start"
        ),
    )

    assert not desk.memory.teams["acme"].works


def test_i14_the_same_key_saves_a_step_once_and_another_body_is_refused() -> None:
    desk = Desk()
    desk.do(c.StartWork(team_id="acme", work_id="poster", brief=BRIEF), "start")
    step = c.SaveWorkStep(team_id="acme", work_id="poster", step="draft", text=DRAFT)

    first, again = desk.do(step, "draft-1"), desk.do(step, "draft-1")

    assert (first.revision, first.work_version, again.is_replayed) == (1, 2, True)
    assert msgspec.structs.replace(again, is_replayed=False) == first
    refused(IdempotencyKeyReused, lambda: desk.do(msgspec.structs.replace(step, step="other"), "draft-1"))
    assert desk.do(step, "draft-2").revision == 2
    saved = desk.memory.teams["acme"].work_events["poster"][-1]
    assert isinstance(saved, WorkStepSaved)
    assert (saved.member, saved.prompts, saved.links) == ("mira", 1, 1)


def test_a_work_without_an_id_gets_one_and_moves_no_credit() -> None:
    desk = Desk()
    before = desk.memory.teams["acme"].account

    told = desk.do(c.StartWork(team_id="acme", brief=BRIEF), "start")

    assert told.work_id is not None
    assert len(told.work_id) == 32
    assert desk.do(c.StartWork(team_id="acme", brief=BRIEF), "start").work_id == told.work_id
    assert (told.version, told.settled_micros) == (before.version, before.settled_micros)
