"""The forms in which models write calls of functions: which one is a model's own says its chat template.

Knows: what reads each form. Does not know: how (see `json_calls`, `tagged_calls`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

from xpod.router.api.call_reader import CallReader
from xpod.router.api.json_calls import JsonCalls
from xpod.router.api.tagged_calls import TaggedCalls

CallForm = Literal["json", "tagged"]


class Described(Protocol):
    """A function, as far as a reader has to know it."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any] | None:
        """The schema of its arguments."""


def reader_of(form: CallForm, session: str, functions: Iterable[Described]) -> CallReader:
    """Reads one answer of a model that may call these."""
    if form == "json":
        return JsonCalls(session)
    return TaggedCalls(session, {each.name: each.parameters or {} for each in functions})
