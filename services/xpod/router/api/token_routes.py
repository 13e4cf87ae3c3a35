"""vLLM's /tokenize and /detokenize.

Knows: their bodies. Does not know: generation.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from xpod.router.api.answers import Prompt, Tokens
from xpod.router.api.body import router
from xpod.router.api.context import Api
from xpod.router.api.errors import bad_request
from xpod.router.api.messages import ChatMessage
from xpod.router.api.prompts import encode, render
from xpod.router.api.requests import TokenId
from xpod.router.api.sampling import check_tokens
from xpod.router.api.strict import JsonObject, Several, Strict, Utf8
from xpod.router.api.tools import Tool, for_template

MOST_CHARACTERS = 1 << 21
"""Of a text that need not fit into the context: some seconds of work."""


class TokenizeRequest(Strict):
    """Either `prompt` or `messages`; special tokens are added to the first, the template brings those of the second."""

    model: Utf8 | None = None
    """A name of /v1/models."""
    prompt: Utf8 | None = None
    """A text, or messages."""
    messages: Annotated[Several[ChatMessage], Field(min_length=1)] | None = None
    """A conversation, to which the chat template is applied."""
    add_special_tokens: bool | None = None
    """Add the tokens that begin or end a text: by default to a prompt."""
    add_generation_prompt: bool = True
    """Of messages: begin the turn of the assistant."""
    return_token_strs: bool = False
    """The tokens in the tokenizer's spelling, too."""
    chat_template_kwargs: JsonObject = {}
    """Variables for the chat template."""
    tools: Several[Tool] = []
    """Functions that the conversation offers."""


class DetokenizeRequest(Strict):
    """Token ids to text."""

    model: Utf8 | None = None
    """A name of /v1/models."""
    tokens: Several[TokenId]
    """Token ids."""


def token_routes(api: Api) -> APIRouter:
    routes = router()

    @routes.post("/tokenize", responses={200: {"model": Tokens}})
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        """The tokens of a text or a conversation."""
        api.served(body.model)
        ids = await _encode(api, body)
        strings = [api.text.token(token) for token in ids] if body.return_token_strs else None
        limit = api.engine.max_model_len
        return {"count": len(ids), "max_model_len": limit, "tokens": ids, "token_strs": strings}

    @routes.post("/detokenize", responses={200: {"model": Prompt}})
    async def detokenize(body: DetokenizeRequest) -> dict[str, str]:
        """The text of tokens."""
        api.served(body.model)
        check_tokens(body.tokens, api.engine.vocab_size, "tokens")
        return {"prompt": api.text.decode(body.tokens, skip_special=False)}

    return routes


async def _encode(api: Api, body: TokenizeRequest) -> list[int]:
    special = body.add_special_tokens
    if (body.prompt is None) == (body.messages is None):
        raise bad_request("send either prompt or messages", "prompt")
    if body.prompt is not None:
        if len(body.prompt) > MOST_CHARACTERS:
            raise bad_request(f"prompt: more than {MOST_CHARACTERS} characters", "prompt")
        return await encode(api.text, body.prompt, add_special=special is not False, param="prompt")
    content = await render(
        body.messages or [],
        api.text,
        body.add_generation_prompt,
        body.chat_template_kwargs,
        for_template(tool.function for tool in body.tools),
    )
    return await encode(api.text, content, add_special=special is True, param="messages")
