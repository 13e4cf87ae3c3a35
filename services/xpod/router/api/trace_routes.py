"""Traces of requests: one of them, or the newest.

Knows: paths, and that nobody sees what is another's. Does not know: where spans are.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Query, Request

from xpod.router.api.affinity import tenant_name
from xpod.router.api.body import router
from xpod.router.api.errors import ApiError


class Traces(Protocol):
    """See `xpod.router.traces`."""

    async def find(self, request: str, tenant: str) -> dict[str, Any] | None: ...

    async def newest(self, most: int, tenant: str) -> list[dict[str, Any]]: ...


def trace_routes(traces: Traces) -> APIRouter:
    routes = router()

    @routes.get("/xpod/trace/{request}")
    async def trace(request: str, http: Request) -> dict[str, Any]:
        """What was done for a request: by its answer's id, its session, or its trace."""
        found = await traces.find(request, tenant_name(http.scope))
        if found is None:
            raise ApiError(404, f"no member remembers a request {request[:100]!r}", code="trace_not_found")
        return found

    @routes.get("/xpod/traces")
    async def newest(
        http: Request, most: Annotated[int, Query(ge=1, le=1000)] = 20
    ) -> dict[str, list[dict[str, Any]]]:
        """The newest requests, the newest first."""
        return {"requests": await traces.newest(most, tenant_name(http.scope))}

    return routes
