"""A thing that was looked at: what was found, whether it is well, and what to do where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Check:
    """`advice` says what to do; a note is something that works, but not as well as it could."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""

    @classmethod
    def ok(cls, name: str, found: str) -> Check:
        return cls(name, "ok", found)

    @classmethod
    def note(cls, name: str, found: str, advice: str) -> Check:
        return cls(name, "note", found, advice)

    @classmethod
    def bad(cls, name: str, found: str, advice: str) -> Check:
        return cls(name, "bad", found, advice)
