"""Names and texts that hledger, ledger and beancount all read alike: ASCII, and no two things of ours under one name.

A part of an account's name is made of letters, digits and single dashes and begins with a capital or a digit, which is the
narrowest of the three (beancount). Whatever else an id has in it is written as two dashes and the two hex digits of each byte:
``image.generate`` is ``Image--2egenerate``. An id that begins otherwise than with a small letter or a digit is marked by
``X---``: ``acme`` is ``Acme``, ``Acme`` is ``X---Acme``. Every name reads back as exactly one id.
"""

from __future__ import annotations

import re
from functools import lru_cache

from projections.books import AccountKind, BookAccount

MARK = "X---"
_ROOTS: dict[AccountKind, str] = {
    "lot": "Assets:{team}:Lots:{name}",
    "held": "Assets:{team}:Held:{name}",
    "withheld": "Assets:{team}:Withheld:{name}",
    "debt": "Liabilities:{team}:Debt",
    "difference": "Equity:Difference:{team}",
    "issued": "Equity:Issued:{name}:{team}",
    "adjusted": "Equity:Adjusted:{team}",
    "breakage": "Equity:Breakage:{team}",
    "voided": "Equity:Voided:{team}",
    "charged_back": "Equity:ChargedBack:{team}",
    "used": "Income:Used:{name}:{period}:{team}",
}
_PLAIN = re.compile(r"[a-z0-9][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*", re.ASCII)
_ESCAPED = re.compile(r"[^A-Za-z0-9-]|-(?![A-Za-z0-9])", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9 ._@~+/()'!?<>#&*=-]|^ | $", re.ASCII)


def account_name(team_id: str, account: BookAccount) -> str:
    """The account's full name in the books of that team."""
    return _ROOTS[account.kind].format(
        team=name_part(team_id), name=name_part(account.name), period=account.period
    )


@lru_cache(maxsize=4096)
def name_part(text: str) -> str:
    """The text as one part of an account's name."""
    if _PLAIN.fullmatch(text):
        return text[0].upper() + text[1:]
    if text[:1].isascii() and (text[:1].islower() or text[:1].isdigit()):
        return text[0].upper() + _escaped(text)[1:]
    return MARK + _escaped(text)


def text_of(part: str) -> str:
    """The text that a part of an account's name was made of."""
    marked = part.startswith(MARK)
    text = part.removeprefix(MARK) if marked else part[:1].lower() + part[1:]
    raw = re.sub(rb"--([0-9a-f]{2})", lambda byte: bytes.fromhex(byte[1].decode()), text.encode())
    return raw.decode(errors="surrogatepass")


def safe_text(text: str) -> str:
    """Free text in which nothing reads as a tag, a date or a comment: other characters are %-coded, as in an address."""
    return _UNSAFE.sub(lambda sign: "".join(f"%{byte:02x}" for byte in _bytes(sign[0])), text)


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda sign: "".join(f"--{byte:02x}" for byte in _bytes(sign[0])), text)


def _bytes(sign: str) -> bytes:
    return sign.encode(errors="surrogatepass")
