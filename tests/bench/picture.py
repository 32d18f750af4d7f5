"""The picture of the main rates: bars on a logarithmic scale, as SVG."""

from __future__ import annotations

from html import escape
from math import log10
from pathlib import Path
from typing import Any

WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 760, 22, 10, 250, 90, 58
COLOURS = {"copy": "#9aa3ad", "library": "#9aa3ad"}
OURS = "#2f6f63"
FONT = 'font-family="sans-serif" font-size="13"'


def draw(figures: dict[str, Any], out: Path) -> None:
    """The file shows each row of the figures as a bar with its rate and range."""
    rows = sorted(figures["rows"].items(), key=lambda item: -item[1]["records_per_second"])
    most = max(row["range"][1] for _, row in rows)
    least = 10 ** int(log10(min(row["range"][0] for _, row in rows)))
    height = TOP + len(rows) * (BAR + GAP) + 34

    def place(rate: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * log10(rate / least) / log10(most / least)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" {FONT}>',
        "<title>Usage records per second made durable</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="16" y="24" font-size="16" fill="#1c2126">Usage records a second, durable (logarithmic)</text>',
        f'<text x="16" y="44" fill="#5a646e">{escape(_under(figures))}</text>',
    ]
    for number, (name, row) in enumerate(rows):
        y = TOP + number * (BAR + GAP)
        rate, (low, high) = row["records_per_second"], row["range"]
        parts += [
            f'<text x="{LEFT - 10}" y="{y + 16}" text-anchor="end" fill="#1c2126">{escape(row["title"])}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{place(rate) - LEFT:.1f}" height="{BAR}" fill="{COLOURS.get(name, OURS)}"/>',
            f'<line x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y + BAR / 2}" y2="{y + BAR / 2}" stroke="#1c2126"/>',
            f'<text x="{place(high) + 8:.1f}" y="{y + 16}" fill="#1c2126">{rate:,}</text>',
        ]
    parts.append(
        f'<text x="16" y="{height - 12}" fill="#5a646e">bars: medians of the rounds; lines: lowest to highest round</text></svg>'
    )
    out.write_text("\n".join(parts) + "\n")


def _under(figures: dict[str, Any]) -> str:
    cores = figures["machine"].split(",")[0]
    return f"{cores}, {figures['teams']:,} teams, eight lots, two limits; {figures['measured_at'][:10]}"
