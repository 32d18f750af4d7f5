"""Live balances: told now, told again when they change, resumed where they were left, bounded, and ended with the credential."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from api.answers import BalanceAnswer
from api.live import STREAMS_OF_ONE_MAX, Streams, _told
from tests.api.conftest import Caller, give_member_key
from tests.memory_store import MemoryLedger

LIVE = "/v1/accounts/acme/balance/live"


def events(text: str) -> list[dict[str, str]]:
    """The events of a stream; a comment is one under the name of its own."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line]
        found.append({name or "comment": value for name, _, value in lines})
    return [each for each in found if each]


def live(caller: Caller, **headers: str) -> Any:
    """What a stream told before it ended, which in these tests it soon does."""
    return caller.http.get(LIVE, headers={**caller.headers, **headers})


def test_a_stream_begins_with_the_balance_and_keeps_alive(acme: Caller) -> None:
    answer = live(acme)

    first, *rest = events(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (first["id"], first["event"]) == ("2", "balance")
    assert json.loads(first["data"])["available"] == "100"
    assert {each["comment"] for each in rest} == {"still here"}
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_stream_is_resumed_after_the_last_event_that_was_seen(acme: Caller) -> None:
    seen = live(acme, **{"Last-Event-ID": "2"})
    acme.post("/v1/accounts/acme/grants", {"amount": "5", "reason": "x"})
    missed = live(acme, **{"Last-Event-ID": "2"})

    assert [each for each in events(seen.text) if "id" in each] == []
    assert [each["id"] for each in events(missed.text) if "id" in each] == ["3"]


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "9" * 30])
def test_an_id_that_is_none_is_refused(acme: Caller, text: str) -> None:
    assert live(acme, **{"Last-Event-ID": text}).status_code == 422


def test_a_team_that_is_not_there_has_no_stream(acme: Caller) -> None:
    answer = acme.get("/v1/accounts/nobody/balance/live")

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_team")


def _answer(version: int, available: int) -> BalanceAnswer:
    from datetime import UTC, datetime

    sums: dict[str, Any] = dict.fromkeys(
        ("settled", "unscoped", "held", "lapsed", "withheld", "upcoming", "debt"), 0
    )
    return BalanceAnswer(
        version=version,
        position=version,
        as_of=datetime.now(UTC),
        team_id="acme",
        status="active",
        available=available,
        next_expiry=None,
        **sums,
    )


async def _heard(balances: list[BalanceAnswer], good: list[bool]) -> list[str]:
    streams = Streams(look_seconds=0, keep_alive_seconds=1_000)
    looks, goods = iter(balances[1:]), iter(good)

    async def look() -> BalanceAnswer:
        return next(looks)

    async def is_good() -> bool:
        return next(goods)

    return [text async for text in _told(streams, look, balances[0], None, is_good)]


def test_only_what_changes_is_told_also_where_time_alone_changed_it() -> None:
    """A lot lapses without a version of its own: the balance is another one all the same."""
    balances = [_answer(1, 5), _answer(1, 5), _answer(2, 4), _answer(2, 4), _answer(2, 3)]

    heard = asyncio.run(_heard(balances, [True] * 4 + [False]))

    assert [events(each)[0]["id"] for each in heard] == ["1", "2", "2"]


def test_a_stream_ends_when_its_credential_does() -> None:
    heard = asyncio.run(_heard([_answer(version, version) for version in range(1, 9)], [True, True, False]))

    assert [events(each)[0]["id"] for each in heard] == ["1", "2", "3"]


def test_streams_are_bounded(acme: Caller, ledger: MemoryLedger) -> None:
    """I24."""
    from api.errors import TooManyRequests

    streams = Streams()
    opened = [streams.one_more("acme/olga") for _ in range(STREAMS_OF_ONE_MAX)]
    for each in opened:
        streams.refuse_more("acme/olga")
        each.__enter__()

    with pytest.raises(TooManyRequests):
        streams.refuse_more("acme/olga")
    streams.refuse_more("acme/otto")
    opened[0].__exit__(None, None, None)
    streams.refuse_more("acme/olga")


def test_a_viewer_may_watch_and_a_stranger_may_not(acme: Caller, ledger: MemoryLedger) -> None:
    acme.post("/v1/accounts", {"team_id": "globex"})
    viewer = Caller(acme.http, give_member_key(ledger, "acme", "vera", "viewer"))
    stranger = Caller(acme.http, give_member_key(ledger, "globex", "gus", "owner"))

    assert live(viewer).status_code == 200
    assert live(stranger).status_code == 404
