"""Keys that teams make of their members: bound to them, shown once, two at a time, gone when revoked or when they leave."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from api.keys import KeyRing, key_text, parse_key
from tests.api.conftest import PEPPER, Caller, give_key, give_member_key
from tests.memory_store import MemoryLedger

TEAM = "/v1/accounts/acme"


@pytest.fixture
def owner(acme: Caller, ledger: MemoryLedger) -> Caller:
    """An owner of acme, of which mira is a member."""
    key = give_member_key(ledger, "acme", "olga", "owner")
    owner = Caller(acme.http, key)
    assert owner.post(f"{TEAM}/members", {"member": "mira", "role": "member"}).status_code == 201
    return owner


def made(owner: Caller, **body: Any) -> Any:
    """The answer to the making of a key."""
    answer = owner.post(f"{TEAM}/keys", {"member": "mira", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def code(answer: Any) -> str:
    """The code of a refusal."""
    told: str = answer.json()["code"]
    return told


def test_a_key_works_at_once_in_the_role_that_its_member_has(owner: Caller) -> None:
    told = made(owner)
    mira = Caller(owner.http, told["key"])

    held = mira.post(f"{TEAM}/holds", {"action": "image.generate", "amount": "1"})
    not_hers = mira.get(f"{TEAM}/invoices")
    owner.post(f"{TEAM}/members/mira/role", {"role": "viewer"})
    no_more = mira.post(f"{TEAM}/holds", {"action": "image.generate", "amount": "1"})

    assert held.status_code == 201, held.text
    assert (code(not_hers), code(no_more)) == ("not_allowed", "not_allowed")
    assert told["key"].startswith(f"cof_live_{told['key_id']}_")


def test_who_did_it_is_on_the_event(owner: Caller, ledger: MemoryLedger) -> None:
    """I26."""
    key = Caller(owner.http, made(owner)["key"])
    key.post(f"{TEAM}/holds", {"action": "image.generate", "amount": "1"})

    actor = ledger.teams["acme"].events[-1].event.actor
    assert (actor.id, actor.role) == ("member:mira", "member")


def test_a_key_is_shown_once_and_is_in_no_event_answer_or_list(owner: Caller, ledger: MemoryLedger) -> None:
    """I23."""
    first = owner.post(f"{TEAM}/keys", {"member": "mira"}, key="once").json()
    again = owner.post(f"{TEAM}/keys", {"member": "mira"}, key="once")
    secret = parse_key(first["key"])

    assert secret is not None
    assert (again.status_code, again.json()) == (201, {**first, "key": None})
    team = ledger.teams["acme"]
    kept = b"".join(each.state for each in team.paperwork_events) + repr(team.answers).encode()
    assert secret.secret.encode() not in kept + owner.get(f"{TEAM}/keys").content
    assert secret.secret not in repr(ledger.keys)


def test_a_crash_between_the_event_and_the_secret_leaves_a_key_that_can_still_be_had(
    owner: Caller, ledger: MemoryLedger
) -> None:
    """A3: the command is on file, its secret is not; the same request under the same key stores and shows one."""
    first = owner.post(f"{TEAM}/keys", {"member": "mira"}, key="once").json()
    del ledger.keys[first["key_id"]]

    again = owner.post(f"{TEAM}/keys", {"member": "mira"}, key="once").json()

    assert again["key_id"] == first["key_id"]
    assert Caller(owner.http, first["key"]).get(f"{TEAM}/balance").status_code == 401
    assert Caller(owner.http, again["key"]).get(f"{TEAM}/balance").status_code == 200


def test_a_member_has_two_live_keys_and_rotates_them(owner: Caller, ledger: MemoryLedger) -> None:
    old, new = made(owner), made(owner)
    third = owner.post(f"{TEAM}/keys", {"member": "mira"})
    owner.post(f"{TEAM}/keys/{old['key_id']}/revocation", {})
    fresh = made(owner, expires_at="2026-11-02T12:00:00Z")

    states = [
        Caller(owner.http, each["key"]).get(f"{TEAM}/balance").status_code for each in (old, new, fresh)
    ]
    ledger.now += timedelta(days=2)
    expired = Caller(owner.http, fresh["key"]).get(f"{TEAM}/balance").status_code
    after_expiry = made(owner)

    assert code(third) == "key_refused"
    assert (states, expired) == ([401, 200, 200], 401)
    assert {each["key_id"] for each in owner.get(f"{TEAM}/keys").json()["data"]} >= {after_expiry["key_id"]}


def test_keys_of_whoever_leaves_are_revoked(owner: Caller) -> None:
    mira = Caller(owner.http, made(owner)["key"])
    before = mira.get(f"{TEAM}/balance").status_code
    owner.post(f"{TEAM}/members/mira/removal", {})
    owner.post(f"{TEAM}/members", {"member": "mira", "role": "member"})

    assert (before, mira.get(f"{TEAM}/balance").status_code) == (200, 401)


def test_a_key_may_be_for_less_than_its_role(owner: Caller) -> None:
    narrow = Caller(owner.http, made(owner, scopes=["balance"])["key"])
    unknown = owner.post(f"{TEAM}/keys", {"member": "mira", "scopes": ["everything"]})

    assert narrow.get(f"{TEAM}/balance").status_code == 200
    assert code(narrow.post(f"{TEAM}/holds", {"action": "image.generate", "amount": "1"})) == "not_allowed"
    assert (unknown.status_code, unknown.json()["field"]) == (422, "scopes")


def test_an_admin_makes_no_key_of_an_owner_and_revokes_none(owner: Caller, ledger: MemoryLedger) -> None:
    """A16."""
    admin = Caller(owner.http, give_member_key(ledger, "acme", "adam", "admin"))
    olgas = next(each for each, key in ledger.teams["acme"].paperwork.keys.items() if key.member == "olga")

    assert code(admin.post(f"{TEAM}/keys", {"member": "olga"})) == "role_too_low"
    assert code(admin.post(f"{TEAM}/keys/{olgas}/revocation", {})) == "role_too_low"
    assert admin.post(f"{TEAM}/keys", {"member": "mira"}).status_code == 201


def test_support_and_operators_revoke_and_make_none(owner: Caller, ledger: MemoryLedger) -> None:
    for role in ("support", "operator"):
        service = Caller(owner.http, give_key(ledger, role, f"some {role}"))
        key_id = made(owner)["key_id"]
        assert code(service.post(f"{TEAM}/keys", {"member": "mira"})) == "not_allowed"
        revoked = service.post(f"{TEAM}/keys/{key_id}/revocation", {})
        assert revoked.status_code == 201, revoked.text


def test_when_a_key_was_used_last_is_told(owner: Caller, ledger: MemoryLedger) -> None:
    told = made(owner)
    Caller(owner.http, told["key"]).get(f"{TEAM}/balance")

    [listed] = [key for key in owner.get(f"{TEAM}/keys").json()["data"] if key["key_id"] == told["key_id"]]

    assert listed["last_used_at"] == "2026-11-01T12:00:00.000000Z"
    assert "secret" not in str(listed)


def test_a_revoked_key_opens_nothing_within_five_seconds_wherever_it_was_believed(
    owner: Caller, ledger: MemoryLedger
) -> None:
    """A15: another process believes what it read for less than that."""
    elapsed = 0.0
    elsewhere = KeyRing(ledger, PEPPER, now=lambda: ledger.now, elapsed=lambda: elapsed)
    told = made(owner)
    before = asyncio.run(elsewhere.principal(told["key"]))

    owner.post(f"{TEAM}/keys/{told['key_id']}/revocation", {})
    elapsed = 4.9
    after = asyncio.run(elsewhere.principal(told["key"]))

    assert before is not None
    assert after is None


def test_a_key_that_lists_actions_holds_and_quotes_for_no_other(acme: Caller, ledger: MemoryLedger) -> None:
    farm = Caller(acme.http, give_key(ledger, "ingest", teams=["acme"], actions=["image.generate"]))
    use = {"action": "image.generate", "meters": {"units": "1"}}

    held = farm.post(f"{TEAM}/holds", {"action": "image.generate", "amount": "1"})
    other = farm.post(f"{TEAM}/holds", {"action": "video.generate", "amount": "1"})
    quotes = [
        farm.post(f"{TEAM}/quotes", {**use, "action": each}) for each in ("image.generate", "video.generate")
    ]

    assert (held.status_code, code(other)) == (201, "not_allowed")
    assert (quotes[0].status_code, code(quotes[1])) == (200, "not_allowed")


@pytest.mark.parametrize(
    ("step", "body"),
    [("captures", {"amount": "1"}), ("extensions", {"lasts_seconds": 7_200}), ("release", {})],
)
def test_a_key_that_lists_actions_disposes_of_no_hold_for_another(
    acme: Caller, ledger: MemoryLedger, step: str, body: dict[str, Any]
) -> None:
    """A6, I16: by the hold's id as by the action's name, and nothing is changed."""
    farm = Caller(acme.http, give_key(ledger, "ingest", teams=["acme"], actions=["image.generate"]))
    wide = Caller(acme.http, give_key(ledger, "ingest", "wide", teams=["acme"]))
    holds = {
        action: acme.post(f"{TEAM}/holds", {"action": action, "amount": "5"}).json()["hold_id"]
        for action in ("image.generate", "video.generate")
    }
    version = ledger.teams["acme"].account.version

    refused = farm.post(f"{TEAM}/holds/{holds['video.generate']}/{step}", body)

    assert (refused.status_code, code(refused)) == (403, "not_allowed"), refused.text
    assert "video.generate" in refused.json()["detail"]
    assert ledger.teams["acme"].account.version == version
    assert farm.post(f"{TEAM}/holds/{holds['image.generate']}/{step}", body).status_code == 201
    assert wide.post(f"{TEAM}/holds/{holds['video.generate']}/{step}", body).status_code == 201
    assert code(farm.post(f"{TEAM}/holds/hold-900/{step}", body)) == "unknown_hold"


def test_an_answer_on_file_is_given_again_also_when_its_hold_has_ended(
    acme: Caller, ledger: MemoryLedger
) -> None:
    """I14."""
    farm = Caller(acme.http, give_key(ledger, "ingest", teams=["acme"], actions=["image.generate"]))
    hold = farm.post(f"{TEAM}/holds", {"action": "image.generate", "amount": "5"}).json()["hold_id"]

    first, again = (farm.post(f"{TEAM}/holds/{hold}/release", {}, key="once") for _ in range(2))

    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)


@pytest.mark.parametrize(
    ("step", "body"),
    [("captures", {"amount": "1"}), ("extensions", {"lasts_seconds": 7_200}), ("release", {})],
)
def test_a_member_disposes_of_its_own_holds_and_an_admin_of_everybodys(
    owner: Caller, ledger: MemoryLedger, step: str, body: dict[str, Any]
) -> None:
    """I12."""
    mira = Caller(owner.http, made(owner)["key"])
    adam = Caller(owner.http, give_member_key(ledger, "acme", "adam", "admin"))
    asked = {"action": "image.generate", "amount": "5"}
    theirs, hers = (by.post(f"{TEAM}/holds", asked).json()["hold_id"] for by in (adam, mira))

    assert code(mira.post(f"{TEAM}/holds/{theirs}/{step}", body)) == "not_allowed"
    assert mira.post(f"{TEAM}/holds/{hers}/{step}", body).status_code == 201
    assert adam.post(f"{TEAM}/holds/{theirs}/{step}", body).status_code == 201


def test_a_member_holds_for_itself_and_an_owner_for_anybody(owner: Caller) -> None:
    mira = Caller(owner.http, made(owner)["key"])
    hold = {"action": "image.generate", "amount": "1"}

    mine = mira.post(f"{TEAM}/holds", hold).json()["hold_id"]

    assert code(mira.post(f"{TEAM}/holds", {**hold, "member": "olga"})) == "not_allowed"
    assert owner.post(f"{TEAM}/holds", {**hold, "member": "mira"}).status_code == 201
    assert owner.get(f"{TEAM}/holds/{mine}").json()["member"] == "mira"


def test_noise_is_refused_without_a_look_at_the_store(ledger: MemoryLedger) -> None:
    """A15: the tail of a key tells that it is none, so guessing costs the guesser and nobody else."""
    asked: list[str] = []

    class Watched(MemoryLedger):
        @override
        async def key(self, key_id: str) -> Any:
            asked.append(key_id)
            return await super().key(key_id)

    good = give_key(ledger, "operator")
    parts = parse_key(good)
    assert parts is not None
    ring = KeyRing(Watched(), PEPPER)
    noise = [good[:-1] + chr(ord("a") + each) for each in range(26) if good[-1] != chr(ord("a") + each)]

    async def tried() -> list[Any]:
        return [await ring.principal(each) for each in (*noise, good + "0", good[:-1], "cof_live_", "")]

    assert asyncio.run(tried()) == [None] * (len(noise) + 4)
    assert asked == []
    assert asyncio.run(ring.principal(key_text(parts))) is None
    assert asked == [parts.key_id]
