"""`xpod chaos drill`: every kind of fault at every phase, so many times, and a table of what clients saw.

Knows: options, the order of trials, progress. Does not know: what a trial does.
"""

from __future__ import annotations

import json
import random
import sys
from itertools import product
from typing import Annotated, get_args

from rich.console import Console
from typer import Option

from xpod.cli.chaos.opening import Wanted, opened, tell_logs
from xpod.cli.chaos.options import ChaosDataOption, ComposeOption, SeedOption, StreamsOption
from xpod.cli.chaos.report import as_table, summary
from xpod.cli.chaos.requests import requests
from xpod.cli.chaos.target import FOLLOWER, LEADER, POD, Signal
from xpod.cli.chaos.trial import PHASES, Cell, Outcome, Phase, run_trial, run_without
from xpod.cli.chaos.undisturbed import fault_free, undisturbed
from xpod.cli.compose import KINDS
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.options import DEFAULT_MODEL, DtypeOption, JsonOption, ModelOption

SIGNALS: tuple[Signal, ...] = get_args(Signal)
ROLES = {"nats": (LEADER, FOLLOWER)}
WHOLE_POD = Cell(POD, "KILL", "decode")
WRONG = 1
WIDTH = 160


def drill(  # noqa: PLR0917
    kinds: Annotated[
        str,
        Option(
            "--kinds", envvar="XPOD_KINDS", help="Kinds of members to hit, with commas; pod: all at once."
        ),
    ] = ",".join((*KINDS, POD)),
    signals: Annotated[
        str, Option("--signals", envvar="XPOD_SIGNALS", help="KILL ends a process, STOP makes it hang.")
    ] = ",".join(SIGNALS),
    phases: Annotated[
        str, Option("--phases", envvar="XPOD_PHASES", help="When: what most streams are doing.")
    ] = ",".join(PHASES),
    trials: Annotated[int, Option("--trials", envvar="XPOD_TRIALS", min=1, help="Trials of each.")] = 3,
    streams: StreamsOption = 8,
    seed: SeedOption = 0,
    restart: Annotated[
        bool | None,
        Option(
            "--restart/--no-restart",
            envvar="XPOD_RESTART",
            help="Kill the whole pod once, to compare; by default where the pod was started for the drill.",
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    dtype: DtypeOption = "auto",
    data: ChaosDataOption = None,
    compose: ComposeOption = None,
    as_json: JsonOption = False,
) -> int:
    """Hit members of a pod while it streams, and compare every stream with its fault-free run, to the bit.

    Exit code 1: some stream was wrong.
    """
    cells = _cells(kinds, signals, phases)
    bodies = requests(streams, seed)
    outcomes: list[Outcome] = []
    quiet: dict[Phase, list[float]] = {}
    with opened(Wanted(data, compose, model, dtype)) as target:
        usual = undisturbed(target, bodies)
        target.wait_whole()  # now that there was time for it, this is what whole means
        target.begin()
        plan = _plan(cells, trials, target.own if restart is None else restart)
        for turn, cell in plan:
            rng = random.Random(f"{seed}/{turn}/{cell}")
            without = quiet.setdefault(cell.phase, [])
            if len(without) == turn:
                without.append(run_without(target, cell.phase, usual, rng))
            outcomes.append(run_trial(target, cell, usual, rng))
            _tell(outcomes[-1], len(outcomes), len(plan))
            if cell.kind == POD:
                fault_free(target, bodies)  # what was loaded is gone
        rows = summary(outcomes, quiet)
        wrong = any(row["wrong"] for row in rows)
        if wrong:
            tell_logs(target)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH).print(as_table(rows))
    return WRONG if wrong else 0


def _cells(kinds: str, signals: str, phases: str) -> list[Cell]:
    """All combinations; NATS nodes by their part, the pod as a whole killed in one phase only, and never stopped."""
    chosen_kinds = _chosen(kinds, (*KINDS, POD))
    chosen_signals = _chosen(signals, SIGNALS)
    members = [each for kind in chosen_kinds for each in ROLES.get(kind, (kind,)) if kind != POD]
    cells = [
        Cell(kind, _signal(signal), _phase(phase))
        for kind, signal, phase in product(members, chosen_signals, _chosen(phases, PHASES))
    ]
    if POD in chosen_kinds and "KILL" in chosen_signals:
        cells.append(WHOLE_POD)
    if not cells:
        raise CliError("the whole pod can be killed, not stopped", BAD_USAGE)
    return cells


def _plan(cells: list[Cell], trials: int, restart: bool) -> list[tuple[int, Cell]]:
    """(turn, cell): all trials in order, behind one restart of the whole pod if that is wanted and not among them."""
    plan = list(product(range(trials), cells))
    return [(0, WHOLE_POD), *plan] if restart and WHOLE_POD not in cells else plan


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


def _tell(outcome: Outcome, number: int, total: int) -> None:
    cell = outcome.cell
    line = (
        f"{number}/{total} {outcome.member} {cell.signal} {cell.phase}: {outcome.wrong} wrong, "
        f"gap {outcome.gap:.2f} s, whole after {outcome.whole:.2f} s"
    )
    print(line, file=sys.stderr, flush=True)
    for problem in [*outcome.errors, *(repr(verdict) for verdict in outcome.verdicts if not verdict.right)]:
        print(f"    {problem}", file=sys.stderr, flush=True)
