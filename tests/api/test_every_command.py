"""Every command alike: it happens once under its key, answers the same for ever, and is refused when it is not exactly right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from fastapi.routing import APIRoute

from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.invoicing import issue_invoice
from domain.usage import usage_key
from tests.api.asking import BODIES, PATH
from tests.api.conftest import Caller, give_key, give_member_key
from tests.api.test_guard import routes
from tests.builders import SOURCE, TESTER, a_plan, a_usage_record, when
from tests.domain.paperwork import DIGEST, SELLER, SHAPE, due, waiting
from tests.memory_store import MemoryLedger

CHARGE = usage_key("acme", SOURCE, "r1")
QUESTIONS = {
    "estimate_usage",
    "estimate_uses",
    "give_quote",
    "plan_spending",
    "preflight_uses",
    "review_account",
}
STREAMED = {"publish_usage"}
"""Not decided here: a record is its own identity, and becomes what it becomes when the stream is read."""
WITHOUT_KEY = {
    "set_issuer",
    "publish_rate_card",
    "publish_plan",
    "withdraw_rate_card",
    "approve_publication",
    "register_source",
    "retry_dead_letters",
}
"""What is set, not done: the same again changes nothing. Told in test_publishing and test_dead_letters."""
PAPERWORK = {
    "close_period",
    "void_invoice",
    "mark_uncollectible",
    "issue_credit_note",
    "erase_contexts",
    "revoke_key",
}
"""What goes on after an account is closed."""
COMMANDS: dict[str, APIRoute] = {
    route.name: route
    for route in sorted(routes(), key=lambda each: each.name)
    if route.methods == {"POST"} and route.name not in QUESTIONS | STREAMED | WITHOUT_KEY
}


class Scene(NamedTuple):
    """What happened before a command, and where it then goes to."""

    before: tuple[str, ...] = ()
    path: Mapping[str, str] = MappingProxyType({})
    body: dict[str, Any] | None = None


SCENES: dict[str, Scene] = {
    "resume_account": Scene(("suspend_account",)),
    "refund_charge": Scene(("use",), {"charge_id": CHARGE}),
    "approve_adjustment": Scene(("propose",)),
    "fail_top_up": Scene(("request_top_up",)),
    "open_chargeback": Scene(("top_up_credits",)),
    "win_chargeback": Scene(("top_up_credits", "open_chargeback")),
    "lose_chargeback": Scene(("top_up_credits", "open_chargeback")),
    "extend_hold": Scene(("place_hold",)),
    "capture_hold": Scene(("place_hold",)),
    "release_hold": Scene(("place_hold",)),
    "remove_limit": Scene(("set_limit",)),
    "open_charge_dispute": Scene(("use",), body={"charge_ids": [CHARGE], "evidence": "a\nb\tc"}),
    "uphold_charge_dispute": Scene(("use", "open_charge_dispute"), {"dispute_id": "dispute-4"}),
    "reject_charge_dispute": Scene(("use", "open_charge_dispute"), {"dispute_id": "dispute-4"}),
    "change_member_role": Scene(("an_owner", "add_member")),
    "remove_member": Scene(("an_owner", "add_member")),
    "remove_payment_method": Scene(("set_payment_method",)),
    "create_key": Scene(("an_owner", "add_member", "an_owner_with_a_key")),
    "revoke_key": Scene(("an_owner", "add_member", "an_owner_with_a_key", "a_key")),
    "approve_act": Scene(("a_large_grant_proposed",)),
    "close_period": Scene(("a_month_passes",)),
    "void_invoice": Scene(("an_invoice",)),
    "mark_uncollectible": Scene(("an_invoice",)),
    "issue_credit_note": Scene(("an_invoice",)),
    "save_work_step": Scene(("start_work",)),
    "check_handover": Scene(("start_work",)),
    "save_work": Scene(("start_work",)),
}


class Stage:
    """Sends commands, with what must have happened before them."""

    def __init__(self, acme: Caller, ledger: MemoryLedger) -> None:
        self.acme = acme
        self._owner = acme
        self._ledger = ledger
        self._path = dict(PATH)

    def send(self, name: str, key: str | None = None, body: Any = None) -> Any:
        """The command as its scene has it."""
        scene = SCENES.get(name, Scene())
        path = COMMANDS[name].path_format.format(**self._path | dict(scene.path))
        return self.caller(name).post(path, scene.body or BODIES[name] if body is None else body, key=key)

    def caller(self, name: str) -> Caller:
        """Who may send the command: nobody makes keys but a team's own members."""
        return self._owner if name == "create_key" else self.acme

    def prepare(self, name: str) -> None:
        """What must have happened has happened."""
        if name == "assign_plan":
            self._ledger.publish_plan(a_plan("studio", 300))
        for each in SCENES.get(name, Scene()).before:
            self._happen(each)

    def _happen(self, name: str) -> None:
        if name == "use":
            self._ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))
        elif name == "an_owner":
            self.acme.post("/v1/accounts/acme/members", {"member": "olga", "role": "owner"})
        elif name == "an_owner_with_a_key":
            key = give_member_key(self._ledger, "acme", "olga", "owner")
            self._owner = Caller(self.acme.http, key)
        elif name == "a_key":
            self._path["key_id"] = self.send("create_key").json()["key_id"]
        elif name == "a_large_grant_proposed":
            support = Caller(self.acme.http, give_key(self._ledger, "support", "sam"))
            asked = {"amount": "100.000001", "reason": "a lost week"}
            proposed = support.post("/v1/accounts/acme/grants", asked)
            assert (proposed.status_code, proposed.json()["outcome"]) == (201, "proposed"), proposed.text
            self._path["act_id"] = proposed.json()["act_id"]
        elif name == "a_month_passes":
            self._ledger.now = when("2026-12-01 12:00")
        elif name == "an_invoice":
            self._ledger.now = when("2026-12-03 12:00")
            an_invoice(self._ledger, "acme")
        elif name == "propose":
            proposer = Caller(self.acme.http, give_key(self._ledger, "operator", "another person"))
            asked = {"direction": "raise", "amount": "1000.000001", "reason": "a large mistake"}
            proposed = proposer.post("/v1/accounts/acme/adjustments", asked)
            assert (proposed.status_code, proposed.json()["outcome"]) == (201, "proposed"), proposed.text
            self._path["adjustment_id"] = proposed.json()["adjustment_id"]
        else:
            answer = self.send(name)
            assert answer.status_code == 201, answer.text


def an_invoice(ledger: MemoryLedger, team_id: str) -> None:
    """The team's oldest closed period has an invoice over 5.00 EUR, under the first number."""
    ledger.issuers["main"] = SELLER
    with ledger.session(team_id) as session:
        assert session.account is not None
        decision = Decision(copy_of(session.account), session.now, TESTER, session.index)
        pass_time(decision)
        drawn = session.numbers.draw("main", "invoice", team_id, "the first", decision.at)
        issue_invoice(
            decision,
            waiting(decision),
            drawn,
            closing_micros=0,
            cards=[],
            shape=SHAPE,
            digest=DIGEST,
            due=[due(500)],
            customer=None,
            team_version=0,
        )
        session.save_due(decision.account, decision, session.account.version)


def _written(ledger: MemoryLedger) -> int:
    """How many events there are."""
    return sum(ledger.positions.values())


@pytest.fixture
def on_stage(acme: Caller, ledger: MemoryLedger) -> Stage:
    """Team acme with 100 credits, and every command at hand."""
    return Stage(acme, ledger)


def test_every_command_is_told_here() -> None:
    assert set(COMMANDS) == set(BODIES) - QUESTIONS - WITHOUT_KEY
    assert len(COMMANDS) == 47


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_happens_once_under_its_key_and_answers_the_same_for_ever(
    on_stage: Stage, ledger: MemoryLedger, name: str
) -> None:
    """A1, A2, I14."""
    on_stage.prepare(name)
    told_before = _written(ledger)

    first = on_stage.send(name, key="once")
    written = _written(ledger)
    again = on_stage.send(name, key="once")
    other = on_stage.send(name, key="once", body={**BODIES[name], "reason": "another body"})

    assert (first.status_code, written > told_before) == (201, True), first.text
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    # A key is shown once: nobody has it to show it again.
    same = {**first.json(), "key": None} if name == "create_key" else first.json()
    assert (again.status_code, again.json()) == (201, same)
    assert name == "create_key" or again.content == first.content
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert _written(ledger) == written


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_its_key_or_with_an_unknown_field_is_refused_and_leaves_nothing(
    on_stage: Stage, ledger: MemoryLedger, name: str
) -> None:
    """A7, I15."""
    on_stage.prepare(name)
    before = _written(ledger)
    path = COMMANDS[name].path_format.format(**PATH)

    headers = on_stage.caller(name).headers
    without_key = on_stage.acme.http.post(path, json=BODIES[name], headers=headers)
    unknown_field = on_stage.send(name, body={**BODIES[name], "settled_micros": 5})
    wrong_type = on_stage.send(name, body=[BODIES[name]])

    assert (without_key.status_code, without_key.json()["code"]) == (400, "idempotency_key_missing")
    assert (unknown_field.status_code, wrong_type.status_code) == (422, 422)
    assert unknown_field.json()["errors"][0]["field"] == "settled_micros"
    assert _written(ledger) == before


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"open_account"}))
def test_a_command_about_a_team_without_an_account_finds_nothing(
    on_stage: Stage, ledger: MemoryLedger, name: str
) -> None:
    path = COMMANDS[name].path_format.format(**PATH | {"team_id": "nobody"})

    on_stage.prepare("create_key")

    answer = on_stage.caller(name).post(path, BODIES[name])

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_team")


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"open_account"} - PAPERWORK))
def test_a_closed_account_takes_no_command(on_stage: Stage, name: str) -> None:
    on_stage.prepare(name)
    on_stage.send("close_account")

    answer = on_stage.send(name)

    assert (answer.status_code, answer.json()["code"]) == (409, "account_closed"), answer.text


HOSTILE = [
    "'; DROP TABLE x; --",
    "../..",
    "a\r\nX: y",
    "\x1b[31m",
    "\u202egnp",
    "\x00",
    "\ud800",
    "x" * 9_000,
    "１",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_in_any_field_of_any_command_is_data_or_refused(on_stage: Stage, text: str) -> None:
    """A11, A12: never a bug, and nothing that a log or a terminal could stumble over comes back."""
    sent = {**on_stage.acme.headers, "Content-Type": "application/json"}
    for name, body in BODIES.items():
        if name in {"open_account", "close_account"}:
            continue
        method = f"/v1/accounts/acme/{'quotes' if name == 'give_quote' else 'estimates'}"
        path = COMMANDS[name].path_format.format(**PATH) if name in COMMANDS else method
        for field in [*(each for each, value in body.items() if isinstance(value, str)), "reason"]:
            content = json.dumps({**body, field: text}).encode()
            answer = on_stage.acme.http.post(
                path, content=content, headers={**sent, "Idempotency-Key": f"{name}-{field}"}
            )
            assert answer.status_code < 500, (name, field, answer.text)
            assert not {"\x1b", "\u202e", "\r", "\x00"} & set(answer.text)
