"""A team's people and paperwork: always an owner, never a card's number, and two persons for what one may not do alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.actors import Actor
from domain.commands import BillingDetails, MemberRole, PaymentMethod
from domain.errors import (
    AdjustmentRefused,
    AmountOutOfRange,
    CardNumberRefused,
    LedgerError,
    Malformed,
    MemberRefused,
    SecondPersonNeeded,
    UnknownAdjustment,
    UnknownMember,
    UnknownPaymentMethod,
)
from domain.team.applying import fold
from domain.team.card_numbers import holds_card_number, passes_luhn
from domain.team.deciding import (
    ADJUSTMENT_CAP_MICROS,
    ADJUSTMENTS_MAX,
    MEMBERS_MAX,
    add_member,
    approve_adjustment,
    change_member_role,
    propose_adjustment,
    remove_member,
    remove_payment_method,
    set_billing_details,
    set_payment_method,
)
from domain.team.decision import TeamDecision
from domain.team.events import AdjustmentApproved, MemberLeft, MemberRoleChanged
from domain.team.state import Member, Team, copy_of, team_stream_id

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SUE = Actor("sue", "support")
TIM = Actor("tim", "support")
CARD = "4111111111111111"
METHOD = PaymentMethod(token="pm_abc", brand="visa", last_four="1111", expires_month=11, expires_year=2026)
DETAILS = BillingDetails(name="Acme GmbH", address_lines=["Weg 1", "10115 Berlin"], country="DE")
BIG = ADJUSTMENT_CAP_MICROS + 1


def deciding(
    team: Team | None = None, at: datetime = NOON, actor: Actor = SUE, reason: str | None = None
) -> TeamDecision:
    """A decision on the team, on an empty one when none is given."""
    return TeamDecision(team or Team(team_id="acme"), at, actor, reason=reason)


def a_team(**roles: MemberRole) -> Team:
    """A team with these members."""
    decision = deciding()
    for member, role in roles.items():
        add_member(decision, member, role)
    return decision.team


def refused(
    kind: type[LedgerError], decide: Callable[[TeamDecision], object], decision: TeamDecision
) -> LedgerError:
    """The refusal, once it is clear that it came before the first event and left the team as it was."""
    before = msgspec.json.encode(decision.team)
    with pytest.raises(kind) as caught:
        decide(decision)
    assert decision.events == []
    assert msgspec.json.encode(decision.team) == before
    return caught.value


# --- people ---


def test_members_join_change_their_role_and_leave() -> None:
    later = NOON + timedelta(days=1)
    decision = deciding(a_team(ann="owner", bob="viewer"), later)

    change_member_role(decision, "bob", "admin")
    remove_member(decision, "ann") if len(decision.team.owners()) > 1 else add_member(
        decision, "cyd", "owner"
    )
    remove_member(decision, "ann")

    assert decision.team.members == {"bob": Member("admin", later), "cyd": Member("owner", later)}
    changed = next(event for event in decision.events if isinstance(event, MemberRoleChanged))
    assert (changed.role_before, changed.role, changed.team_id) == ("viewer", "admin", "acme")
    assert isinstance(decision.events[-1], MemberLeft)
    assert decision.team.version == 5


def test_a_member_joins_once_and_may_come_back_after_leaving() -> None:
    team = a_team(ann="owner", bob="viewer")

    error = refused(MemberRefused, lambda d: add_member(d, "bob", "admin"), deciding(team))
    assert "2026-11-20" in error.detail

    decision = deciding(team)
    remove_member(decision, "bob")
    add_member(decision, "bob", "admin")
    assert decision.team.members["bob"].role == "admin"


@pytest.mark.parametrize("role", ["admin", "member", "viewer"])
def test_the_last_owner_cannot_step_down(role: MemberRole) -> None:
    team = a_team(ann="owner", bob="admin")

    error = refused(MemberRefused, lambda d: change_member_role(d, "ann", role), deciding(team))

    assert "last owner" in error.detail


def test_the_last_owner_cannot_leave_while_one_of_two_can() -> None:
    team = a_team(ann="owner", bob="owner")
    decision = deciding(team)
    remove_member(decision, "bob")

    refused(MemberRefused, lambda d: remove_member(d, "ann"), deciding(decision.team))


def test_a_team_may_begin_without_an_owner() -> None:
    team = a_team(bob="member")

    decision = deciding(team)
    remove_member(decision, "bob")

    assert decision.team.members == {}


def test_an_unknown_member_is_named() -> None:
    for decide in (lambda d: remove_member(d, "zoe"), lambda d: change_member_role(d, "zoe", "owner")):
        assert "'zoe'" in refused(UnknownMember, decide, deciding(a_team(ann="owner"))).detail


def test_the_role_a_member_has_already_is_no_change() -> None:
    refused(
        MemberRefused,
        lambda d: change_member_role(d, "ann", "owner"),
        deciding(a_team(ann="owner", bob="owner")),
    )


@pytest.mark.parametrize("member", ["", " ann", "a nn", "ann\n", "änn", "x" * 129])
def test_a_member_is_an_id_as_usage_records_carry_it(member: str) -> None:
    assert (
        refused(Malformed, lambda d: add_member(d, member, "member"), deciding()).asked["field"] == "member"
    )


def test_an_unknown_role_is_refused() -> None:
    refused(Malformed, lambda d: add_member(d, "ann", "boss"), deciding())  # type: ignore[arg-type]


def test_a_team_has_no_more_members_than_its_small_state_allows_i24() -> None:
    team = a_team()
    team.members = {f"m{number}": Member("member", NOON) for number in range(MEMBERS_MAX)}

    refused(MemberRefused, lambda d: add_member(d, "one-more", "member"), deciding(team))


MEMBERS, ROLES = ("ann", "bob", "cyd"), ("owner", "admin", "member", "viewer")
STEPS = st.one_of(
    st.tuples(st.just(add_member), st.sampled_from(MEMBERS), st.sampled_from(ROLES)),
    st.tuples(st.just(change_member_role), st.sampled_from(MEMBERS), st.sampled_from(ROLES)),
    st.tuples(st.just(remove_member), st.sampled_from(MEMBERS)),
)


@given(st.lists(STEPS, max_size=30))
def test_a_team_that_once_had_an_owner_has_one_for_ever_whatever_is_asked(
    steps: list[tuple[Callable[..., None], *tuple[str, ...]]],
) -> None:
    decision = deciding()
    had_owner = False
    for decide, *asked in steps:
        before = len(decision.events)
        try:
            decide(decision, *asked)
        except (MemberRefused, UnknownMember):
            assert len(decision.events) == before
        had_owner = had_owner or bool(decision.team.owners())
        assert bool(decision.team.owners()) == had_owner
    assert fold(Team(team_id="acme"), decision.events) == decision.team


# --- paperwork ---


def test_billing_details_are_replaced_as_a_whole() -> None:
    decision = deciding()
    set_billing_details(
        decision,
        msgspec.structs.replace(DETAILS, email="pay@acme.example", tax_id="DE123456789", locale="zh_Hant_TW"),
    )
    set_billing_details(decision, DETAILS)

    assert decision.team.billing_details == DETAILS


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("name", " "),
        ("name", "x" * 201),
        ("name", "Acme\u202egnp"),
        ("address_lines", []),
        ("address_lines", ["Weg 1"] * 7),
        ("address_lines", ["Weg 1", ""]),
        ("country", "de"),
        ("country", "DEU"),
        ("email", "nobody"),
        ("tax_id", ""),
        ("locale", "German"),
        ("locale", "de-DE"),
    ],
)
def test_billing_details_that_are_none_name_their_field(field: str, wrong: object) -> None:
    details = msgspec.structs.replace(DETAILS, **{field: wrong})

    assert refused(Malformed, lambda d: set_billing_details(d, details), deciding()).asked["field"] == field


def test_a_payment_method_is_set_replaced_and_removed() -> None:
    decision = deciding()
    set_payment_method(decision, METHOD)
    set_payment_method(decision, msgspec.structs.replace(METHOD, token="pm_def"))
    other = copy_of(decision.team).payment_method

    remove_payment_method(decision)

    assert other == msgspec.structs.replace(METHOD, token="pm_def")
    assert decision.team.payment_method is None
    refused(UnknownPaymentMethod, remove_payment_method, deciding(decision.team))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("token", ""),
        ("token", "pm abc"),
        ("token", "x" * 256),
        ("brand", ""),
        ("last_four", "111"),
        ("last_four", "11111"),
        ("last_four", "11a1"),
        ("last_four", "١١١١"),
        ("expires_month", 0),
        ("expires_month", 13),
        ("expires_year", 26),
        ("expires_year", 2025),
        ("expires_year", 2057),
    ],
)
def test_a_payment_method_that_is_none_names_its_field_and_repeats_no_value(
    field: str, wrong: object
) -> None:
    method = msgspec.structs.replace(METHOD, **{field: wrong})

    assert refused(Malformed, lambda d: set_payment_method(d, method), deciding()).asked == {"field": field}


def test_a_card_is_good_to_the_end_of_its_last_month_t4() -> None:
    last_instant = datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC)
    set_payment_method(deciding(at=last_instant), METHOD)

    error = refused(
        Malformed,
        lambda d: set_payment_method(d, METHOD),
        deciding(at=last_instant + timedelta(microseconds=1)),
    )

    assert "2026-11 is past" in error.detail


# --- a card's number, nowhere ---

CARDS = [
    "4111111111111111",
    "5555555555554444",
    "378282246310005",
    "30569309025904",
    "4222222222222",
    "6304000000000000000",
]
WRITTEN = [
    "{}",
    "card {} please",
    "pm_{}x",
    "n°{}",
    "tel:{} ",
]
SEPARATORS = ["", " ", "-", " - ", ".", "/", "_", "\u00a0", "\u2013", "\u200b", "\n", ":", "|"]


def spread(card: str, separator: str) -> str:
    """The card in groups of four."""
    return separator.join(card[place : place + 4] for place in range(0, len(card), 4))


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_card_number_is_recognised_however_it_is_written(card: str, separator: str) -> None:
    assert passes_luhn(card)
    for written in WRITTEN:
        assert holds_card_number(written.format(spread(card, separator))), written


def test_a_card_number_in_other_digits_or_after_other_numbers_is_recognised() -> None:
    assert holds_card_number("".join(chr(0xFF10 + int(digit)) for digit in CARD))
    assert holds_card_number("".join(chr(0x0660 + int(digit)) for digit in CARD))
    assert holds_card_number(f"12 {CARD} 11/29 123")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1111",
        "pm_1NirD82eZvKYlo2CIvbtLWuY",
        "tok_4111-visa",
        "4111111111111112",
        "+49 30 1234567",
        "DE123456789",
        "2026-11-20T12:00:00.123456Z",
        "invoice 2026-11, 10115 Berlin",
        "411111111111",
        "4111111111111111" + "1111",
    ],
)
def test_what_is_no_card_number_is_let_through(text: str) -> None:
    assert not holds_card_number(text)


@given(st.text(st.characters(categories=["Nd", "Zs", "Pd", "L", "Cc"]), max_size=60))
def test_any_text_can_be_looked_at(text: str) -> None:
    assert holds_card_number(text) in (True, False)


@given(st.integers(10**12, 10**19 - 1), st.sampled_from(SEPARATORS), st.integers(1, 6))
def test_one_number_in_ten_passes_and_each_that_passes_is_recognised(
    number: int, separator: str, size: int
) -> None:
    digits = str(number)
    groups = [digits[place : place + size] for place in range(0, len(digits), size)]
    passing = sum(passes_luhn(digits[:-1] + last) for last in "0123456789")

    assert passing == 1
    assert holds_card_number(separator.join(groups)) or not passes_luhn(digits)


SECRET = "4111 1111-1111 1111"


def with_method(field: str, value: object) -> Callable[[TeamDecision], object]:
    """Sets a payment method that has this value."""
    return lambda d: set_payment_method(d, msgspec.structs.replace(METHOD, **{field: value}))


def with_details(field: str, value: object) -> Callable[[TeamDecision], object]:
    """Sets billing details that have this value."""
    return lambda d: set_billing_details(d, msgspec.structs.replace(DETAILS, **{field: value}))


EVERY_FIELD: list[tuple[str, Callable[[TeamDecision], object]]] = [
    ("member", lambda d: add_member(d, CARD, "owner")),
    ("role", lambda d: add_member(d, "ann", SECRET)),  # type: ignore[arg-type]
    ("member", lambda d: change_member_role(d, CARD, "owner")),
    ("member", lambda d: remove_member(d, CARD)),
    ("adjustment_id", lambda d: approve_adjustment(d, CARD)),
    ("token", with_method("token", SECRET)),
    ("brand", with_method("brand", f"visa {SECRET}")),
    ("last_four", with_method("last_four", CARD)),
    ("expires_month", with_method("expires_month", int(CARD))),
    ("expires_year", with_method("expires_year", int(CARD))),
    ("name", with_details("name", SECRET)),
    ("address_lines", with_details("address_lines", ["Weg 1", f"card {SECRET}"])),
    ("address_lines", with_details("address_lines", ["4111 1111", "1111 1111"])),
    ("country", with_details("country", CARD)),
    ("email", with_details("email", f"{CARD}@acme.example")),
    ("tax_id", with_details("tax_id", SECRET)),
    ("locale", with_details("locale", SECRET)),
]


@pytest.mark.parametrize(("field", "decide"), EVERY_FIELD)
def test_a_card_number_is_refused_in_every_field_and_never_repeated_i23(
    field: str,
    decide: Callable[[TeamDecision], object],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = refused(CardNumberRefused, decide, deciding())

    assert error.asked == {"field": field}
    told = f"{error} {error!r} {error.args} {error.detail} {capfd.readouterr()} {caplog.text}"
    assert "1111" not in told


@pytest.mark.parametrize(
    "decide",
    [
        lambda d: add_member(d, "ann", "owner"),
        lambda d: remove_member(d, "ann"),
        lambda d: set_billing_details(d, DETAILS),
        lambda d: set_payment_method(d, METHOD),
        remove_payment_method,
        lambda d: propose_adjustment(d, "raise", BIG),
        lambda d: approve_adjustment(d, "adjustment-1"),
    ],
)
def test_a_card_number_is_refused_in_the_reason_of_every_command_i23(
    decide: Callable[[TeamDecision], object],
) -> None:
    error = refused(CardNumberRefused, decide, deciding(reason=f"paid with {SECRET}"))

    assert error.asked == {"field": "reason"}
    assert "1111" not in f"{error!r}"


# --- adjustments by two persons ---


def proposed(actor: Actor = SUE) -> Team:
    """A team with one adjustment that waits."""
    decision = deciding(actor=actor, reason="outage of May")
    assert propose_adjustment(decision, "raise", BIG) == "adjustment-1"
    return decision.team


def test_an_adjustment_above_the_cap_waits_for_a_second_person() -> None:
    waits = proposed().adjustments["adjustment-1"]

    assert (waits.direction, waits.amount_micros, waits.proposed_by) == ("raise", BIG, SUE)
    assert (waits.proposed_at, waits.reason) == (NOON, "outage of May")


def test_another_person_approves_once() -> None:
    decision = deciding(proposed(), actor=TIM)

    given_back = approve_adjustment(decision, "adjustment-1")

    assert (given_back.direction, given_back.amount_micros) == ("raise", BIG)
    [approved] = decision.events
    assert isinstance(approved, AdjustmentApproved)
    assert (approved.proposed_by, approved.actor) == (SUE, TIM)
    refused(
        UnknownAdjustment, lambda d: approve_adjustment(d, "adjustment-1"), deciding(decision.team, actor=TIM)
    )


def test_whoever_proposed_may_not_approve_in_any_role() -> None:
    error = refused(
        SecondPersonNeeded,
        lambda d: approve_adjustment(d, "adjustment-1"),
        deciding(proposed(), actor=Actor("sue", "operator")),
    )

    assert error.asked == {"adjustment_id": "adjustment-1"}


def test_up_to_the_cap_no_second_person_is_asked() -> None:
    refused(AdjustmentRefused, lambda d: propose_adjustment(d, "lower", BIG - 1), deciding(reason="why"))
    propose_adjustment(deciding(reason="why"), "lower", BIG)


def test_an_adjustment_needs_a_reason_and_an_amount_that_can_be() -> None:
    for reason in (None, " "):
        refused(AdjustmentRefused, lambda d: propose_adjustment(d, "raise", BIG), deciding(reason=reason))
    refused(AmountOutOfRange, lambda d: propose_adjustment(d, "raise", 2**62 + 1), deciding(reason="why"))


def test_open_adjustments_are_bounded_i24() -> None:
    decision = deciding(reason="why")
    for _ in range(ADJUSTMENTS_MAX):
        propose_adjustment(decision, "raise", BIG)

    refused(
        AdjustmentRefused,
        lambda d: propose_adjustment(d, "raise", BIG),
        deciding(decision.team, reason="why"),
    )


# --- the stream ---


def test_folding_the_events_gives_the_team_i9() -> None:
    decision = deciding(reason="why")
    add_member(decision, "ann", "owner")
    add_member(decision, "bob", "member")
    change_member_role(decision, "bob", "owner")
    remove_member(decision, "ann")
    set_billing_details(decision, DETAILS)
    set_payment_method(decision, METHOD)
    remove_payment_method(decision)
    propose_adjustment(decision, "raise", BIG)
    propose_adjustment(decision, "lower", BIG)
    second = TeamDecision(decision.team, NOON, TIM)
    approve_adjustment(second, "adjustment-8")

    folded = fold(Team(team_id="acme"), [*decision.events, *second.events])

    assert msgspec.json.encode(folded) == msgspec.json.encode(second.team)
    assert msgspec.json.decode(msgspec.json.encode(folded), type=Team) == folded
    assert folded.version == 10


def test_a_decision_leaves_the_team_it_was_given_as_it_was() -> None:
    team = proposed()
    before = msgspec.json.encode(team)

    approve_adjustment(TeamDecision(team, NOON, TIM), "adjustment-1")

    assert msgspec.json.encode(team) == before


def test_a_clock_that_went_back_does_not_take_the_team_with_it_i20() -> None:
    decision = deciding(a_team(ann="owner"), NOON - timedelta(hours=1))

    add_member(decision, "bob", "member")

    assert decision.events[0].recorded_at == NOON


def test_the_stream_of_a_team_has_one_id_for_ever() -> None:
    assert team_stream_id("acme") == UUID("55be5612-6fb7-580c-b203-7be7e5883955")
