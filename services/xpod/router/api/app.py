"""The router's HTTP application, put together.

Knows: which routes, handlers and middleware there are. Does not know: what they do, or which server runs it.
"""

from __future__ import annotations

import time

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.responses import Response

from xpod.router.api.completion_routes import completion_routes
from xpod.router.api.context import Api
from xpod.router.api.embedding_routes import embedding_routes
from xpod.router.api.engine_protocol import Engine
from xpod.router.api.errors import ApiError
from xpod.router.api.gate import Gate
from xpod.router.api.metrics import Metrics
from xpod.router.api.openapi import describe
from xpod.router.api.operation_routes import operation_routes
from xpod.router.api.refusals import of_validation
from xpod.router.api.request_trace import Sampling, Traced
from xpod.router.api.responses.desk import Desk
from xpod.router.api.responses.record import Shelf
from xpod.router.api.responses.routes import response_routes
from xpod.router.api.settings import ApiSettings
from xpod.router.api.text_protocol import Text
from xpod.router.api.token_routes import token_routes
from xpod.router.api.trace_routes import Traces, trace_routes


def make_app(
    engine: Engine,
    text: Text,
    settings: ApiSettings,
    registry: CollectorRegistry | None = None,
    *,
    shelf: Shelf | None = None,
    sampling: Sampling | None = None,
    traces: Traces | None = None,
) -> FastAPI:
    """The application; `registry` lets the caller publish metrics of its own on /metrics.

    Responses are kept on `shelf`; its `state.desk` is where they are asked for. With `sampling`, requests are traced;
    with `traces`, these can be asked for.
    """
    metrics = Metrics(engine.model_name, registry, queued=lambda: engine.waiting)
    api = Api(engine, text, settings, metrics, int(time.time()))
    app = FastAPI(
        title="xpod",
        version=settings.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,
    )
    app.state.desk = desk = Desk(api, shelf)
    for routes in (
        completion_routes(api),
        response_routes(api, desk),
        embedding_routes(api),
        token_routes(api),
        operation_routes(api),
    ):
        app.include_router(routes)
    if traces is not None:
        app.include_router(trace_routes(traces))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.openapi = describe(app)  # type: ignore[method-assign]
    if sampling is not None:
        app.add_middleware(Traced, sampling=sampling)
    app.add_middleware(Gate, settings=settings)
    return app


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return of_validation(error.errors()).response()


async def _refused(request: Request, error: Exception) -> Response:
    """Refusals of our own, and the framework's (no such route, wrong method, unreadable body)."""
    assert isinstance(error, HTTPException)
    if isinstance(error, ApiError):
        return error.response()
    told = {
        404: f"no such route: {request.url.path}",
        405: f"{request.url.path} does not take {request.method}",
    }
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = told.get(error.status_code, error.detail)
    headers = dict(error.headers) if error.headers else None
    return ApiError(error.status_code, message, code=codes.get(error.status_code), headers=headers).response()
