"""The rules for every request body: no coercion, no unknown names, null means absent, text is text.

Knows: pydantic. Does not know: any endpoint's parameters.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator


def _utf8(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("half a surrogate pair is not text") from None
    return text


Utf8 = Annotated[str, AfterValidator(_utf8)]


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
        known = cls.model_fields.keys()
        kept = {}
        for name, value in data.items():
            foreign = name not in known and name in cls.neutral
            if value is None and (foreign or name in known):
                continue
            if foreign and value in cls.neutral[name]:
                continue
            if foreign:
                raise Unsupported(name)
            kept[name] = value
        return kept
