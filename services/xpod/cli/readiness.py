"""Whether a pod that was just started can serve, and is whole.

Knows: `/ready` and `/xpod/status` of every router.
Does not know: processes, or what happens when the answer is no.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import httpx

from xpod.cli.trust import context, credentials

REQUEST_SECONDS = 2.0
WHOLE_SECONDS = 20.0
"""A pod that can serve is waited for so long to be whole; then it is good enough."""


class ReadyProbe:
    """Ready: every router says so, and every member is up. Give it to a Launcher, and close it afterwards."""

    def __init__(
        self, endpoints: Sequence[str], members: Sequence[str], whole_seconds: float = WHOLE_SECONDS
    ) -> None:
        self._endpoints = endpoints
        self._members = frozenset(members)
        self._whole_seconds = whole_seconds
        self._serving_since: float | None = None
        self._client = httpx.AsyncClient(
            timeout=REQUEST_SECONDS, trust_env=False, headers=credentials(), verify=context()
        )
        self.missing: tuple[str, ...] = ()

    async def __call__(self) -> str:
        """Why the pod is not ready; empty when it is. `missing` then names the members that are not there yet."""
        reasons = await asyncio.gather(*(self._not_ready(url) for url in self._endpoints))
        for reason in reasons:
            if reason:
                self._serving_since = None
                return reason
        self.missing = await self._absent()
        now = time.monotonic()
        self._serving_since = self._serving_since or now
        if self.missing and now - self._serving_since < self._whole_seconds:
            return f"not up yet: {', '.join(self.missing)}"
        return ""

    async def close(self) -> None:
        await self._client.aclose()

    async def _not_ready(self, url: str) -> str:
        try:
            answer = await self._client.get(f"{url}/ready")
        except httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return f"{url} is not trusted (--ca, or --public-host as in the certificate): {error}"
            return f"{url} does not answer ({type(error).__name__})"
        return "" if answer.status_code == httpx.codes.OK else reason_of(answer)

    async def _absent(self) -> tuple[str, ...]:
        """Members that some router does not count as up; a router without a status does not say."""
        views = await asyncio.gather(*(self._up_members(url) for url in self._endpoints))
        return tuple(
            sorted({member for view in views if view is not None for member in self._members - view})
        )

    async def _up_members(self, url: str) -> frozenset[str] | None:
        try:
            answer = await self._client.get(f"{url}/xpod/status")
            if answer.status_code != httpx.codes.OK:
                return None
            members: list[dict[str, Any]] = answer.json()["members"]
            return frozenset(str(member["id"]) for member in members if member.get("state") == "up")
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None


def reason_of(answer: httpx.Response) -> str:
    """What a router gives as its reason, whatever shape it has; in one line."""
    try:
        body = answer.json()
    except ValueError:
        return " ".join(answer.text.split())[:300] or f"HTTP {answer.status_code}"
    return _reason_in(body) or f"HTTP {answer.status_code}"


def _reason_in(body: object) -> str:
    if isinstance(body, str):
        return " ".join(body.split())
    if isinstance(body, dict):
        for key in ("error", "message", "reason", "detail", "status"):
            if body.get(key):
                return _reason_in(body[key])
    return ""
