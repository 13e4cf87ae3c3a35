"""Which class stands behind which tag.

A message is a frozen, slotted pydantic dataclass with a tag; its wire form is `[tag, field, ...]` in the
order of the fields. New fields go to the end and carry a default, so that an older sender is understood.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass


class Message:
    """Base of all messages; `decode` never returns anything else."""

    __slots__ = ()


M = TypeVar("M", bound=Message)
_CONFIG = ConfigDict(strict=True, arbitrary_types_allowed=True, revalidate_instances="never")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One message type: its tag, its class, its field names, and how many of them have no default."""

    tag: int
    cls: type[Message]
    fields: tuple[str, ...]
    required: int
    adapter: TypeAdapter[Any]


BY_TAG: dict[int, Entry] = {}
BY_CLASS: dict[type[Message], Entry] = {}


@dataclass_transform(frozen_default=True)
def message(tag: int) -> Callable[[type[M]], type[M]]:
    """Register a message type under `tag`; tags are never reused."""

    def register(plain: type[M]) -> type[M]:
        cls = cast(type[M], pydantic_dataclass(plain, frozen=True, slots=True, config=_CONFIG))
        specs = dataclasses.fields(cls)  # type: ignore[arg-type]
        required = sum(
            spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
            for spec in specs
        )
        entry = Entry(tag, cls, tuple(spec.name for spec in specs), required, TypeAdapter(cls))
        assert tag not in BY_TAG, f"tag {tag} is taken by {BY_TAG[tag].cls.__name__}"
        BY_TAG[tag] = entry
        BY_CLASS[cls] = entry
        return cls

    return register
