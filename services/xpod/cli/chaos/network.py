"""`xpod chaos network`: a pod in namespaces, faults of the network under load, and a table of what clients saw.

Knows: options, the course of a trial, the table. Does not know: how packets are dropped or delayed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from typer import Option

from xpod.cli.bench.figures import percentile
from xpod.cli.chaos.local_pod import LocalPod
from xpod.cli.chaos.namespaces import Namespaces, require_root
from xpod.cli.chaos.network_faults import FAULTS, LASTING, Case, disturbed
from xpod.cli.chaos.network_pod import CLIENTS, network_pod
from xpod.cli.chaos.options import SeedOption, StreamsOption
from xpod.cli.chaos.oracle import Verdict, compare
from xpod.cli.chaos.requests import MAX_TOKENS, requests
from xpod.cli.chaos.streams import Streams
from xpod.cli.chaos.undisturbed import Round, longest_gap, undisturbed
from xpod.cli.errors import BAD_USAGE, CliError
from xpod.cli.figures_table import figures_table
from xpod.cli.options import DEFAULT_MODEL, DtypeOption, JsonOption, ModelOption

KINDS = ("router", "prefill", "decode", "expert", "mempool", "supervisor", "nats")
COLUMNS = (
    "fault",
    "trials",
    "wrong",
    "errors",
    "recoveries",
    "packets",
    "gap p50",
    "gap worst",
    "whole p50",
    "whole worst",
)
WRONG = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial. `packets` were dropped or delayed. Seconds: `gap` is the longest that any client waited beyond what it
    does without faults, `whole` how long after the fault's end the pod had all its redundancy."""

    case: Case
    member: str
    verdicts: list[Verdict]
    errors: list[str]
    recoveries: int
    packets: int
    gap: float
    whole: float

    @property
    def wrong(self) -> int:
        """Streams that failed or differ."""
        return len(self.errors) + sum(not verdict.right for verdict in self.verdicts)


def network(  # noqa: PLR0917
    kinds: Annotated[str, Option("--kinds", help="Kinds of members to disturb, with commas.")] = ",".join(
        KINDS
    ),
    faults: Annotated[str, Option("--faults", help="What the network does to them.")] = ",".join(FAULTS),
    trials: Annotated[int, Option("--trials", min=1, help="Trials of each.")] = 1,
    streams: StreamsOption = 8,
    seconds: Annotated[float, Option("--seconds", min=0.1, help="How long a member is cut off.")] = 3.0,
    seed: SeedOption = 0,
    model: ModelOption = DEFAULT_MODEL,
    dtype: DtypeOption = "auto",
    as_json: JsonOption = False,
) -> int:
    """Disturb the network of a pod in namespaces while it streams, and compare every stream with its fault-free run.

    Needs root, ip, ss and nft. Exit code 1: some stream was wrong.
    """
    cases = chosen(kinds, faults)
    require_root()
    outcomes: list[Outcome] = []
    bodies = requests(streams, seed)
    with network_pod(model, dtype) as (pod, net):
        target = LocalPod(pod, own=True)
        target.wait_whole()
        usual = undisturbed(target, bodies)
        target.wait_whole()
        target.begin()
        shared = Drill(target, net, usual, seconds)
        for turn, case in product(range(trials), cases):
            rng = random.Random(f"{seed}/{turn}/{case}")
            outcomes.append(run_trial(shared, case, rng))
            _tell(outcomes[-1], len(outcomes), trials * len(cases))
    rows = summary(outcomes)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(as_table(rows))
    return WRONG if any(row["wrong"] for row in rows) else 0


def chosen(kinds: str, faults: str) -> list[Case]:
    """All possible cases of these. Raises CliError for a name that is none."""
    wanted = set(_names(faults, FAULTS))
    cases = [Case(kind, fault) for kind in _names(kinds, KINDS) for fault in FAULTS if fault in wanted]
    possible = [case for case in cases if case.possible]
    if not possible:
        raise CliError(f"{faults} cannot happen to {kinds}", BAD_USAGE)
    return possible


def _names(text: str, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise CliError(f"{wrong[0] if wrong else 'nothing'} is none of {', '.join(known)}", BAD_USAGE)
    return names


@dataclass(frozen=True, slots=True)
class Drill:
    """What all trials share: `seconds` is how long a member is cut off."""

    target: LocalPod
    network: Namespaces
    usual: Round
    seconds: float


def run_trial(drill: Drill, case: Case, rng: random.Random) -> Outcome:
    """Raises CliError where the pod does not become whole again."""
    members = drill.target.members(case.kind)
    rng.shuffle(members)
    if case.kind == "nats":  # a node that nobody uses would prove nothing
        members.sort(key=lambda name: -drill.network.connections(name, CLIENTS))
    member = members[0]
    streams = Streams(drill.target.endpoints, drill.usual.bodies)
    streams.start()
    streams.wait_for(rng.randrange(len(streams.streams)), rng.randint(1, MAX_TOKENS // 3))
    with disturbed(drill.network, case, member) as count:
        if case.fault in LASTING:
            streams.join()
        else:
            time.sleep(drill.seconds)
    whole = drill.target.wait_whole()
    streams.join()
    ended = zip(streams.streams, drill.usual.answers, strict=True)
    said = [(stream.answer, wanted) for stream, wanted in ended if stream.answer is not None]
    return Outcome(
        case,
        member,
        [compare(wanted, answer) for answer, wanted in said],
        [stream.error for stream in streams.streams if stream.error],
        sum(answer.recoveries + answer.resumed for answer, _ in said),
        count.packets,
        longest_gap(streams.streams, drill.usual.firsts),
        whole,
    )


def summary(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One object a case, in order. Seconds."""
    groups: dict[Case, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.case, []).append(outcome)
    return [_row(case, group) for case, group in groups.items()]


def _row(case: Case, group: list[Outcome]) -> dict[str, Any]:
    gaps, wholes = (sorted(getattr(outcome, name) for outcome in group) for name in ("gap", "whole"))
    return {
        "kind": case.kind,
        "fault": case.fault,
        "trials": len(group),
        "streams": sum(len(outcome.verdicts) + len(outcome.errors) for outcome in group),
        "wrong": sum(outcome.wrong for outcome in group),
        "errors": [error for outcome in group for error in outcome.errors],
        "recoveries": sum(outcome.recoveries for outcome in group),
        "packets": sum(outcome.packets for outcome in group),
        "gap_p50": percentile(gaps, 0.5),
        "gap_worst": gaps[-1],
        "whole_p50": percentile(wholes, 0.5),
        "whole_worst": wholes[-1],
    }


def as_table(rows: list[dict[str, Any]]) -> Table:
    """For a terminal."""
    table = figures_table(*COLUMNS)
    for row in rows:
        counts = (row["trials"], row["wrong"], len(row["errors"]), row["recoveries"], row["packets"])
        seconds = (row[name] for name in ("gap_p50", "gap_worst", "whole_p50", "whole_worst"))
        name = f"{row['kind']} {row['fault']}"
        table.add_row(name, *map(str, counts), *(f"{value:.2f} s" for value in seconds))
    return table


def _tell(outcome: Outcome, number: int, total: int) -> None:
    case = outcome.case
    line = (
        f"{number}/{total} {outcome.member} {case.fault}: {outcome.wrong} wrong, {outcome.packets} packets, "
        f"gap {outcome.gap:.2f} s, whole after {outcome.whole:.2f} s"
    )
    print(line, file=sys.stderr, flush=True)
    for problem in [*outcome.errors, *(repr(verdict) for verdict in outcome.verdicts if not verdict.right)]:
        print(f"    {problem}", file=sys.stderr, flush=True)
