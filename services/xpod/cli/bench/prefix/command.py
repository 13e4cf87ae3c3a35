"""`xpod bench prefix`: how much sooner a prompt's first token comes where the prompt's beginning is known.

Knows: its options, and which of them exclude one another.
Does not know: how it is measured (see `run`), or how figures are made (see `summary`).
"""

from __future__ import annotations

from typing import Annotated

from typer import Option

from xpod.cli.bench.concluding import Output, conclude
from xpod.cli.bench.options import (
    BenchModelOption,
    ExpertsOption,
    MempoolOption,
    OneDecodeOption,
    PodUrlOption,
    PromptSeedOption,
    ResultsOption,
    RoutersOption,
    SupervisorsOption,
    TwoPrefillOption,
)
from xpod.cli.bench.prefix.run import Lengths, Plan, PrefixRun, Variant
from xpod.cli.bench.prefix.table import as_text
from xpod.cli.bench.prompting import asked_of
from xpod.cli.bench.result_file import ResultFile
from xpod.cli.bench.turns.combinations import GIVEN
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.options import JsonOption, MempoolBytesOption, MempoolDiskBytesOption
from xpod.cli.reuse import DEFAULT_MEMPOOL, DEFAULT_MEMPOOL_DISK, Reuse
from xpod.cli.sizes import size

KIND = "prefix"
REPORT_VERSION = 1
WORKERS = {"prefill": 2, "decode": 1}
SAME, POOL = "same worker", "from the pool"


def prefix(  # noqa: PLR0917
    rounds: Annotated[
        int, Option("--rounds", envvar="XPOD_ROUNDS", min=1, help="Each with another prefix.")
    ] = 5,
    prefix_tokens: Annotated[
        int,
        Option("--prefix-tokens", envvar="XPOD_PREFIX_TOKENS", min=1, help="What prompts have in common."),
    ] = 1024,
    elsewhere: Annotated[
        bool,
        Option(
            "--elsewhere",
            envvar="XPOD_ELSEWHERE",
            help="Also in a pod whose router goes round its prefill workers: the prefix then comes from MemPool.",
        ),
    ] = False,
    model: BenchModelOption = None,
    url: PodUrlOption = "",
    routers: RoutersOption = None,
    prefill: TwoPrefillOption = None,
    decode: OneDecodeOption = None,
    experts: ExpertsOption = None,
    mempool: MempoolOption = None,
    supervisors: SupervisorsOption = None,
    mempool_bytes: MempoolBytesOption = DEFAULT_MEMPOOL,
    mempool_disk_bytes: MempoolDiskBytesOption = DEFAULT_MEMPOOL_DISK,
    seed: PromptSeedOption = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Measure the time to the first token of a prompt, cold and warm.

    In each round, a prompt; one with the same beginning and another end; and the first one again, whose answer has to
    be the same, to the bit. They go through different routers.
    """
    if url and elsewhere:
        raise CliError("--url: a pod that runs already has its routing", BAD_USAGE)
    if elsewhere and prefill == 1:
        raise CliError("--elsewhere needs another prefill worker", BAD_USAGE)
    counts = {
        "router": routers,
        "prefill": prefill,
        "decode": decode,
        "expert": experts,
        "mempool": mempool,
        "supervisor": supervisors,
    }
    room, disk = (
        size("--mempool-bytes", mempool_bytes),
        size("--mempool-disk-bytes", mempool_disk_bytes),
    )
    variants = [Variant(SAME, Reuse(mempool_bytes=room, mempool_disk_bytes=disk))]
    if elsewhere:
        variants.append(Variant(POOL, Reuse("round-robin", "full", room, disk), in_turn=False))
    if url:
        variants = [Variant(GIVEN, Reuse(GIVEN, GIVEN))]
    asked = asked_of(url, model, counts, WORKERS, seed)
    plan = Plan(variants, rounds, Lengths(prefix_tokens), asked.seed, asked.vocab)
    return conclude(
        PrefixRun(asked.pods, plan), ResultFile(KIND, REPORT_VERSION), Output(as_text, as_json, results)
    )
