"""What is sold in the simulation: rate cards and plans, told once and given to both sides in the form that each of them reads."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

PUBLISHED_AT = datetime(2026, 1, 1)  # noqa: DTZ001 - plain UTC, as the model keeps it
ACTIONS = ["image.generate", "video.generate", "voice.generate", "text.generate", "badge.mint"]

Tier = tuple[int | None, str]


def _card(
    card_id: str, effective: str, image: str, video: list[Tier], voice: list[Tier], text: str, badge: str
) -> dict[str, Any]:
    return {
        "card_id": card_id,
        "effective": datetime.fromisoformat(effective),
        "image.generate": ("unit", image),
        "video.generate": ("graduated", video),
        "voice.generate": ("graduated", voice),
        "text.generate": ("unit", text),
        "badge.mint": ("flat", badge),
    }


CARDS = [
    _card(
        "standard",
        "2020-01-01",
        "1",
        [(100, "1"), (None, "0.5")],
        [(10, "0.5"), (None, "0.2")],
        "0.0013",
        "2",
    ),
    _card(
        "standard", "2027-08-17T10:30", "1.25", [(50, "1.5"), (None, "0.8")], [(None, "0.25")], "0.0011", "2"
    ),
    _card(
        "standard",
        "2028-02-29",
        "1.1",
        [(3, "0.0000004"), (None, "1")],
        [(5, "0"), (None, "0.3")],
        "0.002",
        "3",
    ),
    _card(
        "standard",
        "2028-12-31T23:59:59",
        "2",
        [(80, "1"), (90, "0.7"), (None, "0.1")],
        [(10, "1"), (20, "0.5"), (None, "0.1")],
        "0.003",
        "1",
    ),
    _card(
        "standard",
        "2029-07-01",
        "0.9",
        [(30, "2"), (None, "1")],
        [(30, "0.1"), (None, "0.3")],
        "0.0007",
        "2.5",
    ),
    _card("studio", "2020-01-01", "0.8", [(200, "0.9"), (None, "0.3")], [(None, "0.1")], "0.0009", "1"),
    _card(
        "studio",
        "2028-06-30T23:30",
        "0.7",
        [(20, "1"), (None, "0.333333")],
        [(7, "0.3333333"), (None, "0.3")],
        "0.001",
        "2",
    ),
]
"""Each version of each card, in the order of publishing."""

CREDIT = 1_000_000


def _plan(plan_id: str, allowance: int, rollover: int, overdraft: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "plan_id": plan_id,
        "version": 1,
        "card_id": more.get("card_id", "standard"),
        "allowance": allowance * CREDIT,
        "rollover_cap": rollover * CREDIT,
        "overdraft_cap": overdraft * CREDIT,
        "captures": more.get("captures", {}),
        "limits": more.get("limits", []),
    }


def _limit(limit_id: str, window: str, cap: int, *, hard: bool, **scope: str) -> dict[str, Any]:
    return {
        "limit_id": limit_id,
        "window": window,
        "cap": cap * CREDIT,
        "hard": hard,
        "member": scope.get("member"),
        "project": scope.get("project"),
        "action": scope.get("action"),
        "thresholds": [50, 80, 100],
    }


PLANS: dict[str, dict[str, Any]] = {
    "free": _plan("free", 0, 0),
    "starter": _plan("starter", 60, 20, limits=[_limit("plan-day", "day", 80, hard=True)]),
    "studio": _plan(
        "studio",
        150,
        100,
        overdraft=30,
        card_id="studio",
        captures={"image.generate": "overdraft", "video.generate": "reject"},
        limits=[
            _limit("plan-day", "day", 120, hard=False),
            _limit("plan-video", "period", 200, hard=True, action="video.generate"),
        ],
    ),
    "scale": _plan(
        "scale",
        400,
        250,
        overdraft=100,
        card_id="studio",
        captures=dict.fromkeys(ACTIONS, "overdraft"),
    ),
}


def model_cards() -> list[dict[str, Any]]:
    """The cards as the model reads them."""
    versions: dict[str, int] = {}
    cards = []
    for card in CARDS:
        version = versions[card["card_id"]] = versions.get(card["card_id"], 0) + 1
        rates = {action: _model_term(card[action]) for action in ACTIONS}
        cards.append(
            {"card_id": card["card_id"], "version": version, "effective": card["effective"], "rates": rates}
        )
    return cards


def _model_term(term: tuple[str, Any]) -> tuple[Any, ...]:
    model, price = term
    if model == "flat":
        return "flat", None, Fraction(price)
    if model == "unit":
        return "unit", "units", Fraction(price)
    return "graduated", "units", [(up_to, Fraction(each)) for up_to, each in price]


def card_documents() -> list[dict[str, Any]]:
    """The cards as they are published."""
    return [
        {
            "card_id": card["card_id"],
            "effective_at": card["effective"].isoformat() + "Z",
            "meters": {"units": "unit"},
            "rates": [{"action": action, "terms": [_term_document(card[action])]} for action in ACTIONS],
        }
        for card in CARDS
    ]


def _term_document(term: tuple[str, Any]) -> dict[str, Any]:
    model, price = term
    if model == "flat":
        return {"model": "flat", "price": price}
    if model == "unit":
        return {"model": "unit", "meters": ["units"], "price": price}
    tiers = [{"price": each} | ({} if up_to is None else {"up_to": str(up_to)}) for up_to, each in price]
    return {"model": "graduated", "meters": ["units"], "tiers": tiers}


def credits_text(micros: int) -> str:
    """Micro-credits as a decimal number of credits."""
    return format((Decimal(micros) / CREDIT).normalize(), "f")


def plan_documents() -> list[dict[str, Any]]:
    """The plans as they are published."""
    return [
        {
            "plan_id": plan["plan_id"],
            "card_id": plan["card_id"],
            "allowance": credits_text(plan["allowance"]),
            "price": {"price_minor": 1_000, "currency": "EUR"},
            "rollover_cap": credits_text(plan["rollover_cap"]),
            "overdraft_cap": credits_text(plan["overdraft_cap"]),
            "captures": plan["captures"],
            "limits": [_limit_document(limit) for limit in plan["limits"]],
        }
        for plan in PLANS.values()
    ]


def _limit_document(limit: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in limit.items() if value is not None}
    return said | {"cap": credits_text(limit["cap"])}
