"""`xpod chaos drill`: every kind of fault at every phase, so many times, and a table of what clients saw.

Knows: options, the order of trials, progress. Does not know: what a trial does.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Annotated, get_args

from rich.console import Console
from typer import Option

from xpod.cli.chaos.pod import LocalPod, Signal
from xpod.cli.chaos.report import as_table, summary
from xpod.cli.chaos.requests import requests
from xpod.cli.chaos.trial import PHASES, Cell, Outcome, Phase, fault_free, run_trial
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.options import DEFAULT_MODEL, DtypeOption, JsonOption, ModelOption
from xpod.cli.own_pod import OwnPod, own_pod
from xpod.cli.state import read_state

KINDS = ("router", "prefill", "decode", "expert", "mempool", "supervisor", "nats")
SIGNALS: tuple[Signal, ...] = get_args(Signal)
NATS_NODES = 3
WRONG = 1


def drill(  # noqa: PLR0917
    kinds: Annotated[
        str, Option("--kinds", envvar="XPOD_KINDS", help="Kinds of members to hit, with commas.")
    ] = ",".join(KINDS),
    signals: Annotated[
        str, Option("--signals", envvar="XPOD_SIGNALS", help="KILL ends a process, STOP makes it hang.")
    ] = ",".join(SIGNALS),
    phases: Annotated[
        str, Option("--phases", envvar="XPOD_PHASES", help="When: what most streams are doing.")
    ] = ",".join(PHASES),
    trials: Annotated[int, Option("--trials", envvar="XPOD_TRIALS", min=1, help="Trials of each.")] = 3,
    streams: Annotated[int, Option("--streams", envvar="XPOD_STREAMS", min=1, help="Streams in flight.")] = 8,
    seed: Annotated[int, Option("--seed", envvar="XPOD_SEED", help="Of requests, victims and moments.")] = 0,
    model: ModelOption = DEFAULT_MODEL,
    dtype: DtypeOption = "auto",
    data: Annotated[
        Path | None,
        Option(
            "--data", envvar="XPOD_DATA", help="Hit the pod that runs here; where none runs, one of its own."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Hit members of a pod while it streams, and compare every stream with its fault-free run, to the bit.

    Exit code 1: some stream was wrong.
    """
    cells = _cells(kinds, signals, phases)
    bodies = requests(streams, seed)
    outcomes: list[Outcome] = []
    with _pod(data, model, dtype) as pod:
        target = LocalPod(pod)
        target.wait_whole()
        fault_free(target, bodies)  # the first of its kind loads what later ones find
        expected = fault_free(target, bodies)
        target.wait_whole()  # now that there was time for it, this is what whole means
        for turn, cell in product(range(trials), cells):
            rng = random.Random(f"{seed}/{turn}/{cell}")
            outcomes.append(run_trial(target, cell, bodies, expected, rng))
            _tell(outcomes[-1], len(outcomes), trials * len(cells))
    rows = summary(outcomes)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(as_table(rows))
    return WRONG if any(row["wrong"] for row in rows) else 0


def _cells(kinds: str, signals: str, phases: str) -> list[Cell]:
    chosen = [_chosen(*each) for each in ((kinds, KINDS), (signals, SIGNALS), (phases, PHASES))]
    return [Cell(kind, _signal(signal), _phase(phase)) for kind, signal, phase in product(*chosen)]


def _chosen(text: str, known: tuple[str, ...]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise CliError(f"{wrong[0] if wrong else 'nothing'} is none of {', '.join(known)}", BAD_USAGE)
    return names


def _signal(name: str) -> Signal:
    return next(signal for signal in SIGNALS if signal == name)


def _phase(name: str) -> Phase:
    return next(phase for phase in PHASES if phase == name)


@contextmanager
def _pod(data: Path | None, model: str, dtype: str) -> Iterator[OwnPod]:
    directory = None if data is None else data.expanduser().resolve()
    state = None if directory is None else read_state(directory)
    if directory is not None and state is not None and state.launcher_runs:
        yield OwnPod(directory)
        return
    with own_pod(model, {}, dtype=dtype, nats=NATS_NODES) as pod:
        yield pod


def _tell(outcome: Outcome, number: int, total: int) -> None:
    cell = outcome.cell
    line = (
        f"{number}/{total} {outcome.member} {cell.signal} {cell.phase}: {outcome.wrong} wrong, "
        f"gap {outcome.gap:.2f} s, whole after {outcome.whole:.2f} s"
    )
    print(line, file=sys.stderr, flush=True)
    for problem in [*outcome.errors, *(repr(verdict) for verdict in outcome.verdicts if not verdict.right)]:
        print(f"    {problem}", file=sys.stderr, flush=True)
