"""OpenAI's endpoints: /v1/chat/completions, /v1/completions, /v1/models.

Knows: paths, and the order validate, tokenise, answer. Does not know: how any of these is done.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from xpod.router.api import prompts
from xpod.router.api.affinity import affinity_of, tenant_of
from xpod.router.api.allowance import allowance_of
from xpod.router.api.answering import answer
from xpod.router.api.answers import ChatCompletion, Completion, Model, ModelList
from xpod.router.api.body import router
from xpod.router.api.context import Api
from xpod.router.api.generation import Ask
from xpod.router.api.grammar import grammar_of
from xpod.router.api.idempotency import Key
from xpod.router.api.replies import ChatReply, CompletionReply
from xpod.router.api.requests import ChatRequest, CompletionRequest, GenerationRequest
from xpod.router.api.resume import HEADER, Place
from xpod.router.api.sampling import check
from xpod.router.api.tools import chat_grammar_of


def completion_routes(api: Api) -> APIRouter:
    routes = router("/v1")

    @routes.post("/chat/completions", responses=_whole(ChatCompletion))
    async def chat_completions(body: ChatRequest, http: Request) -> Response:
        """The assistant's next turn in a conversation."""
        arrived = api.metrics.clock()
        api.served(body.model)
        check(body, api.engine.vocab_size)
        grammar = await chat_grammar_of(body, api.text)
        prompt = await prompts.of_chat(body, api)
        ask = _ask(api, body, [prompt], arrived, http)
        ask = replace(ask, grammar=grammar, functions=body.offered)
        return await answer(http, ask, ChatReply(body, api.text))

    @routes.post("/completions", responses=_whole(Completion))
    async def completions(body: CompletionRequest, http: Request) -> Response:
        """What comes after a text."""
        arrived = api.metrics.clock()
        api.served(body.model)
        check(body, api.engine.vocab_size)
        grammar = await grammar_of(body)
        each = await prompts.of_completion(body, api)
        scored = body.echo and body.logprobs is not None
        ask = replace(_ask(api, body, each, arrived, http), grammar=grammar, scored=scored)
        return await answer(http, ask, CompletionReply(body, api.text, each))

    @routes.get("/models", responses={200: {"model": ModelList}})
    async def models() -> dict[str, Any]:
        """The names that the model is served under."""
        return {"object": "list", "data": [_model(api, name) for name in api.model_names]}

    @routes.get("/models/{name:path}", responses={200: {"model": Model}})
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        return _model(api, api.served(name))

    return routes


def _whole(answer: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The answer in one body; `openapi` tells of streams."""
    return {200: {"model": answer, "description": "An answer, or its chunks"}}


def _ask(api: Api, body: GenerationRequest, each: list[prompts.Prompt], arrived: float, http: Request) -> Ask:
    place, key = Place.of(http.headers.get(HEADER)), Key.of(http.headers)
    affinity = affinity_of(body, tenant_of(http.scope))
    return Ask(api, body, each, arrived, place, key, affinity, allowance=allowance_of(http.scope))


def _model(api: Api, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": api.started,
        "owned_by": "xpod",
        "root": api.engine.model_name,
        "parent": None,
        "max_model_len": api.engine.max_model_len,
        "capabilities": {
            "completions": True,
            "chat": api.text.has_template,
            "responses": api.text.has_template,
            "tools": api.text.knows_tools,
            "structured_outputs": True,
            "embeddings": False,
        },
    }
