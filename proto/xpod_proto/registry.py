"""Which class stands behind which tag.

A message is a frozen, slotted pydantic dataclass with a tag; its wire form is `[tag, field, ...]` in the
order of the fields. New fields go to the end and carry a default, so that an older sender is understood.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_args, get_origin, get_type_hints

from annotated_types import Ge
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
    `bare`: nothing but tensors and whole numbers that may be any from 0 on; `tensors` says which is which, and `make`
    makes a message of such values, all of them, without looking at them again.
    """

    tag: int
    cls: type[Message]
    fields: tuple[str, ...]
    required: int
    adapter: TypeAdapter[Any]
    values: Callable[[Message], tuple[Any, ...]]
    bulky: bool
    bare: bool
    tensors: tuple[bool, ...]
    make: Callable[..., Message]


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


def _is_bare(hint: Any) -> bool:
    """A tensor, or a number about which nothing is said but that it is 0 or more."""
    if hint is Tensor:
        return True
    bounds = [bound for field in get_args(hint)[1:] for bound in getattr(field, "metadata", (field,))]
    return _kind(hint) is int and bounds == [Ge(0)]


def _maker(cls: type[M], names: tuple[str, ...]) -> Callable[..., M]:
    """What `cls(*values)` gives, without validation."""
    setters = [cls.__dict__[name].__set__ for name in names]

    def make(*values: Any) -> M:
        made = object.__new__(cls)
        for setter, value in zip(setters, values, strict=True):
            setter(made, value)
        return made

    return make


def maker_of(cls: type[M]) -> Callable[..., M]:
    """What `cls(*values)` gives where all values are known to fit: a quicker way for what is said very often."""
    return cast(Callable[..., M], BY_CLASS[cls].make)


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
        hints = list(get_type_hints(cls, include_extras=True).values())
        kinds = [_kind(hint) for hint in hints]
        entry = Entry(
            tag,
            cls,
            names,
            required,
            TypeAdapter(cls),
            _getter(names),
            bulky=any(kind is Tensor or _holds_parts(kind) for kind in kinds),
            bare=bool(names) and all(map(_is_bare, hints)),
            tensors=tuple(kind is Tensor for kind in kinds),
            make=_maker(cls, names),
        )
        assert tag not in BY_TAG, f"tag {tag} is taken by {BY_TAG[tag].cls.__name__}"
        BY_TAG[tag] = entry
        BY_CLASS[cls] = entry
        return cls

    return register
