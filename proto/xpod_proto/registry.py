"""Which class stands behind which tag.

A message is a frozen, slotted pydantic dataclass with a tag; its wire form is `[tag, field, ...]` in the
order of the fields. New fields go to the end and carry a default, so that an older sender is understood.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_args, get_origin

from pydantic import ConfigDict, FailFast, TypeAdapter
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


def _fail_fast(hint: Any) -> Any:
    """Collections stop at their first bad item: an error for each of a million would take a gigabyte."""
    origin = get_origin(hint)
    if origin not in (tuple, dict):
        return hint
    return Annotated[origin[tuple(_fail_fast(part) for part in get_args(hint))], FailFast()]


@dataclass_transform(frozen_default=True)
def message(tag: int) -> Callable[[type[M]], type[M]]:
    """Register a message type under `tag`; tags are never reused."""

    def register(plain: type[M]) -> type[M]:
        plain.__annotations__ = {name: _fail_fast(hint) for name, hint in plain.__annotations__.items()}
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
