"""One team's day, as its operator lives it: a record comes in, is found, explained, estimated, refunded and verified."""

from __future__ import annotations

from pathlib import Path

from domain.times import instant_text
from tests.builders import SOURCE, unit_card, when
from tests.flows.http_story import PARTITION, ledger_over_http

PICTURES = {
    "action": "image.generate",
    "terms": [
        {
            "model": "graduated",
            "meters": ["units"],
            "tiers": [{"up_to": "100", "price": "0.5"}, {"price": "0.1234567"}],
        }
    ],
    "multipliers": [
        {
            "kind": "table",
            "dimension": "size",
            "values": {"plain": "1", "large": "1.5"},
            "default": "1",
        }
    ],
}


def test_a_record_is_charged_told_explained_estimated_refunded_once_and_verified(
    database_url: str, tmp_path: Path
) -> None:
    with ledger_over_http(database_url, tmp_path) as ledger:
        # Given a team that was given 20 credits and has bought 100.
        team = ledger.story("acme", unit_card(rates=[PICTURES], dimensions={"size": "size of the picture"}))
        team.granted("welcome", 20, priority=10)
        team.bought("pack", 100)

        # When a record of 60 large pictures comes in, a minute late,
        charge = team.used(
            "picture-1",
            60,
            occurred="2026-11-05 10:00",
            recorded="2026-11-05 10:01",
            dimensions={"size": "large"},
            project="spring",
        )

        # then it is charged by the list, the given credits first, and points back at its place on the stream.
        assert (charge["amount"], charge["debt"]) == ("45", "0")
        assert team.drawn(charge) == [("welcome", "20"), ("pack", "25")]
        assert charge["occurred_at"] == instant_text(when("2026-11-05 10:00"))
        assert charge["recorded_at"] == instant_text(when("2026-11-05 10:01"))
        assert charge["origin"] == {"topic": PARTITION.topic, "partition": 0, "offset": 0}

        # The balance has it at once; the statement as soon as it is projected.
        assert team.balance("settled", "available", "debt") == ("75", "75", "0")
        told = [(line["kind"], line["amount"], line["settled_after"]) for line in team.statement()]
        assert told == [
            ("CreditsGranted", "20", "20"),
            ("CreditsToppedUp", "100", "120"),
            ("CreditsCharged", "45", "75"),
        ]
        [line] = team.statement(charge_id=charge["charge_id"])
        assert (line["member"], line["project"], line["version"]) == (
            "mira",
            "spring",
            charge["charged_version"],
        )

        # The explanation says it in words, from the record to the lots, and has worked the amount out again.
        text = team.text(f"charges/{charge['charge_id']}/explanation")
        for words in (
            f"Charge {charge['charge_id']} of team {team.team_id}: 45 credits",
            f"record: picture-1 from {SOURCE}",
            f"read from: topic {PARTITION.topic}, partition 0, offset 0",
            f"rate card {team.team_id}, version 1, digest {charge['card']['digest']}",
            "worked out again from the stored computation: 45 credits, the same",
            "Refunds: none",
        ):
            assert words in text, text

        # An estimate is the next charge exactly: the tier that is nearly used up, the rounding, the lots.
        use = {"action": "image.generate", "meters": {"units": "33"}, "dimensions": {"size": "large"}}
        version = team.at("2026-11-05 11:00").version
        estimate = team.post("estimates", use)
        assert team.version == version, "an estimate changes nothing"
        following = team.used("picture-2", 33, occurred="2026-11-05 11:00", dimensions={"size": "large"})
        # 33 × 1.5 = 49.5 units after the 90 before: 10 at 0.5 and 39.5 at 0.1234567 are 9.87653965.
        assert estimate["amount"] == following["amount"] == "9.87654"
        for part in ("lines", "debt", "card", "computation"):
            assert estimate[part] == following[part], part

        # A refund of part of the first charge returns first to the lot that was drawn last.
        refunded = team.refunded("picture-1", "30", "2026-11-05 12:00", key="refund-1")
        assert (refunded.status_code, refunded.json()["amount"]) == (201, "30")
        assert team.left == {"welcome": "5", "pack": "90.12346"}

        # Asked again under the same key, a day later, it is answered the same and nothing happens;
        version = team.version
        again = team.refunded("picture-1", "30", "2026-11-06 12:00", key="refund-1")
        assert (again.status_code, again.content) == (refunded.status_code, refunded.content)
        # under the same key with another amount it is refused.
        other = team.refunded("picture-1", "1", "2026-11-06 12:00", key="refund-1")
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
        assert team.version == version

        # The explanation tells the refund and what the pictures cost in the end.
        text = team.text(f"charges/{charge['charge_id']}/explanation")
        assert "30 credits on" in text
        assert "by story teller (break-glass): bad picture" in text
        assert "refunded 30 of 45, so it cost 15 credits" in text

        # In the end everything stored agrees with a replay of the events.
        assert team.balance("settled", "debt") == ("95.12346", "0")
        team.ends_sound()
