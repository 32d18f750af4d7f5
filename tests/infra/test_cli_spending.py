"""The coffer command over PostgreSQL before and after spending: estimate, preflight, plan, spending, review."""

from __future__ import annotations

import json
from pathlib import Path

from tests.infra.test_cli import Coffer, bare, coffer
from tests.infra.test_cli_whole_account import json_of, refused

__all__ = ["bare", "coffer"]

USE = ("image.generate", "-m", "units=30")


def test_a_team_knows_before_it_spends_and_compares_afterwards(coffer: Coffer, tmp_path: Path) -> None:
    many = json_of(coffer, "estimate", "acme", *USE, "--times", "4", "--member", "mira")
    fresh = json_of(coffer, "estimate", "acme", *USE, "--replace")
    checked = coffer("preflight", "acme", *USE, "--times", "4", "-o", "json")
    fits = coffer("preflight", "acme", *USE)
    volumes = tmp_path / "volumes.json"
    line = {"action": "image.generate", "meters": {"units": "1"}, "low": 10, "expected": 40, "high": 130}
    volumes.write_text(json.dumps([line]))
    preview = json_of(coffer, "plan", "preview", "acme", "--volumes", str(volumes), "--days", "5")
    table = coffer(
        "plan", "preview", "acme", "-v", "image.generate=10:40:130", "-m", "units=1", "--days", "5"
    )
    saved = json_of(
        coffer, "plan", "save", "acme", "--for", "the film team", "-v", "image.generate=10:40:130", "-m", "units=1",
    )  # fmt: skip
    coffer("hold", "place", "acme", "image.generate", "--amount", "40", "--member", "mira")
    coffer("hold", "capture", "acme", "hold-3", "15")
    coffer("project", "--once")
    spent = json_of(coffer, "spending", "acme", "--by", "member")
    actual = json_of(coffer, "plan", "actual", "acme", saved["plan_id"])

    assert [use["debt"] for use in many["data"]] == ["0", "0", "0", "20"]
    assert many["data"][3]["denied"]["code"] == "available"
    assert fresh["mode"] == "replace"
    assert (checked.code, checked.json["passes"]) == (1, False)
    assert (fits.code, "payment_details" in fits.out) == (1, True)
    assert [preview[path]["top_up"] for path in ("low", "expected", "high")] == ["0", "0", "30"]
    assert "30" in table.out
    assert (saved["plan_id"], saved["amount"]) == ("plan-1", "40")
    assert [(row["member"], row["net"], row["uses"]) for row in spent["data"]] == [("mira", "15", 1)]
    assert (actual["spent"], actual["plan"]["audience"]) == ("15", "the film team")
    assert "the film team" in coffer("plan", "saved", "acme").out


def test_a_plan_names_the_limit_that_bites_and_what_its_top_up_costs_by_whom(coffer: Coffer) -> None:
    coffer("team", "add", "acme", "olga", "--role", "owner")
    coffer("limits", "set", "acme", "monthly", "--window", "month", "--cap", "20", "--member", "mira")
    volume = ("-v", "image.generate=10:40:130", "-m", "units=1", "--member", "mira", "--days", "5")

    unpriced = coffer("plan", "preview", "acme", *volume)
    coffer("topup", "acme", "10", "--payment-reference", "p", "--price-minor", "90", "--currency", "EUR")
    priced = coffer("plan", "preview", "acme", *volume)
    told = coffer("spending", "acme")

    assert (priced.code, "monthly (month) at" in " ".join(priced.out.split())) == (0, True)
    assert "30 credits (no price is known" in unpriced.err
    assert "20 credits for 180 EUR minor units (as was paid last, by p: 10 credits for 90 EUR" in priced.err
    assert "olga may buy it" in priced.err
    assert "how teams go on is built in" in told.err


def test_a_review_says_what_speaks_against_handing_over_and_exits_with_a_difference(coffer: Coffer) -> None:
    lonely = coffer("review", "acme")
    coffer("team", "add", "acme", "olga", "--role", "owner")
    ready = coffer("review", "acme", "-o", "json")

    assert (lonely.code, "role_permissions" in lonely.out) == (1, True)
    assert (ready.code, ready.json["ready"]) == (0, True)


def test_what_is_not_understood_is_refused_in_one_line(coffer: Coffer) -> None:
    assert "action=low:expected:high" in refused(
        coffer("plan", "preview", "acme", "-v", "image.generate=1:2")
    )
    assert "spent nothing of late" in refused(coffer("plan", "preview", "acme"))
    assert "plan-9" in refused(coffer("plan", "actual", "acme", "plan-9"))
