"""Which events make a statement row, and what it says."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.account.events import CreditsCharged, HoldLeft, LotLine, RecordedEvent
from domain.commands import AdjustBalance, VoidGrant
from domain.usage import usage_key
from projections.moves import NOTHING, Sums, sums_after
from projections.statement import DIRECTIONS, ChargeFields, StatementRow, charge_row, rows_of
from tests.builders import SOURCE, AnAccount
from tests.projections.streams import rows_of_stream, stream_of


def a_story() -> AnAccount:
    """Everything that makes a row: grant, top-up, charge, debt and its repayment, waiver, refund, breakage."""
    account = AnAccount()
    account.granted("G", 10, "2026-11-01 01:00", expires_at="2026-11-10 00:00")
    account.used("1", 4, occurred="2026-11-02 00:00", member="mira", project="p", work="w", step="s")
    account.used("2", 0, occurred="2026-11-02 01:00")
    account.ticked("2026-11-12 00:00")
    account.used("3", 5, occurred="2026-11-12 01:00")
    account.bought("T", 20, "2026-11-12 02:00")
    account.refunded("1", 3, "2026-11-12 03:00")
    return account


def told(account: AnAccount) -> list[tuple[str, int, int, int]]:
    return [
        (
            row.kind,
            row.amount_micros // 10**6,
            row.settled_after_micros // 10**6,
            row.debt_after_micros // 10**6,
        )
        for row in rows_of_stream(account.events)
    ]


def test_every_event_that_moved_credits_and_waived_usage_has_a_row_with_the_sums_after_it() -> None:
    assert told(a_story()) == [
        ("CreditsGranted", 10, 10, 0),
        ("CreditsCharged", 4, 6, 0),
        ("UsageWaived", 0, 6, 0),
        ("CreditsExpired", 6, 0, 0),
        ("CreditsCharged", 5, 0, 5),
        ("CreditsToppedUp", 20, 20, 5),
        ("DebtRepaid", 5, 15, 0),
        ("ChargeRefunded", 3, 18, 0),
    ]


def test_opening_and_closing_and_awaited_corrections_make_no_row() -> None:
    account = AnAccount()
    account.used("8", 1, occurred="2026-11-02 00:00", status="failed", corrects="7")

    kinds = [type(event).__name__ for event in account.events]

    assert kinds == ["AccountOpened", "CorrectionAwaited", "UsageWaived"]
    assert [row.kind for row in rows_of_stream(account.events)] == ["UsageWaived"]


def test_each_amount_moves_settled_less_debt_in_the_direction_of_its_kind() -> None:
    before = NOTHING
    for row in rows_of_stream(a_story().events):
        after = Sums(row.settled_after_micros, row.debt_after_micros)
        moved = (after.settled_micros - after.debt_micros) - (before.settled_micros - before.debt_micros)

        assert moved == DIRECTIONS[row.kind] * row.amount_micros  # type: ignore[index]
        before = after


def test_a_charge_row_says_who_used_what_where() -> None:
    account = a_story()
    row = next(row for row in rows_of_stream(account.events) if row.kind == "CreditsCharged")

    assert (row.action, row.member, row.project, row.work, row.step) == (
        "image.generate",
        "mira",
        "p",
        "w",
        "s",
    )
    assert row.charge_id == usage_key("acme", SOURCE, "1")


def test_waived_usage_says_why_and_repeats_the_sums_before_it() -> None:
    account = a_story()
    waived = next(r for r in stream_of(account.events) if type(r.event).__name__ == "UsageWaived")

    rows = rows_of(waived, 3, "acme", Sums(42, 7))

    assert [(row.shard, row.reason, row.amount_micros) for row in rows] == [(3, "nothing_to_price", 0)]
    assert [(row.settled_after_micros, row.debt_after_micros) for row in rows] == [(42, 7)]


def test_a_row_has_the_columns_of_its_table_in_their_order() -> None:
    assert StatementRow._fields[:3] == ("shard", "team_id", "version")
    assert StatementRow._fields[-2:] == ("hold_id", "held_after_micros")


def test_free_text_that_no_column_can_hold_does_not_stop_the_statement() -> None:
    account = a_story()
    granted = msgspec.structs.replace(account.events[1], reason="for\0you")

    (row,) = rows_of(stream_of([granted])[0], 0, "acme")

    assert row.reason == "for\ufffdyou"


a_text = st.none() | st.sampled_from(["", "a", "for\0you", "größe", "\\u0000"])


USAGE_TEXTS = ("member", "project", "work", "step")


@given(
    st.fixed_dictionaries(dict.fromkeys((*USAGE_TEXTS, "reason", "hold_id"), a_text)),
    st.lists(st.builds(LotLine, st.just("lot-1"), st.integers(0, 9)), max_size=3),
    st.none() | st.just(HoldLeft([])),
)
def test_i7_a_charge_read_in_part_makes_the_row_of_the_whole_charge(
    texts: dict[str, str | None], hold_lines: list[LotLine], hold_left: HoldLeft | None
) -> None:
    """Projectors read of the stored bytes only what the statement tells."""
    whole = next(each for each in a_story().events if isinstance(each, CreditsCharged))
    whole = msgspec.structs.replace(whole, **texts, hold_lines=hold_lines, hold_left=hold_left)

    part = msgspec.json.decode(msgspec.json.encode(whole), type=ChargeFields)

    before = Sums(1, 2, 50)
    (row,) = rows_of(RecordedEvent(None, 7, whole), 3, "acme", before)
    assert charge_row(part, 7, 3, "acme", before) == row
    assert row.held_after_micros == sums_after(whole, before).held_micros
    shown = {name: text and text.replace("\0", "\ufffd") for name, text in texts.items()}
    assert [getattr(row, name) for name in USAGE_TEXTS] == [shown[name] for name in USAGE_TEXTS]
    assert not any("\0" in value for value in row if isinstance(value, str))


def test_the_part_of_a_charge_has_the_names_and_types_of_the_whole() -> None:
    whole = {field.name: field for field in msgspec.structs.fields(CreditsCharged)}

    for field in msgspec.structs.fields(ChargeFields):
        assert (field.type, field.required) == (whole[field.name].type, whole[field.name].required)
        assert field.default == whole[field.name].default


def a_story_of_holds() -> AnAccount:
    """Holds made, captured, released, expired and cut, and lots that are taken back, raised and lowered."""
    account = AnAccount()
    account.bought("T", 50, "2026-11-01 00:00")
    account.granted("G", 20, "2026-11-01 00:00", priority=10)
    first = account.held(30, "2026-11-02 00:00", work="poster", project="p")
    account.captured(first, 5, "2026-11-02 00:10")
    account.released(first, "2026-11-02 00:20")
    account.held(40, "2026-11-02 01:00")
    account.used("1", 4, occurred="2026-11-02 03:00")
    account.held(8, "2026-11-02 03:10")
    account.asked("2026-11-02 03:20", VoidGrant(team_id="acme", lot_id="lot-3"))
    account.charged_back("T", "2026-11-03 00:00")
    account.lost("T", "2026-11-04 00:00")
    account.asked("2026-11-05 00:00", _adjusted("raise", 9))
    account.asked("2026-11-05 00:00", _adjusted("lower", 2))
    return account


def _adjusted(direction: Any, amount: int) -> AdjustBalance:
    micros = amount * 1_000_000
    return AdjustBalance(team_id="acme", direction=direction, amount_micros=micros, reason="counted")


def test_holds_and_what_is_taken_back_have_rows_with_what_is_held_after_them() -> None:
    rows = [
        (
            row.kind,
            row.amount_micros // 10**6,
            row.settled_after_micros // 10**6,
            row.held_after_micros // 10**6,
        )
        for row in rows_of_stream(a_story_of_holds().events)
    ]

    assert rows == [
        ("CreditsToppedUp", 50, 50, 0),
        ("CreditsGranted", 20, 70, 0),
        ("CreditsHeld", 30, 70, 30),
        ("HoldCaptured", 5, 65, 25),
        ("HoldReleased", 25, 65, 0),
        ("CreditsHeld", 40, 65, 40),
        ("HoldExpired", 40, 65, 0),
        ("CreditsCharged", 4, 61, 0),
        ("CreditsHeld", 8, 61, 8),
        ("GrantVoided", 11, 50, 0),
        ("HoldExpired", 0, 50, 0),
        ("ChargebackOpened", 50, 50, 0),
        ("ChargebackLost", 50, 0, 0),
        ("BalanceRaised", 9, 9, 0),
        ("BalanceLowered", 2, 7, 0),
    ]


def test_rows_of_a_hold_are_found_by_its_id_and_say_what_it_was_for() -> None:
    rows = [row for row in rows_of_stream(a_story_of_holds().events) if row.hold_id == "hold-4"]

    assert [row.kind for row in rows] == ["CreditsHeld", "HoldCaptured", "HoldReleased"]
    held, captured, _ = rows
    assert (held.action, held.member, held.project, held.work) == ("image.generate", "mira", "p", "poster")
    assert (captured.charge_id is not None, captured.work) == (True, "poster")


def test_a_refund_to_a_voided_grant_tells_only_what_came_back() -> None:
    account = AnAccount()
    account.granted("G", 20, "2026-11-01 00:00")
    account.used("1", 8, occurred="2026-11-02 00:00")
    account.asked("2026-11-03 00:00", VoidGrant(team_id="acme", lot_id="lot-2"))
    account.refunded("1", None, "2026-11-04 00:00")

    refund = rows_of_stream(account.events)[-1]

    assert (refund.kind, refund.amount_micros, refund.settled_after_micros) == ("ChargeRefunded", 0, 0)
