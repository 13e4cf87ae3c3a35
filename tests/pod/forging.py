"""Messages that are well formed and mean harm: any type, with names and numbers that are nearly right."""

from __future__ import annotations

import math
import random
import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from xpod_proto import Message, Tensor
from xpod_proto.registry import BY_CLASS, BY_TAG, Entry

ITEM_SIZES = {"u8": 1, "u16": 2, "bf16": 2, "i32": 4, "u32": 4, "fp32": 4, "i64": 8}
ENTRIES = [BY_TAG[tag] for tag in sorted(BY_TAG)]
INTEGERS = (0, 1, 2, 3, 7, 16, 31, 64, 255, 4096, -1, 2**31, 2**40, 2**63 - 1)
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-9, 1e30)


class Forger:
    """`names` are of members that exist; ids of sessions are drawn at random and nobody hears those of others."""

    def __init__(self, seed: int, names: Sequence[str]) -> None:
        self._random = random.Random(seed)
        self._names = [*names, "", "nobody", "a" * 300, "tab\t", "\u202e"]

    def message(self, entry: Entry) -> Message:
        """One of that type; every annotation is kept, for others are refused before anybody sees them."""
        found = get_type_hints(entry.cls, include_extras=True)
        return entry.cls(**{name: self._value(found[name]) for name in entry.fields})

    def garbage(self) -> bytes:
        return self._random.randbytes(self._random.choice([0, 1, 17, 300]))

    def _value(self, hint: Any) -> Any:
        origin, args = get_origin(hint), get_args(hint)
        if origin is None:
            return self._simple(hint)
        if origin is Annotated:
            bounds = [bound for field in args[1:] if isinstance(field, FieldInfo) for bound in field.metadata]
            return self._bounded(args[0], bounds) if args[0] in (int, float) else self._value(args[0])
        if origin in (Union, types.UnionType):
            return self._value(self._random.choice(args))
        count = self._random.choice([0, 1, 2, 5])
        if origin is dict:
            return {self._value(args[0]): self._value(args[1]) for _ in range(count)}
        if args[1:] == (Ellipsis,):
            return tuple(self._value(args[0]) for _ in range(count))
        return tuple(self._value(arg) for arg in args)

    def _simple(self, kind: Any) -> Any:
        if kind is type(None):
            return None
        if kind is Tensor:
            return self._tensor()
        if kind in BY_CLASS:
            return self.message(BY_CLASS[kind])
        if kind is bytes:
            return self._random.randbytes(self._random.choice([0, 1, 8, 16, 32, 320]))
        choices: dict[Any, Sequence[Any]] = {
            str: self._names,
            bool: (False, True),
            int: INTEGERS,
            float: FLOATS,
        }
        return self._random.choice(choices[kind])

    def _bounded(self, kind: type, bounds: list[Any]) -> Any:
        low = next(
            (v for b in bounds if (v := getattr(b, "ge", getattr(b, "gt", None))) is not None), -math.inf
        )
        high = next((v for b in bounds if (v := getattr(b, "le", None)) is not None), math.inf)
        strict = any(hasattr(bound, "gt") for bound in bounds)
        fitting = [
            value
            for value in (INTEGERS if kind is int else FLOATS)
            if low <= value <= high and not (strict and value == low)
        ]
        return self._random.choice(fitting)

    def _tensor(self) -> Tensor:
        dtype = self._random.choice(sorted(ITEM_SIZES))
        shape = tuple(self._random.choice([0, 1, 2, 3, 8, 16, 32]) for _ in range(self._random.randrange(4)))
        return Tensor(dtype, shape, self._random.randbytes(math.prod(shape) * ITEM_SIZES[dtype]))
