"""Every refusal and failure as OpenAI's error object.

Knows: the envelope, its types and codes, and which status belongs to which engine error.
Does not know: routes, or what was being attempted.
"""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from xpod.router.api.engine_protocol import KeyReused, NotReady, Overloaded, SessionError, UnknownMember
from xpod.router.api.json_body import dump
from xpod_runtime.errors import XpodError

RETRY_SOON = 1.0
LONGEST = 500
SESSION_ERRORS = {
    "queue_timeout": (408, "timeout_error", True),
    "deadline_exceeded": (408, "timeout_error", True),
    "no_worker": (503, "service_unavailable_error", True),
    "experts_unavailable": (503, "service_unavailable_error", True),
}
"""Status and type for a code, and whether another try may help."""
REFUSED_BY_WORKERS = frozenset({"context_length_exceeded", "bad_request", "bad_grammar"})


class ErrorDetail(BaseModel):
    """`param` names the offending parameter; `code` is stable and short."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}


class ApiError(HTTPException):
    """A refusal with a status, told to the client in one line."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        message = _shown(message)
        param = None if param is None else _shown(param)
        super().__init__(status, message, headers)
        detail = {"message": message, "type": kind, "param": param, "code": code}
        self.body: dict[str, dict[str, str | None]] = {"error": detail}

    def response(self) -> Response:
        headers = dict(self.headers or {})
        return Response(dump(self.body), self.status_code, headers, media_type="application/json")


def _shown(text: str) -> str:
    """One line of bounded length, whatever the client sent."""
    return " ".join(text.split())[:LONGEST]


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400 that names the parameter."""
    return ApiError(400, message, param=param, code=code)


def _retry(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def of_engine(error: XpodError) -> ApiError:
    """The refusal that stands for an error of the engine."""
    text = str(error)
    match error:
        case NotReady():
            headers = _retry(RETRY_SOON)
            return ApiError(503, text, kind="service_unavailable_error", code=error.code, headers=headers)
        case Overloaded():
            headers = _retry(error.retry_after)
            return ApiError(429, text, kind="rate_limit_error", code=error.code, headers=headers)
        case KeyReused() | UnknownMember():
            status, param = (422, "idempotency-key") if isinstance(error, KeyReused) else (404, "member")
            return ApiError(status, text, param=param, code=error.code)
        case SessionError() if error.code in REFUSED_BY_WORKERS:
            return bad_request(text, code=error.code)
        case SessionError():
            return _of_session(text, error.code)
        case _:
            return ApiError(503, text, kind="server_error", code=error.code, headers=_retry(RETRY_SOON))


def _of_session(text: str, code: str) -> ApiError:
    if code in REFUSED_BY_WORKERS:
        return bad_request(text, code=code)
    status, kind, may_retry = SESSION_ERRORS.get(code, (500, "server_error", False))
    return ApiError(status, text, kind=kind, code=code, headers=_retry(RETRY_SOON) if may_retry else None)


def internal() -> ApiError:
    """The answer to a failure that nobody foresaw; the log has the details."""
    return ApiError(
        500, "internal error; the router's log has the details", kind="server_error", code="internal"
    )
