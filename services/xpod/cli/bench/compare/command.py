"""`xpod bench compare`: a pod and its peers on this machine, in turn.

Knows: its options, and which exit code a comparison deserves.
Does not know: how contenders run (see `rounds`), or how figures are made (see `taken` and `summary`).
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from xpod.cli.bench.compare.cases import chosen
from xpod.cli.bench.compare.contender import Contender
from xpod.cli.bench.compare.peer import PEERS, Peer
from xpod.cli.bench.compare.pod import BARE, Pod
from xpod.cli.bench.compare.report import Report
from xpod.cli.bench.compare.rounds import Found, Rounds, measure
from xpod.cli.bench.compare.served import Served
from xpod.cli.bench.compare.summary import POD
from xpod.cli.bench.compare.table import as_text
from xpod.cli.bench.make_model import given_or_made
from xpod.cli.bench.options import (
    BenchModelOption,
    DecodeOption,
    ExpertsOption,
    MempoolOption,
    PrefillOption,
    ResultsOption,
    RoutersOption,
    SupervisorsOption,
)
from xpod.cli.bench.prompting import vocab_of
from xpod.cli.bench.serve import SEED_BITS
from xpod.cli.bench.showing import show
from xpod.cli.bench.target import checked_urls
from xpod.cli.errors import BAD_USAGE, DONE, INTERRUPTED, REFUSED, CliError
from xpod.cli.options import JsonOption, split_urls
from xpod.cli.terminal import interruptible
from xpod_runtime.cores import cores

BARE_POD = "bare"
NEEDS = {"transformers": "transformers"}


def compare(  # noqa: PLR0917
    peer: Annotated[
        list[str] | None,
        Option(
            "--peer",
            envvar="XPOD_PEER",
            metavar="transformers|reference|bare|NAME=URL",
            help="Whom to compare with; may be repeated. bare is a pod that keeps nothing for the case of a fault, "
            "NAME=URL a server of OpenAI's API that runs already.",
        ),
    ] = None,
    rounds: Annotated[
        int, Option("--rounds", envvar="XPOD_ROUNDS", min=1, help="How often each one runs all cases.")
    ] = 3,
    model: BenchModelOption = None,
    case: Annotated[
        list[str] | None,
        Option("--case", envvar="XPOD_CASE", show_default=False, help="Only this one; may be repeated."),
    ] = None,
    url: Annotated[
        str,
        Option(
            "--url",
            envvar="XPOD_URL",
            metavar="URL,…",
            show_default=False,
            help="Routers of a pod that runs already, instead of a pod for each round.",
        ),
    ] = "",
    routers: RoutersOption = None,
    prefill: PrefillOption = None,
    decode: DecodeOption = None,
    experts: ExpertsOption = None,
    mempool: MempoolOption = None,
    supervisors: SupervisorsOption = None,
    peer_threads: Annotated[
        int | None,
        Option(
            "--peer-threads",
            envvar="XPOD_PEER_THREADS",
            min=1,
            show_default=False,
            help="Threads of a peer in one process (default: as many as there are cores).",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        Option(
            "--seed",
            envvar="XPOD_SEED",
            show_default=False,
            help="Of the prompts (default: another one each time).",
        ),
    ] = None,
    results: ResultsOption = None,
    as_json: JsonOption = False,
) -> int:
    """Compare a pod with other engines: same model, same prompts, same machine, one after another.

    In each round, every contender is started, warmed up, measured and stopped.
    """
    counts = {
        "router": routers,
        "prefill": prefill,
        "decode": decode,
        "expert": experts,
        "mempool": mempool,
        "supervisor": supervisors,
    }
    if url and any(counts.values()):
        raise CliError("--url: a pod that runs already has its counts", BAD_USAGE)
    cases = chosen(case or [])
    directory = given_or_made(model)
    pod: Contender = Served(POD, checked_urls(split_urls(url))) if url else Pod(directory, counts)
    contenders = [
        pod,
        *(
            Pod(directory, counts, BARE_POD, BARE)
            if each == BARE_POD
            else _peer(each, directory, peer_threads)
            for each in peer or []
        ),
    ]
    _refuse_twins(contenders)
    plan = Rounds(
        contenders, cases, rounds, secrets.randbits(SEED_BITS) if seed is None else seed, vocab_of(directory)
    )
    return _measure(plan, {"name": directory.name}, as_json, results)


def _peer(text: str, model: Path, threads: int | None) -> Contender:
    name, equals, url = text.partition("=")
    if equals and name and name not in {POD, BARE_POD, *PEERS}:
        return Served(name, checked_urls(split_urls(url)))
    if equals or name not in PEERS:
        known = ", ".join((*PEERS, BARE_POD))
        raise CliError(f"--peer: {text!r} is not one of {known}, NAME=URL", BAD_USAGE)
    return Peer(name, f"xpod_model.peers.{name}", model, threads or cores(), NEEDS.get(name, ""))


def _refuse_twins(contenders: Sequence[Contender]) -> None:
    names = [contender.name for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise CliError(f"--peer: {name} is given twice", BAD_USAGE)


def _measure(plan: Rounds, model: dict[str, Any], as_json: bool, results: Path | None) -> int:
    """Runs, shows what was measured however it ended, and judges."""
    report, found = Report(plan, model), Found()
    interrupted, broken = False, None
    try:
        with interruptible():
            measure(plan, found)
    except KeyboardInterrupt:
        interrupted = True
    except CliError as error:
        broken = error
    if found.runs:
        show(report.of(found, interrupted), as_json, as_text)
    if broken is not None:
        raise broken
    if interrupted:
        return INTERRUPTED
    if results is not None:
        print(report.write(results, report.of(found, interrupted)), file=sys.stderr)
    if found.failed:
        raise CliError(f"{found.failed} of {len(found.runs)} runs failed", REFUSED)
    return DONE
