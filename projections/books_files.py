"""The books as files that other programs check: a journal for hledger and ledger, directives for beancount.

Amounts are whole micro-credits, a commodity of their own: all three programs add integers exactly, and beancount, which forgives
a difference in the last place of a decimal, forgives none between integers. In a journal every posting asserts the claimed
balance after it; beancount asserts at the starts of days, so there the claims of a day stand at the start of the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, timedelta
from typing import Literal

from domain.times import instant_text
from projections.books import BookAccount, BookEntry
from projections.books_names import account_name, safe_text

BookFormat = Literal["hledger", "ledger", "beancount"]
COMMODITY = "MICROCREDIT"
TAGS = ("recorded", "effective", "charge", "hold", "by", "reason")
CHECKS: dict[BookFormat, str] = {
    "hledger": "hledger -f FILE check --strict",
    "ledger": "ledger --pedantic -f FILE balance",
    "beancount": "bean-check FILE",
}
_ABOUT = f"""\
Books of a credits ledger. Check them with: {{check}}
Amounts are whole micro-credits: 1000000 {COMMODITY} are one credit.
The postings are made from the amounts of the events, the asserted balances are those of the account's own state.
Assets are the team's credits: in lots, set aside in holds, withheld by chargebacks. Income:Used is what charges took,
less refunds, by action and by the calendar month (UTC) in which the usage occurred.
The code of an entry is the version that the event made. Other characters than plain ones are written in hex:
--2e in the name of an account and %2e in a text are a full stop."""


def lines_of(entries: Iterable[BookEntry], style: BookFormat) -> Iterator[str]:
    """The lines of the books of one team after another, each without its end; the entries of a team stand together."""
    writer = BeancountLines() if style == "beancount" else JournalLines()
    yield from writer.head(style)
    for entry in entries:
        yield from writer.lines(entry)


class JournalLines:
    """Lines for hledger and ledger, which read the same."""

    def __init__(self) -> None:
        self._names = _Names()

    def head(self, style: BookFormat) -> Iterator[str]:
        """What the file is, its commodity and its tags."""
        yield from (f"; {line}" for line in _ABOUT.format(check=CHECKS[style]).splitlines())
        yield ""
        yield f"commodity {COMMODITY}"
        yield from (f"tag {tag}" for tag in TAGS)

    def lines(self, entry: BookEntry) -> Iterator[str]:
        """The entry, after the names of accounts that are new with it."""
        self._names.of_team(entry.team_id)
        new = self._names.learn(entry)
        yield ""
        if new:
            yield from (f"account {name}" for name in new)
            yield ""
        what = "end of the books" if entry.is_end else entry.kind
        yield f"{_day(entry)} ({entry.version}) {safe_text(entry.team_id)} | {what}"
        yield from (f"    ; {tag}: {text}" for tag, text in _tags(entry))
        for account, change, claimed in entry.postings:
            claim = "" if claimed is None else f" = {claimed} {COMMODITY}"
            yield f"    {self._names[account]}  {change} {COMMODITY}{claim}"


class BeancountLines:
    """Lines for beancount: its transactions, and the claims of each day."""

    def __init__(self) -> None:
        self._names = _Names()
        self._claims: dict[BookAccount, tuple[int, int]] = {}
        self._day: date | None = None

    def head(self, style: BookFormat) -> Iterator[str]:
        """What the file is."""
        yield from (f"; {line}" for line in _ABOUT.format(check=CHECKS[style]).splitlines())
        yield ""
        yield 'option "title" "Books of a credits ledger"'
        yield f'option "operating_currency" "{COMMODITY}"'

    def lines(self, entry: BookEntry) -> Iterator[str]:
        """The entry, after the claims of a day that has ended and the accounts that are new; at the end the last claims."""
        day = _day(entry)
        if day != self._day:
            yield from self._day_ended()
        self._day = day
        self._names.of_team(entry.team_id)
        yield ""
        yield from (f"{day} open {name} {COMMODITY}" for name in self._names.learn(entry))
        if not entry.is_end:
            yield from self._transaction(day, entry)
        for account, _, claimed in entry.postings:
            if claimed is not None:
                self._claims[account] = (claimed, entry.version)
        if entry.is_end:
            yield from self._day_ended()
            self._day = None

    def _transaction(self, day: date, entry: BookEntry) -> Iterator[str]:
        yield f'{day} * "{safe_text(entry.team_id)}" "{entry.kind}"'
        yield f"  version: {entry.version}"
        yield from (f'  {tag}: "{text}"' for tag, text in _tags(entry))
        for account, change, _ in entry.postings:
            yield f"  {self._names[account]}  {change} {COMMODITY}"

    def _day_ended(self) -> Iterator[str]:
        if self._day is None:
            return
        next_day = self._day + timedelta(days=1)
        for account, (claimed, version) in self._claims.items():
            yield f"{next_day} balance {self._names[account]}  {claimed} {COMMODITY}"
            yield f"  version: {version}"
        self._claims = {}


class _Names:
    """The names of one team's accounts that were met so far."""

    def __init__(self) -> None:
        self._team_id: str | None = None
        self._names: dict[BookAccount, str] = {}

    def of_team(self, team_id: str) -> None:
        """The next names are those of this team."""
        if team_id != self._team_id:
            self._team_id, self._names = team_id, {}

    def learn(self, entry: BookEntry) -> list[str]:
        """The names in the entry that were not met before."""
        new = [posting.account for posting in entry.postings if posting.account not in self._names]
        for account in new:
            self._names[account] = account_name(entry.team_id, account)
        return [self._names[account] for account in new]

    def __getitem__(self, account: BookAccount) -> str:
        return self._names[account]


def _day(entry: BookEntry) -> date:
    return entry.recorded_at.astimezone(UTC).date()


def _tags(entry: BookEntry) -> Iterator[tuple[str, str]]:
    yield "recorded", instant_text(entry.recorded_at)
    if entry.effective_at != entry.recorded_at:
        yield "effective", instant_text(entry.effective_at)
    if entry.charge_id is not None:
        yield "charge", safe_text(entry.charge_id)
    if entry.hold_id is not None:
        yield "hold", safe_text(entry.hold_id)
    if entry.actor:
        yield "by", safe_text(entry.actor)
    if entry.reason:
        yield "reason", safe_text(entry.reason)
