"""/v1/embeddings, which no model that is served here can answer.

Knows: OpenAI's body, so that what is wrong with it is told first. Does not know: any way to embed a text: a causal
language model was trained to go on with one, and its last hidden state is no measure of likeness.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from xpod.router.api.body import router
from xpod.router.api.context import Api
from xpod.router.api.errors import bad_request
from xpod.router.api.requests import TokenId
from xpod.router.api.strict import Several, Strict, Utf8


class EmbeddingsRequest(Strict):
    """OpenAI's body."""

    model: Utf8 | None = None
    """A name of /v1/models."""
    input: Utf8 | Several[TokenId] | Several[Utf8] | Several[Several[TokenId]]
    """What to embed."""
    encoding_format: Literal["float", "base64"] = "float"
    """How numbers would be written."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """How many there would be."""
    user: Utf8 | None = None
    """Whose request it is."""


def embedding_routes(api: Api) -> APIRouter:
    routes = router("/v1")

    @routes.post("/embeddings")
    async def embeddings(body: EmbeddingsRequest) -> Response:
        """Always refused."""
        model = api.served(body.model)
        why = "it generates text and does not embed it (see capabilities in /v1/models)"
        raise bad_request(f"model {model!r} has no embeddings: {why}", "model", "unsupported_model")

    return routes
