"""A team's life told as its operator and its pipeline see it: usage comes as CloudEvents, all else over HTTP, on given dates."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
from psycopg import Cursor
from psycopg.rows import TupleRow
from typing_extensions import override

from api.app import Behind, create_api
from api.keys import KeyRing, Parts, key_text, new_key
from api.ports import AccountOnFile
from consumers.batches import PartitionKey
from consumers.stream_record import StreamRecord
from consumers.usage import PartitionRead, settle_reads
from consumers.usage_encoding import encode_usage, encode_usage_structured
from domain.commands import CreateKey
from domain.ledger import Caller as Founder
from domain.ledger import Ledger
from domain.ticking import tick
from domain.times import instant_text
from domain.usage import UsageRecord
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.api_keys import ServedKeys
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.catalogue_store import PostgresCatalogue
from infra.postgres.dead_letters import LetterFilter
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.stream_state import Fate
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from infra.settings import Settings
from infra.wiring import Wiring
from projections.statement import DIRECTIONS
from tests.api.conftest import Caller
from tests.asgi import Http, serving
from tests.builders import SOURCE, TESTER, a_usage_record, unit_card, when

PARTITION = PartitionKey("a cluster", "a topic id", "usage.stories", 0)
OPENED = "2026-11-01 00:00"

Answer = dict[str, Any]


class StoryClock:
    """The instant that a story has reached: commands, batches and answers are of this instant."""

    def __init__(self) -> None:
        self.at: datetime = when("2026-01-01 00:00")

    def __call__(self, _: Cursor[TupleRow]) -> datetime:
        return self.at


class _ReadsInAStory(PostgresAccountReads):
    """The production reads, answering for the story's instant."""

    def __init__(self, shards: AsyncShards, clock: StoryClock) -> None:
        super().__init__(shards)
        self._clock = clock

    @override
    async def account(self, team_id: str) -> AccountOnFile | None:
        found = await super().account(team_id)
        return found and AccountOnFile(found.account, found.position, self._clock.at)


class LedgerOverHttp:
    """One PostgreSQL ledger with its two doors: HTTP for operators, a partition of a stream for usage."""

    def __init__(self, wiring: Wiring, catalogue: PostgresCatalogue, clock: StoryClock, http: Http) -> None:
        text, _ = wiring.keys.create("story teller", "break-glass", timedelta(hours=8))
        self.operator = Caller(http, text)
        self.clock = clock
        self.shards = wiring.shards
        self._wiring = wiring
        self._catalogue = catalogue
        self._batches = PostgresBatchStore(wiring.shards, clock=clock)
        self._batches.register(PARTITION, 0)
        self._next_offset = 0
        self._teams = 0

    def close(self) -> None:
        self._batches.close()

    def member(self, team_id: str, member: str) -> Caller:
        """A member of a team, with a key of the member's own."""
        store = PostgresLedgerStore(self.shards, clock=self.clock)
        made = Ledger(store, self._catalogue.current).execute(
            CreateKey(team_id=team_id, member=member), Founder("the founder", "operator"), f"key of {member}"
        )
        assert made.key_id is not None
        parts = Parts(made.key_id, new_key().secret)
        asyncio.run(self._keep(parts, team_id))
        return Caller(self.operator.http, key_text(parts))

    async def _keep(self, parts: Parts, team_id: str) -> None:
        reading = AsyncShards(self._wiring.database_url, self.shards.count)
        try:
            ring = KeyRing(ServedKeys(PostgresAccountReads(reading), self._wiring.keys), self._wiring.pepper)
            assert await ring.add(parts.key_id, parts.secret, team_id)
        finally:
            await reading.close()

    def story(self, name: str, *cards: Answer, **terms: Any) -> Story:
        """A new team under a price list of its own; one unit of any action costs one credit unless cards are given."""
        self._teams += 1
        team_id = f"{name}-{self._teams}"
        self.clock.at = when("2026-01-01 00:00")
        for document in cards or (unit_card(),):
            self._catalogue.publish(document | {"card_id": team_id}, TESTER, "the story's prices")
        return Story(self, team_id, terms)

    def tick(self, team_id: str, at: str) -> None:
        """What is due on the team by then is written, and nothing else."""
        self.clock.at = when(at)
        tick(PostgresLedgerStore(self.shards, clock=self.clock), team_id)

    def publish(self, card: Answer) -> None:
        """A rate card is published on the day that the story has reached."""
        self._catalogue.publish(card, TESTER, "the story's prices")

    def publish_plan(self, plan: Answer) -> None:
        """A plan is published on the day that the story has reached."""
        self._catalogue.publish_plan(plan, TESTER, "the story's plan")

    def receive(self, record: UsageRecord, at: str, *, structured: bool = False) -> Fate:
        """The record was appended to the stream at that time and read at once; what became of its offset."""
        self.clock.at = when(at)
        offset = self._next_offset
        sent = (encode_usage_structured if structured else encode_usage)(record)
        read = StreamRecord(
            PARTITION.topic, PARTITION.partition, offset, sent.key, sent.value, sent.headers, self.clock.at
        )
        settle_reads(
            self._batches,
            [PartitionRead(PARTITION, offset, offset + 1, [read])],
            self._catalogue.current(),
        )
        self._next_offset += 1
        return self._wiring.stream_state.outcome_of(PARTITION, offset)

    def letters(self) -> dict[tuple[str, str], int]:
        """How many records lie among the dead letters, by outcome and reason."""
        return self._wiring.dead_letters.count(LetterFilter())

    def project(self) -> None:
        """The statement has everything that the log has."""
        ProjectorLoop(self.shards).catch_up()


@contextmanager
def ledger_over_http(database_url: str, state_directory: Path) -> Iterator[LedgerOverHttp]:
    """The production stores and the production application on a database, with a clock that stories set."""
    clock = StoryClock()
    with ExitStack() as closing:
        wiring = closing.enter_context(
            Wiring(Settings(database_url=database_url, state_directory=state_directory))
        )
        catalogue = PostgresCatalogue(wiring.shards, clock=clock)
        closing.callback(catalogue.close)
        reading = AsyncShards(database_url, wiring.shards.count)
        reads = _ReadsInAStory(reading, clock)
        behind = Behind(
            ledger=Ledger(
                PostgresLedgerStore(wiring.shards, clock=clock),
                catalogue.current,
                wiring.quote_keys,
                wiring.signing_key,
            ),
            accounts=reads,
            statements=wiring.statement,
            catalogue=catalogue,
            keys=ServedKeys(reads, wiring.keys),
            readiness=reads,
            pepper=wiring.pepper,
            quote_keys=wiring.quote_keys,
            invoices=wiring.invoices,
            issuers=wiring.invoices,
            works=wiring.works,
            signing_key=wiring.signing_key,
            spending=wiring.spending,
            intake=wiring.intake,
            publishing=catalogue,
            letters=wiring.letter_desk,
            streams=wiring.letter_desk,
        )
        http = closing.enter_context(serving(create_api(behind, closing=reading.close)))
        ledger = LedgerOverHttp(wiring, catalogue, clock, http)
        closing.callback(ledger.close)
        yield ledger


class Story:
    """One team, told in the words of the worked cases; every number comes from an answer, as its decimal string."""

    def __init__(self, ledger: LedgerOverHttp, team_id: str, terms: Answer) -> None:
        self.team_id = team_id
        self._ledger = ledger
        self._names: dict[str, str] = {}
        self._charges: set[str] = set()
        self._allowances = 0
        opened = terms.pop("opened", OPENED)
        self._done(
            self._send("/v1/accounts", {"team_id": team_id, "card_id": team_id, **terms}, opened),
        )

    # --- what happens ---

    def bought(self, name: str, amount: str | int, at: str = OPENED, **terms: Any) -> Answer:
        """A purchased lot of that name; never expiring unless said."""
        body = {
            "amount": str(amount),
            "payment_reference": f"pay-{name}",
            "cost_basis": {"price_minor": 100, "currency": "EUR"},
            **_instants(terms),
        }
        return self._named(name, self._send(self._path("top-ups"), body, at))

    def granted(self, name: str, amount: str | int, at: str = OPENED, **terms: Any) -> Answer:
        """A given lot of that name, promotional unless said."""
        body = {"amount": str(amount), "reason": f"grant {name}", **_instants(terms)}
        return self._named(name, self._send(self._path("grants"), body, at))

    def sent(
        self,
        record_id: str,
        units: str | int = 1,
        *,
        occurred: str,
        recorded: str | None = None,
        structured: bool = False,
        **changes: Any,
    ) -> Fate:
        """A usage record came in on the stream and was read when it was recorded; what became of it."""
        record = a_usage_record(record_id, units, occurred=occurred, team=self.team_id, **changes)
        return self._ledger.receive(record, recorded or occurred, structured=structured)

    def used(self, record_id: str, units: str | int = 1, *, occurred: str, **more: Any) -> Answer:
        """The record came in; its charge, or its waiver, as HTTP answers for the record's own identity."""
        fate = self.sent(record_id, units, occurred=occurred, **more)
        assert fate.kind in {"charged", "waived"}, fate
        [charge] = self.get("charges", source=SOURCE, id=record_id)["data"]
        assert (charge["charge_id"], charge["outcome"]) == (fate.charge_id, fate.kind)
        self._charges.add(charge["charge_id"])
        return dict(charge)

    def refunded(
        self, record_id: str, amount: str | int | None, at: str, *, key: str | None = None
    ) -> httpx.Response:
        """A refund of the charge of that record was asked for; the answer, whatever it is."""
        body = {"reason": "bad picture"} | ({} if amount is None else {"amount": str(amount)})
        [charge] = self.get("charges", source=SOURCE, id=record_id)["data"]
        return self._send(self._path(f"charges/{charge['charge_id']}/refunds"), body, at, key)

    def asked(self, path: str, body: Answer, at: str, *, key: str | None = None) -> httpx.Response:
        """A command was sent; the answer, whatever it is."""
        return self._send(self._path(path), body, at, key)

    def did(self, path: str, body: Answer, at: str) -> Answer:
        """A command was sent and happened; its answer."""
        return self._done(self.asked(path, body, at))

    def hold(self, amount: str | int, at: str, **more: Any) -> Answer:
        """A hold was asked for: held or denied, as the answer says."""
        return self.did("holds", {"action": "image.generate", "amount": str(amount), **more}, at)

    def held(self, amount: str | int, at: str, **more: Any) -> str:
        """A hold was made; its id."""
        answer = self.hold(amount, at, **more)
        assert answer["outcome"] == "held", answer
        return str(answer["hold_id"])

    def captured(self, hold_id: str, amount: str | int, at: str) -> Answer:
        """Part of a hold became a charge."""
        return self.did(f"holds/{hold_id}/captures", {"amount": str(amount)}, at)

    def released(self, hold_id: str, at: str) -> Answer:
        """A hold was given back."""
        return self.did(f"holds/{hold_id}/release", {}, at)

    def charged_back(self, name: str, at: str) -> Answer:
        """A bank takes the payment of the lot of that name back for now."""
        return self.did(f"top-ups/pay-{name}/chargeback", {}, at)

    def won(self, name: str, at: str) -> Answer:
        """The chargeback was won."""
        return self.did(f"top-ups/pay-{name}/chargeback/won", {}, at)

    def lost(self, name: str, at: str) -> Answer:
        """The chargeback was lost."""
        return self.did(f"top-ups/pay-{name}/chargeback/lost", {}, at)

    def planned(self, plan: Answer, at: str, takes_effect: str = "now") -> Answer:
        """The team has the plan, which is published first, on the team's own card."""
        self._ledger.clock.at = when(at)
        document = plan | {"plan_id": f"{self.team_id}-{plan['plan_id']}", "card_id": self.team_id}
        self._ledger.publish_plan(document)
        return self.did("plan", {"plan_id": document["plan_id"], "takes_effect": takes_effect}, at)

    def published(self, card: Answer, at: str) -> None:
        """The team's prices are others from the card's own date on."""
        self._ledger.clock.at = when(at)
        self._ledger.publish(card | {"card_id": self.team_id})

    def ticked(self, at: str) -> None:
        """What was due by then is written, by the production tick."""
        self._ledger.tick(self.team_id, at)

    # --- what is answered ---

    def get(self, path: str, **asked: Any) -> Answer:
        """The answer to a question about the team, at the instant that the story has reached."""
        response = self._ledger.operator.get(self._path(path), **asked)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def post(self, path: str, body: Answer) -> Answer:
        """The answer to a question that has a body."""
        response = self._ledger.operator.post(self._path(path), body)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def text(self, path: str) -> str:
        """The answer in plain text."""
        headers = self._ledger.operator.headers | {"Accept": "text/plain"}
        response = self._ledger.operator.http.get(self._path(path), headers=headers)
        assert response.status_code == 200, response.text
        return response.text

    def at(self, instant: str) -> Story:
        """Time has passed and nothing else happened."""
        self._ledger.clock.at = when(instant)
        return self

    @property
    def lots(self) -> dict[str, Answer]:
        """The lots with a remainder, by name, in burn order; a successor is named with a prime, an allowance L1, L2, …"""
        told = self.get("lots")["data"]
        for lot in sorted(told, key=lambda each: (each["effective_at"], each["granted_at"])):
            self._meet(lot)
        return {self.name_of(lot["lot_id"]): lot for lot in told}

    @property
    def left(self) -> dict[str, str]:
        """Credits left by lot, zero for closed ones."""
        remaining = {name: lot["remaining"] for name, lot in self.lots.items()}
        return dict.fromkeys(self._names.values(), "0") | remaining

    @property
    def debt(self) -> str:
        return str(self.get("balance")["debt"])

    @property
    def version(self) -> int:
        return int(self.get("balance")["version"])

    def balance(self, *parts: str) -> tuple[str, ...]:
        """These parts of the balance, in the order asked for."""
        answer = self.get("balance")
        return tuple(answer[part] for part in parts)

    def drawn(self, charge: Answer) -> list[tuple[str, str]]:
        """The lots that paid a charge, by name, in the order in which they were drawn."""
        return [(self.name_of(line["lot_id"]), line["amount"]) for line in charge["lines"]]

    def statement(self, **asked: Any) -> list[Answer]:
        """Every line of the statement, once it has caught up with the log."""
        self._ledger.project()
        lines: list[Answer] = []
        after: str | None = None
        while True:
            page = self.get("statement", limit=100, **asked, **({"after": after} if after else {}))
            lines += page["data"]
            after = page["next"]
            if after is None:
                return lines

    def explained(self, charge_id: str) -> Answer:
        """The explanation of a charge or waiver."""
        return dict(self.get(f"charges/{charge_id}/explanation")["explanation"])

    # --- the end ---

    def ends_sound(self) -> None:
        """Statement, charges, explanations and stored rows agree with each other about everything that happened."""
        lines = self.statement()
        self._statement_adds_up(lines)
        for charge_id in self._charges:
            self._charge_adds_up(charge_id, lines)
        verified = verify(self._ledger.shards, team_id=self.team_id)
        assert verified.findings == []
        # People, paperwork and works have streams of their own beside the account's.
        assert (verified.teams, verified.events >= self.version) == (1, True)

    def _statement_adds_up(self, lines: list[Answer]) -> None:
        """Each line moves settled less debt by its amount, and the last one tells the sums of the balance."""
        net = Fraction(0)
        for line in lines:
            net += DIRECTIONS[line["kind"]] * Fraction(line["amount"])
            assert Fraction(line["settled_after"]) - Fraction(line["debt_after"]) == net, line
        booked = self.get("balance", at_version=self.version)
        assert (lines[-1]["settled_after"], lines[-1]["debt_after"]) == (booked["settled"], booked["debt"])

    def _charge_adds_up(self, charge_id: str, lines: list[Answer]) -> None:
        charge, explained = self.get(f"charges/{charge_id}"), self.explained(charge_id)
        stated = {line["kind"]: line["amount"] for line in lines if line["charge_id"] == charge_id}
        if charge["outcome"] == "waived":
            stated.pop("HoldReleased", None)
            assert (stated, explained["waiver"]) == ({"UsageWaived": "0"}, charge["waiver"])
            return
        assert (stated["CreditsCharged"], explained["contradictions"]) == (charge["amount"], [])
        assert explained["recomputed"] == explained["amount"] == charge["amount"]
        assert explained["refunded"] == charge["refunded"]
        paid = sum((Fraction(line["amount"]) for line in charge["lines"]), Fraction(charge["debt"]))
        assert paid == Fraction(charge["amount"])

    def _meet(self, lot: Answer) -> None:
        """A lot that nobody named is an allowance."""
        first = lot["origin_lot_id"]
        if first not in self._names:
            assert lot["source"] == "included", lot
            self._allowances += 1
            self._names[first] = f"L{self._allowances}"

    def name_of(self, lot_id: str) -> str:
        """The story's name of a lot."""
        first, *successions = re.split("[@~]", lot_id)
        return self._names[first] + "'" * len(successions)

    def _path(self, rest: str) -> str:
        return f"/v1/accounts/{self.team_id}/{rest}"

    def _send(self, path: str, body: Answer, at: str, key: str | None = None) -> httpx.Response:
        self._ledger.clock.at = when(at)
        response: httpx.Response = self._ledger.operator.post(path, body, key=key)
        return response

    def _named(self, name: str, response: httpx.Response) -> Answer:
        answer = self._done(response)
        self._names[answer["lot_id"]] = name
        return answer

    def _done(self, response: httpx.Response) -> Answer:
        assert response.status_code == 201, response.text
        answer: Answer = response.json()
        assert answer["recorded_at"] == instant_text(self._ledger.clock.at)
        return answer


def _instants(terms: Answer) -> Answer:
    return {name: instant_text(when(term)) if name.endswith("_at") else term for name, term in terms.items()}


Tell = Callable[..., Story]
"""Begins the story of a new team."""


def booked(team: Story, kind: str) -> list[tuple[str, str]]:
    """Amount and instant of effect of every line of that kind."""
    return [(line["amount"], line["occurred_at"]) for line in team.statement(kind=kind)]


def on(text: str) -> str:
    """The instant as answers write it."""
    return instant_text(when(text))
