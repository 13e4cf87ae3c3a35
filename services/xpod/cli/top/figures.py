"""What changed from one moment to the next: rates, means, the heat of experts, and events.

Knows: which metrics tell what. Does not know: where they come from, or how they look. Pure.

A counter that became smaller belongs to a process that was started anew: it counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xpod.cli.top.samples import Moment, Samples

NOTHING = Samples()


@dataclass(frozen=True, slots=True)
class Summary:
    """The pod between two moments. Means are in seconds, None where nothing happened."""

    streams: int
    waiting: int
    tokens_per_second: float
    prompt_tokens_per_second: float
    first_token: float | None
    between_tokens: float | None
    hop: dict[str, float | None]
    """An expert call's parts: queue, compute, way."""
    recoveries: int
    hedges: int
    divergences: int


def summary(before: Moment, after: Moment) -> Summary:
    seconds = max(1e-9, after.at - before.at)

    def grown(name: str, **labels: str) -> float:
        return sum(_grown(before, after, member, name, labels) for member in after.samples)

    def mean(name: str, **labels: str) -> float | None:
        count = grown(f"{name}_count", **labels)
        return grown(f"{name}_sum", **labels) / count if count else None

    def now(name: str) -> int:
        return round(sum(samples.sum(name) for samples in after.samples.values()))

    return Summary(
        streams=now("vllm:num_requests_running"),
        waiting=now("vllm:num_requests_waiting"),
        tokens_per_second=grown("vllm:generation_tokens_total") / seconds,
        prompt_tokens_per_second=grown("vllm:prompt_tokens_total") / seconds,
        first_token=mean("vllm:time_to_first_token_seconds"),
        between_tokens=mean("vllm:inter_token_latency_seconds"),
        hop={part: mean("xpod_expert_call_seconds", part=part) for part in ("queue", "compute", "way")},
        recoveries=now("xpod_recoveries_total"),
        hedges=now("xpod_hedges_total"),
        divergences=now("xpod_divergences_total"),
    )


def load_of(before: Moment, after: Moment, member: str) -> float | None:
    """The part of the time in which its computing thread, or else its process, had a processor; None: not told."""
    seconds = max(1e-9, after.at - before.at)
    for name in ("xpod_busy_seconds_total", "process_cpu_seconds_total"):
        if name in after.samples.get(member, NOTHING).by_name:
            return _grown(before, after, member, name, {}) / seconds
    return None


def heat(before: Moment, after: Moment) -> dict[int, dict[int, float]]:
    """Pairs a second of each expert that was asked, by layer: of all its holders together."""
    seconds = max(1e-9, after.at - before.at)
    rates: dict[int, dict[int, float]] = {}
    for member in after.samples.keys() & before.samples.keys():
        old = _pairs(before.samples[member])
        for (layer, expert), value in _pairs(after.samples[member]).items():
            of_layer = rates.setdefault(layer, {})
            rate = _since(old.get((layer, expert), 0.0), value) / seconds
            of_layer[expert] = of_layer.get(expert, 0.0) + rate
    return rates


def _pairs(samples: Samples) -> dict[tuple[int, int], float]:
    """By layer and expert."""
    found = samples.series("xpod_expert_pairs_total")
    return {(int(labels["layer"]), int(labels["expert"])): value for labels, value in found}


def events(before: Moment, after: Moment) -> Iterator[str]:
    """What happened, in words: members that came, left or changed, recoveries, divergences."""
    old = {member["id"]: member for member in before.members}
    for member in after.members:
        name, was = member["id"], old.get(member["id"])
        if was is None:
            yield f"{name} came"
        elif member["pid"] and was["pid"] and member["pid"] != was["pid"]:
            yield f"{name} was started again (process {member['pid']}, was {was['pid']}), {member['state']}"
        elif member["state"] != was["state"]:
            note = member["detail"].get("note", "")
            yield f"{name} is {member['state']}, was {was['state']}" + (f": {note}" if note else "")
    for name in old.keys() - {member["id"] for member in after.members}:
        yield f"{name} is gone"
    for name, what in (
        ("xpod_recoveries_total", "sessions went on at another worker"),
        ("xpod_divergences_total", "DIVERGED"),
    ):
        grown = sum(
            _grown(before, after, member, name, {}) for member in after.samples.keys() & before.samples.keys()
        )
        if grown:
            yield f"{grown:.0f} {what}"


def _grown(before: Moment, after: Moment, member: str, name: str, labels: dict[str, str]) -> float:
    """By how much a member's counter grew. One that was not there before tells nothing yet."""
    if member not in before.samples:
        return 0.0
    return _since(before.samples[member].sum(name, **labels), after.samples[member].sum(name, **labels))


def _since(old: float, new: float) -> float:
    return new - old if new >= old else new
