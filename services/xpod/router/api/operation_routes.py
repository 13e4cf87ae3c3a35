"""What operators and load balancers ask: health, readiness, metrics, version, load, the pod's status.

Knows: which question each path answers. Does not know: generation.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from xpod.router.api.answers import Load, PodStatus, Status, Targets, Version
from xpod.router.api.body import router
from xpod.router.api.context import Api
from xpod.router.api.engine_protocol import NotReady
from xpod.router.api.errors import of_engine
from xpod_runtime.errors import XpodError

OPEN_PATHS = frozenset(
    {"/health", "/ready", "/metrics", "/metrics/targets", "/version", "/load", "/openapi.json"}
)
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text form"}
}


def operation_routes(api: Api) -> APIRouter:
    routes = router()

    @routes.get("/health", responses={200: {"model": Status}})
    async def health() -> dict[str, str]:
        """This process lives; whatever the pod does."""
        return {"status": "ok"}

    @routes.get("/ready", responses={200: {"model": Status}})
    async def ready() -> dict[str, str]:
        """The pod can serve; else 503 with what is missing."""
        able, missing = api.engine.ready()
        if not able:
            raise of_engine(NotReady(missing))
        return {"status": "ready"}

    @routes.get("/metrics", response_class=Response, responses=_TEXT)
    async def metrics() -> Response:
        """What this router measures."""
        return Response(generate_latest(api.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/metrics/targets", responses={200: {"model": list[Targets]}})
    async def metrics_targets() -> list[dict[str, Any]]:
        """Who has /metrics, as Prometheus' `http_sd_configs` reads it."""
        return targets(api.engine.status()["members"])

    @routes.get("/version", responses={200: {"model": Version}})
    async def version() -> dict[str, str]:
        """xpod's version."""
        return {"version": api.settings.version}

    @routes.get("/load", responses={200: {"model": Load}})
    async def load() -> dict[str, int]:
        """How busy this router is."""
        return {"server_load": api.metrics.load()}

    @routes.get("/xpod/metrics/{member}", response_class=Response, responses=_TEXT)
    async def member_metrics(member: str) -> Response:
        """What a member measures, for those who reach this router alone."""
        try:
            text = await api.engine.metrics_of(member)
        except XpodError as error:
            raise of_engine(error) from error
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @routes.get("/xpod/status", responses={200: {"model": PodStatus}})
    async def status() -> dict[str, Any]:
        """Members and placement."""
        return api.engine.status()

    return routes


def targets(members: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One target for each member that lives and tells where its metrics are, with its name and kind as labels."""
    found = []
    for member in members:
        url = urlsplit(str(member["detail"].get("metrics", "")))
        if url.netloc and member["state"] != "down":
            labels = {"member": member["id"], "kind": member["kind"]}
            if url.scheme == "https":
                labels["__scheme__"] = url.scheme
            found.append({"targets": [url.netloc], "labels": labels})
    return found
