"""The rules for every request body: no coercion, no unknown names, null means absent, text is text.

Knows: pydantic. Does not know: any endpoint's parameters.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _utf8(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("half a surrogate pair is not text") from None
    return text


def _plain(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is not text") from None
    except ValueError:
        raise ValueError("NaN and infinity are not JSON") from None
    return value


T = TypeVar("T")
Utf8 = Annotated[str, AfterValidator(_utf8)]
Several = Annotated[list[T], Field(fail_fast=True)]
"""A list that is refused with its first bad item: a list of a million errors would be its own attack."""
JsonObject = Annotated[dict[str, Any], AfterValidator(_plain)]
"""Whatever JSON there is, where others know what it means."""


def few(most: int = 4096) -> BeforeValidator:
    """Of an object whose names the client chooses: refuses one with more of them, before it looks at any."""

    def checked(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"more than {most} entries")
        return value

    return BeforeValidator(checked)


class Unsupported(ValueError):
    """A parameter that others have and this API has not."""

    def __init__(self, param: str) -> None:
        super().__init__("not supported")
        self.param = param


class Inconsistent(ValueError):
    """A parameter that makes no sense beside the others."""

    def __init__(self, param: str, why: str) -> None:
        super().__init__(why)
        self.param = param


class Strict(BaseModel):
    """No coercion, no unknown names; null means absent."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        kept: dict[str, Any] = {}
        strange = False
        for name, value in data.items():
            foreign = name not in known and name in cls.neutral
            if value is None and (foreign or name in known):
                continue
            if foreign and value in cls.neutral[name]:
                continue
            if foreign:
                raise Unsupported(name)
            if name not in known:
                if strange:
                    continue  # one is enough for a refusal; a million would be a million errors
                strange = True
            kept[name] = value
        return kept
