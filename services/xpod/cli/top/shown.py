"""A moment, in words and colours for a terminal.

Knows: what of each kind is worth a line. Does not know: where on the screen it goes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from xpod.cli.top.figures import Summary
from xpod.cli.view import STYLES, age

COLUMNS = ("member", "state", "for", "pid", "busy", "does")
BAR_CELLS = 8
COLD, HOT = (28, 32, 48), (255, 136, 32)
MEGABYTE = 1e6
WIDE_CELLS = 48
"""Up to so many experts, a cell of the heat map is two characters wide."""


def headline(status: Mapping[str, Any]) -> Text:
    """Which pod, and can it serve?"""
    ready = status.get("ready")
    line = Text.assemble(
        (str(status["pod"]), "bold"),
        "  ",
        ("ready" if ready else "not ready", "bold green" if ready else "bold red"),
        f"  {status['model']}  {', '.join(status['endpoints'])}",
    )
    if status.get("problem"):
        line.append(f"  {status['problem']}", "red")
    return line


def summary_line(found: Summary) -> Text:
    """The pod's figures, in two lines."""
    parts = " + ".join(f"{part} {_milliseconds(mean)}" for part, mean in found.hop.items())
    means = [mean for mean in found.hop.values() if mean is not None]
    text = Text()
    for name, value in (
        ("streams", str(found.streams)),
        ("waiting", str(found.waiting)),
        ("tokens/s", f"{found.tokens_per_second:.1f}"),
        ("of prompts/s", f"{found.prompt_tokens_per_second:.1f}"),
        ("first token", _milliseconds(found.first_token)),
        ("between tokens", _milliseconds(found.between_tokens)),
    ):
        text.append(f"{name} ", "dim").append(f"{value}   ", "bold")
    text.append("\nhop ", "dim").append(_milliseconds(sum(means) if means else None), "bold").append(
        f" = {parts}   "
    )
    for name, count in (("recoveries", found.recoveries), ("hedges", found.hedges)):
        text.append(f"{name} ", "dim").append(f"{count}   ", "bold")
    if found.divergences:
        text.append(f"divergences {found.divergences}", "bold white on red")
    return text


def row(member: Mapping[str, Any], busy: float | None) -> tuple[Text | str, ...]:
    """A member, as COLUMNS has it."""
    state = str(member["state"])
    return (
        str(member["id"]),
        Text(state, STYLES.get(state, "")),
        age(member["since"], time.time()),
        str(member["pid"] or ""),
        "" if busy is None else bar(busy),
        does(member),
    )


def bar(part: float) -> Text:
    """A part of 1 as a bar; what is above 1 fills it."""
    filled = round(min(1.0, max(0.0, part)) * BAR_CELLS)
    style = "red" if part > 0.9 else "yellow" if part > 0.6 else "green"
    return Text.assemble(("█" * filled, style), ("·" * (BAR_CELLS - filled), "dim"), f" {part:4.0%}")


def does(member: Mapping[str, Any]) -> str:
    """What a member of its kind is busy with."""
    told = member["detail"]
    if note := told.get("note"):
        return str(note)

    def get(key: str) -> float:
        value = told.get(key, 0)
        return float(value) if isinstance(value, int | float) else 0.0

    match member["kind"]:
        case "router":
            text = f"{get('sessions'):.0f} sessions"
        case "prefill":
            text = f"{get('sequences'):.0f} prompts, {get('queued_tokens'):.0f} tokens wait"
        case "decode":
            blocks = get("blocks_free") + get("blocks_reserved")
            text = (
                f"{get('sequences'):.0f} sequences, KV {get('blocks_reserved') / blocks if blocks else 0:.0%}"
            )
        case "expert":
            text = f"holds {get('held'):.0f}, {get('calls'):.0f} calls"
        case "mempool":
            text = (
                f"{get('blocks'):.0f} blocks, {get('bytes') / MEGABYTE:.0f} of {get('budget') / MEGABYTE:.0f} MB, "
                f"disk {get('disk_bytes') / MEGABYTE:.0f} of {get('disk_budget') / MEGABYTE:.0f} MB"
            )
        case "supervisor":
            text = "leads" if told.get("leader") else "stands by"
        case _:
            text = "leads the journal" if told.get("leads") else ""
    restarts = told.get("restarts")
    return f"{text}, restarts {restarts}" if restarts else text


def heat_map(rates: Mapping[int, Mapping[int, float]], experts: int) -> Text:
    """A line for each layer, a cell for each expert: the hottest of all is brightest."""
    if not rates:
        return Text("no expert was asked yet", "dim")
    hottest = max(rate for layer in rates.values() for rate in layer.values())
    width = 2 if experts <= WIDE_CELLS else 1
    lines = Text()
    for layer in sorted(rates):
        lines.append(f"{layer:3d} ", "dim")
        for expert in range(experts):
            share = rates[layer].get(expert, 0.0) / hottest if hottest else 0.0
            lines.append("█" * width, _colour(share))
        lines.append("\n")
    return lines.append(f"brightest: {hottest:.0f} pairs a second", "dim")


def _colour(share: float) -> str:
    red, green, blue = (round(cold + share * (hot - cold)) for cold, hot in zip(COLD, HOT, strict=True))
    return f"rgb({red},{green},{blue})"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"
