"""Validation failures as refusals that name the parameter.

Knows: pydantic's error lists. Does not know: what the parameters mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xpod.router.api.errors import ApiError, bad_request

_MOST = 4
# Objects with named parts; in any other parameter a name in the path is a key that the client chose.
_NESTED = {"input", "messages", "stream_options", "text", "tool_choice", "tools"}
_UNION = {"str", "TextPart"}
_TAG = "is "
"""Begins pydantic's names of the members of tagged unions."""


def of_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """One refusal for a list of errors: the first parameter that is wrong, and why."""
    path = _path(errors[0]["loc"])
    same = [error for error in errors[:64] if _path(error["loc"])[:1] == path[:1]]
    reasons = list(dict.fromkeys(_reason(error) for error in same))[:_MOST]
    first = errors[0]
    if first["type"] == "json_invalid":
        return bad_request(f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
    if not path and first["type"] != "value_error":
        return bad_request("the body must be a JSON object, sent with Content-Type: application/json")
    if first["type"] == "extra_forbidden":
        unknown = str(first["loc"][-1])
        within = "" if path[-1:] == [unknown] else f" in {_spell(path)}"
        what = f"{unknown!r}{within}" if within else _spell(path)
        return bad_request(f"unknown parameter: {what}", _spell(path), "unknown_parameter")
    if first["type"] == "missing":
        return bad_request(f"{_spell(path)} is required", _spell(path), "missing_required_parameter")
    named = getattr(first.get("ctx", {}).get("error"), "param", None)
    return _refuse([*path, *([named] if named else [])], reasons)


def _refuse(path: list[str | int], reasons: list[str]) -> ApiError:
    param = list(path)
    while param and isinstance(param[-1], int):
        param.pop()
    where = f"{_spell(path)}: " if path else ""
    return bad_request(where + ", or ".join(reasons), _spell(param) or None, "invalid_value")


def _path(loc: Sequence[str | int]) -> list[str | int]:
    """Where the error is, without pydantic's names of union members."""
    path: list[str | int] = []
    for part in loc[1:]:
        if isinstance(part, str) and part.startswith(_TAG):
            continue
        inner = path and isinstance(part, str)
        if inner and (path[0] not in _NESTED or not str(part).isidentifier() or part in _UNION):
            break
        path.append(part)
    return path


def _spell(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _reason(error: Mapping[str, Any]) -> str:
    text: str = error["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
