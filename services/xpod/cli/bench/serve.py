"""`xpod bench serve`: a load on any server of OpenAI's API, and what its clients see.

Knows: its options, and which exit code a measurement deserves.
Does not know: how requests are timed (see `load`), or how figures are made (see `report`).
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated

from typer import Option

from xpod.cli.bench.run import Plan, Run
from xpod.cli.bench.target import Endpoint, Target, checked_urls
from xpod.cli.bench.workload import Lengths, PromptAs, Workload
from xpod.cli.borrowing import running_endpoints
from xpod.cli.errors import BAD_USAGE, DONE, INTERRUPTED, REFUSED, UNREACHABLE, CliError
from xpod.cli.options import DEFAULT_DATA, DataOption, JsonOption, split_urls

SEED_BITS = 31
CLIENTS = 8


def serve(  # noqa: PLR0917
    url: Annotated[
        str,
        Option(
            "--url",
            envvar="XPOD_URL",
            metavar="URL,…",
            show_default=False,
            help="Servers, asked in turn (default: the routers of the pod in --data).",
        ),
    ] = "",
    model: Annotated[
        str,
        Option(
            "--model",
            envvar="XPOD_MODEL",
            metavar="NAME|DIR",
            show_default=False,
            help="The model to ask for (default: the first one that is listed).",
        ),
    ] = "",
    endpoint: Annotated[
        Endpoint, Option("--endpoint", envvar="XPOD_ENDPOINT", help="Which of the two is asked.")
    ] = "completions",
    concurrency: Annotated[
        int | None,
        Option(
            "--concurrency",
            envvar="XPOD_CONCURRENCY",
            min=1,
            show_default=False,
            help=f"Clients, each of which asks again once it is answered (default: {CLIENTS}).",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        Option(
            "--rate",
            envvar="XPOD_RATE",
            min=1e-6,
            show_default=False,
            help="Instead of --concurrency: requests per second, at random times (Poisson).",
        ),
    ] = None,
    requests: Annotated[
        int, Option("--requests", envvar="XPOD_REQUESTS", min=1, help="Requests to measure.")
    ] = 32,
    warmup: Annotated[
        int, Option("--warmup", envvar="XPOD_WARMUP", min=0, help="Requests before, which do not count.")
    ] = 0,
    prompt_tokens: Annotated[
        str,
        Option(
            "--prompt-tokens", envvar="XPOD_PROMPT_TOKENS", metavar="N|MIN:MAX", help="Length of each prompt."
        ),
    ] = "64",
    output_tokens: Annotated[
        str,
        Option(
            "--output-tokens", envvar="XPOD_OUTPUT_TOKENS", metavar="N|MIN:MAX", help="Length of each answer."
        ),
    ] = "64",
    prompt_as: Annotated[
        PromptAs | None,
        Option(
            "--prompt-as",
            envvar="XPOD_PROMPT_AS",
            show_default=False,
            help="Token ids (exact; default for completions) or as many words (default for chat).",
        ),
    ] = None,
    vocab: Annotated[
        int, Option("--vocab", envvar="XPOD_VOCAB", min=32, help="Token ids of prompts are below this.")
    ] = 4096,
    temperature: Annotated[
        float, Option("--temperature", envvar="XPOD_TEMPERATURE", min=0.0, max=2.0, help="Of the sampling.")
    ] = 0.0,
    seed: Annotated[
        int | None,
        Option(
            "--seed",
            envvar="XPOD_SEED",
            show_default=False,
            help="Of prompts, lengths and arrivals (default: another one each time).",
        ),
    ] = None,
    request_timeout: Annotated[
        float,
        Option(
            "--request-timeout",
            envvar="XPOD_REQUEST_TIMEOUT",
            min=0.1,
            help="Seconds of silence that fail a request.",
        ),
    ] = 300.0,
    api_key: Annotated[
        str, Option("--api-key", envvar="XPOD_API_KEY", show_default=False, help="Sent as bearer token.")
    ] = "",
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
) -> int:
    """Measure a server under load, from outside.

    Any server of OpenAI's API will do. A failed request counts as an error and in no average.
    """
    if concurrency is not None and rate is not None:
        raise CliError("--concurrency and --rate exclude each other", BAD_USAGE)
    prompt_as = prompt_as or ("tokens" if endpoint == "completions" else "text")
    if endpoint == "chat" and prompt_as == "tokens":
        raise CliError("--prompt-as: a chat has words, no token ids", BAD_USAGE)
    workload = Workload(
        secrets.randbits(SEED_BITS) if seed is None else seed,
        Lengths.parse("--prompt-tokens", prompt_tokens),
        Lengths.parse("--output-tokens", output_tokens),
        prompt_as,
        vocab,
    )
    target = Target(_urls(url, data), endpoint, _served_name(model), temperature)
    clients = None if rate is not None else concurrency or CLIENTS
    return _measure(
        Plan(target, workload, requests, warmup, clients, rate, request_timeout, _first_key(api_key)), as_json
    )


def _urls(url: str, data: Path) -> tuple[str, ...]:
    if url:
        return checked_urls(split_urls(url))
    endpoints = running_endpoints(data)
    if not endpoints:
        raise CliError(f"no pod runs in {data} (xpod up starts one), and no --url was given")
    return checked_urls(endpoints)


def _served_name(model: str) -> str:
    """A pod calls a model by the name of its directory, which is what XPOD_MODEL holds for `xpod up`."""
    path = Path(model).expanduser()
    return path.resolve().name if "/" in model and path.is_dir() else model


def _first_key(keys: str) -> str:
    return os.environ.get("XPOD_CLIENT_KEY", "").strip() or keys.partition(",")[0].strip()


def _measure(plan: Plan, as_json: bool) -> int:
    """Runs, prints what was measured even where Ctrl-C ends it, and judges."""
    run = Run(plan)
    try:
        run.measure()
    except KeyboardInterrupt:
        run.interrupted = True
    if run.began:
        _show(run, as_json)
    if run.interrupted:
        return INTERRUPTED
    if run.failed:
        code = UNREACHABLE if run.nothing_reached else REFUSED
        raise CliError(f"{run.failed} of {plan.requests} requests failed", code)
    return DONE


def _show(run: Run, as_json: bool) -> None:
    report = run.report()
    if as_json:
        print(json.dumps(report, ensure_ascii=False), flush=True)
        return
    from rich.console import Console

    from xpod.cli.bench.table import as_text

    Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(as_text(report))
