"""What a refusal says: one type per cause, the field, the value, what would be right; never anything of the inside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog

from api import fields, findings
from api.app import create_api
from api.edge import BODY_BYTES_MAX
from api.errors import STATUS, TYPE_PREFIX, every_error
from domain.errors import Busy
from domain.ledger import OutcomeUnknown
from tests.api.conftest import Caller, behind, give_key
from tests.asgi import Http, serving
from tests.builders import SOURCE, a_usage_record
from tests.memory_store import MemoryLedger

GRANTS = "/v1/accounts/acme/grants"
GRANT = {"amount": "1", "reason": "x"}
HOSTILE = [
    "'; DROP TABLE ledger_events; --",
    "../../etc/passwd",
    "%2e%2e%2f",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "a\r\nX-Injected: yes",
    "\x1b[31mred\x1b[0m",
    "\u202egnp.exe",
    "%s%n%x",
    "\x00",
    "\ud800",
    "x" * 5_000,
    "\U0001f4a9" * 200,
    "<script>alert(1)</script>",
    "NaN",
    "1e9",
    "-1",
    "０",
]


def test_every_class_of_error_has_its_own_line_and_its_own_code() -> None:
    classes = [each for each in every_error() if each.__module__.split(".")[0] in {"domain", "api"}]

    assert [each for each in classes if each not in STATUS] == []
    codes = [each.code for each in classes]
    assert len(set(codes)) == len(codes)


def problem_of(answer: Any, status: int) -> dict[str, Any]:
    """The body of a problem, once it is one in every outer respect."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == status
    assert told["type"] == TYPE_PREFIX + told["code"]
    assert told["title"]
    assert told["detail"]
    assert told["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    return told


def test_a_path_or_a_method_that_is_not_there_is_a_problem_too(acme: Caller) -> None:
    assert problem_of(acme.get("/v1/nothing"), 404)["code"] == "no_such_path"
    wrong = acme.http.request("DELETE", "/v1/accounts/acme", headers=acme.headers)
    assert problem_of(wrong, 405)["code"] == "method_not_allowed"
    assert wrong.headers["allow"] == "GET"


def test_a_command_without_its_key_is_refused(acme: Caller) -> None:
    answer = acme.http.post(GRANTS, json=GRANT, headers=acme.headers)

    assert problem_of(answer, 400)["code"] == "idempotency_key_missing"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"amount": 1, "reason": "x"}, "amount"),
        ({"amount": 1.5, "reason": "x"}, "amount"),
        ({"amount": "1.0000001", "reason": "x"}, "amount"),
        ({"amount": "-1", "reason": "x"}, "amount"),
        ({"amount": "NaN", "reason": "x"}, "amount"),
        ({"amount": "9999999999999", "reason": "x"}, "amount"),
        ({"amount": True, "reason": "x"}, "amount"),
        ({"amount": "1"}, "reason"),
        ({"amount": "1", "reason": "x", "settled_micros": 5}, "settled_micros"),
        ({"amount": "1", "reason": "x", "source": "purchased"}, "source"),
        ({"amount": "1", "reason": "x", "priority": False}, "priority"),
        ({"amount": "1", "reason": "x", "expires_at": "2026-12-01T00:00:00"}, "expires_at"),
        ({"amount": "1", "reason": "x", "expires_at": "2026-02-30T00:00:00Z"}, "expires_at"),
        ({"amount": "1", "reason": "x", "expires_at": 1764547200}, "expires_at"),
        ([], "body"),
        (None, "body"),
    ],
)
def test_a_body_that_is_not_exactly_right_names_the_field(acme: Caller, body: Any, field: str) -> None:
    told = problem_of(acme.post(GRANTS, body), 422)

    assert told["code"] == "malformed"
    assert told["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"amount": "1", "amount": "2", "reason": "x"}',
        b'{"amount": NaN, "reason": "x"}',
        b"\xff\xfe",
        b"[" * 5_000,
        b'{"a":' * 5_000,
        b'{"amount": "1", "reason": "x", "priority": ' + b"9" * 5_000 + b"}",
        b"",
    ],
)
def test_bytes_that_are_no_plain_json_are_refused(acme: Caller, raw: bytes) -> None:
    sent = {**acme.headers, "Idempotency-Key": "k", "Content-Type": "application/json"}

    problem_of(acme.http.post(GRANTS, content=raw, headers=sent), 422)
    assert acme.get("/v1/accounts/acme/balance").json()["version"] == 2


def test_zero_is_refused_by_the_rule_and_says_why(acme: Caller) -> None:
    told = problem_of(acme.post(GRANTS, {"amount": "0", "reason": "x"}), 409)

    assert told["code"] == "amount_out_of_range"


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "1000000000"},
        {"limit": "0"},
        {"limit": "x"},
        {"order": "random"},
        {"offset": "5"},
        {"min_version": "-1"},
        {"after": "x" * 300},
        {"charge_id": "zz"},
        {"recorded_from": "2026-01-01T00:00:00"},
    ],
)
def test_parameters_of_a_list_are_checked_and_capped(acme: Caller, params: dict[str, str]) -> None:
    problem_of(acme.get("/v1/accounts/acme/statement", **params), 422)


def test_the_same_parameter_twice_is_refused(acme: Caller) -> None:
    problem_of(acme.http.get("/v1/accounts/acme/history?limit=1&limit=2", headers=acme.headers), 422)


def test_a_cursor_that_was_forged_or_is_from_elsewhere_is_refused(acme: Caller, ledger: MemoryLedger) -> None:
    for number in range(3):
        ledger.use(a_usage_record(f"r{number}", 1, occurred="2026-11-01 12:00"))
    acme.post("/v1/accounts", {"team_id": "other"})
    cursor = acme.get("/v1/accounts/acme/statement", limit=1).json()["next"]
    changed = cursor[:-2] + ("A" if cursor[-2] != "A" else "B") + cursor[-1]

    good = acme.get("/v1/accounts/acme/statement", limit=1, after=cursor)
    refused = [
        acme.get("/v1/accounts/acme/statement", after=changed),
        acme.get("/v1/accounts/acme/statement", after="AAAA"),
        acme.get("/v1/accounts/acme/statement", after="ä"),
        acme.get("/v1/accounts/acme/statement", after=cursor, order="newest"),
        acme.get("/v1/accounts/acme/statement", after=cursor, member="mira"),
        acme.get("/v1/accounts/acme/history", after=cursor),
        acme.get("/v1/accounts/other/statement", after=cursor),
    ]

    assert good.status_code == 200
    assert [problem_of(each, 400)["code"] for each in refused] == ["cursor_refused"] * 7


def test_the_same_key_and_body_from_fifty_callers_happens_once(acme: Caller) -> None:
    """A1, I14."""
    body = {"amount": "7", "reason": "goodwill"}

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: acme.post(GRANTS, body, key="once"), range(50)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert acme.get("/v1/accounts/acme/balance").json()["settled"] == "107"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"amount": 5}, "amount: 5: a string would be right"),
        ({"amount": "-1"}, "amount: '-1': credits such as '12.5' would be right"),
        (
            {"expires_at": "2027-01-01"},
            "a time with its offset such as '2026-12-01T09:00:00Z' would be right",
        ),
        ({"action": "Image"}, "a name such as 'image.generate' would be right"),
        ({"amonut": "5"}, "amonut: is not known here: leave it out"),
        ({"reason": None}, "reason: None: a string would be right"),
        ({"reason": "  "}, "is blank: say why"),
    ],
)
def test_a_wrong_field_is_told_what_would_be_right(acme: Caller, changes: dict[str, Any], told: str) -> None:
    answer = acme.post(GRANTS, {"amount": "7", "reason": "goodwill"} | changes)

    assert told in problem_of(answer, 422)["detail"]


def test_no_pattern_that_callers_meet_is_left_without_words() -> None:
    """A pattern says what is refused; the answer must say what would be right."""
    patterns = {each for name, each in vars(fields).items() if name.endswith("_PATTERN")}

    assert patterns - {fields.KEY_PATTERN} == set(findings.RIGHT)


def test_an_answer_from_file_says_so_and_is_the_same_otherwise(acme: Caller, ledger: MemoryLedger) -> None:
    """I14: the mark is on the answer, never among the bytes on file."""
    body = {"amount": "7", "reason": "goodwill"}

    first, again = (acme.post(GRANTS, body, key="once") for _ in range(2))

    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == first.content
    assert all(b"replayed" not in answer for _, answer in ledger.teams["acme"].answers.values())


def test_the_same_key_with_another_body_is_refused_and_changes_nothing(acme: Caller) -> None:
    """A2, I15."""
    acme.post(GRANTS, GRANT, key="k")

    told = problem_of(acme.post(GRANTS, GRANT | {"amount": "2"}, key="k"), 409)

    assert told["code"] == "idempotency_key_reused"
    assert acme.get("/v1/accounts/acme/balance").json()["version"] == 3


def test_a_refused_command_leaves_its_key_for_a_better_one(acme: Caller) -> None:
    """A3, I15."""
    refused = acme.post(GRANTS, GRANT | {"expires_at": "2020-01-01T00:00:00Z"}, key="k")
    accepted = acme.post(GRANTS, GRANT, key="k")

    assert problem_of(refused, 409)["code"] == "lot_terms_refused"
    assert accepted.status_code == 201


def test_keys_of_two_principals_do_not_meet(acme: Caller, http: Http, ledger: MemoryLedger) -> None:
    """A4, I16."""
    other = Caller(http, give_key(ledger, "operator", name="another"))

    first = acme.post(GRANTS, GRANT, key="k")
    second = other.post(GRANTS, GRANT | {"amount": "2"}, key="k")

    assert (first.status_code, second.status_code) == (201, 201)


def test_a_rotated_key_keeps_the_principals_answers(acme: Caller, http: Http, ledger: MemoryLedger) -> None:
    rotated = Caller(http, give_key(ledger, "operator"))

    first = acme.post(GRANTS, GRANT, key="k")
    again = rotated.post(GRANTS, GRANT, key="k")

    assert first.content == again.content


def test_a_large_body_is_refused_before_it_is_read(acme: Caller) -> None:
    """A9, I24."""
    sent = {**acme.headers, "Idempotency-Key": "k", "Content-Type": "application/json"}
    huge = b'{"amount": "1", "reason": "' + b"x" * BODY_BYTES_MAX + b'"}'

    async def endless() -> Any:
        while True:
            yield b"x" * 8_192

    declared = acme.http.post(GRANTS, content=huge, headers=sent)
    chunked = acme.http.post(GRANTS, content=endless(), headers=sent)
    zipped = acme.http.post(GRANTS, content=b"x", headers={**sent, "Content-Encoding": "gzip"})

    assert problem_of(declared, 413)["code"] == "body_too_large"
    assert problem_of(chunked, 413)["code"] == "body_too_large"
    assert problem_of(zipped, 415)["code"] == "body_encoding_refused"


def test_a_body_that_does_not_arrive_is_not_waited_for(ledger: MemoryLedger) -> None:
    """A10, I18."""
    import asyncio

    async def never() -> Any:
        yield b"{"
        await asyncio.sleep(30)

    with serving(create_api(behind(ledger), body_seconds_max=0.05)) as http:
        slow = http.post(GRANTS, content=never(), headers={"Content-Type": "application/json"})

    assert problem_of(slow, 408)["code"] == "request_too_slow"


def test_many_headers_are_refused(acme: Caller) -> None:
    """A9, I24."""
    many = {f"x-{number}": "y" for number in range(1_000)}

    told = problem_of(acme.http.get("/v1/rate-cards", headers={**acme.headers, **many}), 431)
    assert told["code"] == "headers_too_large"
    problem_of(acme.http.get("/v1/rate-cards?x=" + "y" * 5_000, headers=acme.headers), 431)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_in_any_field_is_data_or_refused_and_never_a_bug(acme: Caller, text: str) -> None:
    """A11, A12, I16."""
    import json

    sent = {**acme.headers, "Idempotency-Key": "k", "Content-Type": "application/json"}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/accounts", {"team_id": text}),
        ("/v1/accounts", {"team_id": "t", "zone": text}),
        ("/v1/accounts", {"team_id": "t", "card_id": text}),
        (GRANTS, GRANT | {"reason": text}),
        (GRANTS, GRANT | {"amount": text}),
        (GRANTS, GRANT | {"project": text}),
        (GRANTS, GRANT | {text: "1"}),
        ("/v1/accounts/acme/estimates", {"action": text, "meters": {"units": "1"}}),
        ("/v1/accounts/acme/estimates", {"action": "image.generate", "meters": {"units": text}}),
        ("/v1/accounts/acme/estimates", {"action": "image.generate", "meters": {text: "1"}}),
        (
            "/v1/accounts/acme/estimates",
            {"action": "image.generate", "meters": {"units": "1"}, "dimensions": {"model": text}},
        ),
    ]

    for path, body in bodies:
        answer = acme.http.post(path, content=json.dumps(body).encode(), headers=sent)
        assert answer.status_code < 500, answer.text
        assert not {"\x1b", "\u202e", "\r"} & set(answer.text)
    if text.isascii() and "\x00" not in text and len(text) < 1_000:
        for name in ("action", "member", "project", "lot_id", "after", "recorded_from", "kind"):
            assert acme.get("/v1/accounts/acme/statement", **{name: text}).status_code < 500
        assert acme.get("/v1/accounts/acme/charges", source=text, id=text).status_code < 500


@pytest.mark.parametrize("path", ["a b", "a%00b", "%0d%0aX: y", "..%2f..", "%F0%9F%92%A9", "a" * 200, "."])
def test_hostile_text_in_a_path_is_refused(acme: Caller, path: str) -> None:
    assert acme.get(f"/v1/accounts/{path}/balance").status_code in {404, 422}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Busy("locked by 10.0.0.7"), 503, "busy"),
        (OutcomeUnknown("host db-1"), 503, "outcome_unknown"),
        (RuntimeError("password=hunter2"), 500, "ledger_error"),
    ],
)
def test_what_fails_inside_is_answered_without_a_word_of_the_inside(
    acme: Caller,
    ledger: MemoryLedger,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    code: str,
) -> None:
    async def fails(_team_id: str) -> None:
        raise error

    monkeypatch.setattr(ledger, "account", fails)
    answer = acme.get("/v1/accounts/acme/balance")

    assert problem_of(answer, status)["code"] == code
    assert str(error) not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


def test_an_error_inside_a_command_is_a_problem_and_leaves_no_trace(
    acme: Caller, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "write", fails)
        problem_of(acme.post(GRANTS, GRANT, key="k"), 500)
    again = acme.post(GRANTS, GRANT, key="k")

    assert again.status_code == 201
    assert again.json()["version"] == 3


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"X-Request-ID": "abc-1"}, "abc-1"),
        (
            {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        ({"X-Request-ID": "x" * 65}, None),
        ({"X-Request-ID": "a b"}, None),
    ],
)
def test_a_request_keeps_its_callers_id_and_events_carry_it(
    acme: Caller, ledger: MemoryLedger, sent: dict[str, str], told: str | None
) -> None:
    answer = acme.http.post(GRANTS, json=GRANT, headers={**acme.headers, **sent, "Idempotency-Key": "k"})

    correlation_id = ledger.teams["acme"].events[-1].event.correlation_id
    assert correlation_id == answer.headers["x-request-id"]
    assert told in {None, correlation_id}
    assert correlation_id


def test_the_other_teams_charge_is_unknown(acme: Caller, ledger: MemoryLedger) -> None:
    """I16."""
    from domain.usage import usage_key

    ledger.use(a_usage_record("r1", 1, occurred="2026-11-01 12:00"))
    acme.post("/v1/accounts", {"team_id": "other"})

    answer = acme.get(f"/v1/accounts/other/charges/{usage_key('acme', SOURCE, 'r1')}")

    assert problem_of(answer, 404)["code"] == "unknown_charge"


def test_answers_are_not_kept_by_anyone_on_the_way(acme: Caller) -> None:
    headers = acme.get("/v1/accounts/acme/balance").headers

    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_one_line_is_logged_per_request_and_no_line_holds_the_key(acme: Caller) -> None:
    """A12, A13, I23."""
    with structlog.testing.capture_logs() as lines:
        acme.get("/v1/accounts/acme/balance")
        acme.http.get("/v1/accounts/%0d%0aforged/balance", headers=acme.headers)
        acme.http.get("/v1/accounts/" + "x" * 2_000, headers=acme.headers)

    assert [line["event"] for line in lines] == ["request_answered"] * 3
    assert lines[0]["operation"] == "read_balance"
    assert lines[0]["principal"] == "the operator"
    assert lines[0]["status"] == 200
    assert max(len(line["path"]) for line in lines) <= 200
    secret = acme.headers["Authorization"].rpartition("_")[2]
    assert secret not in str(lines)
