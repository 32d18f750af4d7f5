"""Many seeds are lived through, on every core: ``make simulate SEEDS=n [FIRST=seed] [JOBS=n]``.

Prints how fast it goes and, at the end, what was reached. The first difference ends the run: its seed, the step, both sides, and
the shortest story found that still shows it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from domain import errors
from domain.account.events import ACCOUNT_EVENTS
from tests.simulation.living import Difference, Lived, live, live_seed
from tests.simulation.stories import Step, Story, story_of

KEPT = Path(__file__).with_name("kept_seeds.txt")
REACHED_WITHIN = 50
"""In so many seeds everything must have been reached at least once."""
PROGRESS_SECONDS = 10

NEVER_HERE = {
    # Beyond what a simulated life holds, or not a matter of an account in memory.
    errors.LedgerError,
    errors.Refused,
    errors.Unknown,
    errors.Conflict,
}


class Failed(Exception):
    """A seed failed; what it has to say travels between processes as text."""

    def __init__(self, seed: int, index: int, told: str) -> None:
        super().__init__(seed, index, told)
        self.seed, self.index, self.told = seed, index, told


def attempt(seed: int) -> Lived | Failed:
    """The seed as it was lived, or how it failed."""
    try:
        return live_seed(seed)
    except Difference as difference:
        story = story_of(seed)
        told = difference.told
        return Failed(
            seed, difference.index, f"{_step_told(difference.step)}\n{told}\n{_shortest(story, difference)}"
        )


def _step_told(step: Step | None) -> str:
    if step is None:
        return "after the last step"
    return f"{step.at.isoformat()} {step.team} step {step.number} by {step.principal}:\n  {step.ask!r}"


def _shortest(story: Story, difference: Difference, seconds: float = 60) -> str:
    """The shortest story found, by leaving steps out, that still fails at all in the same way."""
    kind = _kind(difference.told)
    team = difference.step.team if difference.step else None
    steps = list(story.steps[: difference.index + 1]) if difference.step else list(story.steps)
    if team is not None:
        alone = [step for step in steps if step.team == team]
        steps = alone if _fails(story, alone, kind) else steps
    until = time.monotonic() + seconds
    size = max(1, len(steps) // 2)
    while size and time.monotonic() < until:
        at = 0
        while at < len(steps) and time.monotonic() < until:
            fewer = steps[:at] + steps[at + size :]
            if fewer and _fails(story, fewer, kind):
                steps = fewer
            else:
                at += size
        size //= 2
    shortest = "\n".join(f"  {_step_told(step)}" for step in steps)
    last = _told(story, steps)
    return f"shortest story found, {len(steps)} steps:\n{shortest}\nand then:\n{last}"


def _kind(told: str) -> str:
    return told.split("\n", maxsplit=1)[0].split(":", maxsplit=1)[0]


def _told(story: Story, steps: list[Step]) -> str:
    try:
        live(Story(story.seed, steps, story.month_ends, story.order_free))
    except Difference as difference:
        return difference.told
    except Exception as error:  # noqa: BLE001 - a story with steps left out may be no story at all
        return f"no story: {error!r}"
    return ""


def _fails(story: Story, steps: list[Step], kind: str) -> bool:
    told = _told(story, steps)
    return bool(told) and _kind(told) == kind


class Totals:
    """What all seeds so far came to."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.seeds = self.commands = self.usage = self.team_months = self.permutations = 0
        self.counts: Counter[str] = Counter()
        self.began = time.monotonic()

    def add(self, lived: Lived) -> None:
        """One seed more."""
        self.seeds += 1
        self.commands += lived.commands
        self.usage += lived.usage
        self.team_months += lived.team_months
        self.permutations += lived.permutations
        self.counts.update(lived.counts)

    @property
    def next_seed(self) -> int:
        """The first seed not yet lived through; seeds are done in their order."""
        return self.first + self.seeds

    def line(self) -> str:
        """How far it is and how fast it goes."""
        seconds = max(time.monotonic() - self.began, 0.001)
        return (
            f"{self.seeds} seeds in {seconds:.0f} s, {self.seeds / seconds:.1f} a second; {self.commands:,} commands "
            f"({self.usage:,} usage records), {self.team_months / 12:,.0f} team-years, {self.permutations:,} permutations"
        )

    def table(self) -> str:
        """How often what happened."""
        return "\n".join(f"  {count:>9,}  {name}" for name, count in sorted(self.counts.items()))

    def unreached(self) -> list[str]:
        """What a run of this length should have reached and did not: every event, and every refusal an account can give."""
        events = [event.__name__ for event in ACCOUNT_EVENTS if not self.counts[event.__name__]]
        return events + [name for name in EXPECTED if not self.counts[name]]


EXPECTED = [
    *[f"refused {code}" for code in sorted(
        {
            "account_already_open", "account_closed", "account_not_suspended", "account_suspended",
            "adjustment_refused", "auto_top_up_refused", "capture_exceeds_hold", "chargeback_refused",
            "dispute_refused", "hold_not_open", "hold_terms_refused", "idempotency_key_reused",
            "insufficient_credits", "limit_exceeded", "limit_terms_refused", "lot_terms_refused", "malformed",
            "nothing_to_refund", "nothing_to_void", "payment_not_settled", "payment_reference_used",
            "payment_refused", "plan_change_refused", "quote_expired", "quote_used", "quote_withdrawn",
            "refund_exceeds_charge", "second_person_needed", "unknown_charge", "unknown_dispute",
            "unknown_hold", "unknown_limit", "unknown_payment", "unknown_plan", "zone_change_refused",
        }
    )],
    "parked unknown_action",
    "parked account_closed",
    "usage duplicate",
    "usage conflict",
    "replayed",
]  # fmt: skip


def simulate(seeds: int, first: int = 1, jobs: int | None = None, *, is_quiet: bool = False) -> int:
    """Every seed was lived through (0), or one failed or something was never reached (1)."""
    totals, shown_at = Totals(first), time.monotonic()
    jobs = jobs or os.cpu_count() or 1
    pool = multiprocessing.get_context("fork").Pool(jobs, initializer=_ignore_interrupts)
    try:
        for result in pool.imap(attempt, range(first, first + seeds), chunksize=4):
            if isinstance(result, Failed):
                _report(result, totals)
                return 1
            totals.add(result)
            if not is_quiet and time.monotonic() - shown_at > PROGRESS_SECONDS:
                shown_at = time.monotonic()
                print(totals.line(), flush=True)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with FIRST={totals.next_seed}")
        print(totals.line())
        return 130
    finally:
        pool.terminate()
        pool.join()
    print(totals.table())
    print(totals.line())
    unreached = totals.unreached() if seeds >= REACHED_WITHIN else []
    if unreached:
        print(f"FAILED: never reached in {seeds} seeds: {', '.join(unreached)}")
        return 1
    return 0


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _report(failed: Failed, totals: Totals) -> None:
    print(totals.line())
    print(f"FAILED: seed {failed.seed}, step {failed.index} of the story\n{failed.told}")
    print(f"again: make simulate SEEDS=1 FIRST={failed.seed}")
    kept = {
        int(line.split()[0]) for line in KEPT.read_text().splitlines() if line and not line.startswith("#")
    }
    if failed.seed not in kept:
        with KEPT.open("a") as file:
            file.write(f"{failed.seed} {_why(failed.told)}\n")
        print(f"kept in {KEPT.name}: say there why it failed")


def _why(told: str) -> str:
    return " ".join(told.split("\n")[2:5])[:150]


def kept_seeds() -> list[int]:
    """Every seed that ever failed."""
    return [
        int(line.split()[0]) for line in KEPT.read_text().splitlines() if line and not line.startswith("#")
    ]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=None)
    asked = parser.parse_args()
    return simulate(asked.seeds, asked.first, asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
