"""What every HTTP request passes before the routes: request id, API key, body limit; and the net below them.

Knows: ASGI. Does not know: any route, except which paths need no key.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import nullcontext

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xpod.router.api.affinity import admit_as
from xpod.router.api.allowance import Allowance, allow
from xpod.router.api.errors import ApiError, internal
from xpod.router.api.keys import Keys
from xpod.router.api.operation_routes import OPEN_PATHS
from xpod.router.api.settings import ApiSettings

UNREAD = {"Connection": "close"}
"""Nobody reads the rest of the body, so nothing can come after it."""
SLOWEST_BYTES = 1 << 19
REQUEST_ID = re.compile(r"[!-~]{1,128}")
log = structlog.get_logger("xpod.router.api")


class Gate:
    """Outermost: whatever happens inside, the client gets an answer that has its request id."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._settings = settings
        self._keys = Keys(settings.api_keys, settings.api_keys_file)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = secrets.token_hex(16)
        began = False
        allowance: Allowance | None = None

        async def tagged(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                told = MutableHeaders(scope=message)
                told["x-request-id"] = request_id
                told.update({} if allowance is None else allowance.headers())
            await send(message)

        try:
            allowance = self._admit(scope, headers)
            with nullcontext() if allowance is None else allowance.while_open():
                await self._app(scope, self._limited(receive), tagged)
        except ApiError as refusal:
            await refusal.response()(scope, receive, tagged)
        except Exception:
            log.exception("request failed", path=scope["path"], request_id=request_id)
            if began:
                raise
            await internal().response()(scope, receive, tagged)

    def _admit(self, scope: Scope, headers: Headers) -> Allowance | None:
        """What bounds the request, if anything does. Raises ApiError."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._settings.max_body_bytes:
            raise self._too_large()
        if self._keys.needed and scope["path"] not in OPEN_PATHS:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            holder = self._keys.find(given.strip()) if scheme.lower() == "bearer" else None
            if holder is None:
                wrong = "the API key is wrong" if given else "an API key is needed: Authorization: Bearer KEY"
                challenge = {"WWW-Authenticate": "Bearer"}
                raise ApiError(
                    401, wrong, kind="authentication_error", code="invalid_api_key", headers=challenge
                )
            if holder.tenant:
                admit_as(scope, holder.tenant)
            if holder.account is not None and scope["method"] == "POST":
                allowance = Allowance(holder.account, self._keys.clock)
                allow(scope, allowance)
                return allowance
        return None

    def _limited(self, receive: Receive) -> Receive:
        """The body, if it is small enough and comes in time; then whatever comes after it."""
        loop = asyncio.get_running_loop()
        began, size, more = loop.time(), 0, True

        async def counted() -> Message:
            nonlocal size, more
            seconds = self._settings.body_seconds * (1 + size / SLOWEST_BYTES)
            try:
                async with asyncio.timeout_at(began + seconds if more else None):
                    message = await receive()
            except TimeoutError:
                late = f"the body was not there after {seconds:g} s"
                raise ApiError(
                    408, late, kind="timeout_error", code="request_timeout", headers=UNREAD
                ) from None
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size > self._settings.max_body_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> ApiError:
        limit = self._settings.max_body_bytes
        return ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large", headers=UNREAD)
