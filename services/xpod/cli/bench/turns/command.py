"""`xpod bench turns`: conversations with pods that reuse what was said before in different ways.

Knows: its options, and which of them exclude one another.
Does not know: how conversations are held (see `turns_load`), or how figures are made (see `record` and `summary`).
"""

from __future__ import annotations

from typing import Annotated

from typer import Option

from xpod.cli.bench.concluding import Output, conclude
from xpod.cli.bench.conversation import Shape
from xpod.cli.bench.options import (
    BenchModelOption,
    ExpertsOption,
    MempoolOption,
    PodUrlOption,
    PromptSeedOption,
    ResultsOption,
    RoutersOption,
    SupervisorsOption,
    TwoDecodeOption,
    TwoPrefillOption,
)
from xpod.cli.bench.prompting import asked_of
from xpod.cli.bench.result_file import ResultFile
from xpod.cli.bench.turns.combinations import combinations, given
from xpod.cli.bench.turns.run import Plan, TurnsRun
from xpod.cli.bench.turns.table import as_text
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.options import JsonOption, MempoolBytesOption, MempoolDiskBytesOption
from xpod.cli.reuse import CACHINGS, DEFAULT_MEMPOOL, DEFAULT_MEMPOOL_DISK, ROUTINGS, Reuse
from xpod.cli.sizes import size

KIND = "turns"
REPORT_VERSION = 1
WORKERS = {"prefill": 2, "decode": 2}


def _number(flag: str, what: str, smallest: int = 1) -> object:
    return Option(flag, envvar="XPOD_" + flag[2:].replace("-", "_").upper(), min=smallest, help=what)


def turns(  # noqa: PLR0917
    conversations: Annotated[int, _number("--conversations", "At the same time.")] = 8,
    turns: Annotated[int, _number("--turns", "Of each conversation.")] = 6,
    prompt_tokens: Annotated[int, _number("--prompt-tokens", "Length of the first turn.")] = 256,
    shared_tokens: Annotated[
        int, _number("--shared-tokens", "Of the first turn: those that all conversations begin with.", 0)
    ] = 128,
    turn_tokens: Annotated[int, _number("--turn-tokens", "Length of what a user says in later turns.")] = 64,
    answer_tokens: Annotated[int, _number("--answer-tokens", "Length of each answer.")] = 48,
    think: Annotated[
        float,
        Option("--think", envvar="XPOD_THINK", min=0.0, help="Seconds before each turn, on average."),
    ] = 0.5,
    caching: Annotated[
        list[str] | None,
        Option(
            "--caching",
            envvar="XPOD_CACHING",
            metavar="|".join(CACHINGS),
            show_default=False,
            help="Only this; may be repeated.",
        ),
    ] = None,
    routing: Annotated[
        list[str] | None,
        Option(
            "--routing",
            envvar="XPOD_ROUTING",
            metavar="|".join(ROUTINGS),
            show_default=False,
            help="Only this; may be repeated.",
        ),
    ] = None,
    everything: Annotated[
        bool, Option("--all", envvar="XPOD_ALL", help="Each caching with each routing.")
    ] = False,
    rounds: Annotated[int, _number("--rounds", "How often each combination is measured.")] = 1,
    model: BenchModelOption = None,
    url: PodUrlOption = "",
    routers: RoutersOption = None,
    prefill: TwoPrefillOption = None,
    decode: TwoDecodeOption = None,
    experts: ExpertsOption = None,
    mempool: MempoolOption = None,
    supervisors: SupervisorsOption = None,
    mempool_bytes: MempoolBytesOption = DEFAULT_MEMPOOL,
    mempool_disk_bytes: MempoolDiskBytesOption = DEFAULT_MEMPOOL_DISK,
    seed: PromptSeedOption = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Hold conversations of several turns, under each way of caching and routing.

    By default, each step of --caching with prompt-tree, and each --routing with full. Every combination gets a pod of
    its own in each round, and the same conversations; all have to give the same answers.
    """
    if url and (caching or routing or everything or rounds > 1):
        raise CliError("--url: a pod that runs already has its caching and routing, and one round", BAD_USAGE)
    counts = {
        "router": routers,
        "prefill": prefill,
        "decode": decode,
        "expert": experts,
        "mempool": mempool,
        "supervisor": supervisors,
    }
    shape = Shape(conversations, turns, prompt_tokens, shared_tokens, turn_tokens, answer_tokens, think)
    room = Reuse(
        mempool_bytes=size("--mempool-bytes", mempool_bytes),
        mempool_disk_bytes=size("--mempool-disk-bytes", mempool_disk_bytes),
    )
    chosen = given() if url else combinations(caching or (), routing or (), everything, room)
    asked = asked_of(url, model, counts, WORKERS, seed)
    run = TurnsRun(asked.pods, Plan(chosen, rounds, shape, asked.seed, asked.vocab))
    return conclude(run, ResultFile(KIND, REPORT_VERSION), Output(as_text, as_json, results))
