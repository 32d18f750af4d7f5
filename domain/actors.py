"""Who caused an event: a person, a key or a machine, and the role in which it acted."""

from __future__ import annotations

import msgspec


class Actor(msgspec.Struct, frozen=True):
    """Who did it, and in which role."""

    id: str
    role: str
