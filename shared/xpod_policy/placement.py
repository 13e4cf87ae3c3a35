"""Which shard should hold which expert.

A pure function of the live shards and the placement before: experts stay where they are when they can, and
every shard ends with its fair share. Knows nothing of load; every expert counts the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Assignment = dict[str, dict[int, frozenset[int]]]


def place(
    shards: Sequence[str],
    moe_layers: Sequence[int],
    experts: int,
    previous: Mapping[str, Mapping[int, frozenset[int]]] | None = None,
    copies: int = 1,
) -> Assignment:
    """Assign every expert of every layer to `copies` different shards (fewer if there are fewer shards).

    Returns shard → layer → experts. Without shards the result is empty. An expert moves only when its shard
    is gone or holds more than its share: at most ceil(copies · experts / shards) a layer.
    """
    ordered = sorted(set(shards))
    if not ordered:
        return {}
    before, every = previous or {}, set(range(experts))
    result: Assignment = {shard: {} for shard in ordered}
    for number, layer in enumerate(moe_layers):
        kept = {shard: set(before.get(shard, {}).get(layer, ())) & every for shard in ordered}
        for shard, held in _place_layer(ordered, experts, min(copies, len(ordered)), kept, number).items():
            result[shard][layer] = frozenset(held)
    return result


def _place_layer(
    shards: Sequence[str], experts: int, copies: int, kept: dict[str, set[int]], turn: int
) -> dict[str, set[int]]:
    """One layer; `turn` rotates who takes the remainder, so that it evens out over the layers."""
    order = [shards[(turn + i) % len(shards)] for i in range(len(shards))]
    floor, extra = divmod(experts * copies, len(shards))
    eager = sorted(
        order, key=lambda shard: len(kept[shard]) <= floor
    )  # the remainder goes where it already is
    quota = {shard: floor + (i < extra) for i, shard in enumerate(eager)}
    held = {shard: set() for shard in shards}  # type: dict[str, set[int]]
    count = dict.fromkeys(range(experts), 0)
    for shard in order:  # first what may stay
        for expert in sorted(kept[shard]):
            if count[expert] < copies and len(held[shard]) < quota[shard]:
                held[shard].add(expert)
                count[expert] += 1
    for expert in sorted(count, key=lambda e: (count[e], e)):  # then what is missing
        while count[expert] < copies:
            free = [shard for shard in order if expert not in held[shard]]
            shard = max(free, key=lambda s: (quota[s] - len(held[s]), -order.index(s)))
            if len(held[shard]) == quota[shard]:
                shard = _make_room(
                    free, [other for other in order if len(held[other]) < quota[other]], held, kept
                )
            held[shard].add(expert)
            count[expert] += 1
    return held


def _make_room(
    full: list[str], heirs: list[str], held: dict[str, set[int]], kept: dict[str, set[int]]
) -> str:
    """Whoever has room holds the missing expert already, so one of `full` hands another one over.

    Returns which. An expert that moves anyway is preferred to one that was to stay.
    """
    swaps = (
        (shard, heir, moved) for shard in full for heir in heirs for moved in sorted(held[shard] - held[heir])
    )
    shard, heir, moved = min(swaps, key=lambda swap: swap[2] in kept[swap[0]])
    held[shard].remove(moved)
    held[heir].add(moved)
    return shard
