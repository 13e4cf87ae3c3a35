"""`xpod run`: one completion, streamed.

Knows: its options, and how they become a request.
Does not know: how the answer comes (see `client`), or where the pod comes from (see `borrowing`).
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from typing import Annotated, Any

from typer import Argument, Option

from xpod.cli.answer import Answer
from xpod.cli.borrowing import Asking, borrowed
from xpod.cli.client import PodClient
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.options import (
    DEFAULT_DATA,
    DEFAULT_MODEL,
    DataOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MaxTokensOption,
    ModelOption,
    SeedOption,
    StopOption,
    TemperatureOption,
    TopPOption,
    UrlOption,
)
from xpod.cli.trace.command import read_ended, show_trace
from xpod_runtime.trace_context import HEADER, TraceContext, new_span, new_trace

SEED_BITS = 53
"""So many bits survive every JSON reader."""


def run(  # noqa: PLR0917
    prompt: Annotated[str, Argument(metavar="PROMPT", help="The text to go on from; - reads it from stdin.")],
    max_tokens: MaxTokensOption = 128,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    seed: SeedOption = None,
    stop: StopOption = None,
    logprobs: Annotated[
        bool,
        Option(
            "--logprobs", envvar="XPOD_LOGPROBS", help="Print each token's logprob afterwards, on stderr."
        ),
    ] = False,
    traced: Annotated[
        bool,
        Option(
            "--traced",
            envvar="XPOD_TRACED",
            help="Look into this request in detail, and show where its time went, on stderr.",
        ),
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    url: UrlOption = "",
    model: ModelOption = DEFAULT_MODEL,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "cpu",
) -> int:
    """Stream one completion from the running pod.

    Where none runs, a small one is started with --model, --dtype and --device, answers, and is stopped.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text:
        raise CliError("the prompt is empty", BAD_USAGE)
    body = sampling_body(max_tokens, temperature, top_p, seed, stop)
    body |= {"prompt": text, "logprobs": 0}
    context = TraceContext(new_trace(), new_span(), traced)  # the same at every router that is asked
    headers = {HEADER: context.header}
    asking = Asking(data, url, model, dtype, device)
    with borrowed(asking) as endpoints, PodClient(endpoints, headers=headers) as client:
        answer = client.stream("/v1/completions", body, _ignore if as_json else show)
        _finish(answer, as_json, logprobs, context.trace)
        if traced:
            show_trace(read_ended(client, context.trace), stderr=True)
    return 0


def sampling_body(
    max_tokens: int, temperature: float | None, top_p: float | None, seed: int | None, stop: list[str] | None
) -> dict[str, Any]:
    """The part of a request that both endpoints share. What was not chosen is the server's to decide, but for
    the seed: the client has to know it, so that another router can give the same answer."""
    chosen = {"temperature": temperature, "top_p": top_p, "stop": stop or None}
    return {
        "max_tokens": max_tokens,
        "seed": secrets.randbits(SEED_BITS) if seed is None else seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        **{name: value for name, value in chosen.items() if value is not None},
    }


def show(text: str) -> None:
    """Puts text where it belongs, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _ignore(text: str) -> None:
    """With --json the text comes as part of the object."""


def _finish(answer: Answer, as_json: bool, logprobs: bool, trace: str) -> None:
    now = time.monotonic()
    if as_json:
        print(json.dumps(answer.as_json(now) | {"trace": trace}, ensure_ascii=False), flush=True)
        return
    if not answer.text.endswith("\n"):
        show("\n")
    if logprobs:
        for token, logprob in zip(answer.tokens, answer.logprobs, strict=False):
            print(f"{token}\t{logprob!r}", file=sys.stderr)
