"""What the door does beside opening: tags and versions, rates, and headers that every answer carries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest

from api.app import create_api
from api.gate import Gate
from api.keys import KeyRing
from api.rates import Policy, Rates
from tests.api.conftest import PEPPER, Caller, behind, give_key
from tests.asgi import serving
from tests.builders import unit_card, when
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"
READS = (
    "",
    "/balance",
    "/lots",
    "/holds",
    "/limits",
    "/plan",
    "/statement",
    "/history",
    "/members",
    "/keys",
    "/acts",
)


def get(caller: Caller, path: str, **headers: str) -> Any:
    """A read with more headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return caller.http.get(path, headers={**caller.headers, **sent})


def post(caller: Caller, path: str, body: Any, **headers: str) -> Any:
    """A command with more headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    key = {"Idempotency-Key": f"edge-{crc32(repr((path, body, sent)).encode())}"}
    return caller.http.post(path, json=body, headers={**caller.headers, **key, **sent})


@pytest.mark.parametrize("path", READS)
def test_every_read_with_a_version_has_a_tag_and_is_not_told_again_to_who_has_it(
    acme: Caller, path: str
) -> None:
    first = get(acme, TEAM + path)
    again = get(acme, TEAM + path, if_none_match=first.headers["etag"])
    weak = get(acme, TEAM + path, if_none_match=f'W/{first.headers["etag"]}, "other"')
    other = get(acme, TEAM + path, if_none_match='"1-00000000"')

    assert (first.status_code, again.status_code, weak.status_code, other.status_code) == (200, 304, 304, 200)
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]


def test_a_tag_changes_with_what_is_told_also_where_only_time_has_passed(
    acme: Caller, ledger: MemoryLedger
) -> None:
    """A lot lapses without an event: a tag of the version alone would hide that."""
    acme.post(f"{TEAM}/grants", {"amount": "5", "reason": "x", "expires_at": "2026-11-01T13:00:00Z"})
    before = get(acme, f"{TEAM}/balance").headers["etag"]
    ledger.now = when("2026-11-01 12:30")
    a_moment_later = get(acme, f"{TEAM}/balance", if_none_match=before)
    ledger.now = when("2026-11-01 13:30")
    lapsed = get(acme, f"{TEAM}/balance", if_none_match=before)

    assert (a_moment_later.status_code, lapsed.status_code) == (304, 200)
    assert lapsed.json()["lapsed"] == "5"
    assert lapsed.headers["etag"].split("-")[0] == before.split("-")[0]


def test_a_command_for_a_version_that_has_passed_is_refused_and_leaves_nothing(acme: Caller) -> None:
    seen = get(acme, f"{TEAM}/balance").headers["etag"]
    grant = {"amount": "1", "reason": "x"}

    first = post(acme, f"{TEAM}/grants", grant, if_match=seen)
    second = post(acme, f"{TEAM}/grants", {**grant, "reason": "late"}, if_match=seen)
    any_version = post(acme, f"{TEAM}/grants", {**grant, "reason": "whatever"}, if_match="*")

    assert (first.status_code, second.status_code, any_version.status_code) == (201, 412, 201)
    assert (second.json()["code"], second.json()["version"]) == ("version_passed", 3)


def test_a_repeated_command_is_answered_from_file_whatever_the_version_is_by_now(acme: Caller) -> None:
    """I14."""
    seen = get(acme, f"{TEAM}/balance").headers["etag"]
    first = post(acme, f"{TEAM}/grants", {"amount": "1", "reason": "x"}, if_match=seen)
    again = post(acme, f"{TEAM}/grants", {"amount": "1", "reason": "x"}, if_match=seen)

    assert (again.status_code, again.content) == (201, first.content)


def test_the_versions_of_people_and_of_credits_are_told_apart(acme: Caller) -> None:
    seen = get(acme, f"{TEAM}/members").headers["etag"]
    olga = {"member": "olga", "role": "owner"}

    first = post(acme, f"{TEAM}/members", olga, if_match=seen)
    second = post(acme, f"{TEAM}/members", {**olga, "member": "mira"}, if_match=seen)

    assert seen.startswith('"team-1'), "the look itself is the first event"
    assert (first.status_code, second.status_code) == (201, 412)


@pytest.mark.parametrize("tag", ["7", '"', '"x"', 'W/"7"', '"7", "8"', '"-7"', '"' + "9" * 40 + '"'])
def test_a_tag_that_is_none_is_refused(acme: Caller, tag: str) -> None:
    answer = post(acme, f"{TEAM}/grants", {"amount": "1", "reason": "x"}, if_match=tag)

    assert (answer.status_code, answer.json()["field"]) == (422, "if-match"), answer.text


# --- rates ---


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def bounded() -> Iterator[tuple[Clock, Caller, Caller]]:
    """An API at which everybody may ask twice a second, five times at once; two principals."""
    memory, clock = MemoryLedger(), Clock()
    memory.publish(unit_card())
    built = behind(memory)
    ring = KeyRing(memory, PEPPER, now=lambda: memory.now)
    gate = Gate(ring, built.ledger, rates=Rates(Policy(2, 5), clock), now=lambda: memory.now)
    with serving(create_api(built, gate=gate)) as http:
        one, other = (Caller(http, give_key(memory, "auditor", name)) for name in ("one", "other"))
        yield clock, one, other


def test_who_asks_too_often_is_told_when_to_ask_again_and_nobody_else_is(
    bounded: tuple[Clock, Caller, Caller],
) -> None:
    """I24."""
    clock, one, other = bounded
    answers = [one.get("/v1/rate-cards") for _ in range(6)]
    theirs = other.get("/v1/rate-cards")
    clock.seconds = 0.5
    later = one.get("/v1/rate-cards")
    too_soon = one.get("/v1/rate-cards")

    refused = answers[-1]
    assert [each.status_code for each in answers] == [200] * 5 + [429]
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("too_many_requests", "1")
    assert answers[0].headers["ratelimit-policy"] == '"default";q=5;w=3'
    assert answers[0].headers["ratelimit"].startswith('"default";r=4;')
    assert (theirs.status_code, later.status_code, too_soon.status_code) == (200, 200, 429)


def test_two_keys_of_one_principal_are_one(bounded: tuple[Clock, Caller, Caller]) -> None:
    memory = MemoryLedger()
    rates = Rates(Policy(1, 2), Clock())

    left = [rates.spend("service").requests for _ in range(3)]

    assert left == [1, 0, 0]
    assert memory.keys == {}


def test_who_has_no_credential_spends_nothing(bounded: tuple[Clock, Caller, Caller]) -> None:
    _, one, _ = bounded
    nobody = Caller(one.http, None)

    assert {nobody.get("/v1/rate-cards").status_code for _ in range(20)} == {401}
    assert one.get("/v1/rate-cards").status_code == 200


def test_buckets_are_bounded() -> None:
    """I24: as many principals as there are cost no more memory than the last ten thousand."""
    rates = Rates(Policy(1, 1), Clock())
    for number in range(10_500):
        rates.spend(f"principal {number}")

    assert len(rates._buckets) == 10_000


def test_every_answer_carries_the_headers_that_make_a_browser_careful(acme: Caller) -> None:
    for answer in (acme.get(f"{TEAM}/balance"), acme.http.get("/livez"), acme.http.get("/nowhere")):
        told = answer.headers
        assert told["x-content-type-options"] == "nosniff"
        assert told["cache-control"] == "no-store"
        assert told["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert told["strict-transport-security"].startswith("max-age=")
        assert told["x-request-id"]
