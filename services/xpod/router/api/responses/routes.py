"""/v1/responses.

Knows: paths, query parameters, how a response is told in one body or in events. Does not know: how it is begun,
found or kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from xpod.router.api.affinity import tenant_of
from xpod.router.api.allowance import allowance_of
from xpod.router.api.answering import CLIENT_CLOSED, keep_alive_of
from xpod.router.api.body import router
from xpod.router.api.context import Api
from xpod.router.api.disconnect import ClientGone, while_connected
from xpod.router.api.engine_protocol import SessionError
from xpod.router.api.errors import bad_request, of_engine
from xpod.router.api.idempotency import Key
from xpod.router.api.json_body import dump
from xpod.router.api.responses.answers import Deleted, InputItems, ResponseBody
from xpod.router.api.responses.desk import Desk
from xpod.router.api.responses.events import Narrator
from xpod.router.api.responses.items import Json
from xpod.router.api.responses.opening import input_of
from xpod.router.api.responses.request import LOGPROBS, ResponsesRequest
from xpod.router.api.responses.run import Run
from xpod.router.api.sse import EventStream, Write, named_frame

MOST_ITEMS = 100
_WHOLE: dict[int | str, dict[str, Any]] = {200: {"model": ResponseBody, "description": "A response"}}


def _takes(**schemas: Json) -> Json:
    """For the schema of the API: query parameters, which are read by hand so that others are refused by name."""
    found = [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]
    return {"parameters": found}


_RETRIEVE = _takes(
    stream={"type": "boolean"},
    starting_after={"type": "integer", "minimum": 0},
    include={"type": "array", "items": {"type": "string", "enum": [LOGPROBS]}},
    include_obfuscation={"type": "boolean", "enum": [False]},
)
_LIST = _takes(
    after={"type": "string"},
    limit={"type": "integer", "minimum": 1, "maximum": MOST_ITEMS},
    order={"type": "string", "enum": ["asc", "desc"]},
)


def response_routes(api: Api, desk: Desk) -> APIRouter:
    routes = router("/v1/responses")

    @routes.post("", responses=_WHOLE)
    async def create(body: ResponsesRequest, http: Request) -> Response:
        """An answer that has a name, and can be read again."""
        arrived = api.metrics.clock()
        allowance = allowance_of(http.scope)
        begin = desk.create(body, tenant_of(http.scope), Key.of(http.headers), arrived, allowance=allowance)
        try:
            run = await while_connected(http.receive, begin)
            if body.stream:
                return _events(api, http, run)
            if body.background:
                return _answer(api, run)
            return await _whole(api, http, run)
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED)

    @routes.get("/{response_id}", responses=_WHOLE, openapi_extra=_RETRIEVE)
    async def retrieve(response_id: str, http: Request) -> Response:
        """A response, whole as it is now, or its events."""
        known = {"stream", "starting_after", "include", "include[]", "include_obfuscation"}
        query = _Query(http.query_params.multi_items(), known)
        stream, after = query.flag("stream"), query.number("starting_after", -1)
        if after >= 0 and not stream:
            raise bad_request("starting_after needs stream=true", "starting_after")
        if query.flag("include_obfuscation"):
            raise bad_request("include_obfuscation: not supported", "include_obfuscation", "invalid_value")
        run = await desk.find(response_id, tenant_of(http.scope), patient=stream)
        query.check_include(run)
        return _events(api, http, run, after) if stream else _answer(api, run)

    @routes.post("/{response_id}/cancel", responses=_WHOLE)
    async def cancel(response_id: str, http: Request) -> Response:
        """End one that runs in the background."""
        return _answer(api, await desk.cancel(response_id, tenant_of(http.scope)))

    @routes.delete("/{response_id}", responses={200: {"model": Deleted}})
    async def delete(response_id: str, http: Request) -> Json:
        """Forget it."""
        await desk.delete(response_id, tenant_of(http.scope))
        return {"id": response_id, "object": "response", "deleted": True}

    @routes.get("/{response_id}/input_items", responses={200: {"model": InputItems}}, openapi_extra=_LIST)
    async def input_items(response_id: str, http: Request) -> Json:
        """What it was asked."""
        query = _Query(http.query_params.multi_items(), {"after", "limit", "order"})
        record = await desk.record(response_id, tenant_of(http.scope))
        items, after = input_of(record), query.text("after")
        if query.choice("order", ("desc", "asc")) == "desc":
            items.reverse()
        ids = [item["id"] for item in items]
        if after and after not in ids:
            raise bad_request(f"after: the input has no item {after!r}", "after")
        rest = items[ids.index(after) + 1 :] if after else items
        page = rest[: query.number("limit", 20, 1, MOST_ITEMS)]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
        return {"object": "list", "data": page, **ends, "has_more": len(rest) > len(page)}

    return routes


class _Query:
    """Query parameters; whatever is not `known` is refused by name."""

    def __init__(self, items: list[tuple[str, str]], known: set[str]) -> None:
        self._values: Mapping[str, str] = dict(items)
        self._include = [value for name, value in items if name in ("include", "include[]")]
        for name in self._values.keys() - known:
            raise bad_request(f"unknown parameter: {name}", name, "unknown_parameter")

    def text(self, name: str) -> str:
        return self._values.get(name, "")

    def choice(self, name: str, among: tuple[str, ...]) -> str:
        """One of them; the first where nothing is said."""
        given = self._values.get(name, among[0])
        if given not in among:
            raise bad_request(f"{name}: should be {' or '.join(among)}", name, "invalid_value")
        return given

    def flag(self, name: str) -> bool:
        return self.choice(name, ("false", "true")) == "true"

    def number(self, name: str, usual: int, low: int = 0, high: int = 2**31) -> int:
        given = self._values.get(name)
        if given is None:
            return usual
        if not (given.isascii() and given.isdecimal() and len(given) < 11 and low <= int(given) <= high):
            raise bad_request(f"{name}: should be a number from {low} to {high}", name, "invalid_value")
        return int(given)

    def check_include(self, run: Run) -> None:
        for wanted in self._include:
            if wanted != LOGPROBS or not run.record.request.logprobs:
                why = "only what the response was made with can be included"
                raise bad_request(f"include: {wanted!r}: {why}", "include", "invalid_value")


def _answer(api: Api, run: Run) -> Response:
    """The response as it is now."""
    narrator = Narrator(run.record, api.text)
    narrator.begin()
    for piece in run.pieces:
        narrator.take(piece)
    if run.end is not None:
        narrator.finish(run.end)
        return _json(narrator.response(run.end, run.end.cached))
    return _json(narrator.response())


def _json(body: Json) -> Response:
    return Response(dump(body), media_type="application/json")


async def _whole(api: Api, http: Request, run: Run) -> Response:
    """The response when it has ended. Raises ApiError: it failed."""

    async def read() -> None:
        async for _ in run.follow():
            pass

    try:
        await while_connected(http.receive, read())
    except SessionError as error:
        raise of_engine(error) from error
    finally:
        await run.leave()
    if run.end is not None and run.end.status == "failed":
        raise of_engine(SessionError(run.end.code, run.end.reason))
    return _answer(api, run)


def _events(api: Api, http: Request, run: Run, after: int = -1) -> Response:
    """The events behind number `after`."""
    narrator = Narrator(run.record, api.text)

    async def produce(write: Write) -> None:
        async def tell(events: list[Json]) -> None:
            fresh = [event for event in events if event["sequence_number"] > after]
            if fresh:
                await write(b"".join(named_frame(event["type"], dump(event)) for event in fresh))

        await tell(narrator.begin())
        try:
            async for piece in run.follow():
                await tell(narrator.take(piece))
        except SessionError as error:
            detail: dict[str, Any] = {**of_engine(error).body["error"], "type": "error"}
            await tell([{**detail, "sequence_number": narrator.number}])
            return
        assert run.end is not None
        await tell(narrator.finish(run.end))

    return EventStream(
        produce, run.leave, keep_alive_of(http, api.settings.keep_alive), api.engine.reaches_pod
    )
