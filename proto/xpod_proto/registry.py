"""Which class stands behind which tag.

A message is a frozen, slotted pydantic dataclass with a tag; its wire form is `[tag, field, ...]` in the
order of the fields. New fields go to the end and carry a default, so that an older sender is understood.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, FailFast, TypeAdapter
from pydantic.dataclasses import dataclass as pydantic_dataclass

from xpod_proto.tensor import Tensor


class Message:
    """Base of all messages; `decode` never returns anything else."""

    __slots__ = ()


M = TypeVar("M", bound=Message)
_CONFIG = ConfigDict(strict=True, arbitrary_types_allowed=True, revalidate_instances="never")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One message type: its tag, its class, its field names, and how many of them have no default.

    `values` gives a message's fields in order. `bulky`: tensors, or tuples of parts that have some, are among them.
    `bare`: nothing but tensors and whole numbers.
    """

    tag: int
    cls: type[Message]
    fields: tuple[str, ...]
    required: int
    adapter: TypeAdapter[Any]
    values: Callable[[Message], tuple[Any, ...]]
    bulky: bool
    bare: bool


BY_TAG: dict[int, Entry] = {}
BY_CLASS: dict[type[Message], Entry] = {}


def _fail_fast(hint: Any) -> Any:
    """Collections stop at their first bad item: an error for each of a million would take a gigabyte."""
    origin = get_origin(hint)
    if origin not in (tuple, dict):
        return hint
    return Annotated[origin[tuple(_fail_fast(part) for part in get_args(hint))], FailFast()]


def _kind(hint: Any) -> Any:
    """The annotation without its constraints."""
    return _kind(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def _holds_parts(kind: Any) -> bool:
    parts = get_args(kind) if get_origin(kind) is tuple else ()
    return any(isinstance(part, type) and part in BY_CLASS and BY_CLASS[part].bulky for part in parts)


def _getter(names: tuple[str, ...]) -> Callable[[Message], tuple[Any, ...]]:
    if len(names) > 1:
        return cast(Callable[[Message], tuple[Any, ...]], operator.attrgetter(*names))
    return lambda message: tuple(getattr(message, name) for name in names)


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
        names = tuple(spec.name for spec in specs)
        kinds = [_kind(hint) for hint in get_type_hints(cls, include_extras=True).values()]
        entry = Entry(
            tag,
            cls,
            names,
            required,
            TypeAdapter(cls),
            _getter(names),
            bulky=any(kind is Tensor or _holds_parts(kind) for kind in kinds),
            bare=bool(names) and all(kind in (Tensor, int) for kind in kinds),
        )
        assert tag not in BY_TAG, f"tag {tag} is taken by {BY_TAG[tag].cls.__name__}"
        BY_TAG[tag] = entry
        BY_CLASS[cls] = entry
        return cls

    return register
