"""A request's body, from bytes to a JSON value, in time and memory that its length bounds.

Knows: JSON, and what a hostile one looks like. Does not know: any endpoint's parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from xpod.router.api.errors import ERRORS, ApiError, bad_request

MOST_VALUES = 1 << 20
"""In lists and objects, all together: in memory, a byte of `[],[],` becomes fifty."""
MOST_NAMES = 1 << 16
"""Of values in objects; and so many lists and objects."""
MOST_QUOTES = 1 << 21
DEEPEST = 64
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)  # matches to the end where a quote is missing
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class BodyRequest(Request):
    """A request whose JSON is read here."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = read(await self.body())
        return self._json


class BodyRoute(APIRoute):
    """A route that gets such requests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def reading(request: Request) -> Response:
            return await handle(BodyRequest(request.scope, request.receive))

        return reading


def router(prefix: str = "") -> APIRouter:
    """For all routes of the API: their bodies are read here, and their refusals are documented."""
    return APIRouter(prefix=prefix, responses=ERRORS, route_class=BodyRoute)


def read(body: bytes) -> Any:
    """The value. Raises ApiError, or JSONDecodeError where it is none."""
    _check_size(body)
    try:
        return json.loads(body.decode(), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise bad_request(f"the body is not UTF-8: byte {error.start} is not part of a character") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # numbers of thousands of digits
        raise bad_request(f"the body is not JSON that can be read: {error}") from None


def _check_size(body: bytes) -> None:
    """Refuse what would take much memory or a deep stack, before it does."""
    if body.count(b'"') > MOST_QUOTES:
        raise _too_much(f"more than {MOST_QUOTES} quotation marks")
    bare = _STRING.sub(b"", body)
    brackets = bare.translate(None, _NOT_BRACKETS)
    if bare.count(b",") > MOST_VALUES:
        raise _too_much(f"more than {MOST_VALUES} values")
    if bare.count(b":") > MOST_NAMES:
        raise _too_much(f"more than {MOST_NAMES} names in objects")
    if len(brackets) > 2 * MOST_NAMES:
        raise _too_much(f"more than {MOST_NAMES} lists and objects")
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise _too_much(f"lists and objects {DEEPEST + 1} deep")


def _too_much(what: str) -> ApiError:
    return bad_request(f"the body has {what}", code="body_too_complex")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two values of one name mean that two readers may see two requests."""
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise bad_request(f"{twice!r} is there twice", twice, "invalid_value")
    return made
