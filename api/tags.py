"""Entity tags: the version that an answer is true at, and a digest of what it says but for its instant."""

from __future__ import annotations

import re
from zlib import crc32

from domain.ledger import OnlyAt

TAG_PATTERN = r'^(\*|"(team-)?[0-9]{1,18}(-[0-9a-f]{8})?")$'

_TAG = re.compile(r'"(?P<team>team-)?(?P<version>[0-9]{1,18})(?:-[0-9a-f]{8})?"', re.ASCII)
_VERSION = re.compile(rb'"(team_)?version":([0-9]{1,18})')
_INSTANT = re.compile(rb'"(?:position":[0-9]+|as_of":"[^"]{1,40}")')


def tag_of(body: bytes) -> str | None:
    """The tag of an answer, None for one without a version: ``"12-4f9b20dc"``, or ``"team-5-…"`` of people and paperwork.

    What an answer says can change while the version stays (a lot lapses, a window turns), so the tag has a digest besides; only
    where the answer was computed (``as_of``, ``position``) does not count. The version is what ``If-Match`` compares.
    """
    told = _VERSION.search(body, 0, 400)
    if told is None:
        return None
    team = "team-" if told[1] else ""
    return f'"{team}{int(told[2])}-{crc32(_INSTANT.sub(b"", body)):08x}"'


def matches(if_none_match: str, tag: str) -> bool:
    """Whether the caller has the answer with the tag already; weak tags are compared like strong ones."""
    return any(each.strip().removeprefix("W/") in {tag, "*"} for each in if_none_match.split(","))


def only_at(tag: str) -> OnlyAt:
    """The version that a tag of the right form names."""
    found = _TAG.fullmatch(tag)
    assert found is not None, "the header was checked"
    version = int(found["version"])
    return OnlyAt(team_version=version) if found["team"] else OnlyAt(version=version)
