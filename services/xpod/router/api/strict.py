"""The rules for every request body: no coercion, no unknown names, null means absent, text is text.

Knows: pydantic. Does not know: any endpoint's parameters.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema


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


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: schema[name] for name in ("title", "description", "default") if name in schema
    }
    rest = {name: value for name, value in schema.items() if name not in told}
    return {"anyOf": [rest, {"type": "null"}], **told}


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

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    neutral: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Null means absent, so it is allowed wherever nothing is."""
        told = handler(schema)
        found = handler.resolve_ref_schema(told)
        needed = found.get("required", [])
        told_of = {field.alias or name: field.description for name, field in cls.model_fields.items()}
        for name, each in found.get("properties", {}).items():
            if told_of.get(name):
                each["description"] = told_of[name]
            if name not in needed and {"type": "null"} not in each.get("anyOf", []):
                found["properties"][name] = _or_null(each)
        return told

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
