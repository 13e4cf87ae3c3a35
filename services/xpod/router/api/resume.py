"""Where a stream was when its client lost it: the ids of its events, and what a `Last-Event-ID` says.

Any router can go on from there: with the seed, which is in it, the request gives the same tokens anywhere. Knows the
form of an id. Does not know who else remembers the session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ID = re.compile(r"(s[0-9a-z]{1,40})\.([0-9]{1,19})\.([0-9]{1,9})")
HEADER = "last-event-id"


@dataclass(frozen=True, slots=True)
class Place:
    """Token `index` of a session was the last that arrived."""

    session: str
    seed: int
    index: int

    def __str__(self) -> str:
        return f"{self.session}.{self.seed}.{self.index}"

    @classmethod
    def of(cls, header: str | None) -> Place | None:
        """None where there is no id, or not one of ours."""
        found = _ID.fullmatch(header or "")
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))
