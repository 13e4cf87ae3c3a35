"""The response object.

Knows: its fields, and which of them repeat the request. Does not know: where tokens or events come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpod.router.api.responses.items import Json
from xpod.router.api.responses.record import End, Record


def usage_of(record: Record, count: int, cached: int) -> Json:
    """Token counts in the Responses API's words; nobody counts what is written to the cache."""
    prompt = len(record.prompt)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": count,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + count,
    }


def response_of(record: Record, status: str, output: Sequence[Json] = (), end: End | None = None) -> Json:
    """The object, as far as record and end say what is in it; whoever has counted adds `usage`."""
    failed = end is not None and end.status == "failed"
    body: Json = {
        "id": record.id,
        "object": "response",
        "created_at": int(record.created),
        "status": status,
        "completed_at": int(end.at) if end is not None and end.status == "completed" else None,
        "error": {"code": end.code, "message": end.reason} if end is not None and failed else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": list(output),
        "usage": None,
    }
    return body | _wishes(record)


def _wishes(record: Record) -> Json:
    request, sampling = record.request, record.sampling
    choice: Any = request.tool_choice or "auto"
    return {
        "background": request.background,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": None,
        "metadata": request.metadata,
        "model": record.model,
        "parallel_tool_calls": request.parallel_tool_calls,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "store": record.kept,
        "temperature": sampling.temperature,
        "text": request.text.body(),
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
        "tools": [tool.model_dump() for tool in request.tools],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": request.truncation,
        "user": request.user,
        "xpod": {"session": record.session, "seed": sampling.seed},
    }
